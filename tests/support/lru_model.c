/* SPDX-License-Identifier: Apache-2.0 */
/* lru_model: see lru_model.h. The list is a ring through `newer` and `older`, by block
 * number; entry `none` is its head. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/lru_model.h"

#include <stdbool.h>
#include <stdlib.h>

struct links {
	uint32_t newer, older;
	bool resident;
};

struct lru {
	struct links *blocks;
	uint32_t none; /* its newer is the oldest, its older the newest */
	uint64_t count, capacity;
};

static void unlink_block(struct lru *lru, uint32_t block)
{
	struct links *b = &lru->blocks[block];
	lru->blocks[b->newer].older = b->older;
	lru->blocks[b->older].newer = b->newer;
	b->resident = false;
	lru->count--;
}

static void use(struct lru *lru, uint32_t block)
{
	struct links *b = &lru->blocks[block], *head = &lru->blocks[lru->none];
	if (b->resident)
		unlink_block(lru, block);
	else if (lru->count == lru->capacity)
		unlink_block(lru, head->newer);

	*b = (struct links){.newer = lru->none, .older = head->older, .resident = true};
	lru->blocks[head->older].newer = block;
	head->older = block;
	lru->count++;
}

static uint64_t request(struct lru *lru, const uint32_t *blocks, size_t count)
{
	uint64_t hits = 0;
	while (hits < count && lru->blocks[blocks[hits]].resident)
		hits++;
	for (size_t i = count; i-- > 0;)
		use(lru, blocks[i]);
	return hits;
}

uint64_t lru_model_hits(const struct trace_file *trace, size_t requests, uint64_t capacity)
{
	struct lru lru = {.none = trace->distinct, .capacity = capacity};
	uint64_t hits = 0;

	lru.blocks = calloc((size_t)trace->distinct + 1, sizeof(*lru.blocks));
	assert_non_null(lru.blocks);
	lru.blocks[lru.none] = (struct links){.newer = lru.none, .older = lru.none};
	for (size_t i = 0; i < requests && i < trace->request_count; i++)
		hits += request(&lru, trace->blocks + trace->starts[i],
				trace->starts[i + 1] - trace->starts[i]);

	free(lru.blocks);

	return hits;
}
