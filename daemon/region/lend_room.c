/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lend_room: makes room among lent slabs, and gives the memory of idle ones back to the pool:
 * that in slices, as much as one turn may close and the rest in the background. Who waits for
 * memory of the pool waits for that, too (slab_request.c).
 */
#include "daemon/region/lend.h"

/* ---- for other lent slabs ---- */

static bool lend_room_user_may(struct user *user, uint64_t bytes)
{
	return ledger_has_room(&user->payer, LEDGER_LENT, bytes);
}

/* Whether so much is there, or can be made there. Nothing has changed. */
static int lend_room_check(const struct lend *lend, struct user *user, uint64_t bytes)
{
	if (bytes > lend->budget || lend->busy > lend->budget - bytes)
		return HBM_NO_SPACE;
	if (lend_room_user_may(user, bytes))
		return HBM_OK;

	uint64_t idle = lend_index_idle_of(lend, user);
	uint64_t limit = ledger_limit(&user->payer, LEDGER_LENT);
	uint64_t used = ledger_used(&user->payer, LEDGER_LENT);

	if (bytes <= limit && used - idle <= limit - bytes)
		return HBM_OK;
	(void)ledger_check(&user->payer, LEDGER_LENT, bytes); /* counts it */

	return HBM_LIMIT;
}

int lend_make_room(struct lend *lend, struct user *user, uint64_t bytes)
{
	int status = lend_room_check(lend, user, bytes);
	struct lent *lent;

	while (status == HBM_OK && !lend_room_user_may(user, bytes) &&
	       (lent = lend_index_oldest(lend, user)))
		lend_evict(lent);
	while (status == HBM_OK && lend->bytes > lend->budget - bytes && !list_empty(&lend->idle))
		lend_evict(container_of(lend->idle.next, struct lent, idle));

	return status;
}

/* ---- for the pool ---- */

/* What the pool gets back if they are closed: not what a region has, too. All references to the
 * others are of these lent slabs, which may have one twice. */
static uint64_t lend_room_frees(const struct lent *lent)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < lent->slab_count; i++)
		if (lent->slabs[i]->slots == 0)
			bytes += lent->slab_bytes / lent->slabs[i]->refs;

	return bytes;
}

bool lend_gives_back(const struct lend *lend)
{
	return lend->wanted > 0;
}

/* Looks at some more of what is idle: how many bytes are on their way back. */
static uint64_t lend_room_give_some(struct lend *lend)
{
	uint64_t given = 0;

	for (uint32_t units = 0; lend->wanted > 0 && units < LEND_SLICE;) {
		if (lend->give_next == &lend->idle) {
			lend->wanted = 0;
			break;
		}

		struct lent *lent = container_of(lend->give_next, struct lent, idle);
		uint64_t frees = lend_room_frees(lent);

		lend->give_next = lent->idle.next;
		units += lent->slab_count;
		if (frees == 0)
			continue;

		units += lent->used;
		given += frees;
		lend->wanted -= frees < lend->wanted ? frees : lend->wanted;
		lend_evict(lent);
	}

	return given;
}

static bool lend_room_go_on(struct background *background)
{
	struct lend *lend = container_of(background, struct lend, give_back);

	(void)lend_room_give_some(lend);
	if (lend_gives_back(lend))
		return true;

	slabs_reclaimed(lend->device->slabs);

	return false;
}

uint64_t lend_give_back(struct lend *lend, uint64_t bytes)
{
	if (!lend_gives_back(lend))
		lend->give_next = lend->idle.next;
	if (bytes > lend->wanted)
		lend->wanted = bytes;

	uint64_t given = lend_room_give_some(lend);

	if (lend_gives_back(lend))
		loop_background(lend->loop, &lend->give_back);

	return given;
}

static bool lend_room_reclaim(void *arg, uint64_t bytes)
{
	(void)lend_give_back(arg, bytes);

	return lend_gives_back(arg);
}

void lend_room_init(struct lend *lend)
{
	lend->give_back.run = lend_room_go_on;
	lend->give_next = &lend->idle;
	slabs_on_shortage(lend->device->slabs, lend_room_reclaim, lend);
}
