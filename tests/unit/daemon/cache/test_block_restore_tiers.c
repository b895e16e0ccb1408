/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of a daemon before in several tiers: each comes back where it was, whichever memory is in
 * service first, and none of memory that is another one, or has gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/cache/block_restore.h"
#include "tests/support/block_lives.h"

enum { SIZE = BLOCK_LIVES_SIZE, UNITS = 30, HBM_MEMORY = 5 };

static int setup(void **state)
{
	(void)state;
	block_lives_begin("test_block_restore_tiers",
			  &(struct block_lives_memory){UNITS, UNITS, HBM_MEMORY});

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	block_lives_end();

	return 0;
}

/* The next daemon's HBM tier has that memory. */
static void die(uint32_t hbm_memory)
{
	block_lives_kill(&(struct block_lives_memory){UNITS, UNITS, hbm_memory});
}

static void restore_some(void)
{
	while (block_restore_some(block_lives.restore, UINT32_MAX))
		;
	cache_settle(block_lives.rig.cache);
}

static void restore_all(void)
{
	block_restore_grown_all(block_lives.restore, block_lives_hbm());
	block_restore_grown_all(block_lives.restore, block_lives_ddr());
	block_restore_in_service(block_lives.restore);
	restore_some();
	assert_int_equal(block_restore_figures(block_lives.restore, HBM_TIER_HBM).left, 0);
	assert_int_equal(block_lives_hbm()->moving + block_lives_ddr()->moving, 0);
	assert_int_equal(state_count(block_lives.state, STATE_BLOCKS),
			 index_count(block_lives.rig.cache->index));
	assert_null(extent_check(block_lives_hbm()->extents));
	namespaces_release_restored(block_lives.rig.cache->namespaces);
}

static uint64_t restored(enum hbm_tier kind)
{
	return block_restore_figures(block_lives.restore, kind).restored;
}

static uint64_t refused(enum hbm_tier kind)
{
	return block_restore_figures(block_lives.restore, kind).refused;
}

static uint32_t store(struct tier *tier, uint32_t key, uint32_t parent)
{
	return block_lives_store(tier, key, parent, 11 * key);
}

static void expect(uint32_t key, const struct tier *tier, uint32_t unit, uint32_t parent)
{
	assert_int_not_equal(block_lives_find(key), 0);
	const struct block *block = cache_block(block_lives.rig.cache, block_lives_find(key));

	assert_int_equal(block->actual, tier->number);
	assert_int_equal(block->target, tier->number);
	assert_int_equal(block->unit, unit);
	assert_int_equal(block->checksum, 11 * key);
	assert_int_equal(block->unverified, 1);
	assert_int_equal(block->parent, parent == 0 ? 0 : block_lives_find(parent));
}

static void test_each_is_where_it_was(void **state)
{
	(void)state;
	/* a chain through both tiers, whose units are the same in both */
	uint32_t first = store(block_lives_hbm(), 1, 0),
		 second = store(block_lives_ddr(), 2, first);
	(void)store(block_lives_ddr(), 4, store(block_lives_hbm(), 3, second));

	for (unsigned round = 0; round < 2; round++) {
		die(HBM_MEMORY);
		assert_int_equal(tier_grow(block_lives_ddr(), 0, UNITS * UNIT), 0);
		block_restore_grown_all(block_lives.restore, block_lives_ddr());
		restore_some();
		assert_int_equal(restored(HBM_TIER_DDR), 0); /* their parents are to come */
		assert_int_equal(tier_grow(block_lives_hbm(), 0, UNITS * UNIT), 0);
		restore_all();
		assert_int_equal(restored(HBM_TIER_HBM), 2);
		assert_int_equal(restored(HBM_TIER_DDR), 2);
		assert_int_equal(refused(HBM_TIER_HBM) + refused(HBM_TIER_DDR), 0);
		expect(1, block_lives_hbm(), 0, 0);
		expect(2, block_lives_ddr(), 0, 1);
		expect(3, block_lives_hbm(), SIZE, 2);
		expect(4, block_lives_ddr(), SIZE, 3);
		assert_int_equal(block_lives_hbm()->placed, 2 * SIZE * UNIT);
		assert_int_equal(block_lives_ddr()->placed, 2 * SIZE * UNIT);
	}
}

static void count_records(struct block_listener *listener, uint32_t number, struct tier *from,
			  struct tier *to)
{
	(void)listener;
	(void)number;
	(void)from;
	(void)to;
	assert_int_equal(state_count(block_lives.state, STATE_BLOCKS), 2);
}

