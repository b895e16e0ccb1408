/* SPDX-License-Identifier: Apache-2.0 */
/* chain: see chain.h. */
#include "client/sequence/chain.h"

#include "client/sequence/copies.h"
#include "client/sequence/copy_list.h"
#include "client/sequence/pool.h"
#include "client/sequence/saved_key.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"

#include <errno.h>
#include <stdlib.h>

#define CHAIN_KEYS 4096u /* in one request */

/* ---- Numbers ---- */

static uint64_t chain_of_tokens(const struct chain *chain)
{
	return hbm_chunk_pieces(&chain->archive->chunk, chain->tokens - chain->first);
}

static uint64_t chain_of_states(const struct chain *chain)
{
	return chain->tokens ? hbm_chunk_state_pieces(&chain->archive->chunk) : 0;
}

uint64_t hbm_chain_count(const struct chain *chain)
{
	return chain_of_tokens(chain) + chain_of_states(chain);
}

uint64_t hbm_chain_tokens(const struct chain *chain, uint64_t count)
{
	const struct chunk *chunk = &chain->archive->chunk;
	if (count == hbm_chain_count(chain))
		return chain->tokens;
	if (count == 0 || count > chain_of_tokens(chain))
		return 0;

	const uint64_t tokens = chain->first + count * chunk->tokens;

	return tokens >= chain->least ? tokens : 0;
}

/* Tokens of a piece: [0, *count) are chain->first + *at and so on. */
static void chain_span(const struct chain *chain, uint64_t number, uint64_t *at, uint64_t *count)
{
	const uint64_t most = chain->archive->chunk.tokens;

	*at = number * most;
	*count = chain->tokens - chain->first - *at;
	if (*count > most)
		*count = most;
}

/* ---- Bytes ---- */

static uint64_t chain_slot(const struct hbm_sequence *sequence)
{
	const struct hbm_pool *pool = sequence->pool;

	return pool->region->address + hbm_slot_offset(pool, sequence->slot);
}

/* Of a batch: piece `number` is the nth in the landing. */
static uint64_t chain_address(const struct chain *chain, uint64_t nth)
{
	return hbm_region_address(chain->archive->landing) +
	       hbm_archive_offset(chain->archive, nth);
}

static struct copy_list *chain_copies(const struct chain *chain)
{
	return hbm_copy_list_new(chain->archive->pool, chain_address(chain, ARCHIVE_BATCH),
				 chain->archive->chunk.bytes);
}

static int chain_finish(const struct chain *chain, struct copy_list *list)
{
	struct hbm_pool *pool = chain->archive->pool;

	hbm_copy_list_flush(list);
	if (list->failed)
		return hbm_pool_fail_call(pool, HBM_DEVICE, "a piece was not copied");

	return hbm_copies_wait(pool) ? 0 : hbm_copies_fail(pool);
}

static void chain_gather(const struct chain *chain, const struct hbm_sequence *sequence,
			 struct copy_list *list, uint64_t number, uint64_t nth)
{
	const struct chunk *chunk = &chain->archive->chunk;
	struct slice all = {.slid = chain->slid};
	const uint64_t of_tokens = chain_of_tokens(chain);
	struct place piece = {chunk->layout, chunk, chain_address(chain, nth), 0};
	struct place slot = {hbm_sequence_layout(sequence), NULL, chain_slot(sequence), 0};
	uint64_t count;

	if (number >= of_tokens) {
		hbm_reshape_states_out(list, chunk, number - of_tokens, piece.address, &slot);
		return;
	}
	chain_span(chain, number, &slot.first, &count);
	slot.first += chain->first;
	all.token = slot.first;
	hbm_reshape_tokens(list, &piece, &slot, &all, count);
}

static void chain_scatter(const struct chain *chain, const struct hbm_sequence *sequence,
			  const struct slice *slice, struct copy_list *list, uint64_t at,
			  uint64_t number, uint64_t nth)
{
	const struct chunk *chunk = &chain->archive->chunk;
	const uint64_t of_tokens = chain_of_tokens(chain);
	struct place piece = {chunk->layout, chunk, chain_address(chain, nth), 0};
	struct place slot = {hbm_sequence_layout(sequence), NULL, chain_slot(sequence), 0};
	struct slice part = *slice;
	uint64_t count;

	if (number >= of_tokens) {
		hbm_reshape_states_in(list, chunk, number - of_tokens, piece.address, &slot, slice);
		return;
	}
	chain_span(chain, number, &slot.first, &count);
	part.token = chain->first + slot.first;
	part.slid = chain->slid;
	slot.first += at;
	hbm_reshape_tokens(list, &slot, &piece, &part, count);
}

