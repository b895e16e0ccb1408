/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/tree.h"

#include <assert.h>

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

	assert(block->child == 0);

	if (block->sibling != 0)
		table[block->sibling].sibling_back = block->sibling_back;

	if (block->sibling_back != 0)
		table[block->sibling_back].sibling = block->sibling;
	else if (block->parent != 0)
		table[block->parent].child = block->sibling;

	block->parent = block->sibling = block->sibling_back = 0;
}

uint32_t tree_leaf(const struct block *table, uint32_t number)
{
	while (table[number].child != 0)
		number = table[number].child;
	return number;
}

uint32_t tree_child_in(const struct block *table, uint32_t number, uint8_t tier)
{
	uint32_t child = table[number].child;
	while (child != 0 && table[child].target != tier)
		child = table[child].sibling;
	return child;
}
