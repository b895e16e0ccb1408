/* SPDX-License-Identifier: Apache-2.0 */
/* Loads: many of one block that is far away, and of one whose bytes went bad. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/link_stats.h"
#include "daemon/move/pump.h"
#include "tests/support/traffic.h"

/* With two movements at once, loads of more blocks than that, each twice: those that wait
 * for a movement of theirs must not keep the movement that another load has begun from
 * ending. */
static void test_loads_of_the_same_blocks_twice(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.limit_moves = 1;
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);
	for (uint32_t first = 0; first < 2 * TRAFFIC_CHAIN; first += TRAFFIC_CHAIN)
		traffic_use(traffic, 0, first, TRAFFIC_CHAIN, 0);
	traffic_wait(traffic, 0);

	for (int twice = 0; twice < 2; twice++)
		for (uint32_t key = 0; key < 2 * TRAFFIC_CHAIN; key++)
			traffic_load(traffic, key);

	pump_run(traffic->rig.hbmd.mover);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->loads, 4 * TRAFFIC_CHAIN);
	assert_int_equal(traffic->failed_loads, 0);
	rig_settle(&traffic->rig);
	traffic_end(traffic);
}

/* Loads that come while a block is on its way are served from that one read. */
static void test_a_block_is_read_once(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);
	traffic_use(traffic, 0, 0, 1, 0);
	traffic_wait(traffic, 0);
	for (int i = 0; i < 20; i++)
		traffic_load(traffic, 0);
	pump_run(traffic->rig.hbmd.mover);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->loads, 20);
	struct hbm_wire_link link;
	link_stats_link(traffic->rig.hbmd.link_stats, HBM_LINK_NVME_READ, &link);
	assert_int_equal(link.count, 1);
	rig_settle(&traffic->rig);
	traffic_end(traffic);
}

static void test_a_spoilt_block_is_a_miss(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);
	traffic_use(traffic, 0, 0, 4, 0);
	traffic_wait(traffic, 0);
	traffic_corrupt_file(traffic, traffic_find(traffic, 0, 2), 64 * KIB - 1);
	traffic->faulty = true;
	for (uint32_t key = 0; key < 4; key++)
		traffic_load(traffic, key);
	traffic_load(traffic, 2); /* one read for both, and a miss for both */
	pump_run(traffic->rig.hbmd.mover);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->failed_loads, 2);
	assert_int_equal(traffic->works[2].load.transfer.status, HBM_MISS);
	assert_int_equal(traffic->rig.hbmd.cache->counters.checksum_failures, 1);
	assert_int_not_equal(traffic_find(traffic, 0, 1), 0);
	assert_int_equal(traffic_find(traffic, 0, 2), 0);
	assert_int_equal(traffic_find(traffic, 0, 3),
			 0); /* its child, which nobody could find any more */
	rig_settle(&traffic->rig);
	traffic_end(traffic);
}

static uint64_t copies(struct traffic *traffic, enum hbm_link kind)
{
	struct hbm_wire_link link;
	link_stats_link(traffic->rig.hbmd.link_stats, kind, &link);
	return link.count;
}

/* From the HBM of the client's own device: host memory has no part in it. */
static void test_a_block_on_the_device_is_one_copy_away(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic_open(traffic, 1, traffic_one_size);
	traffic_use(traffic, 0, 0, 1, 0);
	traffic_wait(traffic, 0);
	uint64_t d2d = copies(traffic, HBM_LINK_D2D), d2h = copies(traffic, HBM_LINK_D2H),
		 h2d = copies(traffic, HBM_LINK_H2D);

	traffic_load(traffic, 0);
	traffic_wait(traffic, 0);
	assert_int_equal(copies(traffic, HBM_LINK_D2D), d2d + 1);
	assert_int_equal(copies(traffic, HBM_LINK_D2H), d2h);
	assert_int_equal(copies(traffic, HBM_LINK_H2D), h2d);
	traffic_end(traffic);
}

/* As many as there may be, at once. */
static void test_loads_that_wait_go_on_together(void **state)
{
	enum { LOADS = 3 };

	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);
	struct mover *mover = traffic->rig.hbmd.mover;
	traffic_use(traffic, 0, 0, LOADS + 1, 0);
	traffic_wait(traffic, 0);

	ledger_set_limit(&mover->for_loads, LEDGER_MOVES, 0);
	for (uint32_t key = 0; key <= LOADS; key++)
		traffic_load(traffic, key);
	pump_run(mover);
	assert_int_equal(mover_moves(mover), 0);
	ledger_set_limit(&mover->for_loads, LEDGER_MOVES, 2 * LOADS); /* half is NVMe's */
	pump_run(mover);
	assert_int_equal(mover_moves(mover), LOADS);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->failed_loads, 0);
	rig_settle(&traffic->rig);
	traffic_end(traffic);
}

/* What the policy has begun to bring up is waited for by a load: it is then as urgent as if
 * the load had begun it, and takes the turns of the load's payer. */
static void test_a_move_that_a_load_waits_for_is_hastened(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);
	struct mover *mover = traffic->rig.hbmd.mover;
	struct cache *cache = traffic->rig.hbmd.cache;
	traffic_use(traffic, 0, 0, 1, 0);
	traffic_wait(traffic, 0);
	uint32_t number = traffic_find(traffic, 0, 0);
	cache_push_out(cache, cache_hbm(cache, 0), UINT64_MAX, UINT64_MAX);
	rig_settle(&traffic->rig);
	assert_int_equal(cache_block(cache, number)->actual, cache->nvme->number);

	struct cache_touch touch;
	cache_touch_begin(cache, &touch);
	cache_touch(cache, &touch, number, 0);
	cache_settle(cache);
	cache_touch_end(cache);
	pump_run(mover);
	const struct move *move = mover->moves[cache_block(cache, number)->move];
	assert_non_null(move);
	assert_false(move->transfer.urgent);
	traffic_load(traffic, 0);
	assert_true(move->transfer.urgent);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->failed_loads, 0);
	rig_settle(&traffic->rig);
	traffic_end(traffic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loads_of_the_same_blocks_twice),
		cmocka_unit_test(test_a_block_is_read_once),
		cmocka_unit_test(test_a_spoilt_block_is_a_miss),
		cmocka_unit_test(test_a_block_on_the_device_is_one_copy_away),
		cmocka_unit_test(test_loads_that_wait_go_on_together),
		cmocka_unit_test(test_a_move_that_a_load_waits_for_is_hastened),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