/* ---- Requests ---- */

struct batch {
	struct hbm_segment segments[ARCHIVE_BATCH];
	struct hbm_block blocks[ARCHIVE_BATCH];
	hbm_result results[ARCHIVE_BATCH];
	size_t count;
};

static hbm_key chain_key(const struct chain *chain, uint64_t number)
{
	return hbm_saved_key_piece(chain->name, chain->save, number);
}

static void chain_batch(const struct chain *chain, uint64_t begin, uint64_t end, enum hbm_tier tier,
			struct batch *batch)
{
	const struct archive *archive = chain->archive;
	static const hbm_key root;

	batch->count = end - begin < ARCHIVE_BATCH ? end - begin : ARCHIVE_BATCH;
	for (size_t i = 0; i < batch->count; i++) {
		const uint64_t number = begin + i;

		batch->segments[i] = (struct hbm_segment){
			archive->landing, hbm_archive_offset(archive, i), archive->chunk.bytes};
		batch->blocks[i] = (struct hbm_block){
			.key = chain_key(chain, number),
			.parent = number ? chain_key(chain, number - 1) : root,
			.segments = &batch->segments[i],
			.segment_count = 1,
			.tier = tier,
		};
	}
}

/* How many leading ones were done; the first other status, if it says more than that the
 * piece is gone. */
static int chain_results(const struct chain *chain, const struct batch *batch, uint64_t *done)
{
	size_t i = 0;

	while (i < batch->count && batch->results[i].status == HBM_OK)
		i++;
	*done += i;

	return i == batch->count || batch->results[i].status == HBM_MISS
		       ? 0
		       : hbm_pool_fail(chain->archive->pool, batch->results[i].status,
				       "a piece of \"%s\": %s", chain->name,
				       hbm_strerror(batch->results[i].status));
}

static int chain_store_batch(const struct chain *chain, const struct hbm_sequence *sequence,
			     enum hbm_tier tier, struct copy_list *list, uint64_t *done)
{
	struct batch batch;

	chain_batch(chain, *done, hbm_chain_count(chain), tier, &batch);
	for (size_t i = 0; i < batch.count; i++)
		chain_gather(chain, sequence, list, *done + i, i);
	int r = chain_finish(chain, list);
	if (r)
		return r;

	r = hbm_store(chain->archive->pool->hbm, chain->archive->pieces, batch.blocks, batch.count,
		      batch.results);

	return r ? hbm_pool_fail_call(chain->archive->pool, r, "pieces were not stored")
		 : chain_results(chain, &batch, done);
}

int hbm_chain_store(const struct chain *chain, const struct hbm_sequence *sequence,
		    const struct hbm_save_options *options, chain_stop *stop, void *arg,
		    uint64_t *done)
{
	const uint64_t all = hbm_chain_count(chain);
	struct copy_list *list = chain_copies(chain);
	int r = list ? 0 : hbm_pool_fail(chain->archive->pool, -ENOMEM, "cannot allocate copies");

	*done = 0;
	while (r == 0 && *done < all && !stop(arg)) {
		const uint64_t before = *done;

		r = chain_store_batch(chain, sequence, options->tier, list, done);
		if (r == 0 && *done < all && (*done - before) % ARCHIVE_BATCH != 0)
			r = hbm_pool_fail(chain->archive->pool, HBM_NO_SPACE,
					  "a piece of \"%s\" was evicted while the next was stored",
					  chain->name);
	}
	free(list);

	return r;
}

