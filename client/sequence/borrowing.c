/* SPDX-License-Identifier: Apache-2.0 */
/* borrowing: see borrowing.h. */
#include "client/sequence/borrowing.h"

#include "client/loan.h"
#include "client/sequence/backing.h"
#include "client/sequence/blocks.h"
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"

#include <errno.h>
#include <stdlib.h>

#define BORROWING_RETURNS 4096 /* of one request */

bool hbm_borrowing_open(struct borrowing *borrowing, struct hbm_sequence *sequence,
			const struct hbm_token_blocks *blocks, size_t first, size_t end)
{
	*borrowing = (struct borrowing){
		.sequence = sequence, .blocks = blocks, .first = first, .end = end};
	borrowing->loans = calloc(blocks->count + 1, sizeof(*borrowing->loans));

	return borrowing->loans;
}

void hbm_borrowing_close(struct borrowing *borrowing)
{
	struct hbm_loan **loans = borrowing->loans;
	size_t count = 0;

	for (size_t i = 0; loans && i < borrowing->blocks->count; i++)
		if (loans[i])
			loans[count++] = loans[i];
	for (size_t i = 0; i < count; i += BORROWING_RETURNS) {
		const size_t left = count - i;

		hbm_return(borrowing->sequence->pool->hbm, loans + i,
			   left < BORROWING_RETURNS ? left : BORROWING_RETURNS);
	}
	free(loans);
	borrowing->loans = NULL;
}

/* ---- Borrow ---- */

static int borrowing_some(struct borrowing *borrowing, size_t first, size_t count)
{
	const struct hbm_pool *pool = borrowing->sequence->pool;
	const struct hbm_token_blocks *blocks = borrowing->blocks;
	hbm_result results[HBM_WIRE_FDS_MAX];
	int r = hbm_borrow(pool->hbm, blocks->ns, pool->region->device, pool->slab,
			   blocks->keys + first, count, borrowing->loans + first, results);

	for (size_t i = 0; r == 0 && i < count; i++)
		if (results[i].status == HBM_MISS && first + i < borrowing->end)
			borrowing->end = first + i;

	return r;
}

int hbm_borrowing_borrow(struct borrowing *borrowing)
{
	struct hbm_pool *pool = borrowing->sequence->pool;
	const uint64_t pieces = hbm_blocks_bytes(pool, borrowing->blocks) / pool->slab;
	size_t whole = borrowing->first;

	while (whole < borrowing->end && hbm_blocks_is_whole(pool, borrowing->blocks, whole))
		whole++;
	if (pieces > HBM_WIRE_FDS_MAX)
		return 0;

	for (size_t i = borrowing->first; i < whole && i < borrowing->end;) {
		const size_t most = HBM_WIRE_FDS_MAX / pieces;
		const size_t part = whole - i < most ? whole - i : most;
		int r = borrowing_some(borrowing, i, part);

		/* What the daemon does not lend is not borrowed. */
		borrowing->is_lent = r != HBM_UNSUPPORTED;
		if (r == HBM_UNSUPPORTED || r == HBM_NO_SPACE || r == HBM_LIMIT)
			return 0;
		if (r)
			return hbm_pool_fail_call(pool, r, "blocks of tokens are not borrowed");
		i += part;
	}

	return 0;
}

/* ---- Map ---- */

typedef void borrowing_span(struct borrowing *borrowing, size_t block, uint64_t offset,
			    uint64_t bytes, uint64_t from);

/* Calls for what is borrowed, buffer by buffer: offset in the slot, and in the loan. */
static void borrowing_each(struct borrowing *borrowing, borrowing_span *call)
{
	const struct hbm_pool *pool = borrowing->sequence->pool;
	uint64_t from = 0;

	for (uint32_t k = 0; k < pool->buffer_count; k++) {
		uint64_t offset, bytes = 0;

		for (size_t i = borrowing->first; i < borrowing->end; i++) {
			hbm_blocks_span(pool, borrowing->blocks, i, k, &offset, &bytes);
			if (borrowing->loans[i])
				call(borrowing, i, offset, bytes, from);
		}
		from += bytes;
	}
}

static void borrowing_clear(struct borrowing *borrowing, size_t block, uint64_t offset,
			    uint64_t bytes, uint64_t from)
{
	struct hbm_pool *pool = borrowing->sequence->pool;

	(void)block;
	(void)from;
	hbm_slot_runs(pool, borrowing->sequence->slot, offset, bytes, true, &pool->shrink);
}

static void borrowing_gather(struct borrowing *borrowing, size_t block, uint64_t offset,
			     uint64_t bytes, uint64_t from)
{
	struct hbm_pool *pool = borrowing->sequence->pool;
	const struct hbm_share share = {
		.loan = borrowing->loans[block],
		.source_offset = from,
		.target = pool->region,
		.target_offset = hbm_slot_offset(pool, borrowing->sequence->slot) + offset,
		.bytes = bytes,
		.flags = HBM_SHARE_READ_ONLY,
	};

	pool->shares.slabs += bytes / pool->slab;
	hbm_shares_add(&pool->shares, &share);
}

static void borrowing_note(struct borrowing *borrowing, size_t block, uint64_t offset,
			   uint64_t bytes, uint64_t from)
{
	struct hbm_pool *pool = borrowing->sequence->pool;

	for (uint64_t at = 0; at < bytes; at += pool->slab) {
		const struct origin origin =
			hbm_blocks_origin(pool, borrowing->blocks, block, from + at);

		hbm_page_borrow(pool, &borrowing->sequence->slot->pages, offset + at, &origin);
	}
}

int hbm_borrowing_map(struct borrowing *borrowing)
{
	struct hbm_pool *pool = borrowing->sequence->pool;

	hbm_ranges_begin(&pool->shrink);
	borrowing_each(borrowing, borrowing_clear);
	hbm_shares_begin(&pool->shares);
	borrowing_each(borrowing, borrowing_gather);
	if (pool->shrink.failed || pool->shares.failed ||
	    !hbm_page_prepare(pool, &borrowing->sequence->slot->pages, pool->shares.slabs))
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate what is borrowed");

	int r = hbm_backing_decommit(pool);
	if (r)
		return hbm_pool_fail_call(pool, r, "slabs of the sequence before stay mapped");
	r = hbm_backing_share(pool);
	if (r)
		return hbm_pool_fail_call(pool, r, "borrowed blocks are not mapped");

	borrowing_each(borrowing, borrowing_note);

	return 0;
}
