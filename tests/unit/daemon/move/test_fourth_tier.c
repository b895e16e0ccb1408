/* SPDX-License-Identifier: Apache-2.0 */
/* A tier that only tests have, below NVMe: to the modules that move blocks it is a tier like
 * any other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/move/pump.h"
#include "daemon/tier/tier.h"
#include "tests/support/tier_memory.h"
#include "tests/support/traffic.h"

/* 8 blocks fit HBM, 16 DDR, 32 NVMe, and 16 the memory below. */
static struct traffic *fourth_tier_new(const char *name, struct tier_memory *memory)
{
	struct traffic *traffic = traffic_new(name);
	traffic_open(traffic, 1, traffic_one_size);
	tier_memory_open(memory, traffic->rig.hbmd.cache, traffic->rig.loop, MIB,
			 traffic->rig.config.limit_blocks);
	pump_start(traffic->rig.hbmd.mover, traffic->rig.loop);

	for (uint32_t first = 0; first < 72; first += TRAFFIC_CHAIN) {
		traffic_use(traffic, 0, first, TRAFFIC_CHAIN, 0);
		traffic_wait(traffic, 0);
	}

	rig_settle(&traffic->rig);
	rig_assert_at_rest(&traffic->rig);

	return traffic;
}

static void test_blocks_cascade_into_a_fourth_tier_and_back(void **state)
{
	(void)state;
	struct tier_memory memory;
	struct traffic *traffic = fourth_tier_new(__func__, &memory);
	assert_int_equal(memory.tier->placed, 16 * 64 * KIB);
	assert_int_equal(memory.writes, 16);
	assert_int_equal(memory.reads, 0);

	for (uint32_t first = 0; first < 72; first += TRAFFIC_CHAIN) {
		traffic_use(traffic, 0, first, TRAFFIC_CHAIN, 0);
		traffic_wait(traffic, 0);
	}

	assert_int_equal(traffic->loads, 72);
	assert_int_equal(traffic->stores, 72);
	/* A block may be read twice: for its load, and to move it. */
	assert_in_range(memory.reads, 16, 2 * 72);
	rig_settle(&traffic->rig);
	rig_assert_at_rest(&traffic->rig);

	traffic_random(traffic, 500);
	assert_int_equal(traffic->failed_loads, 0);
	traffic_end(traffic);
	tier_memory_close(&memory);
}

static void test_a_failing_read_of_a_fourth_tier_drops_the_block(void **state)
{
	(void)state;
	struct tier_memory memory;
	struct traffic *traffic = fourth_tier_new(__func__, &memory);
	memory.fail_reads = true;
	traffic->faulty = true;
	traffic_load(traffic, 0);
	pump_run(traffic->rig.hbmd.mover);
	traffic_wait(traffic, 0);

	assert_int_equal(traffic->failed_loads, 1);
	assert_int_equal(traffic->works[0].load.transfer.status, HBM_IO);
	assert_int_equal(traffic->rig.hbmd.cache->counters.io_errors, 1);
	assert_int_equal(traffic_find(traffic, 0, 0), 0);
	rig_settle(&traffic->rig);
	traffic_end(traffic);
	tier_memory_close(&memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks_cascade_into_a_fourth_tier_and_back),
		cmocka_unit_test(test_a_failing_read_of_a_fourth_tier_drops_the_block),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
