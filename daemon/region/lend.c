/* SPDX-License-Identifier: Apache-2.0 */
/* lend: see lend.h. Room is lend_room.c's, what is idle or has room is found by lend_index.c, the
 * check is lend_check.c's, loans are loan.c's. */
#include "daemon/region/lend.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "daemon/region/region_kept.h"

static struct list *lend_bucket(struct lend *lend, uint32_t number)
{
	return &lend->by_block[number % LEND_BUCKETS];
}

/* ---- lent slabs ---- */

/* Slabs whose blocks have all been dropped take no more: the number of their namespace may
 * become another's. Nor do those of a late copy, which may still write to a cell that is
 * empty. */
static void lend_sort(struct lend *lend, struct lent *lent)
{
	lend_index_sort(lend, lent,
			lent->live > 0 && lent->used < lent->cell_count && !lent->stuck);
}

static void lend_add(struct lend *lend, struct lent *lent)
{
	lent->id = lend->last_id + 1;
	lend->last_id += lent->slab_count;
	lend->bytes += lent_bytes(lent);
	tally_push(&lend->all, &lent->link, &lent->mark);
	lend_index_idle(lend, lent);
}

/* What it waits for is not leased yet. */
static uint64_t lend_own_bytes(const struct lent *lent)
{
	return lent->adopted || lent->state == LENT_ALLOCATING ? 0 : lent_bytes(lent);
}

static void lend_granted(struct lent *lent)
{
	struct lend *lend = lent->lend;

	lend->own += lend_own_bytes(lent);
}

static void lend_walk_on(struct lend *lend)
{
	lend->walk = lend->walk->next;
	lend->walk_cell = 0;
}

static void lend_remove(struct lend *lend, struct lent *lent)
{
	assert(lent->used == 0 && lent->holds == 0);

	lend->bytes -= lent_bytes(lent);
	lend->own -= lend_own_bytes(lent);
	lend_index_busy(lend, lent);
	lend_index_remove(lent);
	list_remove(&lent->packed);
	if (lend->walk == &lent->link)
		lend_walk_on(lend);
	tally_remove(&lend->all, &lent->link, lent->mark, lent_bytes(lent));
}

static void lend_refused(struct lent *lent)
{
	lend_remove(lent->lend, lent);
	lent_free(lent);
}

static void lend_hold(struct lend *lend, struct lent *lent)
{
	if (lent->holds++ > 0)
		return;

	lend->busy += lent_bytes(lent);
	lend_index_busy(lend, lent);
}

static void lend_unhold(struct lend *lend, struct lent *lent)
{
	assert(lent->holds > 0);
	if (--lent->holds > 0)
		return;

	lend->busy -= lent_bytes(lent);
	lend_index_idle(lend, lent);
	slabs_can_reclaim(lend->device->slabs);
}

/* ---- replicas ---- */

uint64_t replica_bytes(const struct replica *replica)
{
	return replica->lent->block_bytes;
}

CUdeviceptr replica_address(const struct replica *replica)
{
	const struct lent *lent = replica->lent;

	return lent->mapped ? lent->address + replica->cell * lent->cell_bytes : 0;
}

bool replica_is_open(const struct replica *replica)
{
	return replica->lent->state == LENT_OPEN;
}

void replica_await(struct replica *replica, struct lent_wait *wait)
{
	list_push_back(&replica->lent->waits, &wait->link);
}

struct replica *replica_find(struct lend *lend, const struct replica_form *form)
{
	list_for_each (node, lend_bucket(lend, form->number)) {
		struct replica *replica = container_of(node, struct replica, by_block);
		if (replica->number == form->number && replica->lent->user == form->user &&
		    replica->piece == form->piece)
			return replica;
	}

	return NULL;
}

/* Charged, and nowhere yet. */
static int lend_allocate_replica(struct replica **out, const struct replica_form *form)
{
	struct replica *replica = calloc(1, sizeof(*replica));
	if (!replica)
		return HBM_NO_SPACE;

	if (ledger_charge(&replica->charge, &form->user->payer, LEDGER_REPLICAS, 1) != HBM_OK) {
		free(replica);
		return HBM_LIMIT;
	}

	replica->number = form->number;
	replica->piece = form->piece;
	list_init(&replica->by_block);
	list_init(&replica->loans);
	list_init(&replica->waits);
	*out = replica;

	return HBM_OK;
}

static void lend_discard_replica(struct replica *replica)
{
	ledger_release(&replica->charge);
	free(replica);
}

