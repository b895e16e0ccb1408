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
	uint32_t mark; /* of one that is kept: its record, or 0 (marks.h) */
};

/* A pin that is charged, and of no block yet. NULL: there are too many, or no memory. */
struct pin *pin_new(struct payer *payer);
/* The same, whatever the limits are. NULL: no memory. */
struct pin *pin_new_always(struct payer *payer);
/* Of no block; accepts NULL. */
struct pin *pin_free(struct pin *pin);

/* Removes a pin, and leaves the reference to its block, which is returned, to
 * cache_unref_some(). */
uint32_t pins_take(struct cache *cache, struct pin *pin);
/* The same with the first of the list; 0: there is none. */
uint32_t pins_take_first(struct cache *cache, struct list *pins);

/*
 * A walk over a list of pins, in slices: its place in the list stays when others remove
 * pins. Before its first begin, and after its end, its place is in no list.
 */
struct pin_walk {
	struct list *pins;
	struct pin place;
};

void pin_walk_init(struct pin_walk *walk);
void pin_walk_begin(struct pin_walk *walk, struct list *pins);
void pin_walk_end(struct pin_walk *walk); /* before it has passed all; no-op if it is not on */
bool pin_walk_is_on(const struct pin_walk *walk);
/* Passes the next pin, which may be freed then. NULL: there is none, and the walk has
 * ended. */
struct pin *pin_walk_next(struct pin_walk *walk);

/* Whether it is of a block of that namespace that has not been dropped. */
bool pin_is_in(const struct pin *pin, const struct cache *cache, uint16_t ns);
/* A block that could not be read is dropped, pinned or not, and no key names it any longer:
 * its pins only keep its entry, and count. Passes a pin, and removes it if it is such a one.
 * False: there is none, and the walk has ended. */
bool pin_walk_forget_lost(struct pin_walk *walk, struct cache *cache);
