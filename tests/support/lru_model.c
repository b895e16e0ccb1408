/* SPDX-License-Identifier: Apache-2.0 */
/* lru_model: see lru_model.h. The list is a ring through `newer` and `older`, by block
 * number; entry `none` is its head. */
#include "tests/support/lru_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

struct links {
	uint32_t newer, older;
	bool resident;
};

struct lru {
	uint32_t none; /* its newer is the oldest, its older the newest */
	uint64_t count, capacity;
	struct links blocks[];
};

struct lru *lru_new(uint32_t distinct, uint64_t capacity)
{
	struct lru *lru = calloc(1, sizeof(*lru) + ((size_t)distinct + 1) * sizeof(struct links));

	assert_non_null(lru);
	lru->none = distinct;
	lru->capacity = capacity;
	lru->blocks[distinct] = (struct links){.newer = distinct, .older = distinct};

	return lru;
}

void lru_free(struct lru *lru)
{
	free(lru);
}

uint64_t lru_count(const struct lru *lru)
{
	return lru->count;
}

bool lru_has(const struct lru *lru, uint32_t block)
{
	return lru->blocks[block].resident;
}

uint64_t lru_rank(const struct lru *lru, uint32_t block)
{
	uint64_t rank = 0;

	for (uint32_t b = lru->blocks[block].newer; b != lru->none; b = lru->blocks[b].newer)
		rank++;

	return rank;
}

static void lru_unlink(struct lru *lru, uint32_t block)
{
	struct links *b = &lru->blocks[block];

	lru->blocks[b->newer].older = b->older;
	lru->blocks[b->older].newer = b->newer;
	b->resident = false;
	lru->count--;
}

static void lru_use(struct lru *lru, uint32_t block)
{
	struct links *b = &lru->blocks[block], *head = &lru->blocks[lru->none];

	if (b->resident)
		lru_unlink(lru, block);
	else if (lru->count == lru->capacity)
		lru_unlink(lru, head->newer);

	*b = (struct links){.newer = lru->none, .older = head->older, .resident = true};
	lru->blocks[head->older].newer = block;
	head->older = block;
	lru->count++;
}

uint64_t lru_request(struct lru *lru, const uint32_t *blocks, size_t count)
{
	uint64_t hits = 0;

	while (hits < count && lru_has(lru, blocks[hits]))
		hits++;
	for (size_t i = count; i-- > 0;)
		lru_use(lru, blocks[i]);

	return hits;
}

uint64_t lru_model_hits(const struct trace_file *trace, size_t requests, uint64_t capacity)
{
	struct lru *lru = lru_new(trace->distinct, capacity);
	uint64_t hits = 0;

	for (size_t i = 0; i < requests && i < trace->request_count; i++)
		hits += lru_request(lru, trace->blocks + trace->starts[i],
				    trace->starts[i + 1] - trace->starts[i]);

	lru_free(lru);

	return hits;
}
