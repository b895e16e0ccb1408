/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/catalog/catalog_left.h"

static void catalog_left_wait(struct catalog_left *left)
{
	if (left->waits || left->tier->left.count == 0)
		return;

	left->waits = true;
	left->covered = left->tier->left.count;
	left->flush(left->arg, &left->barrier);
}

static void catalog_left_flushed(struct catalog_barrier *barrier)
{
	struct catalog_left *left = container_of(barrier, struct catalog_left, barrier);

	left->waits = false;
	left->tier->left.failing = false;
	tier_free_left(left->tier, left->covered);
	catalog_left_wait(left);
	left->progress(left->arg);
}

static void catalog_left_come(void *arg)
{
	catalog_left_wait(arg);
}

int catalog_left_open(struct catalog_left *left)
{
	left->barrier.done = catalog_left_flushed;

	return left_extents_open(&left->tier->left, catalog_left_come, left);
}

void catalog_left_fail(struct catalog_left *left, bool data)
{
	if (left->tier->left.count == 0)
		return;

	left->tier->left.failing = true;
	if (data) {
		left->covered = 0;
		tier_fail_left(left->tier);
	}
	left->progress(left->arg);
}

void catalog_left_end(struct catalog_left *left)
{
	tier_free_left(left->tier, UINT32_MAX);
	catalog_left_close(left);
}

void catalog_left_close(struct catalog_left *left)
{
	left_extents_close(&left->tier->left);
}
