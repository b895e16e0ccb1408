/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/waiting_loads.h"

#include <errno.h>
#include <stdlib.h>

#define QUANTUM (1ull << 20)
#define LISTS 16 /* for each move */
#define LISTS_MAX (1u << 20)

int waiting_loads_open(struct waiting_loads *loads, uint64_t moves)
{
	uint64_t count = moves < LISTS_MAX / LISTS ? moves * LISTS : LISTS_MAX;
	struct list *blocks = malloc(count * sizeof(*blocks));
	if (!blocks)
		return -ENOMEM;

	for (uint64_t i = 0; i < count; i++)
		list_init(&blocks[i]);
	fair_queue_open(&loads->turns, QUANTUM);
	loads->blocks = blocks;
	loads->block_count = (uint32_t)count;

	return 0;
}

void waiting_loads_close(struct waiting_loads *loads)
{
	free(loads->blocks);
	loads->blocks = NULL;
}

bool waiting_loads_empty(const struct waiting_loads *loads)
{
	return fair_queue_empty(&loads->turns);
}

const struct waiting_load *waiting_loads_next(struct waiting_loads *loads)
{
	struct fair_item *item = fair_queue_next(&loads->turns);
	return item ? container_of(item, struct waiting_load, turn) : NULL;
}

static struct list *waiting_loads_hash(const struct waiting_loads *loads, uint32_t block)
{
	return &loads->blocks[block % loads->block_count];
}

/* The first that waits for a block; NULL: none. */
static struct waiting_load *waiting_loads_find(const struct waiting_loads *loads, uint32_t block)
{
	list_for_each (node, waiting_loads_hash(loads, block)) {
		struct waiting_load *load = container_of(node, struct waiting_load, same_hash);
		if (load->block == block)
			return load;
	}

	return NULL;
}

void waiting_loads_add(struct waiting_loads *loads, struct waiting_load *load, uint32_t block,
		       struct fair_payer payer, uint64_t bytes)
{
	struct waiting_load *first = waiting_loads_find(loads, block);

	load->block = block;
	list_init(&load->link);
	list_init(&load->same_hash);
	list_init(&load->same_block);
	if (first)
		list_push_back(&first->same_block, &load->same_block);
	else
		list_push_back(waiting_loads_hash(loads, block), &load->same_hash);

	fair_queue_push(&loads->turns, &load->turn, payer, bytes, bytes);
}

/* Takes the loads of a block; those that are queued are not served. */
static void waiting_loads_take_all(struct waiting_loads *loads, struct waiting_load *first,
				   const struct waiting_load *served, struct list *taken)
{
	list_remove(&first->same_hash);
	list_push_back(taken, &first->link);

	for (struct list *node; (node = list_pop_front(&first->same_block));)
		list_push_back(taken, &container_of(node, struct waiting_load, same_block)->link);

	list_for_each (node, taken) {
		struct waiting_load *load = container_of(node, struct waiting_load, link);
		if (load != served)
			fair_queue_remove(&loads->turns, &load->turn);
	}
}

void waiting_loads_take(struct waiting_loads *loads, uint32_t block, struct list *taken)
{
	struct waiting_load *first = waiting_loads_find(loads, block);

	if (first)
		waiting_loads_take_all(loads, first, NULL, taken);
}

void waiting_loads_take_next(struct waiting_loads *loads, struct list *taken)
{
	struct fair_item *item = fair_queue_next(&loads->turns);
	struct waiting_load *next = container_of(item, struct waiting_load, turn);

	fair_queue_take(&loads->turns, item);
	waiting_loads_take_all(loads, waiting_loads_find(loads, next->block), next, taken);
}
