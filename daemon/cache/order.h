/* SPDX-License-Identifier: Apache-2.0 */
/*
 * order: the eviction order of a tier. Each tier has an order of its
 * own, and all have the same kind, chosen in cache_open(). A kind is one file with a
 * struct order_ops.
 *
 * An order knows blocks by number and is told when a block enters (insert), is used (use)
 * and leaves (remove). It names a victim (victim), but only remove takes it off. It
 * may keep two numbers in the block's entry (newer, older), so that it needs no memory for
 * each block.
 *
 * An order has levels: all of a lower one go before the first of a higher one. The level of a
 * block (block.level) stays while it is in an order. All are at level 0, but for what clients
 * retain (cache_retain.c). A kind that knows no levels serves as well; nothing is retained then.
 *
 * An order knows the owner of each block, by its namespace (owners.h), and has a victim of each
 * owner; which of them goes is the cache's to say. A kind that tells no owners apart has all its
 * blocks as those of owner 0.
 *
 * Children go before their parents. That rule is the cache's: where an order names a
 * parent whose child is in the same tier, the cache takes a descendant instead. Finding
 * one costs a walk over children, which an order saves by saying parents_last: its
 * victims come after their children as far as it was told of uses in that order.
 */
#pragma once

#include "daemon/cache/index.h"

#define ORDER_LEVELS 4u /* block.level */

struct order_ops;

/* Told of every change of an order: before a block leaves its place, and when it has come to
 * one. */
struct order_recount {
	void (*removing)(struct order_recount *recount, uint32_t number);
	void (*inserted)(struct order_recount *recount, uint32_t number);
};

/* The common head of an order's state for a tier. */
struct order {
	const struct order_ops *ops;
	struct block *table;
	const uint16_t *owners;        /* by namespace */
	struct order_recount *recount; /* while blocks are counted again (recount.h), or NULL */
};

struct order_ops {
	const char *name;
	bool parents_last;

	/* NULL: out of memory */
	struct order *(*open)(struct block *table, const uint16_t *owners);
	struct order *(*close)(struct order *order);

	/* Inserts a block that is not in the order. `ahead` is in the order and must
	 * be evicted after the block, if it has the same level: its nearest ancestor used in
	 * the same pass; 0: none. */
	void (*insert)(struct order *order, uint32_t number, uint32_t ahead);
	/* A use of a block that is in the order; `ahead` as above. */
	void (*use)(struct order *order, uint32_t number, uint32_t ahead);
	void (*remove)(struct order *order, uint32_t number);

	/* The next victim of an owner; 0: it has none. */
	uint32_t (*victim)(const struct order *order, uint32_t owner);

	/* Walks the order from last victim to first, one owner after the other: returns the
	 * block evicted right before `number`, or with 0 the last victim; 0 ends the walk. For
	 * audits and tests. */
	uint32_t (*walk)(const struct order *order, uint32_t number);
	/* Whether the order's links of this block agree with its neighbours. */
	bool (*is_valid)(const struct order *order, uint32_t number);
};

extern const struct order_ops order_lru; /* least recently used first */

static inline struct order *order_close(struct order *order)
{
	return order ? order->ops->close(order) : NULL;
}

static inline void order_leave(struct order *order, uint32_t number)
{
	if (order->recount)
		order->recount->removing(order->recount, number);
}

static inline void order_enter(struct order *order, uint32_t number)
{
	if (order->recount)
		order->recount->inserted(order->recount, number);
}

static inline void order_insert(struct order *order, uint32_t number, uint32_t ahead)
{
	order->ops->insert(order, number, ahead);
	order_enter(order, number);
}

static inline void order_use(struct order *order, uint32_t number, uint32_t ahead)
{
	order_leave(order, number);
	order->ops->use(order, number, ahead);
	order_enter(order, number);
}

static inline void order_remove(struct order *order, uint32_t number)
{
	order_leave(order, number);
	order->ops->remove(order, number);
}

static inline uint32_t order_victim(const struct order *order, uint32_t owner)
{
	return order->ops->victim(order, owner);
}

static inline uint32_t order_walk(const struct order *order, uint32_t number)
{
	return order->ops->walk(order, number);
}
