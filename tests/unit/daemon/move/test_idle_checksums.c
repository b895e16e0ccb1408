/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums that blocks in DDR get while nothing moves: all of them, right ones, and none of
 * a block that has left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/base/checksum.h"
#include "daemon/cache/cache.h"
#include "daemon/move/idle_checksums.h"
#include "daemon/move/pump.h"
#include "daemon/tier/hash_pool.h"
#include "tests/support/traffic.h"

enum { KEYS = 12, BYTES = 64 * KIB, LARGE = 64 * MIB };

static uint64_t hashed(const struct traffic *traffic)
{
	struct hbm_wire_link link;
	link_stats_link(traffic->rig.hbmd.link_stats, HBM_LINK_HASH, &link);
	return link.count;
}

/* Blocks come to DDR at once. */
static struct traffic *open_traffic(const char *name)
{
	struct traffic *traffic = traffic_new(name);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);
	return traffic;
}

static uint64_t checksum_of(struct traffic *traffic, uint32_t number)
{
	struct place place = block_place(&traffic->rig.hbmd.cache->blocks, number);
	return checksum(tier_host(place.tier, place.unit), BYTES);
}

struct wish {
	struct traffic *traffic;
	struct idle_checksums *idle;
	uint32_t keys;
};

static bool all_have_one(void *arg)
{
	const struct wish *wish = arg;
	bool all = true;

	for (uint32_t key = 0; all && key < wish->keys; key++)
		all = cache_block(wish->traffic->rig.hbmd.cache,
				  traffic_find(wish->traffic, 0, key))
			      ->checksummed;

	return all;
}

static bool one_is_computed(void *arg)
{
	return ((const struct wish *)arg)->idle->block != 0;
}

static bool none_is_computed(void *arg)
{
	return !one_is_computed(arg);
}

#define NEVER_QUIET (3600 * UINT64_C(1000000000))

/* It is quiet now, and it begins with the first block. */
static void begin_one(struct idle_checksums *idle)
{
	idle->quiet_ns = 0;
	idle->next = 1;
	assert_false(idle->walk.run(&idle->walk));
	assert_int_not_equal(idle->block, 0);
}

static void end(struct traffic *traffic, struct idle_checksums *idle)
{
	idle_checksums_stop(idle);
	traffic_end(traffic);
	idle_checksums_free(idle);
}

static void test_blocks_in_ddr_get_theirs(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__);
	struct rig *rig = &traffic->rig;
	struct cache *cache = rig->hbmd.cache;
	struct wish wish = {.traffic = traffic, .keys = KEYS / 2};

	assert_int_equal(idle_checksums_new(&wish.idle, rig->hbmd.mover, 1000000), 0);
	traffic_use(traffic, 0, 0, KEYS / 2, 0);
	traffic_wait(traffic, 0);
	rig_run(rig, all_have_one, &wish);
	wish.keys = KEYS; /* a second time, when the first walk is over */
	traffic_use(traffic, 0, KEYS / 2, KEYS / 2, 0);
	traffic_wait(traffic, 0);
	rig_run(rig, all_have_one, &wish);

	for (uint32_t key = 0; key < KEYS; key++) {
		uint32_t number = traffic_find(traffic, 0, key);
		assert_int_equal(cache_block(cache, number)->checksum,
				 checksum_of(traffic, number));
	}

	uint64_t before = hashed(traffic);
	assert_int_equal(before, KEYS);
	cache_push_out(cache, cache->ddr, UINT64_MAX, KEYS);
	rig_settle(rig);
	assert_int_equal(cache->nvme->blocks, KEYS);
	assert_int_equal(hashed(traffic), before);
	end(traffic, wish.idle);
}

