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

/* The nth in the landing. */
static uint64_t chain_address(const struct chain *chain, uint64_t nth)
{
	return hbm_region_address(chain->archive->landing) +
	       hbm_archive_offset(chain->archive, nth);
}

static struct copy_list *chain_copies(const struct chain *chain)
{
	return hbm_copy_list_new(chain->archive->pool, chain_address(chain, ARCHIVE_FLIGHTS),
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

/* What a load copies, and where. */
struct load {
	const struct chain *chain;
	const struct hbm_sequence *sequence;
	const struct slice *slice;
	uint64_t at;          /* the token of the sequence where it begins */
	struct chain_gap gap; /* empty, behind all: none */
};

/* Tokens [first, end) of a piece, of the chain's. */
static void chain_scatter_tokens(const struct load *load, struct copy_list *list, uint64_t number,
				 uint64_t nth, uint64_t first, uint64_t end)
{
	const struct chain *chain = load->chain;
	const struct chunk *chunk = &chain->archive->chunk;
	struct place piece = {chunk->layout, chunk, chain_address(chain, nth),
			      first - number * chunk->tokens};
	struct place slot = {hbm_sequence_layout(load->sequence), NULL, chain_slot(load->sequence),
			     load->at + first};
	struct slice part = *load->slice;

	part.token = chain->first + first;
	part.slid = chain->slid;
	if (first < end)
		hbm_reshape_tokens(list, &slot, &piece, &part, end - first);
}

static void chain_scatter(const struct load *load, struct copy_list *list, uint64_t number,
			  uint64_t nth)
{
	const struct chain *chain = load->chain;
	const struct chunk *chunk = &chain->archive->chunk;
	const struct chain_gap *gap = &load->gap;
	const uint64_t of_tokens = chain_of_tokens(chain);
	const struct place slot = {hbm_sequence_layout(load->sequence), NULL,
				   chain_slot(load->sequence), 0};
	uint64_t first, count;

	if (number >= of_tokens) {
		hbm_reshape_states_in(list, chunk, number - of_tokens, chain_address(chain, nth),
				      &slot, load->slice);
		return;
	}
	chain_span(chain, number, &first, &count);

	const uint64_t end = first + count;

	chain_scatter_tokens(load, list, number, nth, first, gap->begin < end ? gap->begin : end);
	chain_scatter_tokens(load, list, number, nth, gap->end > first ? gap->end : first, end);
}

/* ---- Requests ---- */

/* One of two: while one is in flight, copies between the other's half of the landing and the slot
 * are made. */
struct flight {
	struct hbm_segment segments[ARCHIVE_BATCH];
	struct hbm_block blocks[ARCHIVE_BATCH];
	hbm_result results[ARCHIVE_BATCH];
	uint64_t begin;
	size_t count;
	uint64_t place; /* of its first piece in the landing */
	hbm_ticket ticket;
	bool is_in_flight;
};

struct flights {
	struct flight list[2];
	uint64_t next; /* number of the next one */
	uint64_t sent; /* pieces */
};

static hbm_key chain_key(const struct chain *chain, uint64_t number)
{
	return hbm_saved_key_piece(chain->name, chain->save, number);
}

/* The next pieces before `end`. Their flight before has ended. */
static struct flight *chain_next(const struct chain *chain, struct flights *flights, uint64_t end,
				 const struct hbm_save_options *options)
{
	const struct archive *archive = chain->archive;
	static const hbm_key root;
	const uint64_t half = flights->next++ % 2, left = end - flights->sent;
	struct flight *flight = &flights->list[half];

	flight->begin = flights->sent;
	flight->count = left < ARCHIVE_BATCH ? left : ARCHIVE_BATCH;
	flight->place = half * ARCHIVE_BATCH;
	flights->sent += flight->count;
	for (size_t i = 0; i < flight->count; i++) {
		const uint64_t number = flight->begin + i;

		flight->segments[i] = (struct hbm_segment){
			archive->landing, hbm_archive_offset(archive, flight->place + i),
			archive->chunk.bytes};
		flight->blocks[i] = (struct hbm_block){
			.key = chain_key(chain, number),
			.parent = number ? chain_key(chain, number - 1) : root,
			.segments = &flight->segments[i],
			.segment_count = 1,
			.tier = options ? options->tier : HBM_TIER_NONE,
			.durable = options && options->durable,
		};
	}

	return flight;
}

/* How many leading ones were done; the first other status, if it says more than that the
 * piece is gone. */
static int chain_results(const struct chain *chain, const struct flight *flight, uint64_t *done)
{
	size_t i = 0;

	while (i < flight->count && flight->results[i].status == HBM_OK)
		i++;
	*done += i;

	return i == flight->count || flight->results[i].status == HBM_MISS
		       ? 0
		       : hbm_pool_fail(chain->archive->pool, flight->results[i].status,
				       "a piece of \"%s\": %s", chain->name,
				       hbm_strerror(flight->results[i].status));
}

/* Waits for its end, if it is in flight. What comes behind a piece that is missing is not done. */
static int chain_land(const struct chain *chain, struct flight *flight, const char *what,
		      uint64_t *done)
{
	struct hbm_pool *pool = chain->archive->pool;

	if (!flight->is_in_flight)
		return 0;

	flight->is_in_flight = false;
	int r = hbm_wait(pool->hbm, flight->ticket, -1);
	if (r)
		return hbm_pool_fail_call(pool, r, what);

	return *done == flight->begin ? chain_results(chain, flight, done) : 0;
}

/* ---- Store ---- */

static int chain_send_store(const struct chain *chain, const struct hbm_sequence *sequence,
			    struct copy_list *list, struct flight *flight)
{
	struct hbm_pool *pool = chain->archive->pool;

	for (size_t i = 0; i < flight->count; i++)
		chain_gather(chain, sequence, list, flight->begin + i, flight->place + i);
	int r = chain_finish(chain, list);
	if (r)
		return r;

	r = hbm_submit_store(pool->hbm, chain->archive->pieces, flight->blocks, flight->count, NULL,
			     flight->results, &flight->ticket);
	flight->is_in_flight = r == 0;

	return r ? hbm_pool_fail_call(pool, r, "pieces were not stored") : 0;
}

static int chain_land_store(const struct chain *chain, struct flight *flight, uint64_t *done)
{
	const bool was_in_flight = flight->is_in_flight;
	int r = chain_land(chain, flight, "pieces were not stored", done);

	if (r == 0 && was_in_flight && *done != flight->begin + flight->count)
		r = hbm_pool_fail(chain->archive->pool, HBM_NO_SPACE,
				  "a piece of \"%s\" was evicted while the next was stored",
				  chain->name);

	return r;
}

int hbm_chain_store(const struct chain *chain, const struct hbm_sequence *sequence,
		    const struct hbm_save_options *options, chain_stop *stop, void *arg,
		    uint64_t *done)
{
	const uint64_t all = hbm_chain_count(chain);
	struct copy_list *list = chain_copies(chain);
	struct flights flights = {0};
	int r = list ? 0 : hbm_pool_fail(chain->archive->pool, -ENOMEM, "cannot allocate copies");

	*done = 0;
	while (r == 0 && flights.sent < all && !stop(arg)) {
		r = chain_land_store(chain, &flights.list[flights.next % 2], done);
		if (r == 0)
			r = chain_send_store(chain, sequence, list,
					     chain_next(chain, &flights, all, options));
	}

	for (unsigned i = 0; i < 2; i++) {
		struct flight *flight = &flights.list[(flights.next + i) % 2];
		const int landed = chain_land_store(chain, flight, done);

		r = r ? r : landed;
	}
	free(list);

	return r;
}

/* ---- Load ---- */

static int chain_send_load(const struct chain *chain, struct flight *flight)
{
	struct hbm_pool *pool = chain->archive->pool;
	int r = hbm_submit_load(pool->hbm, chain->archive->pieces, flight->blocks, flight->count,
				NULL, flight->results, &flight->ticket);

	flight->is_in_flight = r == 0;

	return r ? hbm_pool_fail_call(pool, r, "pieces were not loaded") : 0;
}

/* Pieces [begin, end). *done: up to which they were there. */
static int chain_load_some(const struct load *load, struct copy_list *list, uint64_t begin,
			   uint64_t end, uint64_t *done)
{
	const struct chain *chain = load->chain;
	struct flights flights = {.sent = begin};
	uint64_t landed = 0; /* flights */
	int r = 0;

	*done = begin;
	while (r == 0 && *done < end) {
		while (r == 0 && flights.next < landed + 2 && flights.sent < end)
			r = chain_send_load(chain, chain_next(chain, &flights, end, NULL));

		struct flight *flight = &flights.list[landed++ % 2];
		if (r == 0)
			r = chain_land(chain, flight, "pieces were not loaded", done);
		for (uint64_t i = flight->begin; r == 0 && i < *done; i++)
			chain_scatter(load, list, i, flight->place + i - flight->begin);
		if (r == 0)
			r = chain_finish(chain, list);
		if (*done != flight->begin + flight->count)
			break;
	}

	for (unsigned i = 0; i < 2; i++) {
		uint64_t ignored = 0;
		const int last =
			chain_land(chain, &flights.list[i], "pieces were not loaded", &ignored);

		r = r ? r : last < 0 ? last : 0;
	}

	return r;
}

/* The pieces that lie in the gap whole; none: those behind the last. */
static void chain_skip(const struct load *load, uint64_t count, uint64_t *begin, uint64_t *end)
{
	const struct chain *chain = load->chain;
	const uint64_t most = chain->archive->chunk.tokens;
	const uint64_t all = chain->tokens - chain->first;

	*begin = *end = count;
	if (load->gap.begin >= load->gap.end)
		return;

	const uint64_t first = hbm_chunk_pieces(&chain->archive->chunk, load->gap.begin);
	const uint64_t behind =
		load->gap.end == all ? chain_of_tokens(chain) : load->gap.end / most;

	if (first < behind) {
		*begin = first;
		*end = behind;
	}
}

int hbm_chain_load(const struct chain *chain, struct hbm_sequence *sequence,
		   const struct slice *slice, uint64_t at, const struct chain_gap *gap,
		   uint64_t count, uint64_t *done)
{
	const struct load load = {chain, sequence, slice, at,
				  gap ? *gap : (struct chain_gap){UINT64_MAX, UINT64_MAX}};
	struct copy_list *list = chain_copies(chain);
	uint64_t begin, end;
	int r;

	*done = 0;
	if (!list)
		return hbm_pool_fail(chain->archive->pool, -ENOMEM, "cannot allocate copies");

	chain_skip(&load, count, &begin, &end);
	r = chain_load_some(&load, list, 0, begin, done);
	if (r == 0 && *done == begin)
		r = chain_load_some(&load, list, end, count, done);
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

void hbm_chain_touch(const struct chain *chain)
{
	const uint64_t count = hbm_chain_count(chain);

	if (count == 0)
		return;

	/* And of its ancestors. */
	const hbm_key last = chain_key(chain, count - 1);

	hbm_keys(chain->archive->pool->hbm, HBM_WIRE_TOUCH, chain->archive->pieces, 0, &last, 1,
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
