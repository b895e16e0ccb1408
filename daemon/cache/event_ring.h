/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_ring: what has happened to the blocks of a namespace lately, for clients that ask (WATCH): a
 * ring of the last EVENT_RING_KEPT events, which begins with the first who asks and goes with the
 * namespace. Events have numbers, one after the other, that are higher with each daemon that has
 * the state. Nothing waits for a reader; one that asks too seldom is told how many it has missed, and
 * one that goes on from another daemon's number that it is not known.
 */
#pragma once

#include "daemon/ledger/ledger.h"

#include <hbm/wire.h>
#include <stdint.h>

#define EVENT_RING_KEPT 2048u

struct event_ring {
	struct charge charge;
	uint64_t begin; /* the number of its first event, above 1 */
	uint64_t next;  /* of the next one */
	struct hbm_wire_cache_event events[EVENT_RING_KEPT];
};

/* starts: how many daemons have had the state, with this one. NULL: no memory, or a limit of the
 * payer: the caller has asked the ledger. */
struct event_ring *event_ring_new(struct payer *payer, uint64_t starts);
struct event_ring *event_ring_free(struct event_ring *ring); /* accepts NULL, returns NULL */
/* Accepts NULL: no client asks. */
void event_ring_add(struct event_ring *ring, const struct hbm_wire_key *key,
		    enum hbm_cache_event event, enum hbm_tier from, enum hbm_tier to);
/* The events behind that number, at most so many; 0: none, only where they begin. False: there
 * was no event of that number yet. */
bool event_ring_read(const struct event_ring *ring, uint64_t after, uint32_t most,
		     struct hbm_wire_watched *reply);
