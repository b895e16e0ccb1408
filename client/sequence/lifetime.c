/* SPDX-License-Identifier: Apache-2.0 */
/* lifetime: a pool from its opening to its closing, with all that it consists of. */
#include "client/error.h"
#include "client/sequence/ahead.h"
#include "client/sequence/books.h"
#include "client/sequence/copies.h"
#include "client/sequence/credit.h"
#include "client/sequence/event.h"
#include "client/sequence/page.h"
#include "client/sequence/passage.h"
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/show.h"
#include "client/sequence/slot.h"
#include "client/sequence/stash.h"
#include "client/sequence/watermark.h"
#include "daemon/base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- Open ---- */

static int lifetime_connect(struct hbm *hbm, struct hbm_pool *pool)
{
	const struct hbm_options options = {
		.socket = hbm->socket,
		.name = hbm->name,
		.answer_ms = hbm->answer_ms > 0 ? (uint32_t)hbm->answer_ms : 0,
		.poll_us = (uint32_t)(hbm->poll_ns / 1000),
	};
	int r = hbm_connect(&pool->hbm, &options);

	if (r)
		return hbm_fail(hbm, r, "the pool's own connection: %s", hbm_strerror(r));
	pool->own_connection = true;

	return 0;
}

static int lifetime_copy_layout(struct hbm *hbm, struct hbm_pool *pool,
				const struct hbm_layout *layout)
{
	char error[160];
	const struct hbm_layout_options *options = hbm_layout_options(layout);
	int r = hbm_layout_new(&pool->layout, options, error, sizeof(error));
	if (r)
		return hbm_fail(hbm, r, "cannot copy the layout");

	struct hbm_layout_facts facts;

	hbm_layout_facts(layout, &facts);
	pool->buffer_count = facts.buffers;
	pool->slab = options->slab_bytes;
	pool->max_tokens = options->max_tokens;
	pool->slot_bytes = facts.slot_bytes;
	pool->slot_slabs = facts.slot_bytes / pool->slab;

	for (uint32_t i = 0; i < options->layer_count; i++)
		pool->has_windows |= options->layers[i].window > 0;

	return 0;
}

static int lifetime_allocate(struct hbm *hbm, struct hbm_pool *pool)
{
	const size_t count = pool->max_sequences;

	pool->sequences = aligned_alloc(64, count * sizeof(*pool->sequences));
	pool->slots = calloc(count, sizeof(*pool->slots));
	pool->marks = calloc(count / 64 + 1, sizeof(*pool->marks));
	if (!pool->sequences || !pool->slots || !pool->marks)
		return hbm_fail(hbm, -ENOMEM, "cannot allocate a pool of %zu sequences", count);

	memset((void *)pool->sequences, 0, count * sizeof(*pool->sequences));
	for (size_t i = 0; i < count; i++) {
		struct hbm_sequence *sequence = &pool->sequences[i];

		sequence->pool = pool;
		sequence->index = (uint32_t)i;
		sequence->tokens = SEQUENCE_CLOSED;
		list_init(&sequence->event);
		list_init(&sequence->forks);
		list_init(&sequence->fork);
		list_push_back(&pool->closed, &sequence->link);
		list_push_back(&pool->cold, &pool->slots[i].link);
	}

	return 0;
}

static int lifetime_reserve(struct hbm *hbm, struct hbm_pool *pool,
			    const struct hbm_pool_options *options)
{
	struct hbm_region_options region = {.device = options->device, .slab = pool->slab};

	if (!checked_mul(pool->slot_bytes, pool->max_sequences, &region.address_space))
		return hbm_fail(hbm, HBM_INVALID, "%u sequences of %llu bytes of address space",
				pool->max_sequences, (unsigned long long)pool->slot_bytes);

	int r = hbm_region_create(pool->hbm, &region, &pool->region);

	if (r && pool->own_connection)
		hbm_fail(hbm, r, "%s", hbm_error(pool->hbm));

	return r;
}

/* Once here, so that it needs no request later. A daemon that says nothing is as good. */
static int lifetime_read_memory(struct hbm *hbm, struct hbm_pool *pool)
{
	struct hbm_device_memory memory;
	int r = hbm_device_memory(pool->hbm, pool->region->device, &memory);

	if (r >= 0 || r == -EAGAIN)
		return 0;

	return pool->own_connection ? hbm_fail(hbm, r, "%s", hbm_error(pool->hbm)) : r;
}

static int lifetime_show(struct hbm *hbm, struct hbm_pool *pool)
{
	pool->board.heard = hbm_event_heard;

	int r = hbm_show_open(pool);

	return r && pool->own_connection ? hbm_fail(hbm, r, "%s", hbm_error(pool->hbm)) : r;
}

static void lifetime_configure(struct hbm_pool *pool, const struct hbm_pool_options *options)
{
	pool->ahead_tokens = options->ahead_tokens ? options->ahead_tokens : HBM_AHEAD_TOKENS;
	pool->warm_slabs_max = options->warm_bytes / pool->slab;
	pool->stream = options->stream;
	pool->memory_only = options->memory_only;
	pool->wipe_on_free = options->wipe_on_free;
}

