/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree: which draft tokens of a sequence follow which. Drafts are numbered in the order in
 * which they were added; draft n has the place of token `tokens + n`. One that is pruned
 * keeps its number until all behind it are pruned, too, so the others keep theirs.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TREE_ROOT (-1) /* the last committed token: a parent */

struct tree {
	uint32_t count, room;
	int32_t parents[]; /* TREE_ROOT, or a lower number */
};

/* Trees may be NULL: there are no drafts. */

/* Places that drafts take behind the tokens. */
uint32_t hbm_tree_count(const struct tree *tree);
bool hbm_tree_has(const struct tree *tree, int64_t draft);
/* Makes room for so many more. False: no memory. */
bool hbm_tree_prepare(struct tree **tree, size_t more);
/* Adds one below a parent, which is there; prepared. */
void hbm_tree_add(struct tree *tree, int32_t parent);
/* Drops all drafts below one, and it; of TREE_ROOT: all. */
void hbm_tree_prune(struct tree *tree, int32_t draft);
