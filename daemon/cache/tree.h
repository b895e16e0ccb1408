/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree: which block continues which. A block has at most one parent; its children are a
 * list of siblings, the youngest first. It knows no tiers, order or state.
 */
#pragma once

#include "daemon/cache/index.h"

/* Makes a block without a parent a child of `parent`; 0: a root. */
void tree_link(struct block *table, uint32_t number, uint32_t parent);
/* Removes a block from its parent. Its children stay with it. */
void tree_unlink(struct block *table, uint32_t number);

/* The youngest child that has this tier as its target, or 0: looks at the 256 youngest. */
uint32_t tree_child_in(const struct block *table, uint32_t number, uint8_t tier);
