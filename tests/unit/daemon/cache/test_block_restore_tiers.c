/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of a daemon before in several tiers: each comes back where it was, whichever memory is in
 * service first, and none of memory that is another one, or has gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>

#include "daemon/cache/block_restore.h"
#include "daemon/cache/namespace_record.h"
#include "daemon/cache/namespace_restore.h"
#include "tests/support/cache_rig.h"

enum { SIZE = 3, UNITS = 30, FIRST = 7, HBM_MEMORY = 5 };

static struct {
	struct cache_rig rig;
	struct state *state;
	struct block_records records;
	struct block_restore *restore;
	uint16_t ns;
} lives;

static void shapes_of(struct state_shape shapes[STATE_TABLES])
{
	for (size_t i = 0; i < STATE_TABLES; i++)
		shapes[i] = (struct state_shape){sizeof(uint64_t), 1};
	shapes[STATE_NAMESPACES] = (struct state_shape){sizeof(struct namespace_record), 16};
	shapes[STATE_BLOCKS] = (struct state_shape){sizeof(struct block_record), CACHE_RIG_BLOCKS};
}

static struct tier *hbm(void)
{
	return cache_hbm(lives.rig.cache, 0);
}

static struct tier *ddr(void)
{
	return lives.rig.cache->ddr;
}

/* The tiers have no memory yet. */
static void open_life(uint32_t hbm_memory)
{
	static const uint64_t none[] = {0, 0, 0};
	struct block_memory memories[TIER_NUMBERS] = {0};

	cache_rig_open(&lives.rig, "test_block_restore_tiers", 1, none);
	assert_int_equal(
		tier_init(hbm(), HBM_TIER_HBM, hbm()->number, UNITS * UNIT, 0, CACHE_RIG_BLOCKS),
		0);
	assert_int_equal(
		tier_init(ddr(), HBM_TIER_DDR, ddr()->number, UNITS * UNIT, 0, CACHE_RIG_BLOCKS),
		0);
	namespaces_record(lives.rig.cache->namespaces, lives.state);
	memories[ddr()->number] = (struct block_memory){BLOCK_RECORD_DDR, FIRST, UNITS};
	memories[hbm()->number] = (struct block_memory){hbm_memory, 0, UNITS};
	assert_int_equal(block_records_open(&lives.records, lives.state, lives.rig.cache, memories),
			 0);
}

static void close_life(void)
{
	lives.restore = block_restore_free(lives.restore);
	block_records_close(&lives.records);
	cache_rig_close(&lives.rig);
}

static int setup(void **state)
{
	struct state_shape shapes[STATE_TABLES];

	(void)state;
	shapes_of(shapes);
	assert_int_equal(state_new(&lives.state, shapes), 0);
	open_life(HBM_MEMORY);
	assert_int_equal(tier_grow(hbm(), 0, UNITS * UNIT), 0);
	assert_int_equal(tier_grow(ddr(), 0, UNITS * UNIT), 0);
	lives.ns = cache_rig_namespace(&lives.rig, SIZE);

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close_life();
	lives.state = state_free(lives.state);
	return 0;
}

static bool fits(void *arg, const struct namespace_identity *identity)
{
	(void)arg;
	(void)identity;
	return true;
}

/* The daemon is killed; the next one, whose HBM tier has that memory, reads the records. */
static void die(uint32_t hbm_memory)
{
	struct state_shape shapes[STATE_TABLES];
	char error[256];

	close_life();
	int fd = fcntl(state_fd(lives.state), F_DUPFD_CLOEXEC, 0);
	state_free(lives.state);
	shapes_of(shapes);
	assert_int_equal(state_adopt(&lives.state, fd, shapes, error, sizeof(error)), 0);

	open_life(hbm_memory);
	assert_int_equal(namespace_restore_all(lives.rig.cache->namespaces, lives.state,
					       &lives.rig.ledger, fits, NULL),
			 0);
	assert_int_equal(block_restore_new(&lives.restore, &lives.records), 0);
	hbm()->grown = ddr()->grown = block_restore_grown;
	hbm()->grown_arg = ddr()->grown_arg = lives.restore;
}

static void restore_some(void)
{
	while (block_restore_some(lives.restore, UINT32_MAX))
		;
	cache_settle(lives.rig.cache);
}

