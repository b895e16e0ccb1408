/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/index.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define PREFETCH_AHEAD 8 /* keys whose memory is prefetched */
#define SPLIT_AHEAD 4
#define UNUSED UINT16_MAX /* block.ns of an entry on the free list */

struct index {
	struct block *table;
	uint32_t *buckets;
	uint64_t max, secret;
	uint32_t count, highest, free_list;
	uint32_t low_mask; /* buckets below split have been split: they use the next larger mask */
	uint32_t split;
};

static void *index_reserve(uint64_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

static uint64_t index_table_bytes(uint64_t max)
{
	return (max + 1) * sizeof(struct block);
}

static uint64_t index_bucket_bytes(uint64_t max)
{
	return (max + 2) * sizeof(uint32_t);
}

uint64_t index_bytes_for(uint64_t max_blocks)
{
	return index_table_bytes(max_blocks) + index_bucket_bytes(max_blocks);
}

int index_new(struct index **out, uint64_t max_blocks)
{
	if (max_blocks == 0 || max_blocks >= UINT32_MAX - 1)
		return -EINVAL;

	struct index *index = calloc(1, sizeof(*index));
	if (!index)
		return -ENOMEM;

	index->max = max_blocks;
	index->table = index_reserve(index_table_bytes(max_blocks));
	index->buckets = index_reserve(index_bucket_bytes(max_blocks));
	if (!index->table || !index->buckets ||
	    getrandom(&index->secret, sizeof(index->secret), 0) != sizeof(index->secret)) {
		index_free(index);
		return -ENOMEM;
	}

	*out = index;

	return 0;
}

struct index *index_free(struct index *index)
{
	if (!index)
		return NULL;
	if (index->table)
		munmap(index->table, index_table_bytes(index->max));
	if (index->buckets)
		munmap(index->buckets, index_bucket_bytes(index->max));

	free(index);

	return NULL;
}

struct block *index_table(struct index *index)
{
	return index->table;
}

static uint64_t index_hash_of(const struct index *index, uint16_t ns,
			      const struct hbm_wire_key *key)
{
	return XXH3_64bits_withSeed(key->bytes, sizeof(key->bytes),
				    index->secret ^ ((uint64_t)ns << 48));
}

/* There are low_mask + 1 + split buckets. One more bit of the hash distinguishes those
 * already split from their new halves. */
static uint32_t index_bucket_of(const struct index *index, uint64_t hash)
{
	uint32_t bucket = (uint32_t)hash & index->low_mask;
	return bucket < index->split ? (uint32_t)hash & (index->low_mask * 2 + 1) : bucket;
}

static bool index_is_key(const struct block *block, uint16_t ns, const struct hbm_wire_key *key)
{
	return block->ns == ns && memcmp(&block->key, key, sizeof(*key)) == 0;
}

static uint32_t index_find_in(const struct index *index, uint32_t bucket, uint16_t ns,
			      const struct hbm_wire_key *key)
{
	uint32_t number = index->buckets[bucket];
	while (number != 0 && !index_is_key(&index->table[number], ns, key))
		number = index->table[number].hash_next;
	return number;
}

uint32_t index_find(const struct index *index, uint16_t ns, const struct hbm_wire_key *key)
{
	return index_find_in(index, index_bucket_of(index, index_hash_of(index, ns, key)), ns, key);
}

uint32_t index_compared(const struct index *index, uint16_t ns, const struct hbm_wire_key *key)
{
	uint32_t number = index->buckets[index_bucket_of(index, index_hash_of(index, ns, key))];
	uint32_t compared = 0;

	for (; number != 0; number = index->table[number].hash_next, compared++)
		if (index_is_key(&index->table[number], ns, key))
			return compared + 1;

	return compared;
}

void index_expect(const struct index *index, uint16_t ns, const struct hbm_wire_key *key,
		  bool once_more)
{
	const uint32_t *bucket =
		&index->buckets[index_bucket_of(index, index_hash_of(index, ns, key))];

	if (once_more)
		__builtin_prefetch(&index->table[*bucket]);
	else
		__builtin_prefetch(bucket);
}

/* Keys go through three stages in a window: bucket prefetched, entry prefetched,
 * compared. */
size_t index_find_chain(const struct index *index, uint16_t ns, const struct hbm_wire_key *keys,
			size_t count, uint32_t *found)
{
	uint32_t bucket[PREFETCH_AHEAD];
	for (size_t base = 0; base < count; base += PREFETCH_AHEAD) {
		size_t window = count - base < PREFETCH_AHEAD ? count - base : PREFETCH_AHEAD;
		for (size_t i = 0; i < window; i++) {
			bucket[i] =
				index_bucket_of(index, index_hash_of(index, ns, &keys[base + i]));
			__builtin_prefetch(&index->buckets[bucket[i]]);
		}

		for (size_t i = 0; i < window; i++)
			__builtin_prefetch(&index->table[index->buckets[bucket[i]]]);
		for (size_t i = 0; i < window; i++) {
			uint32_t number = index_find_in(index, bucket[i], ns, &keys[base + i]);
			if (number == 0)
				return base + i;
			found[base + i] = number;
		}
	}

	return count;
}

/* Adds a bucket: the entries of bucket `split` are divided between it and the new one. */
static void index_split_bucket(struct index *index)
{
	uint32_t number = index->buckets[index->split];
	uint32_t low = 0, high = 0, high_bucket = index->split + index->low_mask + 1;

	/* The bucket that is split some insertions later. */
	__builtin_prefetch(
		&index->table[index->buckets[(index->split + SPLIT_AHEAD) & index->low_mask]]);
	while (number != 0) {
		struct block *block = &index->table[number];
		uint32_t next = block->hash_next;
		uint64_t hash = index_hash_of(index, block->ns, &block->key);
		uint32_t *half = ((uint32_t)hash & (index->low_mask + 1)) != 0 ? &high : &low;

		block->hash_next = *half;
		*half = number;
		number = next;
	}

	index->buckets[index->split] = low;
	index->buckets[high_bucket] = high;
	if (++index->split > index->low_mask) {
		index->low_mask = index->low_mask * 2 + 1;
		index->split = 0;
	}
}

void index_expect_many(struct index *index, uint64_t count)
{
	if (index->highest > 0)
		return;

	count = count < index->max ? count : index->max;
	while (2ull * (index->low_mask + 1ull) <= count)
		index->low_mask = index->low_mask * 2 + 1;
	index->split = count > index->low_mask + 1ull ? (uint32_t)count - index->low_mask - 1 : 0;
}

static uint32_t index_alloc_number(struct index *index)
{
	uint32_t number = index->free_list;
	if (number != 0) {
		index->free_list = index->table[number].hash_next;
		return number;
	}

	if (index->highest == index->max)
		return 0;
	return ++index->highest;
}

uint32_t index_insert(struct index *index, uint16_t ns, const struct hbm_wire_key *key)
{
	assert(ns != UNUSED);
	uint32_t number = index_alloc_number(index);
	if (number == 0)
		return 0;
	if (number == index->highest && number > index->low_mask + 1 + index->split)
		index_split_bucket(index);

	struct block *block = &index->table[number];
	memset(block, 0, sizeof(*block));
	block->key = *key;
	block->ns = ns;
	uint32_t bucket = index_bucket_of(index, index_hash_of(index, ns, key));
	block->hash_next = index->buckets[bucket];
	index->buckets[bucket] = number;
	index->count++;

	return number;
}

void index_remove(struct index *index, uint32_t number)
{
	struct block *block = &index->table[number];
	uint32_t *link = &index->buckets[index_bucket_of(
		index, index_hash_of(index, block->ns, &block->key))];

	while (*link != number) {
		assert(*link != 0);
		link = &index->table[*link].hash_next;
	}

	*link = block->hash_next;
	block->hash_next = 0;
}

void index_release(struct index *index, uint32_t number)
{
	struct block *block = &index->table[number];

	assert(block->ns != UNUSED);
	block->ns = UNUSED;
	block->hash_next = index->free_list;
	index->free_list = number;
	index->count--;
}

uint64_t index_count(const struct index *index)
{
	return index->count;
}

uint64_t index_max(const struct index *index)
{
	return index->max;
}

uint32_t index_highest(const struct index *index)
{
	return index->highest;
}

bool index_used(const struct index *index, uint32_t number)
{
	return number != 0 && number <= index->highest && index->table[number].ns != UNUSED;
}

uint64_t index_memory(const struct index *index)
{
	uint64_t buckets = (uint64_t)index->low_mask + 1 + index->split;
	return (uint64_t)index->highest * sizeof(struct block) + buckets * sizeof(uint32_t);
}
