/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/event_ring.h"

#include <stdlib.h>

#define BEGIN 2u /* above 1, so that a reader at the very beginning is behind 1, and not behind 0 */
#define LIFE (UINT64_C(1) << 40) /* events of a daemon */

struct event_ring *event_ring_new(struct payer *payer, uint64_t starts)
{
	struct event_ring *ring = calloc(1, sizeof(*ring));
	if (!ring || ledger_charge(&ring->charge, payer, LEDGER_WATCHED, 1) != HBM_OK) {
		free(ring);
		return NULL;
	}

	ring->begin = ring->next = starts * LIFE + BEGIN;

	return ring;
}

struct event_ring *event_ring_free(struct event_ring *ring)
{
	if (ring)
		ledger_release(&ring->charge);
	free(ring);

	return NULL;
}

void event_ring_add(struct event_ring *ring, const struct hbm_wire_key *key,
		    enum hbm_cache_event event, enum hbm_tier from, enum hbm_tier to)
{
	if (ring)
		ring->events[ring->next++ % EVENT_RING_KEPT] = (struct hbm_wire_cache_event){
			.key = *key,
			.event = event,
			.from = (uint16_t)from,
			.to = (uint16_t)to,
		};
}

bool event_ring_read(const struct event_ring *ring, uint64_t after, uint32_t most,
		     struct hbm_wire_watched *reply)
{
	const uint64_t oldest = ring->next > ring->begin + EVENT_RING_KEPT
					? ring->next - EVENT_RING_KEPT
					: ring->begin;
	uint64_t first = after == 0 ? ring->next : after + 1;

	*reply = (struct hbm_wire_watched){0};
	if (after >= ring->next)
		return false;

	if (first < oldest) {
		reply->missed = first < ring->begin ? HBM_WIRE_MISSED_UNKNOWN : oldest - first;
		first = oldest;
	}

	most = most < HBM_WIRE_WATCH_MAX ? most : HBM_WIRE_WATCH_MAX;
	while (first + reply->count < ring->next && reply->count < most) {
		reply->events[reply->count] =
			ring->events[(first + reply->count) % EVENT_RING_KEPT];
		reply->count++;
	}
	reply->last = first + reply->count - 1;

	return true;
}
