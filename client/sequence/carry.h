/* SPDX-License-Identifier: Apache-2.0 */
/*
 * carry: slabs on their way to blocks of the stash, or back: requests for a part of them
 * each, several in flight. Everything that is allocated is there before the first is sent.
 */
#pragma once

#include "client/sequence/stash.h"

struct carry_slab {
	struct slot *slot;
	uint64_t offset; /* in the slot */
	struct stash_block *block;
};

struct carry_flight {
	hbm_ticket ticket;
	size_t end; /* its slabs are those up to this one */
};

struct carry {
	struct carry_slab *slabs;
	size_t count, room;
	size_t sent, done;        /* of them */
	struct hbm_block *blocks; /* of all, as the next */
	struct hbm_segment *segments;
	hbm_result *results;
	struct carry_flight *flights; /* count of them */
	size_t flight, flight_end;    /* those in flight */
	int status;                   /* the first that was not 0 */
	bool is_refused;              /* of a request: hbm_error() says why */
	size_t good;                  /* slabs that arrived before it */
};

/* Adds a slab. False: there is no memory. */
bool hbm_carry_add(struct carry *carry, struct slot *slot, uint64_t offset,
		   struct stash_block *block);
/* Orders the slabs by their offsets, so that those of one buffer are together; allocates all
 * else. False: there is no memory. */
bool hbm_carry_prepare(struct hbm_pool *pool, struct carry *carry);
/* Sends the next `count` in one request. What is refused is in carry->status. */
void hbm_carry_store(struct hbm_pool *pool, struct carry *carry, size_t count, enum hbm_tier tier);
void hbm_carry_load(struct hbm_pool *pool, struct carry *carry, size_t count,
		    const struct hbm_sync *sync);
/* Loads all of it, and waits. Whether it has. */
bool hbm_carry_run(struct hbm_pool *pool, struct carry *carry);
/* Notes which requests have ended: true if one has. */
bool hbm_carry_look(struct hbm_pool *pool, struct carry *carry);
size_t hbm_carry_in_flight(const struct carry *carry);
/* Waits for all that are in flight. */
void hbm_carry_wait(struct hbm_pool *pool, struct carry *carry);
/* None is in flight. */
void hbm_carry_clear(struct carry *carry);
