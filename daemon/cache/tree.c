/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/tree.h"

#include <assert.h>

#define CHILDREN_LOOKED_AT 256

void tree_link(struct block *table, uint32_t number, uint32_t parent)
{
	struct block *block = &table[number];

	assert(block->parent == 0);

	block->parent = parent;
	if (parent == 0)
		return;

	struct block *above = &table[parent];
	block->sibling = above->child;
	if (above->child != 0)
		table[above->child].sibling_back = number;

	above->child = number;
}

void tree_unlink(struct block *table, uint32_t number)
{
	struct block *block = &table[number];

	if (block->sibling != 0)
		table[block->sibling].sibling_back = block->sibling_back;

	if (block->sibling_back != 0)
		table[block->sibling_back].sibling = block->sibling;
	else if (block->parent != 0)
		table[block->parent].child = block->sibling;

	block->parent = block->sibling = block->sibling_back = 0;
}

uint32_t tree_child_in(const struct block *table, uint32_t number, uint8_t tier)
{
	uint32_t child = table[number].child;

	for (unsigned looked = 0; child != 0 && looked < CHILDREN_LOOKED_AT; looked++) {
		if (table[child].target == tier)
			return child;
		child = table[child].sibling;
	}

	return 0;
}
