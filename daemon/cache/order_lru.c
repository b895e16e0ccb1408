/* SPDX-License-Identifier: Apache-2.0 */
/*
 * order_lru: the least recently used block of the lowest level is the victim. A list for each
 * level of each owner through the entries, newest first.
 *
 * A used block goes to the front of its level, or right behind an ancestor that is in front
 * there already. The cache reports uses from the root down, each block right behind its parent,
 * so a parent is always newer than its children of the same level.
 */
#include "daemon/base/list.h"
#include "daemon/cache/order.h"
#include "daemon/ledger/tenant.h"

#include <stdlib.h>

struct order_lru_level {
	uint32_t newest, oldest;
};

struct order_lru {
	struct order order;
	struct order_lru_level levels[TENANT_NUMBERS][ORDER_LEVELS];
	uint32_t highest; /* the highest owner that has had a block */
};

static struct order_lru *order_lru_of(struct order *order)
{
	return container_of(order, struct order_lru, order);
}

static const struct order_lru *order_lru_const(const struct order *order)
{
	return container_of(order, const struct order_lru, order);
}

static uint32_t order_lru_owner(const struct order *order, uint32_t number)
{
	return order->owners[order->table[number].ns];
}

/* The list that the block is in, or would be. */
static const struct order_lru_level *order_lru_level_const(const struct order *order,
							   uint32_t number)
{
	uint32_t owner = order_lru_owner(order, number);

	return &order_lru_const(order)->levels[owner][order->table[number].level];
}

static struct order_lru_level *order_lru_level(struct order *order, uint32_t number)
{
	return (struct order_lru_level *)order_lru_level_const(order, number);
}

/* The first block, newest first, of the owner's levels below that one, or of those of the next
 * owners; 0: none. */
static uint32_t order_lru_newest(const struct order_lru *lru, uint32_t owner, unsigned levels)
{
	for (; owner <= lru->highest; owner++, levels = ORDER_LEVELS)
		while (levels > 0)
			if (lru->levels[owner][--levels].newest != 0)
				return lru->levels[owner][levels].newest;

	return 0;
}

static struct order *order_lru_open(struct block *table, const uint16_t *owners)
{
	struct order_lru *lru = calloc(1, sizeof(*lru));
	if (!lru)
		return NULL;

	lru->order = (struct order){.ops = &order_lru, .table = table, .owners = owners};
	return &lru->order;
}

static struct order *order_lru_close(struct order *order)
{
	free(order_lru_of(order));
	return NULL;
}

static void order_lru_insert(struct order *order, uint32_t number, uint32_t ahead)
{
	struct block *block = &order->table[number];
	struct order_lru_level *level = order_lru_level(order, number);
	struct order_lru *lru = order_lru_of(order);
	uint32_t owner = order_lru_owner(order, number);

	if (ahead != 0 && order->table[ahead].level != block->level)
		ahead = 0;

	uint32_t *link = ahead != 0 ? &order->table[ahead].older : &level->newest;

	lru->highest = owner > lru->highest ? owner : lru->highest;
	block->newer = ahead;
	block->older = *link;

	if (*link != 0)
		order->table[*link].newer = number;
	else
		level->oldest = number;

	*link = number;
}

static void order_lru_remove(struct order *order, uint32_t number)
{
	struct block *block = &order->table[number];
	struct order_lru_level *level = order_lru_level(order, number);

	if (block->newer != 0)
		order->table[block->newer].older = block->older;
	else
		level->newest = block->older;

	if (block->older != 0)
		order->table[block->older].newer = block->newer;
	else
		level->oldest = block->newer;

	block->newer = block->older = 0;
}

static void order_lru_use(struct order *order, uint32_t number, uint32_t ahead)
{
	order_lru_remove(order, number);
	order_lru_insert(order, number, ahead);
}

static uint32_t order_lru_victim(const struct order *order, uint32_t owner)
{
	const struct order_lru *lru = order_lru_const(order);

	for (unsigned i = 0; i < ORDER_LEVELS; i++)
		if (lru->levels[owner][i].oldest != 0)
			return lru->levels[owner][i].oldest;

	return 0;
}

static uint32_t order_lru_walk(const struct order *order, uint32_t number)
{
	const struct order_lru *lru = order_lru_const(order);
	const struct block *block = &order->table[number];

	if (number == 0)
		return order_lru_newest(lru, 0, ORDER_LEVELS);

	return block->older != 0
		       ? block->older
		       : order_lru_newest(lru, order_lru_owner(order, number), block->level);
}

static bool order_lru_is_valid(const struct order *order, uint32_t number)
{
	const struct block *block = &order->table[number];
	const struct order_lru_level *level = order_lru_level_const(order, number);
	uint32_t newer = block->newer != 0 ? order->table[block->newer].older : level->newest;
	uint32_t older = block->older != 0 ? order->table[block->older].newer : level->oldest;

	return newer == number && older == number;
}

const struct order_ops order_lru = {
	.name = "lru",
	.parents_last = true,
	.open = order_lru_open,
	.close = order_lru_close,
	.insert = order_lru_insert,
	.use = order_lru_use,
	.remove = order_lru_remove,
	.victim = order_lru_victim,
	.walk = order_lru_walk,
	.is_valid = order_lru_is_valid,
};