/* It moves: at every instant it has a record of bytes that are its own. */
static void test_a_block_that_moves(void **state)
{
	(void)state;
	struct blocks *blocks = &block_lives.rig.cache->blocks;
	uint32_t number = store(block_lives_hbm(), 1, 0);
	struct block_listener listener = {.placed = count_records, .unplaced = count_records};

	(void)store(block_lives_hbm(), 2, 0);
	block_listen(blocks, &listener);
	block_set_target(blocks, number, block_lives_ddr());
	block_begin_move(blocks, number, 1);
	assert_int_equal(state_count(block_lives.state, STATE_BLOCKS), 2);
	block_placed(blocks, number,
		     (struct place){block_lives_ddr(), tier_alloc(block_lives_ddr(), SIZE * UNIT)});
	list_remove(&listener.link);

	const struct block_record *record = block_records_at(
		&block_lives.records, block_records_of(&block_lives.records, number));
	assert_int_equal(record->memory, BLOCK_RECORD_DDR);
	assert_int_equal(record->tier, HBM_TIER_DDR);
	assert_int_equal(record->unit, BLOCK_LIVES_FIRST);
}

/* The memory is another one: nothing of it comes back, and what is in DDR does. */
static void test_another_memory(void **state)
{
	(void)state;
	uint32_t first = store(block_lives_hbm(), 1, 0);

	(void)store(block_lives_ddr(), 2, first);
	die(HBM_MEMORY + 1);
	assert_int_equal(tier_grow(block_lives_ddr(), 0, UNITS * UNIT), 0);
	assert_int_equal(tier_grow(block_lives_hbm(), 0, UNITS * UNIT), 0);
	restore_all();
	assert_int_equal(refused(HBM_TIER_HBM), 1);
	assert_int_equal(restored(HBM_TIER_DDR), 1);
	assert_int_equal(block_lives_find(1), 0);
	expect(2, block_lives_ddr(), 0, 0);
	assert_int_equal(block_lives_hbm()->placed, 0);
}

/* What was to come has not: it is let go before others' memory is at its place. */
static void test_memory_that_is_lost(void **state)
{
	(void)state;
	(void)store(block_lives_hbm(), 1, 0);
	uint32_t second = store(block_lives_hbm(), 2, 0);
	(void)store(block_lives_hbm(), 3, 0);
	(void)store(block_lives_ddr(), 4, second);

	die(HBM_MEMORY);
	assert_int_equal(tier_grow(block_lives_ddr(), 0, UNITS * UNIT), 0);
	assert_int_equal(tier_grow(block_lives_hbm(), 0, (SIZE + 1) * UNIT),
			 0); /* a part of the second */
	block_restore_cut(block_lives.restore, block_lives_hbm(), (SIZE + 1) * UNIT);
	assert_int_equal(refused(HBM_TIER_HBM), 2);
	assert_int_equal(state_count(block_lives.state, STATE_BLOCKS), 2);
	assert_int_equal(tier_grow(block_lives_hbm(), (SIZE + 1) * UNIT, (UNITS - SIZE - 1) * UNIT),
			 0);
	assert_int_equal(block_lives_hbm()->moving, SIZE * UNIT);
	restore_all();
	assert_int_equal(restored(HBM_TIER_HBM), 1);
	assert_int_equal(restored(HBM_TIER_DDR), 1);
	expect(1, block_lives_hbm(), 0, 0);
	expect(4, block_lives_ddr(), 0, 0);
	assert_int_equal(block_lives_find(2) + block_lives_find(3), 0);
}

/* HBM is smaller than it was, and what is too much for it waits for the tier below. */
static void test_a_smaller_tier(void **state)
{
	(void)state;
	struct cache *cache;

	for (uint32_t key = 1; key <= 4; key++)
		(void)store(block_lives_hbm(), key, 0);
	die(HBM_MEMORY);
	cache = block_lives.rig.cache;
	block_lives_hbm()->below = block_lives_ddr();
	block_lives_hbm()->capacity = 2 * SIZE * UNIT;
	assert_int_equal(tier_grow(block_lives_hbm(), 0, UNITS * UNIT), 0);
	block_restore_grown_all(block_lives.restore, block_lives_hbm());
	restore_some();
	assert_int_equal(restored(HBM_TIER_HBM), 2);
	assert_int_equal(block_restore_figures(block_lives.restore, HBM_TIER_HBM).left, 2);

	assert_int_equal(tier_grow(block_lives_ddr(), 0, UNITS * UNIT), 0);
	restore_some();
	assert_int_equal(restored(HBM_TIER_HBM), 2); /* there may be others */
	block_restore_grown_all(block_lives.restore, block_lives_ddr());
	block_restore_in_service(block_lives.restore);
	restore_some();
	assert_int_equal(restored(HBM_TIER_HBM), 4);
	assert_int_equal(refused(HBM_TIER_HBM), 0);
	for (uint32_t key = 1; key <= 4; key++)
		assert_int_not_equal(block_lives_find(key), 0);
	assert_int_equal(block_lives_hbm()->bytes, 2 * SIZE * UNIT);
	assert_int_equal(block_lives_ddr()->bytes, 2 * SIZE * UNIT);
	assert_int_equal(index_count(cache->index), 4);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_each_is_where_it_was), TEST(test_a_block_that_moves),
		TEST(test_another_memory),       TEST(test_memory_that_is_lost),
		TEST(test_a_smaller_tier),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