static int lifetime_start(struct hbm *hbm, struct hbm_pool *pool,
			  const struct hbm_pool_options *options)
{
	int r = lifetime_copy_layout(hbm, pool, options->layout);
	if (r == 0)
		r = lifetime_allocate(hbm, pool);
	if (r == 0 && options->map_ahead_thread)
		r = lifetime_connect(hbm, pool);
	if (r == 0)
		r = lifetime_reserve(hbm, pool, options);
	if (r == 0 && !hbm_books_join(pool))
		r = hbm_fail(hbm, -ENOMEM, "cannot allocate the books of a pool");
	if (r == 0)
		r = lifetime_read_memory(hbm, pool);
	if (r == 0)
		r = lifetime_show(hbm, pool);
	if (r)
		return r;

	lifetime_configure(pool, options);
	if (hbm_watermark_open(pool, options) != 0)
		return hbm_fail(hbm, -ENOMEM, "cannot allocate a watermark");
	if (options->map_ahead_thread && (r = hbm_ahead_start(pool)) != 0)
		return hbm_fail(hbm, r, "cannot start a thread to map ahead");

	return 0;
}

static int lifetime_check(struct hbm *hbm, const struct hbm_pool_options *options)
{
	if (hbm_check_owner(hbm))
		return -EPERM;
	if (!options->layout)
		return hbm_fail(hbm, HBM_INVALID, "a pool without a layout");
	if (options->max_sequences == 0)
		return hbm_fail(hbm, HBM_INVALID, "a pool of no sequences: max_sequences is 0");

	return hbm_watermark_check(hbm, options);
}

int hbm_pool_open(struct hbm *hbm, const struct hbm_pool_options *options, struct hbm_pool **out)
{
	int r = lifetime_check(hbm, options);
	if (r)
		return r;

	struct hbm_pool *pool = calloc(1, sizeof(*pool));
	if (!pool)
		return hbm_fail(hbm, -ENOMEM, "cannot allocate a pool");

	pool->hbm = hbm;
	pool->max_sequences = options->max_sequences;
	pool->sharing_changed = hbm_slot_sharing_changed;
	pool->call_back = hbm_passage_call_back;
	list_init(&pool->open);
	list_init(&pool->closed);
	list_init(&pool->warm);
	list_init(&pool->cold);
	list_init(&pool->events);
	list_init(&pool->switches);
	list_init(&pool->stashes.unused);
	pthread_mutex_init(&pool->lock, NULL);

	r = lifetime_start(hbm, pool, options);
	if (r) {
		hbm_pool_close(pool);
		return r;
	}

	*out = pool;

	return 0;
}

/* ---- Close ---- */

static void lifetime_drop_suspended(struct hbm_pool *pool)
{
	while (!list_empty(&pool->switches))
		hbm_passage_abandon(container_of(pool->switches.next, struct hbm_switch, link));
	for (uint32_t i = 0; pool->sequences && i < pool->max_sequences; i++)
		hbm_stash_clear(&pool->stashes, &pool->sequences[i].stash);
	hbm_stash_close(&pool->stashes, pool->hbm);
}

int hbm_pool_close(struct hbm_pool *pool)
{
	int r = 0;

	if (!pool)
		return 0;

	hbm_ahead_stop(pool);
	lifetime_drop_suspended(pool);
	if (pool->region)
		hbm_copies_close(pool);
	if (pool->scratch)
		hbm_region_destroy(pool->hbm, pool->scratch);
	if (pool->region)
		r = hbm_region_destroy(pool->hbm, pool->region);
	if (pool->hbm)
		hbm_spaces_close(&pool->spaces, pool->hbm);
	if (pool->books)
		hbm_credit_leave(pool);
	hbm_show_close(pool);
	if (pool->own_connection)
		hbm_close(pool->hbm);

	for (uint32_t i = 0; pool->slots && i < pool->max_sequences; i++)
		hbm_page_clear(pool, &pool->slots[i].pages);
	for (uint32_t i = 0; pool->sequences && i < pool->max_sequences; i++) {
		hbm_layout_free(pool->sequences[i].layout);
		free(pool->sequences[i].tree);
	}
	hbm_watermark_close(pool);
	hbm_page_free_spare(pool);
	hbm_ranges_clear(&pool->grow);
	hbm_ranges_clear(&pool->shrink);
	hbm_shares_clear(&pool->shares);
	hbm_moves_clear(&pool->moves);
	hbm_layout_free(pool->layout);
	pthread_mutex_destroy(&pool->lock);
	free((void *)pool->marks);
	free(pool->sequences);
	free(pool->slots);
	free(pool);

	return r;
}

/* What a new sequence could have: read from memory that the daemon shares. */
static void lifetime_free(struct hbm_pool *pool, struct hbm_pool_facts *facts)
{
	struct hbm_device_memory memory;
	struct hbm_layout_facts layout;

	if (hbm_device_memory(pool->hbm, pool->region->device, &memory) != 0)
		return;
	hbm_layout_facts(pool->layout, &layout);
	facts->free_slabs = memory.available / pool->slab + pool->warm_slabs;
	if (layout.token_bytes > 0)
		facts->free_tokens = facts->free_slabs * pool->slab / layout.token_bytes;
}

void hbm_pool_facts(struct hbm_pool *pool, struct hbm_pool_facts *facts)
{
	hbm_pool_lock(pool);
	*facts = (struct hbm_pool_facts){
		.open = pool->open_count,
		.warm_bytes = pool->warm_slabs * pool->slab,
		.handle_bytes = sizeof(*pool->sequences) + sizeof(*pool->slots),
		.totals = pool->totals,
		.reserved_bytes = pool->books->reserved,
		.committed_bytes = pool->books->committed,
		.promised_bytes = pool->books->promised,
	};
	lifetime_free(pool, facts);
	for (uint32_t i = 0; i < pool->max_sequences; i++)
		facts->mapped_bytes += pool->slots[i].slabs * pool->slab;
	hbm_pool_unlock(pool);
}
