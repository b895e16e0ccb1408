/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layouts: layouts made up at random, small enough that a test can visit every head, and a
 * reference for them: it lays the heads out one after the other, by nested loops, and
 * knows no formula for an address.
 */
#pragma once

#include "tests/support/seed.h"

#include <hbm/sequence.h>

#define LAYOUTS_LAYERS 6u

struct made_up_layout {
	struct hbm_layout_options options;
	struct hbm_layer layers[LAYOUTS_LAYERS]; /* options.layers, or a copy of options.layer */
};

/* Every order, both orders of keys and values, pages or none; layers alike or not, with
 * windows, keys alone, states. At most 40 tokens. */
void layouts_make_up(struct seed *seed, struct made_up_layout *made_up);
/* The layout; fails the test if it is refused. */
struct hbm_layout *layouts_new(const struct hbm_layout_options *options);

/* A head of a token, or the state of a layer. */
struct layouts_head {
	uint32_t layer;
	enum hbm_kv_part part;
	uint64_t token;
	uint32_t head;
	uint64_t offset; /* in a slot */
	uint32_t buffer;
};
typedef void layouts_head_fn(const struct layouts_head *head, void *arg);
/* Visits all heads of all tokens of a slot, and all states, in the order of their addresses;
 * tokens up to the last whole page. Returns the bytes of the slot without what rounds it up
 * to pages. */
uint64_t layouts_walk(const struct made_up_layout *made_up, layouts_head_fn *each, void *arg);
