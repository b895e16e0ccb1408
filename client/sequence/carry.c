/* SPDX-License-Identifier: Apache-2.0 */
/* carry: see carry.h. */
#include "client/sequence/carry.h"

#include "client/sequence/pool.h"
#include "client/sequence/slot.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define CARRY_PART 64 /* slabs of a request that is waited for */

bool hbm_carry_add(struct carry *carry, struct slot *slot, uint64_t offset,
		   struct stash_block *block)
{
	if (carry->count == carry->room) {
		const size_t room = carry->room ? 2 * carry->room : 64;
		struct carry_slab *slabs = realloc(carry->slabs, room * sizeof(*slabs));

		if (!slabs)
			return false;
		carry->slabs = slabs;
		carry->room = room;
	}
	carry->slabs[carry->count++] = (struct carry_slab){slot, offset, block};

	return true;
}

/* ---- What is sent ---- */

static int carry_compare(const void *a, const void *b)
{
	const struct carry_slab *one = a, *other = b;

	if (one->offset != other->offset)
		return one->offset < other->offset ? -1 : 1;

	return one->slot < other->slot ? -1 : one->slot > other->slot;
}

static void carry_fill(const struct hbm_pool *pool, struct carry *carry)
{
	for (size_t i = 0; i < carry->count; i++) {
		const struct carry_slab *slab = &carry->slabs[i];

		carry->segments[i] = (struct hbm_segment){
			pool->region, hbm_slot_offset(pool, slab->slot) + slab->offset, pool->slab};
		carry->blocks[i] = (struct hbm_block){.key = slab->block->key,
						      .segments = &carry->segments[i],
						      .segment_count = 1,
						      .pin = true};
	}
}

bool hbm_carry_prepare(struct hbm_pool *pool, struct carry *carry)
{
	const size_t count = carry->count;

	if (count == 0)
		return true;

	qsort(carry->slabs, count, sizeof(*carry->slabs), carry_compare);
	carry->blocks = calloc(count, sizeof(*carry->blocks));
	carry->segments = calloc(count, sizeof(*carry->segments));
	carry->results = calloc(count, sizeof(*carry->results));
	carry->flights = calloc(count, sizeof(*carry->flights));
	if (!carry->blocks || !carry->segments || !carry->results || !carry->flights)
		return false;
	carry_fill(pool, carry);

	return true;
}

static void carry_fly(struct carry *carry, int r, hbm_ticket ticket, size_t count)
{
	if (r) {
		carry->is_refused = carry->status == 0;
		carry->status = carry->status ? carry->status : r;
		return;
	}
	carry->sent += count;
	carry->flights[carry->flight_end++] = (struct carry_flight){ticket, carry->sent};
}

void hbm_carry_store(struct hbm_pool *pool, struct carry *carry, size_t count, enum hbm_tier tier)
{
	struct hbm_block *blocks = carry->blocks + carry->sent;
	hbm_ticket ticket = 0;

	for (size_t i = 0; i < count; i++)
		blocks[i].tier = tier;

	int r = hbm_submit_store(pool->hbm, pool->stashes.ns, blocks, count, NULL,
				 carry->results + carry->sent, &ticket);

	carry_fly(carry, r, ticket, count);
}

void hbm_carry_load(struct hbm_pool *pool, struct carry *carry, size_t count,
		    const struct hbm_sync *sync)
{
	hbm_ticket ticket = 0;
	int r = hbm_submit_load(pool->hbm, pool->stashes.ns, carry->blocks + carry->sent, count,
				sync, carry->results + carry->sent, &ticket);

	carry_fly(carry, r, ticket, count);
}

/* ---- What has arrived ---- */

/* The next request in flight has ended with r. */
static void carry_land(struct carry *carry, int r)
{
	const size_t end = carry->flights[carry->flight++].end;

	carry->is_refused |= r && !carry->status;
	for (; carry->done < end; carry->done++) {
		const int status = r ? r : carry->results[carry->done].status;

		if (status && !carry->status)
			carry->status = status;
		if (!carry->status)
			carry->good++;
	}
}

bool hbm_carry_look(struct hbm_pool *pool, struct carry *carry)
{
	const size_t before = carry->flight;

	while (hbm_carry_in_flight(carry) > 0) {
		int r = hbm_poll(pool->hbm, carry->flights[carry->flight].ticket);

		if (r == -EAGAIN)
			break;
		carry_land(carry, r);
	}

	return carry->flight > before;
}

void hbm_carry_wait(struct hbm_pool *pool, struct carry *carry)
{
	while (hbm_carry_in_flight(carry) > 0)
		carry_land(carry, hbm_wait(pool->hbm, carry->flights[carry->flight].ticket, -1));
}

bool hbm_carry_run(struct hbm_pool *pool, struct carry *carry)
{
	while (carry->status == 0 && carry->sent < carry->count) {
		const size_t left = carry->count - carry->sent;

		hbm_carry_load(pool, carry, left < CARRY_PART ? left : CARRY_PART, NULL);
	}
	hbm_carry_wait(pool, carry);

	return carry->status == 0;
}

size_t hbm_carry_in_flight(const struct carry *carry)
{
	return carry->flight_end - carry->flight;
}

void hbm_carry_clear(struct carry *carry)
{
	assert(hbm_carry_in_flight(carry) == 0);
	free(carry->slabs);
	free(carry->blocks);
	free(carry->segments);
	free(carry->results);
	free(carry->flights);
	*carry = (struct carry){0};
}
