/* SPDX-License-Identifier: Apache-2.0 */
/* cascade_model: see cascade_model.h. */
#include "tests/support/cascade_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "daemon/device/device.h"

uint64_t cascade_bytes(uint32_t node)
{
	static const uint64_t units[CASCADE_SIZES] = {1, 3, 8};
	return units[node % CASCADE_SIZES] * UNIT;
}

bool cascade_is_pinned(const struct cascade *cascade, uint32_t node)
{
	if (cascade->nodes[node].pins > 0)
		return true;
	for (uint32_t n = 0; n < CASCADE_NODES; n++)
		if (cascade->nodes[n].there && cascade->nodes[n].parent == node &&
		    cascade_is_pinned(cascade, n))
			return true;

	return false;
}

void cascade_order_take(struct cascade_order *order, uint32_t node)
{
	for (uint32_t i = 0; i < order->count; i++) {
		if (order->list[i] != node)
			continue;
		memmove(&order->list[i], &order->list[i + 1],
			(order->count - i - 1) * sizeof(node));
		order->count--;
		return;
	}
}

void cascade_order_push(struct cascade_order *order, uint32_t node)
{
	memmove(&order->list[1], &order->list[0], order->count * sizeof(node));
	order->list[0] = node;
	order->count++;
}

static void cascade_leave(struct cascade *cascade, uint32_t node)
{
	struct cascade_order *order = &cascade->orders[cascade->tier[node]];
	cascade_order_take(order, node);
	order->bytes -= cascade_bytes(node);
	cascade->tier[node] = 0;
}

static void cascade_join(struct cascade *cascade, uint32_t node, uint8_t tier)
{
	cascade->tier[node] = tier;
	cascade->orders[tier].bytes += cascade_bytes(node);
	cascade_order_push(&cascade->orders[tier], node);
}

void cascade_drop(struct cascade *cascade, uint32_t node)
{
	for (uint32_t n = 0; n < CASCADE_NODES; n++)
		if (cascade->nodes[n].there && cascade->nodes[n].parent == node)
			cascade_drop(cascade, n);

	if (cascade->tier[node] != 0)
		cascade_leave(cascade, node);
	cascade->nodes[node].there = false;
}

/* The first tier from this one down that has room for it at all; 0: none. */
static uint8_t cascade_tier_for(const struct cascade *cascade, uint32_t node, uint8_t tier)
{
	for (; tier <= cascade->devices + 2;
	     tier = tier <= cascade->devices ? (uint8_t)(cascade->devices + 1) : tier + 1)
		if (cascade->orders[tier].capacity >= cascade_bytes(node))
			return tier;
	return 0;
}

void cascade_push_down(struct cascade *cascade, uint8_t tier)
{
	struct cascade_order *order = &cascade->orders[tier];
	uint32_t node = order->list[order->count - 1];
	uint8_t below = tier <= cascade->devices ? (uint8_t)(cascade->devices + 1) : tier + 1;

	below = cascade_tier_for(cascade, node, below);
	if (below == 0) {
		cascade_drop(cascade, node);
		return;
	}

	cascade_leave(cascade, node);
	cascade_join(cascade, node, below);
}

void cascade_settle(struct cascade *cascade)
{
	for (uint8_t tier = 1; tier <= cascade->devices + 2; tier++)
		while (cascade->orders[tier].bytes > cascade->orders[tier].capacity &&
		       cascade->orders[tier].count > 0)
			cascade_push_down(cascade, tier);
}

void cascade_use(struct cascade *cascade, uint32_t node, uint32_t device)
{
	if (cascade_is_pinned(cascade, node))
		return;
	if (cascade->tier[node] != 0)
		cascade_leave(cascade, node);
	uint8_t tier = cascade_tier_for(cascade, node, (uint8_t)(1 + device));
	if (tier != 0)
		cascade_join(cascade, node, tier);
}

uint64_t cascade_pinned(const struct cascade *cascade, uint8_t tier)
{
	uint64_t pinned = 0;
	for (uint32_t n = 0; n < CASCADE_NODES; n++)
		if (cascade->nodes[n].there && cascade->tier[n] == tier &&
		    cascade_is_pinned(cascade, n))
			pinned += cascade_bytes(n);
	return pinned;
}
