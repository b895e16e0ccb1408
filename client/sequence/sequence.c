/* SPDX-License-Identifier: Apache-2.0 */
/* sequence: see sequence.h. */
#include "client/sequence/sequence.h"

#include "client/connection.h"
#include "client/sequence/mark.h"
#include "client/sequence/page.h"
#include "client/sequence/pool.h"
#include "client/sequence/show.h"
#include "client/sequence/slot.h"
#include "client/sequence/tree.h"

#include <assert.h>
#include <stdlib.h>

const struct hbm_layout *hbm_sequence_layout(const struct hbm_sequence *sequence)
{
	return sequence->layout ? sequence->layout : sequence->pool->layout;
}

bool hbm_sequence_is_open(const struct hbm_sequence *sequence)
{
	return sequence->slot;
}

int hbm_sequence_check_open(struct hbm_pool *pool, const struct hbm_sequence *sequence)
{
	if (!sequence)
		return hbm_pool_fail(pool, HBM_INVALID, "no sequence (NULL)");
	if (sequence->pool != pool)
		return hbm_pool_fail(pool, HBM_INVALID, "a sequence of another pool");
	if (!hbm_sequence_is_open(sequence))
		return hbm_pool_fail(pool, HBM_INVALID, "a sequence that is closed");
	if (sequence->lost)
		return hbm_pool_fail(pool, HBM_DEVICE,
				     "a sequence whose memory the device has refused to map "
				     "again: close it");

	return 0;
}

int hbm_sequence_check(struct hbm_pool *pool, const struct hbm_sequence *sequence)
{
	int r = hbm_sequence_check_open(pool, sequence);

	if (r)
		return r;
	if (sequence->state == HBM_SEQUENCE_SUSPENDING)
		pool->call_back(pool, sequence);
	if (sequence->state == HBM_SEQUENCE_SUSPENDED)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "a sequence that is suspended: hbm_sequences_resume() first");
	if (sequence->state != HBM_SEQUENCE_OPEN)
		return hbm_pool_fail(pool, HBM_INVALID, "a sequence that is being %s",
				     sequence->state == HBM_SEQUENCE_SUSPENDING ? "suspended"
										: "resumed");

	return 0;
}

/* ---- How far it reaches ---- */

/* How many tokens the slabs of a buffer can take, if those in front of `tokens` can. */
static uint64_t sequence_reach(const struct hbm_sequence *sequence, uint32_t index, uint64_t tokens)
{
	const struct hbm_pool *pool = sequence->pool;
	struct hbm_buffer buffer;
	uint64_t offset, bytes;

	hbm_layout_buffer(hbm_sequence_layout(sequence), index, &buffer);
	hbm_layout_range(hbm_sequence_layout(sequence), index, tokens, sequence->max, &offset,
			 &bytes);

	uint64_t at = offset;
	const uint64_t end = offset + bytes;

	while (at < end && hbm_slot_owns(pool, sequence->slot, at))
		at += pool->slab;
	if (at == end)
		return sequence->max;
	if (buffer.token_bytes == 0)
		return 0;

	return (at - buffer.offset) / (buffer.token_bytes * buffer.page_tokens) *
	       buffer.page_tokens;
}

void hbm_sequence_look(struct hbm_sequence *sequence)
{
	const struct hbm_pool *pool = sequence->pool;
	const uint64_t tokens = sequence->tokens;
	uint64_t ready = sequence->max;

	sequence->target = tokens;
	if (sequence->source || sequence->lost || sequence->state != HBM_SEQUENCE_OPEN) {
		sequence->ready = sequence->calm = sequence->limit = 0;
		return;
	}

	for (uint32_t i = 0; i < pool->buffer_count; i++) {
		const uint64_t reach = sequence_reach(sequence, i, tokens);

		ready = reach < ready ? reach : ready;
	}
	/* The last tokens may lie in a slab that others have, too: it is not to be written. */
	ready = ready < tokens ? tokens : ready;

	uint64_t limit = ready, calm = ready;

	if (ready < sequence->max)
		calm = ready > pool->ahead_tokens ? ready - pool->ahead_tokens : 0;
	if (!sequence->overrun && sequence->expected < limit)
		limit = sequence->expected;
	/* Drafts are where more tokens would be. */
	if (hbm_tree_count(sequence->tree) > 0)
		limit = tokens;

	sequence->ready = ready;
	sequence->calm = calm < limit ? calm : limit;
	/* Last: who reads this sees the others, and what is mapped. */
	sequence->limit = limit;
}

void hbm_sequence_refresh(struct hbm_sequence *sequence)
{
	hbm_show_tokens(sequence->pool, sequence->index, sequence->tokens);
	hbm_sequence_look(sequence);
}

void hbm_sequence_gather(struct hbm_sequence *sequence, uint64_t end)
{
	struct hbm_pool *pool = sequence->pool;
	const uint64_t tokens = sequence->tokens;

	/* A step that took no lock may have gone further since `end` was chosen. */
	if (end < tokens)
		end = tokens;
	sequence->target = end;
	for (uint32_t i = 0; i < pool->buffer_count; i++) {
		uint64_t offset, bytes;

		hbm_layout_range(hbm_sequence_layout(sequence), i, tokens, end, &offset, &bytes);
		hbm_slot_runs(pool, sequence->slot, offset, bytes, false, &pool->grow);
	}
}

void hbm_sequence_turn(struct hbm_sequence *sequence, enum hbm_sequence_state state)
{
	const uint64_t stashed = state == HBM_SEQUENCE_OPEN ? 0 : sequence->stash.count;

	sequence->state = state;
	hbm_show_state(sequence->pool, sequence->index, state, stashed * sequence->pool->slab);
}

