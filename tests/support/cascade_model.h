/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cascade_model: what the policy of the cache is to do, over arrays that are searched and
 * shifted: an order for each tier, victims that go to the next tier with room for them,
 * pinned blocks, blocks of several sizes, trees of blocks, two devices. A node is one
 * block: key n of namespace n % CASCADE_SIZES, with a parent that never changes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/support/cache_rig.h"

enum { CASCADE_NODES = 240, CASCADE_SIZES = 3 };

struct cascade_node {
	uint32_t parent; /* CASCADE_NODES: none */
	bool there;
	uint32_t pins;
};

struct cascade_order {
	uint32_t list[CASCADE_NODES], count; /* newest first; without pinned ones */
	uint64_t bytes, capacity;
};

struct cascade {
	struct cascade_node nodes[CASCADE_NODES];
	uint8_t tier[CASCADE_NODES];
	struct cascade_order orders[CACHE_RIG_TIERS + 1]; /* by number of the tier */
	uint32_t devices;
};

uint64_t cascade_bytes(uint32_t node);
/* Whether it is pinned, or an ancestor of a pinned one. */
bool cascade_is_pinned(const struct cascade *cascade, uint32_t node);
uint64_t cascade_pinned(const struct cascade *cascade, uint8_t tier); /* bytes */

void cascade_use(struct cascade *cascade, uint32_t node, uint32_t device);
/* After uses: evicts until every tier is within its capacity. */
void cascade_settle(struct cascade *cascade);
/* Evicts the victim of a tier. */
void cascade_push_down(struct cascade *cascade, uint8_t tier);
void cascade_drop(struct cascade *cascade, uint32_t node); /* and all below it */

void cascade_order_take(struct cascade_order *order, uint32_t node);
void cascade_order_push(struct cascade_order *order, uint32_t node); /* as the newest */
