/* SPDX-License-Identifier: Apache-2.0 */
/*
 * marks: pins that operators keep, and what users retain, outlive the daemon (mark_record.h):
 *
 * 	what		has a record from		until
 * 	kept pin	its block is pinned		it is removed
 * 	retained block	it is retained			its time is over, it is released or dropped
 *
 * Each is made again when its block has come back, from whatever tier, which is told by
 * cache->recovered(): struct marks has the records of the daemon before by their keys, and which of them are
 * to be made next. It makes none itself, for a pin is more than a reference (restore_marks.h).
 *
 * Where nothing is kept, or there is no room for a record, its mark ends with the daemon.
 */
#pragma once

#include "daemon/cache/cache.h"
#include "daemon/cache/mark_record.h"
#include "daemon/state/state.h"

/* The shapes of its tables, for what the ledger lets in. */
void marks_shapes(const struct ledger *ledger, struct state_shape shapes[STATE_TABLES]);

/* ---- Live: records are named by their index plus one; 0: none ---- */

/* Of a block that is being pinned. */
uint32_t mark_pin_add(const struct cache *cache, uint32_t number);
void mark_pin_drop(const struct cache *cache, uint32_t mark);
/* Of a block that is retained, as it is now; *mark is replaced. */
void mark_retain(const struct cache *cache, const struct retained *retained, uint32_t *mark);
void mark_release(const struct cache *cache, uint32_t *mark);

/* ---- What was left ---- */

/* A record of the daemon before. */
struct mark {
	struct hbm_wire_key key;
	uint32_t record;
	uint32_t next; /* of those that are to be made: one more than its place; 0: the last */
	uint16_t ns;
	bool retained; /* else a pin */
	bool is_due;   /* it is to be made, or has been */
};

struct marks {
	struct state *state;
	struct mark *list; /* by their blocks; of one: what is retained first */
	uint32_t count;
	uint32_t first, last; /* to be made: one more than the place; 0: none */
	uint32_t rest;        /* the first that marks_rest() has not passed */
};

/* Reads them, when the namespaces are there again. -ENOMEM. */
int marks_open(struct marks *marks, struct state *state);
void marks_close(struct marks *marks); /* the records stay; accepts a zeroed one */
/* That block is there: its marks are to be made. */
void marks_found(struct marks *marks, uint16_t ns, const struct hbm_wire_key *key);
/* The next that is to be made, in the order in which blocks were found; NULL: none. */
struct mark *marks_next(struct marks *marks);
/* All blocks are there that come back: the next whose block has not been found; NULL: none. */
struct mark *marks_rest(struct marks *marks);
uint64_t marks_bytes_for(uint64_t count);