void hbm_sequence_lose(struct hbm_sequence *sequence)
{
	sequence->lost = true;
	hbm_sequence_refresh(sequence);
}

void hbm_sequence_shared_beyond(struct hbm_sequence *sequence, uint64_t tokens, uint64_t end)
{
	struct hbm_pool *pool = sequence->pool;

	for (uint32_t i = 0; sequence->slot->pages.list && i < pool->buffer_count; i++) {
		uint64_t offset, kept, bytes;

		hbm_layout_range(hbm_sequence_layout(sequence), i, 0, tokens, &offset, &kept);
		hbm_layout_range(hbm_sequence_layout(sequence), i, 0, end, &offset, &bytes);
		hbm_slot_shared(pool, sequence->slot, offset + kept, bytes - kept, &pool->shrink);
	}
}

uint64_t hbm_sequence_begin(const struct hbm_sequence *sequence, uint32_t buffer, uint64_t token)
{
	uint64_t offset, bytes;

	hbm_layout_range(hbm_sequence_layout(sequence), buffer, token, token, &offset, &bytes);

	return offset;
}

/* ---- Open and close ---- */

static void sequence_show(struct hbm_sequence *sequence, const char *name)
{
	struct hbm_pool *pool = sequence->pool;

	sequence->number = ++pool->hbm->sequences;
	hbm_show_begin(pool, sequence->index,
		       &(struct shown){.number = sequence->number,
				       .expected = sequence->expected,
				       .max = sequence->max,
				       .next_use = sequence->next_use,
				       .priority = sequence->priority,
				       .name = name});
}

struct hbm_sequence *hbm_sequence_start(struct hbm_pool *pool, struct slot *slot,
					const struct hbm_sequence_options *options)
{
	assert(slot && !list_empty(&pool->closed)); /* as many slots as handles */

	struct hbm_sequence *sequence = container_of(pool->closed.next, struct hbm_sequence, link);

	list_remove(&sequence->link);
	list_push_back(&pool->open, &sequence->link);
	pool->open_count++;
	slot->account = &sequence->account;
	hbm_slot_begin(pool, slot, sequence, sequence->index);

	sequence->slot = slot;
	sequence->max = options->max ? options->max : pool->max_tokens;
	sequence->expected = options->expected ? options->expected : sequence->max;
	sequence->first = 0;
	sequence->priority = options->priority;
	sequence->next_use = options->next_use;
	sequence->overrun = sequence->expected == sequence->max;
	sequence->lost = false;
	sequence->state = HBM_SEQUENCE_OPEN;
	sequence->is_idle = false;
	sequence->is_opening = false;
	sequence->overrun_due = false;
	sequence->asked = 0;
	sequence->source = NULL;
	sequence->account.promised = sequence->account.credit = 0;
	sequence->before[0] = sequence->before[1] = sequence->slid = 0;
	sequence->tokens = 0;
	hbm_mark_clear(pool, sequence->index);
	hbm_sequence_refresh(sequence);
	sequence_show(sequence, options->name);

	return sequence;
}

void hbm_sequence_end(struct hbm_pool *pool, struct hbm_sequence *sequence)
{
	hbm_show_end(pool, sequence->index);
	sequence->limit = sequence->calm = sequence->ready = 0;
	sequence->tokens = SEQUENCE_CLOSED;
	sequence->source = NULL;
	list_remove(&sequence->fork);
	sequence->layout = hbm_layout_free(sequence->layout);
	free(sequence->tree);
	sequence->tree = NULL;
	hbm_mark_clear(pool, sequence->index);
	sequence->account.credit = 0;
	hbm_books_look(pool, &sequence->account, 0);
	hbm_slot_free(pool, sequence->slot);
	sequence->slot = NULL;

	list_remove(&sequence->event);
	list_remove(&sequence->link);
	list_push_back(&pool->closed, &sequence->link);
	pool->open_count--;
}

/* ---- Facts ---- */

static uint64_t sequence_lent_bytes(const struct hbm_sequence *sequence)
{
	const struct hbm_pool *pool = sequence->pool;
	uint64_t bytes = 0;

	for (uint64_t at = 0; sequence->slot->pages.list && at < pool->slot_bytes; at += pool->slab)
		if (hbm_page_is_borrowed(pool, &sequence->slot->pages, at))
			bytes += pool->slab;

	return bytes;
}

int hbm_sequence_facts(const struct hbm_sequence *sequence, struct hbm_sequence_facts *facts)
{
	if (!sequence)
		return HBM_INVALID;

	struct hbm_pool *pool = sequence->pool;

	hbm_pool_lock(pool);
	int r = hbm_sequence_check_open(pool, sequence);
	if (r == 0)
		*facts = (struct hbm_sequence_facts){
			.number = sequence->number,
			.slot = hbm_slot_index(pool, sequence->slot),
			.address = pool->region->address + hbm_slot_offset(pool, sequence->slot),
			.tokens = sequence->tokens,
			.drafts = hbm_tree_count(sequence->tree),
			.first = sequence->first,
			.ready = sequence->ready,
			.expected = sequence->expected,
			.max = sequence->max,
			.priority = sequence->priority,
			.next_use = sequence->next_use,
			.mapped_bytes = sequence->slot->slabs * pool->slab,
			.lent_bytes = sequence_lent_bytes(sequence),
			.state = sequence->state,
			.tier = sequence->stash.tier,
			.suspended_bytes = sequence->stash.count * pool->slab,
			.shared_bytes = sequence->slot->pages.shared * pool->slab,
			.promised_bytes = sequence->account.unused,
		};
	hbm_pool_unlock(pool);

	return r;
}
