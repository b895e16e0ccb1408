/* SPDX-License-Identifier: Apache-2.0 */
/* reborrow: see reborrow.h. */
#include "client/sequence/reborrow.h"

#include "client/loan.h"
#include "client/sequence/backing.h"
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct wanted {
	struct slot *slot;
	uint64_t offset;
	const struct origin *origin;
};

struct reborrow {
	struct hbm_pool *pool;
	struct wanted *list;
	size_t count;
};

/* ---- What is wanted ---- */

/* Not of a namespace whose number may have become another's. */
static bool reborrow_is_possible(const struct hbm_pool *pool, const struct origin *origin)
{
	return origin->pieces > 0 && origin->pieces <= HBM_WIRE_FDS_MAX &&
	       origin->closes == pool->hbm->closes[origin->ns % NAMESPACE_BUCKETS];
}

/* Of sequences that have one block, the first is to have its slab. */
static void reborrow_want(struct reborrow *reborrow, const struct hbm_sequence *sequence)
{
	for (size_t i = 0; i < sequence->stash.count; i++) {
		const struct stash_slab *slab = &sequence->stash.list[i];

		if (slab->block->slot ||
		    !reborrow_is_possible(reborrow->pool, &slab->block->origin))
			continue;
		slab->block->slot = sequence->slot;
		reborrow->list[reborrow->count++] =
			(struct wanted){sequence->slot, slab->offset, &slab->block->origin};
	}
}

static int reborrow_compare_blocks(const struct origin *one, const struct origin *other)
{
	if (one->ns != other->ns)
		return one->ns < other->ns ? -1 : 1;

	return memcmp(&one->key, &other->key, sizeof(one->key));
}

static int reborrow_compare(const void *a, const void *b)
{
	const struct wanted *one = a, *other = b;
	const int blocks = reborrow_compare_blocks(one->origin, other->origin);

	return blocks ? blocks : (one->offset > other->offset) - (one->offset < other->offset);
}

static int reborrow_gather(struct reborrow *reborrow, struct hbm_sequence *const *sequences,
			   size_t count)
{
	size_t most = 0;

	for (size_t i = 0; i < count; i++)
		most += sequences[i]->stash.count;
	if (most == 0)
		return 0;

	reborrow->list = malloc(most * sizeof(*reborrow->list));
	if (!reborrow->list)
		return hbm_pool_fail(reborrow->pool, -ENOMEM,
				     "cannot allocate the list of what is to be borrowed");

	for (size_t i = 0; i < count; i++)
		reborrow_want(reborrow, sequences[i]);
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < sequences[i]->stash.count; k++)
			sequences[i]->stash.list[k].block->slot = NULL;
	qsort(reborrow->list, reborrow->count, sizeof(*reborrow->list), reborrow_compare);

	return 0;
}

/* ---- One request ---- */

struct batch {
	size_t first, end; /* of the list */
	hbm_key keys[HBM_WIRE_FDS_MAX];
	struct hbm_loan *loans[HBM_WIRE_FDS_MAX];
	size_t count; /* of blocks */
};

static bool reborrow_is_next(const struct reborrow *reborrow, size_t i)
{
	return reborrow_compare_blocks(reborrow->list[i - 1].origin, reborrow->list[i].origin) != 0;
}

/* As many blocks of one namespace as a request takes. */
static void reborrow_fill(const struct reborrow *reborrow, size_t first, struct batch *batch)
{
	const struct origin *origin = reborrow->list[first].origin;
	const size_t most = HBM_WIRE_FDS_MAX / origin->pieces;

	*batch = (struct batch){.first = first};
	for (batch->end = first; batch->end < reborrow->count; batch->end++) {
		const struct origin *next = reborrow->list[batch->end].origin;
		const bool is_new = batch->end == first || reborrow_is_next(reborrow, batch->end);

		if (next->ns != origin->ns || (is_new && batch->count == most))
			return;
		if (is_new)
			batch->keys[batch->count++] = next->key;
	}
}

/* Calls for what there is a loan of. */
static void reborrow_each(struct reborrow *reborrow, const struct batch *batch,
			  void (*call)(struct reborrow *reborrow, const struct wanted *wanted,
				       struct hbm_loan *loan))
{
	size_t block = 0;

	for (size_t i = batch->first; i < batch->end; i++) {
		block += i > batch->first && reborrow_is_next(reborrow, i);
		if (batch->loans[block])
			call(reborrow, &reborrow->list[i], batch->loans[block]);
	}
}

static void reborrow_share(struct reborrow *reborrow, const struct wanted *wanted,
			   struct hbm_loan *loan)
{
	struct hbm_pool *pool = reborrow->pool;
	const struct hbm_share share = {
		.loan = loan,
		.source_offset = wanted->origin->piece * pool->slab,
		.target = pool->region,
		.target_offset = hbm_slot_offset(pool, wanted->slot) + wanted->offset,
		.bytes = pool->slab,
		.flags = HBM_SHARE_READ_ONLY,
	};

	hbm_shares_add(&pool->shares, &share);
	if (!hbm_page_prepare(pool, &wanted->slot->pages, ++pool->shares.slabs))
		pool->shares.failed = true;
}

static void reborrow_note(struct reborrow *reborrow, const struct wanted *wanted,
			  struct hbm_loan *loan)
{
	(void)loan;
	hbm_page_borrow(reborrow->pool, &wanted->slot->pages, wanted->offset, wanted->origin);
}

/* What is refused is loaded. */
static int reborrow_map(struct reborrow *reborrow, const struct batch *batch)
{
	struct hbm_pool *pool = reborrow->pool;

	hbm_shares_begin(&pool->shares);
	reborrow_each(reborrow, batch, reborrow_share);
	if (pool->shares.failed || pool->shares.count == 0)
		return 0;

	int r = hbm_backing_share(pool);
	if (r == 0)
		reborrow_each(reborrow, batch, reborrow_note);

	return r < 0 ? hbm_pool_fail_call(pool, r, "what sequences had borrowed") : 0;
}

static int reborrow_some(struct reborrow *reborrow, struct batch *batch)
{
	struct hbm_pool *pool = reborrow->pool;
	size_t count = 0;
	int r = hbm_borrow_ready(pool->hbm, reborrow->list[batch->first].origin->ns,
				 pool->region->device, pool->slab, batch->keys, batch->count,
				 batch->loans);
	if (r)
		return r < 0 ? hbm_pool_fail_call(pool, r, "what sequences had borrowed") : 0;

	r = reborrow_map(reborrow, batch);
	for (size_t i = 0; i < batch->count; i++)
		if (batch->loans[i])
			batch->loans[count++] = batch->loans[i];
	if (count > 0)
		hbm_return(pool->hbm, batch->loans, count);

	return r;
}

int hbm_reborrow(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count)
{
	struct reborrow reborrow = {.pool = pool};
	struct batch batch = {0};
	int r = reborrow_gather(&reborrow, sequences, count);

	while (r == 0 && batch.end < reborrow.count) {
		reborrow_fill(&reborrow, batch.end, &batch);
		r = reborrow_some(&reborrow, &batch);
	}
	free(reborrow.list);

	return r;
}
