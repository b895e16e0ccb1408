/* SPDX-License-Identifier: Apache-2.0 */
/* What has been on NVMe goes down again without being written, and the bytes are right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/link_stats.h"
#include "daemon/cache/cache.h"
#include "daemon/move/move.h"
#include "daemon/move/pump.h"
#include "tests/support/traffic.h"

#define BLOCK (64 * KIB)
#define BLOCKS 4

static uint64_t written(const struct traffic *traffic)
{
	struct hbm_wire_link link;
	link_stats_link(traffic->rig.hbmd.link_stats, HBM_LINK_NVME_WRITE, &link);
	return link.bytes;
}

static struct cache *cache_of(const struct traffic *traffic)
{
	return traffic->rig.hbmd.cache;
}

static void push_down(struct traffic *traffic)
{
	struct cache *cache = cache_of(traffic);
	cache_push_out(cache, cache_hbm(cache, 0), UINT64_MAX, 64);
	rig_settle(&traffic->rig);
	cache_push_out(cache, cache->ddr, UINT64_MAX, 64);
	rig_settle(&traffic->rig);
	rig_assert_balanced(&traffic->rig);
	assert_int_equal(cache->nvme->blocks, BLOCKS);
}

/* Every byte is compared. */
static void use_all(struct traffic *traffic)
{
	uint64_t loads = traffic->loads;
	traffic_use(traffic, 0, 0, BLOCKS, 0);
	traffic_wait(traffic, 0);
	rig_settle(&traffic->rig);
	rig_assert_balanced(&traffic->rig);
	assert_int_equal(traffic->loads - loads, BLOCKS);
}

/* Blocks in HBM that have copies. */
static struct traffic *traffic_with_copies(const char *name, uint64_t copies)
{
	struct traffic *traffic = traffic_new(name);
	traffic->rig.config.nvme_copies = (struct config_size){.bytes = copies};
	traffic_open(traffic, 1, traffic_one_size);
	traffic_use(traffic, 0, 0, BLOCKS, 0);
	traffic_wait(traffic, 0);
	push_down(traffic);
	assert_int_equal(written(traffic), BLOCKS * BLOCK);
	assert_int_equal(cache_of(traffic)->nvme->copies, 0);
	use_all(traffic);
	assert_int_equal(cache_of(traffic)->nvme->copies, copies);
	return traffic;
}

static void test_down_again_without_a_write(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_with_copies(__func__, BLOCKS * BLOCK);
	struct tier *nvme = cache_of(traffic)->nvme;

	for (uint64_t round = 1; round <= 3; round++) {
		push_down(traffic);
		assert_int_equal(written(traffic), BLOCKS * BLOCK);
		assert_int_equal(nvme->copies, 0);
		assert_int_equal(nvme->reused_blocks, round * BLOCKS);
		assert_int_equal(nvme->in_blocks, (round + 1) * BLOCKS);
		use_all(traffic);
	}

	traffic_end(traffic);
}

static void test_without_copies_all_is_written(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_with_copies(__func__, 0);
	push_down(traffic);
	assert_int_equal(written(traffic), 2 * BLOCKS * BLOCK);
	assert_int_equal(cache_of(traffic)->nvme->reused_blocks, 0);
	use_all(traffic);
	traffic_end(traffic);
}

static void test_what_has_no_copy_is_written(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_with_copies(__func__, BLOCK);
	push_down(traffic);
	assert_int_equal(written(traffic), (2 * BLOCKS - 1) * BLOCK);
	assert_int_equal(cache_of(traffic)->nvme->reused_blocks, 1);
	use_all(traffic);
	traffic_end(traffic);
}

/* A copy cannot take the place of bytes that somebody reads: then the block is written. */
static void test_a_block_in_use_is_written(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_with_copies(__func__, BLOCKS * BLOCK);
	struct cache *cache = cache_of(traffic);
	struct mover *mover = traffic->rig.hbmd.mover;
	uint32_t number = traffic_find(traffic, 0, 0);

	cache_push_out(cache, cache_hbm(cache, 0), UINT64_MAX, 64);
	rig_settle(&traffic->rig);
	block_use(&cache->blocks, number);
	cache_push_out(cache, cache->ddr, UINT64_MAX, 64);
	pump_run(mover);
	assert_int_equal(cache_block(cache, number)->state, BLOCK_MOVING);
	move_unuse(mover, number);
	rig_settle(&traffic->rig);

	assert_int_equal(written(traffic), (BLOCKS + 1) * BLOCK);
	assert_int_equal(cache->nvme->reused_blocks, BLOCKS - 1);
	assert_int_equal(cache->nvme->copies, 0);
	use_all(traffic);
	traffic_end(traffic);
}

/* A copy that has another byte by now is a miss, as it is for any block. */
static void test_a_spoilt_copy_is_a_miss(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_with_copies(__func__, BLOCKS * BLOCK);
	struct cache *cache = cache_of(traffic);

	push_down(traffic);
	traffic_corrupt_file(traffic, traffic_find(traffic, 0, BLOCKS - 1), 17);
	traffic->faulty = true;
	traffic_use(traffic, 0, 0, BLOCKS, 0);
	traffic_wait(traffic, 0);
	rig_settle(&traffic->rig);
	assert_int_equal(cache->counters.checksum_failures, 1);
	rig_assert_balanced(&traffic->rig);
	traffic_end(traffic);
}

static void test_a_lost_disk_takes_its_copies_along(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_with_copies(__func__, BLOCKS * BLOCK);
	struct cache *cache = cache_of(traffic);

	cache_lose_tier(cache, cache->nvme);
	rig_settle(&traffic->rig);
	assert_int_equal(cache->nvme->copies, 0);
	rig_assert_balanced(&traffic->rig);
	use_all(traffic); /* the blocks are in HBM */
	cache_push_out(cache, cache_hbm(cache, 0), UINT64_MAX, 64);
	rig_settle(&traffic->rig);
	cache_push_out(cache, cache->ddr, UINT64_MAX, 64);
	rig_settle(&traffic->rig);
	assert_int_equal(traffic_find(traffic, 0, 0), 0);
	assert_int_equal(written(traffic), BLOCKS * BLOCK);
	traffic_close(traffic);
	traffic_free(traffic);
}

/* Large blocks among small copies: what a large one wants lies between them. How often a
 * copy is still there when its block comes down is luck: until it was. */
static void test_mixed_sizes_on_a_full_disk(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic_open(traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);
	const struct tier *nvme = cache_of(traffic)->nvme;
	for (int round = 0; round < 8 || nvme->reused_blocks == 0; round++) {
		traffic_random(traffic, 60);
		rig_assert_balanced(&traffic->rig);
	}

	traffic_end(traffic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_down_again_without_a_write),
		cmocka_unit_test(test_without_copies_all_is_written),
		cmocka_unit_test(test_what_has_no_copy_is_written),
		cmocka_unit_test(test_a_block_in_use_is_written),
		cmocka_unit_test(test_a_spoilt_copy_is_a_miss),
		cmocka_unit_test(test_a_lost_disk_takes_its_copies_along),
		cmocka_unit_test(test_mixed_sizes_on_a_full_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
