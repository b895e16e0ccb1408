/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handover: slabs of what goes out, when they are stored, become slabs of what comes in: each
 * is mapped at its new place and unmapped at the old one. That takes no memory, so it is never
 * refused for want of it, nor is its undoing. Slabs that others have, too, are not handed over.
 */
#pragma once

#include "client/sequence/arrival.h"

#include <stdbool.h>
#include <stddef.h>

struct handover {
	size_t looked;  /* departures up to this one have been handed over, or cannot be */
	size_t *moved;  /* departures */
	size_t *target; /* and the arrivals that have their slabs */
	size_t count;
};

/* How many slabs there are to be handed over; makes room for so many. False: no memory. */
bool hbm_handover_plan(const struct hbm_pool *pool, struct handover *handover,
		       const struct carry *departure, size_t *slabs);
/* Hands over what is stored and needed. */
int hbm_handover_run(struct hbm_pool *pool, struct handover *handover,
		     const struct carry *departure, struct arrival *arrival);
/* Maps what was handed over at its old place, too, but for what is there already. False: the
 * device has refused twice. */
bool hbm_handover_undo(struct hbm_pool *pool, const struct handover *handover,
		       const struct carry *departure, const struct arrival *arrival);
/* When the new places are empty: loads what was there. */
bool hbm_handover_reload(struct hbm_pool *pool, const struct handover *handover,
			 const struct carry *departure);
void hbm_handover_clear(struct handover *handover);
