/* SPDX-License-Identifier: Apache-2.0 */
/* The pump: which of the blocks that wait it moves, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "daemon/cache/cache.h"
#include "daemon/move/pump.h"
#include "daemon/tier/tier.h"
#include "tests/support/traffic.h"

/* A block that waits to come down to DDR is wanted in HBM after all, and when its turn
 * comes nothing else moves: it must not stay where it is until somebody happens to do
 * something. */
static void test_a_new_target_while_a_block_waits(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.limit_moves = 1;
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	struct tier *hbm = cache_hbm(cache, 0);
	traffic_use(traffic, 0, 0, 1, 0);
	traffic_wait(traffic, 0);

	for (struct tier *tier = hbm; tier != cache->nvme; tier = tier->below) {
		cache_push_out(cache, tier, 1, 1);
		rig_settle(&traffic->rig);
	}

	traffic_use(traffic, 0, TRAFFIC_CHAIN, 1, 0);
	traffic_wait(traffic, 0);
	uint32_t number = traffic_find(traffic, 0, 0);
	assert_int_equal(cache_block(cache, number)->actual, cache->tier_count);
	struct cache_touch touch;
	cache_touch_begin(cache, &touch);
	cache_touch(cache, &touch, number, 0);
	cache_touch_end(cache);
	cache_push_out(cache, hbm, MIB, 2);
	pump_run(traffic->rig.hbmd.mover); /* the other block moves now, this one comes after it */
	assert_int_equal(cache->ddr->inbound_first, number);
	cache_touch_begin(cache, &touch);
	cache_touch(cache, &touch, number, 0);
	cache_touch_end(cache);
	rig_run(&traffic->rig, rig_is_idle, &traffic->rig);
	traffic_end(traffic);
}

/* However many moves can begin, a turn of the loop does not wait for all of them. */
static void test_many_moves_begin_in_turns(void **state)
{
	enum { BLOCKS = GRANULE / (64 * KIB), AT_ONCE = 8 };

	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){.bytes = GRANULE};
	traffic->rig.config.ddr_size = (struct config_size){.bytes = 2 * GRANULE};
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	struct mover *mover = traffic->rig.hbmd.mover;
	for (uint32_t key = 0; key < BLOCKS; key++) {
		traffic_use(traffic, 0, key, 1, 0);
		traffic_wait(traffic, 0);
	}

	uint64_t all = cache_push_out(cache, cache_hbm(cache, 0), UINT64_MAX, UINT64_MAX).blocks;
	assert_in_range(all, AT_ONCE + 1, BLOCKS);
	pump_run(mover);
	assert_int_equal(mover_moves(mover), AT_ONCE);
	rig_settle(&traffic->rig);
	assert_int_equal(cache->ddr->placed, all * traffic_one_size[0]);
	traffic_end(traffic);
}

/* Blocks wait to come up to HBM and have got another target since: passing them takes several
 * turns, and nothing else is needed for it to go on. */
static void test_a_long_queue_is_passed_in_turns(void **state)
{
	static const uint64_t sizes[] = {4 * KIB};
	enum { BLOCKS = 1500 };

	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_memory = (struct config_size){.bytes = 8 * GRANULE};
	traffic->rig.config.device_cache = (struct config_size){.bytes = 4 * GRANULE};
	traffic->rig.config.ddr_size = (struct config_size){.bytes = 4 * GRANULE};
	traffic->rig.config.limit_blocks = 2 * BLOCKS;
	traffic_open(traffic, 1, sizes);
	struct cache *cache = traffic->rig.hbmd.cache;
	struct tier *hbm = cache_hbm(cache, 0), *ddr = cache->ddr;
	struct cache_touch touch;
	cache_touch_begin(cache, &touch);
	for (uint32_t i = 0; i < BLOCKS; i++) {
		struct hbm_wire_key key = {{0}};
		memcpy(&key, &i, sizeof(i));
		uint32_t number = cache_insert(cache, traffic->ns[0], &key, 0);
		assert_int_not_equal(number, 0);
		struct place place = {ddr, tier_alloc(ddr, sizes[0])};
		assert_int_not_equal(place.unit, UINT32_MAX);
		block_stored(&cache->blocks, number, place);
		cache_touch(cache, &touch, number, 0);
	}
	cache_touch_end(cache);

	assert_int_equal(cache_push_out(cache, hbm, UINT64_MAX, UINT64_MAX).blocks, BLOCKS);
	pump_run(traffic->rig.hbmd.mover);
	assert_int_not_equal(hbm->inbound_first, 0);
	assert_int_equal(mover_active(traffic->rig.hbmd.mover), 0);
	loop_flush(traffic->rig.loop);
	assert_int_equal(hbm->inbound_first, 0);
	traffic_end(traffic);
}

/* Room in pieces is no room for a larger block: what lies between them goes down. */
static void test_room_in_pieces(void **state)
{
	static const uint64_t sizes[] = {64 * KIB, 128 * KIB};
	enum { BLOCKS = GRANULE / (64 * KIB) };

	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){.bytes = GRANULE};
	traffic->rig.config.device_headroom = (struct config_size){0};
	traffic_open(traffic, 2, sizes);
	struct cache *cache = traffic->rig.hbmd.cache;
	const struct tier *hbm = cache_hbm(cache, 0);

	for (uint32_t key = 0; key < BLOCKS; key++) { /* each a chain of its own */
		traffic_use(traffic, 0, key, 1, 0);
		traffic_wait(traffic, 0);
	}
	assert_int_equal(extent_available(hbm->extents), 0);
	for (uint32_t key = 0; key < BLOCKS; key += 2)
		cache_drop(cache, traffic_find(traffic, 0, key));
	assert_int_equal(extent_largest(hbm->extents), sizes[0]);

	traffic_use(traffic, 1, 0, 1, 0);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->failed_stores, 0);
	uint32_t number = traffic_find(traffic, 1, 0);
	assert_int_not_equal(number, 0);
	assert_int_equal(cache_block(cache, number)->actual, hbm->number);
	assert_int_equal(cache->ddr->blocks, 1);
	traffic_end(traffic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_new_target_while_a_block_waits),
		cmocka_unit_test(test_many_moves_begin_in_turns),
		cmocka_unit_test(test_a_long_queue_is_passed_in_turns),
		cmocka_unit_test(test_room_in_pieces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
