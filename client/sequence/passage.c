/* SPDX-License-Identifier: Apache-2.0 */
/* passage: see passage.h. */
#include "client/sequence/passage.h"

#include "client/sequence/credit.h"
#include "client/sequence/pool.h"
#include "client/sequence/resume.h"
#include "client/sequence/sequence.h"
#include "client/sequence/suspend.h"

#include <stdlib.h>

#define PASSAGE_PART 64   /* slabs of a request */
#define PASSAGE_FLIGHTS 4 /* requests in flight, each way */

/* ---- The end ---- */

static void passage_undo(struct hbm_switch *change)
{
	struct hbm_pool *pool = change->pool;

	hbm_resume_undo(pool, change->in.list, change->in.count);
	hbm_suspend_undo(pool, change->out.list, change->out.count);
	if (change->credit > 0)
		hbm_credit_return(pool, (uint64_t)change->credit);
}

/* What could not be returned now is when the first of them is closed. */
static void passage_settle_credit(struct hbm_switch *change)
{
	for (size_t i = 0; i < change->out.count; i++) {
		change->out.list[i]->owed += change->out.list[i]->credit;
		change->out.list[i]->credit = 0;
	}
	for (size_t i = 0; i < change->in.count; i++) {
		change->in.list[i]->credit += change->in.list[i]->owed;
		change->in.list[i]->owed = 0;
	}
	if (change->credit < 0 && hbm_credit_return(change->pool, (uint64_t)-change->credit) != 0)
		change->out.list[0]->credit = (uint64_t)-change->credit;
}

static void passage_finish(struct hbm_switch *change)
{
	for (size_t i = 0; i < change->out.count; i++)
		hbm_sequence_turn(change->out.list[i], HBM_SEQUENCE_SUSPENDED);
	passage_settle_credit(change);
	hbm_resume_finish(change->pool, change->in.list, change->in.count);
}

void hbm_passage_end(struct hbm_switch *change, int status)
{
	struct hbm_pool *pool = change->pool;

	hbm_carry_wait(pool, &change->departure);
	hbm_carry_wait(pool, &change->arrival.carry);
	if (status)
		passage_undo(change);
	else
		passage_finish(change);
	hbm_stash_sweep(&pool->stashes, pool->hbm);

	change->status = status;
	change->has_ended = true;
}

static int passage_fail_carry(struct hbm_pool *pool, const struct carry *carry, const char *what)
{
	const bool is_call = carry->sent < carry->count;

	return hbm_pool_fail(pool, carry->status, "%zu of %zu slabs %s, then: %s", carry->done,
			     carry->count, what,
			     is_call ? hbm_error(pool->hbm) : hbm_strerror(carry->status));
}

/* ---- How it goes on ---- */

static size_t passage_part(const struct carry *carry)
{
	const size_t left = carry->count - carry->sent;

	return left < PASSAGE_PART ? left : PASSAGE_PART;
}

static void passage_send_out(struct hbm_switch *change)
{
	struct carry *carry = &change->departure;

	while (carry->status == 0 && carry->sent < carry->count &&
	       hbm_carry_in_flight(carry) < PASSAGE_FLIGHTS)
		hbm_carry_store(change->pool, carry, passage_part(carry), change->tier);
}

static void passage_send_part(struct hbm_switch *change)
{
	struct carry *carry = &change->arrival.carry;

	while (carry->status == 0 && carry->sent < carry->count &&
	       hbm_carry_in_flight(carry) < PASSAGE_FLIGHTS)
		hbm_carry_load(change->pool, carry, passage_part(carry), NULL);
}

/* One request for each group of the layout. Where nothing is to be loaded, the fence is set
 * at once. All are sent: who waits for a fence need not come back for the next. */
static void passage_send_groups(struct hbm_switch *change)
{
	struct carry *carry = &change->arrival.carry;
	struct hbm_layout_facts facts;

	hbm_layout_facts(change->pool->layout, &facts);
	for (; carry->status == 0 && change->group < facts.groups; change->group++) {
		const uint32_t slot = change->fence_slot + change->group;
		const struct hbm_sync sync = {.ready_slot = HBM_WIRE_NO_FENCE,
					      .fence_slot = slot,
					      .fence_value = change->fence_value};
		uint32_t group = 0;
		const size_t count =
			hbm_arrival_group(change->pool, &change->arrival, carry->sent, &group);

		if (count == 0 || group > change->group)
			hbm_fence_signal(change->pool->hbm, slot, change->fence_value);
		else
			hbm_carry_load(change->pool, carry, count, &sync);
	}
}

static void passage_send_in(struct hbm_switch *change)
{
	if (change->has_fences)
		passage_send_groups(change);
	else
		passage_send_part(change);
}

static bool passage_is_out(const struct hbm_switch *change)
{
	return change->departure.done == change->departure.count;
}

/* What can be done now: 0, or why not. */
static int passage_advance(struct hbm_switch *change)
{
	struct hbm_pool *pool = change->pool;
	struct arrival *arrival = &change->arrival;
	int r = 0;

	if (change->departure.status)
		return passage_fail_carry(pool, &change->departure, "were stored");
	if (arrival->carry.status)
		return passage_fail_carry(pool, &arrival->carry, "were loaded");

	passage_send_out(change);
	if (passage_is_out(change) && !change->is_free) {
		r = hbm_suspend_empty(pool, change->out.list, change->out.count);
		change->is_free = true;
		if (r == 0)
			r = hbm_arrival_acquire(pool, arrival, arrival->carry.count);
	}
	if (r == 0 && change->is_free)
		passage_send_in(change);

	return r;
}

void hbm_passage_go(struct hbm_switch *change)
{
	struct hbm_pool *pool = change->pool;
	bool again = true;

	while (again && !change->has_ended) {
		int r = passage_advance(change);

		if (r)
			hbm_passage_end(change, r);
		else if (change->is_free && hbm_arrival_is_done(&change->arrival))
			hbm_passage_end(change, 0);
		else
			again = hbm_carry_look(pool, &change->departure) |
				hbm_carry_look(pool, &change->arrival.carry);
	}
}

void hbm_passage_free(struct hbm_switch *change)
{
	list_remove(&change->link);
	hbm_carry_clear(&change->departure);
	hbm_arrival_clear(&change->arrival);
	free(change->out.list);
	free(change->in.list);
	free(change);
}

void hbm_passage_abandon(struct hbm_switch *change)
{
	if (!change->has_ended)
		hbm_passage_end(change, HBM_CANCELLED);
	hbm_passage_free(change);
}