static void restore_all(void)
{
	block_restore_grown_all(lives.restore, hbm());
	block_restore_grown_all(lives.restore, ddr());
	block_restore_in_service(lives.restore);
	restore_some();
	assert_int_equal(block_restore_figures(lives.restore, HBM_TIER_HBM).left, 0);
	assert_int_equal(hbm()->moving + ddr()->moving, 0);
	assert_int_equal(state_count(lives.state, STATE_BLOCKS),
			 index_count(lives.rig.cache->index));
	assert_null(extent_check(hbm()->extents));
	namespaces_release_restored(lives.rig.cache->namespaces);
}

static uint64_t restored(enum hbm_tier kind)
{
	return block_restore_figures(lives.restore, kind).restored;
}

static uint64_t refused(enum hbm_tier kind)
{
	return block_restore_figures(lives.restore, kind).refused;
}

static uint32_t store(struct tier *tier, uint32_t key, uint32_t parent)
{
	struct cache *cache = lives.rig.cache;
	struct hbm_wire_key wire = cache_rig_key(key);
	uint32_t number = cache_insert(cache, lives.ns, &wire, parent);
	struct place place = {tier, tier_alloc(tier, SIZE * UNIT)};

	assert_int_not_equal(number, 0);
	assert_int_not_equal(place.unit, UINT32_MAX);
	assert_int_equal(cache_place(cache, number, tier), HBM_OK);
	assert_true(block_settle_checksum(&cache->blocks, number, 11 * key));
	block_stored(&cache->blocks, number, place);

	return number;
}

static uint32_t find(uint32_t key)
{
	return cache_rig_find(&lives.rig, lives.ns, key);
}

static void expect(uint32_t key, const struct tier *tier, uint32_t unit, uint32_t parent)
{
	assert_int_not_equal(find(key), 0);
	const struct block *block = cache_block(lives.rig.cache, find(key));

	assert_int_equal(block->actual, tier->number);
	assert_int_equal(block->target, tier->number);
	assert_int_equal(block->unit, unit);
	assert_int_equal(block->checksum, 11 * key);
	assert_int_equal(block->unverified, 1);
	assert_int_equal(block->parent, parent == 0 ? 0 : find(parent));
}

static void test_each_is_where_it_was(void **state)
{
	(void)state;
	/* a chain through both tiers, whose units are the same in both */
	uint32_t first = store(hbm(), 1, 0), second = store(ddr(), 2, first);
	(void)store(ddr(), 4, store(hbm(), 3, second));

	for (unsigned round = 0; round < 2; round++) {
		die(HBM_MEMORY);
		assert_int_equal(tier_grow(ddr(), 0, UNITS * UNIT), 0);
		block_restore_grown_all(lives.restore, ddr());
		restore_some();
		assert_int_equal(restored(HBM_TIER_DDR), 0); /* their parents are to come */
		assert_int_equal(tier_grow(hbm(), 0, UNITS * UNIT), 0);
		restore_all();
		assert_int_equal(restored(HBM_TIER_HBM), 2);
		assert_int_equal(restored(HBM_TIER_DDR), 2);
		assert_int_equal(refused(HBM_TIER_HBM) + refused(HBM_TIER_DDR), 0);
		expect(1, hbm(), 0, 0);
		expect(2, ddr(), 0, 1);
		expect(3, hbm(), SIZE, 2);
		expect(4, ddr(), SIZE, 3);
		assert_int_equal(hbm()->placed, 2 * SIZE * UNIT);
		assert_int_equal(ddr()->placed, 2 * SIZE * UNIT);
	}
}

static void count_records(struct block_listener *listener, uint32_t number, struct tier *from,
			  struct tier *to)
{
	(void)listener;
	(void)number;
	(void)from;
	(void)to;
	assert_int_equal(state_count(lives.state, STATE_BLOCKS), 2);
}