static void lend_place_replica(struct replica *replica, struct lent *lent)
{
	struct lend *lend = lent->lend;
	uint32_t cell = lent->vacant;

	while (lent->cells[cell])
		cell++;

	lent->cells[cell] = replica;
	lent->vacant = cell + 1;
	lent->used++;
	lent->live++;
	replica->lent = lent;
	replica->cell = cell;
	list_push_back(lend_bucket(lend, replica->number), &replica->by_block);
	lend->replicas++;
	if (lent->cell_count > 1)
		lend_sort(lend, lent);
}

/* Nobody finds it any more. */
static void lend_detach_replica(struct replica *replica)
{
	struct lent *lent = replica->lent;
	if (replica->number == 0)
		return;

	replica->number = 0;
	if (replica->reader)
		*replica->reader = NULL;
	replica->reader = NULL;
	list_remove(&replica->by_block);
	lent->live--;
	if (lent->cell_count > 1)
		lend_sort(lent->lend, lent);
}

/* Frees its cell, and closes slabs that are empty then, unless they are being opened. */
static void lend_free_replica(struct replica *replica)
{
	struct lent *lent = replica->lent;
	struct lend *lend = lent->lend;

	assert(replica->holds == 0 && list_empty(&replica->loans));

	lend_detach_replica(replica);
	lent->cells[replica->cell] = NULL;
	if (replica->cell < lent->vacant)
		lent->vacant = replica->cell;
	lent->used--;
	lend->replicas--;
	if (lent->used == 0 && lent->state == LENT_OPEN) {
		lend_remove(lend, lent);
		lent_close(lent);
	} else if (lent->cell_count > 1) {
		lend_sort(lend, lent);
	}

	lend_discard_replica(replica);
}

void replica_hold(struct replica *replica)
{
	replica->holds++;
	lend_hold(replica->lent->lend, replica->lent);
}

void replica_unhold(struct replica *replica)
{
	struct lent *lent = replica->lent;

	assert(replica->holds > 0);
	replica->holds--;
	lend_unhold(lent->lend, lent);
	if (lent->holds == 0 && lent_is_left(lent))
		lend_evict(lent);
	else if (replica->holds == 0 && replica->number == 0)
		lend_free_replica(replica);
}

void replica_made(struct replica *replica)
{
	replica->state = REPLICA_READY;
}

void replica_lose(struct replica *replica)
{
	lend_detach_replica(replica);
	if (replica->holds == 0)
		lend_free_replica(replica);
}

/* With its last replica it is closed. */
void lend_evict(struct lent *lent)
{
	for (uint32_t i = 0, left = lent->used; left > 0; i++) {
		if (!lent->cells[i])
			continue;

		left--;
		lend_free_replica(lent->cells[i]);
	}
}

/* ---- walks ---- */

void lend_walk_begin(struct lend *lend)
{
	lend->walk = lend->all.list.next;
	lend->walk_cell = 0;
}

struct replica *lend_walk_next(struct lend *lend, uint32_t *left)
{
	while (*left > 0 && lend->walk != &lend->all.list) {
		const struct lent *lent = container_of(lend->walk, struct lent, link);
		struct replica *replica = lent->cells[lend->walk_cell++];

		--*left;
		if (lend->walk_cell == lent->cell_count)
			lend_walk_on(lend);
		if (replica && replica->number != 0 && replica->state == REPLICA_READY)
			return replica;
	}

	return NULL;
}

/* ---- making ---- */

static uint16_t lend_namespace(const struct lend *lend, const struct replica_form *form)
{
	return block_get(lend->blocks, form->number)->ns;
}

static struct lent_form lend_form(const struct lend *lend, const struct replica_form *form)
{
	uint64_t bytes = block_memory_bytes(lend->blocks, form->number);
	struct lent_form lent = {.user = form->user,
				 .cell_bytes = bytes,
				 .block_bytes = block_bytes(lend->blocks, form->number),
				 .slab_bytes = form->piece,
				 .slab_count = 1,
				 .cell_count = 1,
				 .ns = lend_namespace(lend, form)};

	if (form->piece > 0) {
		lent.slab_count = (uint32_t)(bytes / form->piece);
		return lent;
	}

	lent.slab_bytes = slabs_default(lend->device->slabs);
	while (lent.slab_bytes < bytes)
		lent.slab_bytes *= 2;
	while (lent.slab_bytes / bytes > LENT_CELLS_MAX)
		lent.slab_bytes /= 2;
	lent.cell_count = (uint32_t)(lent.slab_bytes / bytes);

	return lent;
}

/* Charged, in no list. */
static int lend_new_lent(struct lent **out, struct lend *lend, const struct lent_form *form)
{
	uint64_t bytes = form->slab_bytes * form->slab_count;
	int status = lend_make_room(lend, form->user, bytes);
	struct lent *lent = status == HBM_OK ? lent_new(lend->device, form) : NULL;
	if (!lent)
		return status == HBM_OK ? HBM_NO_SPACE : status;

	lent->lend = lend;
	lent->granted = lend_granted;
	lent->refused = lend_refused;
	status = ledger_charge(&lent->charge, &form->user->payer, LEDGER_LENT, bytes);
	if (status == HBM_OK && lend_index_add(lend, lent) < 0)
		status = HBM_NO_SPACE;
	if (status == HBM_OK)
		*out = lent;
	else
		lent_free(lent);

	return status;
}

