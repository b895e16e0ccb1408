/* SPDX-License-Identifier: Apache-2.0 */
/* mark: see mark.h. */
#include "client/sequence/mark.h"

#include "client/sequence/pool.h"

static uint64_t mark_bit(uint32_t index)
{
	return UINT64_C(1) << index % 64;
}

void hbm_mark_set(struct hbm_pool *pool, uint32_t index)
{
	atomic_fetch_or_explicit(&pool->marks[index / 64], mark_bit(index), memory_order_release);
}

void hbm_mark_clear(struct hbm_pool *pool, uint32_t index)
{
	atomic_fetch_and_explicit(&pool->marks[index / 64], ~mark_bit(index), memory_order_acquire);
}

bool hbm_mark_take(struct hbm_pool *pool, uint32_t *index)
{
	for (uint32_t word = 0; word <= (pool->max_sequences - 1) / 64; word++) {
		const uint64_t marks =
			atomic_load_explicit(&pool->marks[word], memory_order_relaxed);

		if (marks) {
			*index = word * 64 + (uint32_t)__builtin_ctzll(marks);
			hbm_mark_clear(pool, *index);
			return true;
		}
	}

	return false;
}
