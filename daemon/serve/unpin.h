/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpin: removes a pin of each of several blocks from a list of pins, in slices. It walks
 * the list once for all of them.
 *
 * 	        begin                   the list has been walked
 * 	adding -------> walks the list -------------------------> adding
 */
#pragma once

#include "daemon/serve/pins.h"

#include <hbm/wire.h>

#define UNPIN_BLOCKS 512 /* in one walk */

/* A block, and its index in the reply. */
struct unpin_block {
	uint32_t number, index;
	/* in the first of several with one number: how many of them have found a pin */
	uint32_t taken;
};

struct unpin {
	struct list *pins;
	struct hbm_wire_results *reply;
	struct pin_walk walk;
	uint32_t unref; /* a block whose reference is to be dropped */
	uint32_t count;
	struct unpin_block blocks[UNPIN_BLOCKS];
};

struct unpin *unpin_new(struct list *pins, struct hbm_wire_results *reply); /* NULL: no memory */
struct unpin *unpin_free(struct unpin *unpin); /* not while it walks; accepts NULL */

bool unpin_is_full(const struct unpin *unpin);
/* A block, which the result of that index is of: HBM_NOT_FOUND until a pin is found. One that
 * is added twice loses two pins. Not when it is full. */
void unpin_add(struct unpin *unpin, uint32_t number, uint32_t index);
void unpin_begin(struct unpin *unpin);
/* Goes on. False: the slice is over. */
bool unpin_some(struct unpin *unpin, struct cache *cache, struct slice *slice);