/* It moves: at every instant it has a record of bytes that are its own. */
static void test_a_block_that_moves(void **state)
{
	(void)state;
	struct blocks *blocks = &lives.rig.cache->blocks;
	uint32_t number = store(hbm(), 1, 0);
	struct block_listener listener = {.placed = count_records, .unplaced = count_records};

	(void)store(hbm(), 2, 0);
	block_listen(blocks, &listener);
	block_set_target(blocks, number, ddr());
	block_begin_move(blocks, number, 1);
	assert_int_equal(state_count(lives.state, STATE_BLOCKS), 2);
	block_placed(blocks, number, (struct place){ddr(), tier_alloc(ddr(), SIZE * UNIT)});
	list_remove(&listener.link);

	const struct block_record *record =
		block_records_at(&lives.records, block_records_of(&lives.records, number));
	assert_int_equal(record->memory, BLOCK_RECORD_DDR);
	assert_int_equal(record->tier, HBM_TIER_DDR);
	assert_int_equal(record->unit, FIRST);
}

/* The memory is another one: nothing of it comes back, and what is in DDR does. */
static void test_another_memory(void **state)
{
	(void)state;
	uint32_t first = store(hbm(), 1, 0);

	(void)store(ddr(), 2, first);
	die(HBM_MEMORY + 1);
	assert_int_equal(tier_grow(ddr(), 0, UNITS * UNIT), 0);
	assert_int_equal(tier_grow(hbm(), 0, UNITS * UNIT), 0);
	restore_all();
	assert_int_equal(refused(HBM_TIER_HBM), 1);
	assert_int_equal(restored(HBM_TIER_DDR), 1);
	assert_int_equal(find(1), 0);
	expect(2, ddr(), 0, 0);
	assert_int_equal(hbm()->placed, 0);
}

/* What was to come has not: it is let go before others' memory is at its place. */
static void test_memory_that_is_lost(void **state)
{
	(void)state;
	(void)store(hbm(), 1, 0);
	uint32_t second = store(hbm(), 2, 0);
	(void)store(hbm(), 3, 0);
	(void)store(ddr(), 4, second);

	die(HBM_MEMORY);
	assert_int_equal(tier_grow(ddr(), 0, UNITS * UNIT), 0);
	assert_int_equal(tier_grow(hbm(), 0, (SIZE + 1) * UNIT), 0); /* a part of the second */
	block_restore_cut(lives.restore, hbm(), (SIZE + 1) * UNIT);
	assert_int_equal(refused(HBM_TIER_HBM), 2);
	assert_int_equal(state_count(lives.state, STATE_BLOCKS), 2);
	assert_int_equal(tier_grow(hbm(), (SIZE + 1) * UNIT, (UNITS - SIZE - 1) * UNIT), 0);
	assert_int_equal(hbm()->moving, SIZE * UNIT);
	restore_all();
	assert_int_equal(restored(HBM_TIER_HBM), 1);
	assert_int_equal(restored(HBM_TIER_DDR), 1);
	expect(1, hbm(), 0, 0);
	expect(4, ddr(), 0, 0);
	assert_int_equal(find(2) + find(3), 0);
}

/* HBM is smaller than it was, and what is too much for it waits for the tier below. */
static void test_a_smaller_tier(void **state)
{
	(void)state;
	struct cache *cache;

	for (uint32_t key = 1; key <= 4; key++)
		(void)store(hbm(), key, 0);
	die(HBM_MEMORY);
	cache = lives.rig.cache;
	hbm()->below = ddr();
	hbm()->capacity = 2 * SIZE * UNIT;
	assert_int_equal(tier_grow(hbm(), 0, UNITS * UNIT), 0);
	block_restore_grown_all(lives.restore, hbm());
	restore_some();
	assert_int_equal(restored(HBM_TIER_HBM), 2);
	assert_int_equal(block_restore_figures(lives.restore, HBM_TIER_HBM).left, 2);

	assert_int_equal(tier_grow(ddr(), 0, UNITS * UNIT), 0);
	restore_some();
	assert_int_equal(restored(HBM_TIER_HBM), 2); /* there may be others */
	block_restore_grown_all(lives.restore, ddr());
	block_restore_in_service(lives.restore);
	restore_some();
	assert_int_equal(restored(HBM_TIER_HBM), 4);
	assert_int_equal(refused(HBM_TIER_HBM), 0);
	for (uint32_t key = 1; key <= 4; key++)
		assert_int_not_equal(find(key), 0);
	assert_int_equal(hbm()->bytes, 2 * SIZE * UNIT);
	assert_int_equal(ddr()->bytes, 2 * SIZE * UNIT);
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