/* Where it is never quiet: each is computed once, one at a time. */
static void test_in_a_hurry(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(__func__);
	struct wish wish = {.traffic = traffic, .keys = KEYS};

	assert_int_equal(
		idle_checksums_new(&wish.idle, traffic->rig.hbmd.mover, 3600 * 1000000000ull), 0);
	idle_checksums_hurry(wish.idle);
	for (uint32_t key = 0; key < KEYS; key++)
		traffic_use(traffic, 0, key, 1, 0);
	traffic_wait(traffic, 0);
	rig_run(&traffic->rig, all_have_one, &wish);
	for (uint32_t key = 0; key < KEYS; key++) {
		uint32_t number = traffic_find(traffic, 0, key);
		assert_int_equal(cache_block(traffic->rig.hbmd.cache, number)->checksum,
				 checksum_of(traffic, number));
	}
	assert_int_equal(hashed(traffic), KEYS);
	end(traffic, wish.idle);
}

/* ---- in HBM ---- */

static struct traffic *open_in_hbm(const char *name)
{
	struct traffic *traffic = traffic_new(name);

	traffic->rig.config.checksum = CONFIG_CHECKSUM_NVME;
	traffic_open(traffic, 1, traffic_one_size);

	return traffic;
}

/* Whether it is that of its bytes. */
static void expect_right(struct traffic *traffic, uint32_t key)
{
	uint32_t number = traffic_find(traffic, 0, key);
	const struct block *block = cache_block(traffic->rig.hbmd.cache, number);
	struct place place = block_place(&traffic->rig.hbmd.cache->blocks, number);
	char *bytes = malloc(BYTES);

	assert_int_equal(place.tier->kind, HBM_TIER_HBM);
	assert_int_equal(block->users, 0);
	assert_int_equal(device_enter(place.tier->device), CUDA_SUCCESS);
	assert_int_equal(place.tier->device->driver->cuMemcpyDtoH(
				 bytes, place.tier->base + tier_offset(place.unit), BYTES),
			 CUDA_SUCCESS);
	assert_int_equal(block->checksum, checksum(bytes, BYTES));
	free(bytes);
}

static void check_in_hbm(const char *name, uint64_t quiet_ns, bool hurry)
{
	struct traffic *traffic = open_in_hbm(name);
	struct wish wish = {.traffic = traffic, .keys = KEYS / 2};

	assert_int_equal(idle_checksums_new(&wish.idle, traffic->rig.hbmd.mover, quiet_ns), 0);
	if (hurry)
		idle_checksums_hurry(wish.idle);
	traffic_use(traffic, 0, 0, KEYS / 2, 0);
	traffic_wait(traffic, 0);
	rig_run(&traffic->rig, all_have_one, &wish);
	rig_settle(&traffic->rig);
	for (uint32_t key = 0; key < KEYS / 2; key++)
		expect_right(traffic, key);
	assert_int_equal(hashed(traffic), KEYS / 2);
	end(traffic, wish.idle);
}

static void test_blocks_in_hbm_get_theirs(void **state)
{
	(void)state;
	check_in_hbm(__func__, 1000000, false);
	check_in_hbm(__func__, 3600 * 1000000000ull, true);
}

/* Dropped or evicted while it is read: it stays what it was until it has been. */
static void test_one_in_hbm_that_leaves(void **state)
{
	(void)state;
	for (unsigned way = 0; way < 2; way++) {
		struct traffic *traffic = open_in_hbm(__func__);
		struct cache *cache = traffic->rig.hbmd.cache;
		struct wish wish = {.traffic = traffic, .keys = 2};

		traffic_use(traffic, 0, 0, 2, 0);
		traffic_wait(traffic, 0);
		rig_settle(&traffic->rig);
		assert_int_equal(idle_checksums_new(&wish.idle, traffic->rig.hbmd.mover, 1), 0);
		wish.idle->next = 1;
		assert_false(wish.idle->walk.run(&wish.idle->walk)); /* it reads the first */
		uint32_t number = wish.idle->block;
		assert_int_not_equal(number, 0);
		if (way == 0)
			cache_drop(cache, number);
		else
			assert_int_equal(cache_move(cache, number, cache->ddr), HBM_OK);
		pump_run(traffic->rig.hbmd.mover);
		rig_run(&traffic->rig, none_is_computed, &wish);
		rig_settle(&traffic->rig);
		if (way == 0)
			assert_false(index_used(cache->index, number));
		else
			assert_int_equal(cache_block(cache, number)->actual, cache->ddr->number);
		end(traffic, wish.idle);
	}
}

