/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pins: the pins of a session, or those that operators keep. A pin is an object, charged to
 * its session and freed with it. Kept ones belong to the cache until an operator removes
 * them.
 */
#pragma once

#include "daemon/cache/cache.h"
#include "daemon/session/session.h"

/* number 0: no pin, but a place in the list. */
struct pin {
	struct list link; /* in session->pins or cache->kept_pins */
	struct charge charge;
	uint32_t number;
};

/* A pin that is charged, and of no block yet. NULL: there are too many, or no memory. */
struct pin *pin_new(struct payer *payer);
/* Of no block; accepts NULL. */
struct pin *pin_free(struct pin *pin);

/* Removes a pin, and leaves the reference to its block, which is returned, to
 * cache_unref_some(). */
uint32_t pins_take(struct cache *cache, struct pin *pin);
/* The same with the first of the list; 0: there is none. */
uint32_t pins_take_first(struct cache *cache, struct list *pins);

/* Pins that a session has of blocks of a namespace that have not been dropped. */
uint64_t pins_count_in(const struct cache *cache, const struct list *pins, uint16_t ns);
/* A block that could not be read is dropped, pinned or not, and no key names it any longer:
 * its pins only keep its entry, and count. Removes them. */
void pins_forget_lost(struct cache *cache, struct list *pins);
