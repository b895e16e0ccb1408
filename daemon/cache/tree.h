/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree: which block continues which. A block has at most one parent; its children are a
 * list of siblings, the youngest first. It knows no tiers, order or state.
 */
#pragma once

#include "daemon/cache/index.h"

/* Makes a block without a parent a child of `parent`; 0: a root. */
void tree_link(struct block *table, uint32_t number, uint32_t parent);
/* Removes a block without children from its parent. */
void tree_unlink(struct block *table, uint32_t number);

/* A descendant of the block, or the block itself, that has no children. */
uint32_t tree_leaf(const struct block *table, uint32_t number);
/* The youngest child that has this tier as its target, or 0. Walks the list of children. */
uint32_t tree_child_in(const struct block *table, uint32_t number, uint8_t tier);
