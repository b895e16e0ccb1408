/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/catalog/catalog_waits.h"

enum catalog_wait_fate {
	CATALOG_WAIT_ON,
	CATALOG_WAIT_READY,
	CATALOG_WAIT_GONE,
	CATALOG_WAIT_LEFT, /* its block does not go to NVMe any more, or NVMe is lost */
};

void catalog_waits_init(struct catalog_waits *waits, struct cache *cache,
			struct catalog_changes *changes)
{
	*waits = (struct catalog_waits){.cache = cache, .changes = changes};
	list_init(&waits->waiting);
	list_init(&waits->flushing);
	list_init(&waits->barriers);
	list_init(&waits->barred);
}

bool catalog_waits_empty(const struct catalog_waits *waits)
{
	return list_empty(&waits->waiting) && list_empty(&waits->flushing);
}

/* 0: it is gone. */
static uint32_t catalog_waits_block(const struct catalog_waits *waits,
				    const struct catalog_wait *wait)
{
	return index_find(waits->cache->index, wait->ns, &wait->key);
}

/* Those that come while the others are answered are not among them. */
static void catalog_waits_answer(struct list *waits, int status)
{
	struct list answered;

	list_replace(waits, &answered);
	for (struct list *node; (node = list_pop_front(&answered)) != NULL;) {
		struct catalog_wait *wait = container_of(node, struct catalog_wait, link);
		wait->done(wait, status);
	}
}

/* ---- a flush of the data has failed ---- */

static bool catalog_waits_is_on_nvme(const struct catalog_waits *waits, uint32_t number)
{
	const struct block *block = cache_block(waits->cache, number);

	return number != 0 && block_is_complete(block) &&
	       (block->actual == waits->cache->nvme->number || block->copied);
}

static bool catalog_waits_doubt(const struct catalog_waits *waits, const struct catalog_wait *wait)
{
	uint32_t number = catalog_waits_block(waits, wait);

	return catalog_waits_is_on_nvme(waits, number) &&
	       catalog_changes_doubt(waits->changes, number);
}

static void catalog_waits_distrust(struct catalog_waits *waits, const struct catalog_wait *wait)
{
	uint32_t number = catalog_waits_block(waits, wait);

	if (catalog_waits_doubt(waits, wait) && !cache_is_pinned(waits->cache, number))
		cache_drop(waits->cache, number);
}

void catalog_waits_trust(struct catalog_waits *waits, uint32_t number)
{
	const struct block *block = cache_block(waits->cache, number);
	const struct catalog_entry *entry = &waits->changes->table[number];

	if (number != 0 && entry->stamp != 0 && block->unit == entry->unit &&
	    block->actual == waits->cache->nvme->number)
		catalog_changes_flushed(waits->changes, number);
}

/* What is in the tier by now was in the flush, or may have been. */
static void catalog_waits_distrust_all(struct catalog_waits *waits)
{
	list_for_each_safe (node, after, &waits->waiting) {
		struct catalog_wait *wait = container_of(node, struct catalog_wait, link);

		if (catalog_waits_doubt(waits, wait)) {
			list_remove(node);
			list_push_back(&waits->flushing, node);
		}
	}

	list_for_each (node, &waits->flushing)
		catalog_waits_distrust(waits, container_of(node, struct catalog_wait, link));
}

/* ---- barriers ---- */

static void catalog_waits_pass(struct list *from, struct list *to)
{
	for (struct list *node; (node = list_pop_front(from)) != NULL;)
		list_push_back(to, node);
}

/* All that has changed is queued, and what changes from now on is behind it. */
static void catalog_waits_set_until(const struct catalog_waits *waits,
				    struct catalog_barrier *barrier)
{
	barrier->until = waits->changes->taken + waits->changes->queued;
}

void catalog_waits_bar(struct catalog_waits *waits, struct catalog_barrier *barrier)
{
	catalog_waits_set_until(waits, barrier);
	list_push_back(&waits->barriers, &barrier->link);
}

/* Those before which all that had changed has been in a batch: whether there are some. One that
 * comes while the flush is in flight waits for the next one. */
static bool catalog_waits_begin_barriers(struct catalog_waits *waits)
{
	list_for_each_safe (node, after, &waits->barriers) {
		if (container_of(node, struct catalog_barrier, link)->until > waits->changes->taken)
			continue;
		list_remove(node);
		list_push_back(&waits->barred, node);
	}

	return !list_empty(&waits->barred);
}

/* Those that come while the others are told are not among them. */
static void catalog_waits_unbar(struct catalog_waits *waits)
{
	struct list told;

	list_replace(&waits->barred, &told);
	for (struct list *node; (node = list_pop_front(&told)) != NULL;) {
		struct catalog_barrier *barrier = container_of(node, struct catalog_barrier, link);
		barrier->done(barrier);
	}
}

