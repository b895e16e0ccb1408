/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/block_records.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static_assert(STATE_NONE == UINT32_MAX, "block_records_of()");

uint64_t block_records_bytes_for(uint64_t max_blocks)
{
	return (max_blocks + 1) * sizeof(uint32_t);
}

static struct block_record block_records_make(struct block_records *records, uint32_t number)
{
	const struct cache *cache = records->cache;
	const struct block *block = cache_block(cache, number);
	const struct block_memory *memory = &records->memories[block->actual];
	uint32_t parent = cache_parent(cache, number);
	struct block_record record = {.key = block->key,
				      .came = records->came++,
				      .unit = memory->first_unit + block->unit,
				      .stored_units = block->stored_units,
				      .ns = block->ns,
				      .tier = (uint8_t)cache->tiers[block->actual].kind,
				      .flags = block->incompressible ? BLOCK_RECORD_INCOMPRESSIBLE
								     : 0,
				      .memory = memory->number};

	if (parent != 0)
		record.parent = cache_block(cache, parent)->key;

	return record;
}

static uint32_t block_records_add(struct block_records *records, uint32_t number)
{
	const struct block *block = cache_block(records->cache, number);
	const struct block_record record = block_records_make(records, number);

	return state_add(records->state, STATE_BLOCKS, &record,
			 block->checksummed ? block->checksum : 0);
}

static void block_records_drop(struct block_records *records, uint32_t number)
{
	state_drop(records->state, STATE_BLOCKS, block_records_of(records, number));
	records->of[number] = 0;
}

static void block_records_placed(struct block_listener *listener, uint32_t number, struct tier *to,
				 struct tier *from)
{
	struct block_records *records = container_of(listener, struct block_records, listener);
	uint32_t index = records->restoring;

	(void)from;
	if (records->memories[to->number].number == 0)
		return;

	if (index == STATE_NONE)
		index = block_records_add(records, number);
	if (block_records_of(records, number) != STATE_NONE)
		block_records_drop(records, number);
	records->of[number] = index + 1;
}

/* The record of a block that moves within such memory stays until it has the next one. Nothing is
 * written to its old extent before. */
static void block_records_unplaced(struct block_listener *listener, uint32_t number,
				   struct tier *from, struct tier *to)
{
	struct block_records *records = container_of(listener, struct block_records, listener);

	(void)from;
	if (!to || records->memories[to->number].number == 0)
		block_records_drop(records, number);
}

static void block_records_dropped(struct block_listener *listener, uint32_t number)
{
	block_records_drop(container_of(listener, struct block_records, listener), number);
}

static void block_records_summed(struct block_listener *listener, uint32_t number)
{
	struct block_records *records = container_of(listener, struct block_records, listener);
	uint32_t index = block_records_of(records, number);

	if (index != STATE_NONE)
		state_set_word(records->state, STATE_BLOCKS, index,
			       cache_block(records->cache, number)->checksum);
}

int block_records_open(struct block_records *records, struct state *state, struct cache *cache,
		       const struct block_memory memories[TIER_NUMBERS])
{
	void *of = mmap(NULL, (size_t)block_records_bytes_for(index_max(cache->index)),
			PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (of == MAP_FAILED)
		return -ENOMEM;

	*records = (struct block_records){.state = state,
					  .cache = cache,
					  .listener = {.placed = block_records_placed,
						       .unplaced = block_records_unplaced,
						       .dropped = block_records_dropped,
						       .summed = block_records_summed},
					  .of = of,
					  .restoring = STATE_NONE};
	memcpy(records->memories, memories, sizeof(records->memories));
	block_listen(&cache->blocks, &records->listener);

	return 0;
}

void block_records_close(struct block_records *records)
{
	if (!records->of)
		return;

	list_remove(&records->listener.link);
	munmap(records->of, (size_t)block_records_bytes_for(index_max(records->cache->index)));
	*records = (struct block_records){0};
}
