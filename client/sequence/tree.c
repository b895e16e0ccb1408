/* SPDX-License-Identifier: Apache-2.0 */
/* tree: see tree.h. */
#include "client/sequence/tree.h"

#include <assert.h>
#include <stdlib.h>

#define TREE_PRUNED (-2) /* a parent: the draft is no more */

uint32_t hbm_tree_count(const struct tree *tree)
{
	return tree ? tree->count : 0;
}

bool hbm_tree_has(const struct tree *tree, int64_t draft)
{
	return tree && draft >= 0 && draft < tree->count && tree->parents[draft] != TREE_PRUNED;
}

bool hbm_tree_prepare(struct tree **tree, size_t more)
{
	const uint32_t count = hbm_tree_count(*tree);
	const size_t needed = count + more;

	if (*tree && needed <= (*tree)->room)
		return true;
	if (needed > INT32_MAX / 2)
		return false;

	const size_t room = 2 * needed;

	struct tree *larger = realloc(*tree, sizeof(*larger) + room * sizeof(larger->parents[0]));
	if (!larger)
		return false;

	larger->count = count;
	larger->room = (uint32_t)room;
	*tree = larger;

	return true;
}

void hbm_tree_add(struct tree *tree, int32_t parent)
{
	assert(tree->count < tree->room);
	assert(parent == TREE_ROOT || hbm_tree_has(tree, parent));
	tree->parents[tree->count++] = parent;
}

void hbm_tree_prune(struct tree *tree, int32_t draft)
{
	if (!tree)
		return;
	if (draft == TREE_ROOT) {
		tree->count = 0;
		return;
	}

	tree->parents[draft] = TREE_PRUNED;
	/* Parents have lower numbers, so one pass finds all below. */
	for (uint32_t i = (uint32_t)draft + 1; i < tree->count; i++)
		if (tree->parents[i] >= draft && tree->parents[tree->parents[i]] == TREE_PRUNED)
			tree->parents[i] = TREE_PRUNED;
	while (tree->count > 0 && tree->parents[tree->count - 1] == TREE_PRUNED)
		tree->count--;
}
