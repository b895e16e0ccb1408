/* SPDX-License-Identifier: Apache-2.0 */
/* passage: see passage.h. */
#include "client/sequence/passage.h"

#include "client/sequence/credit.h"
#include "client/sequence/pool.h"
#include "client/sequence/resume.h"
#include "client/sequence/sequence.h"
#include "client/sequence/suspend.h"

#include <stdlib.h>

#define PASSAGE_PART 16   /* slabs of a request: what comes in waits for the first that is stored */
#define PASSAGE_FLIGHTS 8 /* requests in flight, each way */

/* ---- The end ---- */

static void passage_undo(struct hbm_switch *change)
{
	struct hbm_pool *pool = change->pool;
	const struct carry *departure = &change->departure;
	bool is_back = hbm_handover_undo(pool, &change->handover, departure, &change->arrival);

	hbm_resume_undo(pool, change->in.list, change->in.count);
	is_back = is_back && hbm_handover_reload(pool, &change->handover, departure);
	hbm_suspend_undo(pool, change->out.list, change->out.count, !is_back);
	hbm_credit_unhold(pool, &change->held, UINT64_MAX);
	hbm_credit_settle(pool, change->out.list, change->out.count);
}

/* What the device refuses to unmap now stays in the slots, and is loaded into later. */
static void passage_finish(struct hbm_switch *change)
{
	hbm_suspend_empty(change->pool, change->out.list, change->out.count);
	for (size_t i = 0; i < change->out.count; i++)
		hbm_sequence_turn(change->out.list[i], HBM_SEQUENCE_SUSPENDED);
	hbm_resume_finish(change->pool, change->in.list, change->in.count);
	hbm_credit_unhold(change->pool, &change->held, UINT64_MAX);
	hbm_credit_settle(change->pool, change->in.list, change->in.count);
}

/* Nothing will arrive any more that sets the fences of groups which were not sent. */
static void passage_set_fences(struct hbm_switch *change)
{
	struct hbm_layout_facts facts;

	hbm_layout_facts(change->pool->layout, &facts);
	for (; change->has_fences && change->group < facts.groups; change->group++)
		hbm_fence_signal(change->pool->hbm, change->fence_slot + change->group,
				 change->fence_value);
}

void hbm_passage_end(struct hbm_switch *change, int status)
{
	struct hbm_pool *pool = change->pool;

	hbm_carry_wait(pool, &change->departure);
	hbm_carry_wait(pool, &change->arrival.carry);
	passage_set_fences(change);
	if (status)
		passage_undo(change);
	else
		passage_finish(change);
	hbm_stash_sweep(&pool->stashes, pool->hbm);

	change->status = status;
	change->has_ended = true;
}

void hbm_passage_call_back(struct hbm_pool *pool, const struct hbm_sequence *sequence)
{
	if (sequence->state != HBM_SEQUENCE_SUSPENDING)
		return;

	list_for_each (node, &pool->switches) {
		struct hbm_switch *change = container_of(node, struct hbm_switch, link);

		if (change->may_be_called_back && !change->has_ended &&
		    change->out.list[0] == sequence) {
			change->out.list[0]->is_idle = false;
			hbm_passage_end(change, HBM_CANCELLED);
			return;
		}
	}
}

static int passage_fail_carry(struct hbm_pool *pool, const struct carry *carry, const char *what)
{
	return hbm_pool_fail(
		pool, carry->status, "%zu of %zu slabs %s, then: %s", carry->good, carry->count,
		what, carry->is_refused ? hbm_error(pool->hbm) : hbm_strerror(carry->status));
}

/* ---- How it goes on ---- */

static size_t passage_part(const struct carry *carry, size_t end)
{
	const size_t left = end - carry->sent;

	return left < PASSAGE_PART ? left : PASSAGE_PART;
}

static bool passage_may_send(const struct carry *carry, size_t end)
{
	return carry->status == 0 && carry->sent < end &&
	       hbm_carry_in_flight(carry) < PASSAGE_FLIGHTS;
}

static void passage_send_out(struct hbm_switch *change)
{
	struct carry *carry = &change->departure;

	while (passage_may_send(carry, carry->count))
		hbm_carry_store(change->pool, carry, passage_part(carry, carry->count),
				change->tier);
}

static void passage_send_part(struct hbm_switch *change)
{
	struct carry *carry = &change->arrival.carry;

	while (passage_may_send(carry, change->arrival.acquired))
		hbm_carry_load(change->pool, carry, passage_part(carry, change->arrival.acquired),
			       NULL);
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
		else if (carry->sent + count <= change->arrival.acquired)
			hbm_carry_load(change->pool, carry, count, &sync);
		else
			return;
		if (carry->status) /* not sent */
			return;
	}
}

/* What can be done now: 0, or why not. */
static int passage_advance(struct hbm_switch *change)
{
	struct hbm_pool *pool = change->pool;
	struct arrival *arrival = &change->arrival;

	if (change->departure.status)
		return passage_fail_carry(pool, &change->departure, "were stored");
	if (arrival->carry.status)
		return passage_fail_carry(pool, &arrival->carry, "were loaded");

	passage_send_out(change);
	int r = hbm_handover_run(pool, &change->handover, &change->departure, arrival);
	if (r == 0)
		r = hbm_arrival_map_twins(pool, arrival);
	if (r == 0 && change->has_fences)
		passage_send_groups(change);
	else if (r == 0)
		passage_send_part(change);

	return r;
}

static bool passage_is_over(const struct hbm_switch *change)
{
	return change->departure.done == change->departure.count && change->departure.status == 0 &&
	       hbm_arrival_is_done(&change->arrival);
}

/* Whether something of it has ended. */
static bool passage_look(struct hbm_switch *change)
{
	bool left = hbm_carry_look(change->pool, &change->departure);
	bool came = hbm_carry_look(change->pool, &change->arrival.carry);

	return left || came;
}

void hbm_passage_go(struct hbm_switch *change)
{
	bool again = true;

	while (again && !change->has_ended) {
		int r = passage_advance(change);

		if (r)
			hbm_passage_end(change, r);
		else if (passage_is_over(change))
			hbm_passage_end(change, 0);
		else
			again = passage_look(change);
	}
}

void hbm_passage_free(struct hbm_switch *change)
{
	list_remove(&change->link);
	hbm_carry_clear(&change->departure);
	hbm_arrival_clear(&change->arrival);
	hbm_handover_clear(&change->handover);
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