static int chain_load_batch(const struct chain *chain, struct hbm_sequence *sequence,
			    const struct slice *slice, struct copy_list *list, uint64_t at,
			    uint64_t end, uint64_t *done)
{
	struct hbm_pool *pool = chain->archive->pool;
	const uint64_t begin = *done;
	struct batch batch;

	chain_batch(chain, begin, end, HBM_TIER_NONE, &batch);
	int r = hbm_load(pool->hbm, chain->archive->pieces, batch.blocks, batch.count,
			 batch.results);
	if (r)
		return hbm_pool_fail_call(pool, r, "pieces were not loaded");

	r = chain_results(chain, &batch, done);
	if (r)
		return r;
	for (uint64_t i = begin; i < *done; i++)
		chain_scatter(chain, sequence, slice, list, at, i, i - begin);

	return chain_finish(chain, list);
}

int hbm_chain_load(const struct chain *chain, struct hbm_sequence *sequence,
		   const struct slice *slice, uint64_t at, uint64_t count, uint64_t *done)
{
	struct copy_list *list = chain_copies(chain);
	int r = list ? 0 : hbm_pool_fail(chain->archive->pool, -ENOMEM, "cannot allocate copies");
	uint64_t due = 0; /* as many as there should be by now */

	*done = 0;
	while (r == 0 && *done == due && due < count) {
		due += count - due < ARCHIVE_BATCH ? count - due : ARCHIVE_BATCH;
		r = chain_load_batch(chain, sequence, slice, list, at, count, done);
	}
	free(list);

	return r;
}

int hbm_chain_present(const struct chain *chain, uint64_t *count)
{
	struct hbm_pool *pool = chain->archive->pool;
	const uint64_t all = hbm_chain_count(chain);
	hbm_key *keys = malloc(CHAIN_KEYS * sizeof(*keys));
	int r = keys ? 0 : hbm_pool_fail(pool, -ENOMEM, "cannot allocate keys");

	*count = 0;
	for (uint64_t begin = 0; r == 0 && begin == *count && begin < all; begin += CHAIN_KEYS) {
		const size_t n = all - begin < CHAIN_KEYS ? all - begin : CHAIN_KEYS;
		struct hbm_lookup answer;

		for (size_t i = 0; i < n; i++)
			keys[i] = chain_key(chain, begin + i);
		r = hbm_lookup(pool->hbm, chain->archive->pieces, keys, n, &answer, NULL);
		if (r)
			r = hbm_pool_fail_call(pool, r, "pieces were not looked up");
		else
			*count += answer.resident;
	}
	free(keys);

	return r;
}

int hbm_chain_pin(const struct chain *chain, uint64_t count, bool keep)
{
	struct hbm_pool *pool = chain->archive->pool;

	if (count == 0)
		return 0;

	const hbm_key last = chain_key(chain, count - 1);
	hbm_result result;
	int r = hbm_keys(pool->hbm, HBM_WIRE_PIN, chain->archive->pieces, keep ? HBM_WIRE_KEEP : 0,
			 &last, 1, &result);

	if (r)
		return hbm_pool_fail_call(pool, r, "pieces were not pinned");

	return result.status == HBM_OK
		       ? 0
		       : hbm_pool_fail(pool,
				       result.status == HBM_MISS ? HBM_NO_SPACE : result.status,
				       "the pieces of \"%s\" were not pinned: %s", chain->name,
				       hbm_strerror(result.status));
}

void hbm_chain_unpin(const struct chain *chain, uint64_t count)
{
	if (count == 0)
		return;

	const hbm_key last = chain_key(chain, count - 1);

	hbm_keys(chain->archive->pool->hbm, HBM_WIRE_UNPIN, chain->archive->pieces, 0, &last, 1,
		 NULL);
}

int hbm_chain_remove(const struct chain *chain)
{
	struct hbm *hbm = chain->archive->pool->hbm;
	const uint64_t count = hbm_chain_count(chain);

	if (count == 0)
		return 0;

	const hbm_key first = chain_key(chain, 0), last = chain_key(chain, count - 1);
	hbm_result result;

	hbm_chain_unpin(chain, count);
	hbm_keys(hbm, HBM_WIRE_UNPIN, chain->archive->pieces, HBM_WIRE_KEEP, &last, 1, NULL);
	int r = hbm_keys(hbm, HBM_WIRE_REMOVE, chain->archive->pieces, 0, &first, 1, &result);

	return r ? r : result.status == HBM_MISS ? 0 : result.status;
}