static void done_nothing(struct hash_job *job)
{
	(void)job;
}

/* While its checksum waits to be computed the block is dropped, and its number and its place
 * are another's. */
static void test_a_block_that_has_left_gets_none(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.checksum_threads = 1;
	traffic_open(traffic, 1, traffic_one_size);
	struct rig *rig = &traffic->rig;
	struct cache *cache = rig->hbmd.cache;
	struct wish wish = {.traffic = traffic, .keys = 1};
	char *large = calloc(1, LARGE);
	struct hash_job before = {.host = large, .bytes = LARGE, .done = done_nothing};

	assert_int_equal(idle_checksums_new(&wish.idle, rig->hbmd.mover, NEVER_QUIET), 0);
	traffic_use(traffic, 0, 0, 1, 0);
	traffic_wait(traffic, 0);
	uint32_t number = traffic_find(traffic, 0, 0);
	hash_pool_post(rig->hbmd.mover->context.hash_pool, &before, true);
	begin_one(wish.idle);
	assert_int_equal(wish.idle->block, number);
	cache_drop(cache, number);
	assert_true(wish.idle->moved);
	traffic_use(traffic, 0, 1, 1, 0);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic_find(traffic, 0, 1), number);

	loop_timer_stop(rig->loop, &wish.idle->quiet);
	wish.idle->quiet_ns = UINT64_MAX / 2; /* no second walk */
	rig_run(rig, none_is_computed, &wish);
	assert_false(cache_block(cache, number)->checksummed);
	end(traffic, wish.idle);
	free(large);
}

/* With moves and drops at any time; what comes from NVMe is compared. In a hurry one may come, and
 * be begun with, by the end of another. */
static void check_random_moves(const char *name, bool hurry)
{
	struct traffic *traffic = traffic_new(name);
	struct idle_checksums *idle;

	if (hurry)
		traffic->rig.config.checksum = CONFIG_CHECKSUM_NVME;
	traffic_open(traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
	assert_int_equal(idle_checksums_new(&idle, traffic->rig.hbmd.mover, 1), 0);
	if (hurry)
		idle_checksums_hurry(idle);
	traffic_random(traffic, 1500);
	rig_settle(&traffic->rig);
	assert_int_equal(traffic->rig.hbmd.cache->counters.checksum_failures, 0);
	end(traffic, idle);
}

static void test_among_random_moves(void **state)
{
	(void)state;
	check_random_moves(__func__, false);
	check_random_moves(__func__, true);
}

/* The daemon ends while one waits to be computed. */
static void test_the_end_comes_first(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.checksum_threads = 1;
	traffic_open(traffic, 1, traffic_one_size);
	struct wish wish = {.traffic = traffic};
	char *large = calloc(1, LARGE);
	struct hash_job before = {.host = large, .bytes = LARGE, .done = done_nothing};

	assert_int_equal(idle_checksums_new(&wish.idle, traffic->rig.hbmd.mover, NEVER_QUIET), 0);
	traffic_use(traffic, 0, 0, 1, 0);
	traffic_wait(traffic, 0);
	hash_pool_post(traffic->rig.hbmd.mover->context.hash_pool, &before, true);
	begin_one(wish.idle);
	idle_checksums_stop(wish.idle);
	traffic_end(traffic);
	assert_int_equal(wish.idle->block, 0);
	idle_checksums_free(wish.idle);
	free(large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks_in_hbm_get_theirs),
		cmocka_unit_test(test_one_in_hbm_that_leaves),
		cmocka_unit_test(test_blocks_in_ddr_get_theirs),
		cmocka_unit_test(test_in_a_hurry),
		cmocka_unit_test(test_a_block_that_has_left_gets_none),
		cmocka_unit_test(test_the_end_comes_first),
		cmocka_unit_test(test_among_random_moves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
