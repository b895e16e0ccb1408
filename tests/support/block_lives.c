/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/block_lives.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>

#include "daemon/cache/namespace_record.h"
#include "daemon/cache/namespace_restore.h"

struct block_lives block_lives;

struct tier *block_lives_hbm(void)
{
	return cache_hbm(block_lives.rig.cache, 0);
}

struct tier *block_lives_ddr(void)
{
	return block_lives.rig.cache->ddr;
}

static void block_lives_shapes(struct state_shape shapes[STATE_TABLES])
{
	for (size_t i = 0; i < STATE_TABLES; i++)
		shapes[i] = (struct state_shape){sizeof(uint64_t), 1};
	shapes[STATE_NAMESPACES] = (struct state_shape){sizeof(struct namespace_record), 16};
	shapes[STATE_BLOCKS] = (struct state_shape){sizeof(struct block_record), CACHE_RIG_BLOCKS};
}

/* The tier has no memory yet. */
static void block_lives_init_tier(struct tier *tier, enum hbm_tier kind, uint64_t units)
{
	if (units > 0)
		assert_int_equal(
			tier_init(tier, kind, tier->number, units * UNIT, 0, CACHE_RIG_BLOCKS), 0);
}

static void block_lives_open(const struct block_lives_memory *memory)
{
	static const uint64_t none[] = {0, 0, 0};
	struct block_memory memories[TIER_NUMBERS] = {0};

	cache_rig_open(&block_lives.rig, block_lives.name, 1, none);
	block_lives_init_tier(block_lives_hbm(), HBM_TIER_HBM, memory->hbm_units);
	block_lives_init_tier(block_lives_ddr(), HBM_TIER_DDR, memory->ddr_units);
	namespaces_record(block_lives.rig.cache->namespaces, block_lives.state);
	memories[block_lives_ddr()->number] =
		(struct block_memory){BLOCK_RECORD_DDR, BLOCK_LIVES_FIRST, memory->ddr_units};
	if (memory->hbm_units > 0)
		memories[block_lives_hbm()->number] =
			(struct block_memory){memory->hbm_memory, 0, memory->hbm_units};
	assert_int_equal(block_records_open(&block_lives.records, block_lives.state,
					    block_lives.rig.cache, memories),
			 0);
}

static void block_lives_close(void)
{
	block_lives.restore = block_restore_free(block_lives.restore);
	block_records_close(&block_lives.records);
	cache_rig_close(&block_lives.rig);
}

void block_lives_begin(const char *name, const struct block_lives_memory *memory)
{
	struct state_shape shapes[STATE_TABLES];

	block_lives.name = name;
	block_lives_shapes(shapes);
	assert_int_equal(state_new(&block_lives.state, shapes), 0);
	block_lives_open(memory);
	if (memory->hbm_units > 0)
		assert_int_equal(tier_grow(block_lives_hbm(), 0, memory->hbm_units * UNIT), 0);
	assert_int_equal(tier_grow(block_lives_ddr(), 0, memory->ddr_units * UNIT), 0);
	block_lives.ns = cache_rig_namespace(&block_lives.rig, BLOCK_LIVES_SIZE);
}

static bool block_lives_fits(void *arg, const struct namespace_identity *identity)
{
	(void)arg;
	(void)identity;

	return true;
}

void block_lives_kill(const struct block_lives_memory *memory)
{
	struct state_shape shapes[STATE_TABLES];
	char error[256];

	block_lives_close();
	int fd = fcntl(state_fd(block_lives.state), F_DUPFD_CLOEXEC, 0);
	state_free(block_lives.state);
	block_lives_shapes(shapes);
	assert_int_equal(state_adopt(&block_lives.state, fd, shapes, error, sizeof(error)), 0);

	block_lives_open(memory);
	assert_int_equal(namespace_restore_all(block_lives.rig.cache->namespaces, block_lives.state,
					       &block_lives.rig.ledger, block_lives_fits, NULL),
			 0);
	assert_int_equal(block_restore_new(&block_lives.restore, &block_lives.records), 0);
	block_lives_hbm()->grown = block_lives_ddr()->grown = block_restore_grown;
	block_lives_hbm()->grown_arg = block_lives_ddr()->grown_arg = block_lives.restore;
}

void block_lives_end(void)
{
	block_lives_close();
	block_lives.state = state_free(block_lives.state);
}

uint32_t block_lives_store(struct tier *tier, uint32_t key, uint32_t parent, uint64_t checksum)
{
	struct cache *cache = block_lives.rig.cache;
	struct hbm_wire_key wire = cache_rig_key(key);
	uint32_t number = cache_insert(cache, block_lives.ns, &wire, parent);
	struct place place = {tier, tier_alloc(tier, BLOCK_LIVES_SIZE * UNIT)};

	assert_int_not_equal(number, 0);
	assert_int_not_equal(place.unit, UINT32_MAX);
	assert_int_equal(cache_place(cache, number, tier), HBM_OK);
	if (checksum != 0)
		(void)block_settle_checksum(&cache->blocks, number, checksum);
	block_stored(&cache->blocks, number, place);

	return number;
}

uint32_t block_lives_find(uint32_t key)
{
	return cache_rig_find(&block_lives.rig, block_lives.ns, key);
}
