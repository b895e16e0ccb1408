/* SPDX-License-Identifier: Apache-2.0 */
/* order_fifo: see order_fifo.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/order_fifo.h"

#include "daemon/base/list.h"

#include <stdlib.h>
#include <string.h>

struct order_fifo {
	struct order order;
	uint32_t *numbers; /* first to go first */
	uint32_t count, room;
};

static struct order_fifo *order_fifo_of(struct order *order)
{
	return container_of(order, struct order_fifo, order);
}

static const struct order_fifo *order_fifo_const(const struct order *order)
{
	return container_of(order, const struct order_fifo, order);
}

static struct order *order_fifo_open(struct block *table, const uint16_t *owners)
{
	(void)owners;
	struct order_fifo *fifo = calloc(1, sizeof(*fifo));
	assert_non_null(fifo);
	fifo->order = (struct order){.ops = &order_fifo, .table = table};
	return &fifo->order;
}

static struct order *order_fifo_close(struct order *order)
{
	free(order_fifo_of(order)->numbers);
	free(order_fifo_of(order));
	return NULL;
}

/* Where the number is; count: nowhere. */
static uint32_t order_fifo_find(const struct order_fifo *fifo, uint32_t number)
{
	uint32_t i = 0;
	while (i < fifo->count && fifo->numbers[i] != number)
		i++;
	return i;
}

static void order_fifo_insert(struct order *order, uint32_t number, uint32_t ahead)
{
	struct order_fifo *fifo = order_fifo_of(order);

	assert_int_equal(order_fifo_find(fifo, number), fifo->count);
	if (ahead != 0)
		assert_in_range(fifo->count, order_fifo_find(fifo, ahead) + 1, UINT32_MAX);

	if (fifo->count == fifo->room) {
		fifo->room = fifo->room * 2 + 16;
		fifo->numbers = realloc(fifo->numbers, fifo->room * sizeof(fifo->numbers[0]));
		assert_non_null(fifo->numbers);
	}

	fifo->numbers[fifo->count++] = number;
}

static void order_fifo_use(struct order *order, uint32_t number, uint32_t ahead)
{
	const struct order_fifo *fifo = order_fifo_const(order);
	assert_in_range(fifo->count, order_fifo_find(fifo, number) + 1, UINT32_MAX);
	if (ahead != 0)
		assert_in_range(fifo->count, order_fifo_find(fifo, ahead) + 1, UINT32_MAX);
}

static void order_fifo_remove(struct order *order, uint32_t number)
{
	struct order_fifo *fifo = order_fifo_of(order);
	uint32_t i = order_fifo_find(fifo, number);
	assert_in_range(fifo->count, i + 1, UINT32_MAX);
	fifo->count--;
	memmove(&fifo->numbers[i], &fifo->numbers[i + 1], (fifo->count - i) * sizeof(number));
}

static uint32_t order_fifo_victim(const struct order *order, uint32_t owner)
{
	const struct order_fifo *fifo = order_fifo_const(order);
	return owner == 0 && fifo->count > 0 ? fifo->numbers[0] : 0;
}

static uint32_t order_fifo_walk(const struct order *order, uint32_t number)
{
	const struct order_fifo *fifo = order_fifo_const(order);
	uint32_t i = number != 0 ? order_fifo_find(fifo, number) : fifo->count;
	return i > 0 ? fifo->numbers[i - 1] : 0;
}

static bool order_fifo_is_valid(const struct order *order, uint32_t number)
{
	const struct order_fifo *fifo = order_fifo_const(order);
	return order_fifo_find(fifo, number) < fifo->count;
}

const struct order_ops order_fifo = {
	.name = "fifo",
	.open = order_fifo_open,
	.close = order_fifo_close,
	.insert = order_fifo_insert,
	.use = order_fifo_use,
	.remove = order_fifo_remove,
	.victim = order_fifo_victim,
	.walk = order_fifo_walk,
	.is_valid = order_fifo_is_valid,
};