/* Takes those that may fail out of a list. */
static void catalog_waits_take_failing(struct list *barriers, struct list *failed)
{
	list_for_each_safe (node, after, barriers) {
		if (!container_of(node, struct catalog_barrier, link)->failed)
			continue;
		list_remove(node);
		list_push_back(failed, node);
	}
}

/* Those that may. */
static void catalog_waits_fail_barriers(struct catalog_waits *waits)
{
	struct list failed;

	list_init(&failed);
	catalog_waits_take_failing(&waits->barred, &failed);
	catalog_waits_take_failing(&waits->barriers, &failed);
	for (struct list *node; (node = list_pop_front(&failed)) != NULL;) {
		struct catalog_barrier *barrier = container_of(node, struct catalog_barrier, link);
		barrier->failed(barrier);
	}
}

/* ---- the whole ---- */

bool catalog_waits_any(const struct catalog_waits *waits)
{
	return !list_empty(&waits->waiting) || !list_empty(&waits->barriers);
}

bool catalog_waits_barred(const struct catalog_waits *waits)
{
	return !list_empty(&waits->barriers);
}

static bool catalog_waits_one_may_fail(const struct list *barriers)
{
	bool may_fail = false;

	list_for_each (node, barriers)
		may_fail |= container_of(node, struct catalog_barrier, link)->failed != NULL;

	return may_fail;
}

bool catalog_waits_are_limited(const struct catalog_waits *waits)
{
	return !catalog_waits_empty(waits) || catalog_waits_one_may_fail(&waits->barred) ||
	       catalog_waits_one_may_fail(&waits->barriers);
}

void catalog_waits_add(struct catalog_waits *waits, struct catalog_wait *wait)
{
	if (wait->again && catalog_waits_doubt(waits, wait)) {
		catalog_waits_distrust(waits, wait);
		wait->done(wait, HBM_IO);
		return;
	}

	list_push_back(&waits->waiting, &wait->link);
}

static enum catalog_wait_fate catalog_waits_look(const struct catalog_waits *waits,
						 const struct catalog_wait *wait)
{
	const struct tier *nvme = waits->cache->nvme;
	uint32_t number = catalog_waits_block(waits, wait);
	const struct block *block = cache_block(waits->cache, number);
	const struct catalog_entry *entry = &waits->changes->table[number];

	if (number == 0 || !block->durable)
		return CATALOG_WAIT_GONE;
	if (nvme->lost || block->target != nvme->number)
		return CATALOG_WAIT_LEFT;

	return block_is_complete(block) && block->actual == nvme->number && entry->next == 0 &&
			       entry->stamp != 0
		       ? CATALOG_WAIT_READY
		       : CATALOG_WAIT_ON;
}

bool catalog_waits_begin(struct catalog_waits *waits)
{
	struct list looked_at;

	list_replace(&waits->waiting, &looked_at);
	for (struct list *node; (node = list_pop_front(&looked_at)) != NULL;) {
		struct catalog_wait *wait = container_of(node, struct catalog_wait, link);
		enum catalog_wait_fate fate = catalog_waits_look(waits, wait);

		if (fate == CATALOG_WAIT_ON)
			list_push_back(&waits->waiting, node);
		else if (fate == CATALOG_WAIT_READY)
			list_push_back(&waits->flushing, node);
		else
			wait->done(wait, fate == CATALOG_WAIT_GONE ? HBM_NO_SPACE : HBM_IO);
	}

	bool barred = catalog_waits_begin_barriers(waits);

	return !list_empty(&waits->flushing) || barred;
}

void catalog_waits_succeed(struct catalog_waits *waits)
{
	list_for_each (node, &waits->flushing)
		catalog_waits_trust(
			waits,
			catalog_waits_block(waits, container_of(node, struct catalog_wait, link)));
	catalog_waits_answer(&waits->flushing, HBM_OK);
	catalog_waits_unbar(waits);
}

void catalog_waits_fail(struct catalog_waits *waits, bool data)
{
	catalog_waits_pass(&waits->barred, &waits->barriers);
	/* What was in the batch is queued again, behind the rest. */
	list_for_each (node, &waits->barriers)
		catalog_waits_set_until(waits, container_of(node, struct catalog_barrier, link));
	if (data)
		catalog_waits_distrust_all(waits);
	catalog_waits_answer(&waits->flushing, HBM_IO);
	catalog_waits_fail_barriers(waits);
}

void catalog_waits_give_up(struct catalog_waits *waits)
{
	catalog_waits_answer(&waits->waiting, HBM_IO);
	catalog_waits_answer(&waits->flushing, HBM_IO);
	catalog_waits_fail_barriers(waits);
}