static int lend_open_lent(struct lent **out, struct lend *lend, const struct replica_form *form,
			  struct holder *holder)
{
	const struct lent_form wanted = lend_form(lend, form);
	struct lent *lent;
	int status = lend_new_lent(&lent, lend, &wanted);
	if (status != HBM_OK)
		return status;

	status = lent_open(lent, holder);
	if (status != HBM_OK) {
		lend_index_remove(lent);
		lent_free(lent);
		return status;
	}

	lend_add(lend, lent);
	*out = lent;

	return HBM_OK;
}

int replica_new(struct replica **out, struct lend *lend, const struct replica_form *form,
		struct holder *holder)
{
	struct replica *replica;
	int status = lend_allocate_replica(&replica, form);
	if (status != HBM_OK)
		return status;

	struct lent *lent = NULL;
	if (form->piece == 0)
		lent = lend_index_packed(lend, form->user, lend_namespace(lend, form));
	if (!lent)
		status = lend_open_lent(&lent, lend, form, holder);
	if (status != HBM_OK) {
		lend_discard_replica(replica);
		return status;
	}

	lend_place_replica(replica, lent);
	replica_hold(replica);
	*out = replica;

	return HBM_OK;
}

static bool lend_may_adopt(struct slab *const *slabs, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (slabs[i]->lent)
			return false;

	return true;
}

struct replica *replica_adopt(struct lend *lend, const struct replica_form *form,
			      struct slab *const *slabs, uint32_t count)
{
	const struct lent_form wanted = lend_form(lend, form);
	struct replica *replica;
	struct lent *lent;

	if (wanted.slab_count != count || !lend_may_adopt(slabs, count) ||
	    replica_find(lend, form) || lend_allocate_replica(&replica, form) != HBM_OK)
		return NULL;

	if (lend_new_lent(&lent, lend, &wanted) != HBM_OK) {
		lend_discard_replica(replica);
		return NULL;
	}

	lent_adopt(lent, slabs);
	lend_add(lend, lent);
	lend_place_replica(replica, lent);
	replica_made(replica);

	return replica;
}

/* ---- open and close ---- */

static void lend_block_placed(struct block_listener *listener, uint32_t number, struct tier *to,
			      struct tier *from)
{
	(void)listener;
	(void)number;
	(void)to;
	(void)from;
}

static struct replica *lend_of_block(struct lend *lend, uint32_t number)
{
	list_for_each (node, lend_bucket(lend, number)) {
		struct replica *replica = container_of(node, struct replica, by_block);
		if (replica->number == number)
			return replica;
	}

	return NULL;
}

/* Its replicas are found by its number, which will be another block's. Looked for again after
 * each: what goes with one may let others go. */
static void lend_block_dropped(struct block_listener *listener, uint32_t number)
{
	struct lend *lend = container_of(listener, struct lend, listener);

	for (struct replica *replica; (replica = lend_of_block(lend, number));)
		replica_lose(replica);
}

int lend_open(struct lend **out, struct device *device, struct loop *loop, struct blocks *blocks,
	      uint64_t budget)
{
	struct lend *lend = calloc(1, sizeof(*lend));
	if (!lend)
		return -ENOMEM;

	lend->device = device;
	lend->loop = loop;
	lend->blocks = blocks;
	lend->budget = budget;
	lend->last_id =
		(uint64_t)device->index << 48 | region_kept_starts(slabs_kept(device->slabs)) << 32;
	tally_init(&lend->all);
	lend->walk = &lend->all.list;
	lend_index_init(lend);
	for (size_t i = 0; i < LEND_BUCKETS; i++)
		list_init(&lend->by_block[i]);
	lend->listener = (struct block_listener){.placed = lend_block_placed,
						 .unplaced = lend_block_placed,
						 .dropped = lend_block_dropped};
	block_listen(blocks, &lend->listener);
	lend_room_init(lend);
	*out = lend;

	return 0;
}

struct lend *lend_close(struct lend *lend)
{
	if (!lend)
		return NULL;

	list_remove(&lend->listener.link);
	slabs_on_shortage(lend->device->slabs, NULL, NULL);
	loop_background_stop(&lend->give_back);
	while (!list_empty(&lend->idle))
		lend_evict(container_of(lend->idle.next, struct lent, idle));
	assert(lend->bytes == 0 && lend->loans == 0);
	free(lend);

	return NULL;
}
