/* SPDX-License-Identifier: Apache-2.0 */
/* The pump: which of the blocks that wait it moves, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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
	cache_touch_begin(cache);
	cache_touch(cache, number, 0);
	cache_push_out(cache, hbm, MIB, 2);
	pump_run(traffic->rig.hbmd.mover); /* the other block moves now, this one comes after it */
	assert_int_equal(cache->ddr->inbound_first, number);
	cache_touch_begin(cache);
	cache_touch(cache, number, 0);
	rig_run(&traffic->rig, rig_is_idle, &traffic->rig);
	traffic_end(traffic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_new_target_while_a_block_waits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
