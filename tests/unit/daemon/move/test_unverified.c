/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks in memory whose bytes are of a daemon before: compared before their first use, whatever
 * that is, and dropped if they are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/move/pump.h"
#include "tests/support/traffic.h"

enum { KEYS = 4 };

/* Blocks in DDR, which is above all others unless there is a cache in HBM. */
static struct traffic *open_traffic(uint64_t hbm)
{
	struct traffic *traffic = traffic_new("test_unverified");

	traffic->rig.config.checksum = CONFIG_CHECKSUM_ALWAYS;
	traffic->rig.config.device_cache = (struct config_size){.bytes = hbm};
	traffic_open(traffic, 1, traffic_one_size);
	for (uint32_t key = 0; key < KEYS; key++)
		traffic_use(traffic, 0, key, 1, 0);
	traffic_wait(traffic, 0);
	(void)cache_push_out(traffic->rig.hbmd.cache, cache_hbm(traffic->rig.hbmd.cache, 0),
			     UINT64_MAX, UINT32_MAX);
	rig_settle(&traffic->rig);
	for (uint32_t key = 0; key < KEYS; key++)
		block_set_unverified(&traffic->rig.hbmd.cache->blocks,
				     traffic_find(traffic, 0, key));

	return traffic;
}

static const struct block *block_of(struct traffic *traffic, uint32_t key)
{
	uint32_t number = traffic_find(traffic, 0, key);

	assert_int_not_equal(number, 0);
	return cache_block(traffic->rig.hbmd.cache, number);
}

static void corrupt(struct traffic *traffic, uint32_t key)
{
	struct place place =
		block_place(&traffic->rig.hbmd.cache->blocks, traffic_find(traffic, 0, key));

	tier_host(place.tier, place.unit)[4097] ^= 4;
	traffic->faulty = true;
}

static void assert_failures(const struct traffic *traffic, uint64_t blocks)
{
	assert_int_equal(traffic->rig.hbmd.cache->counters.checksum_failures, blocks);
}

/* Block 1 has rotted. */
static void expect_first_loads(struct traffic *traffic)
{
	for (uint32_t i = 0; i < 3; i++) { /* several at once */
		traffic_load(traffic, 0);
		traffic_load(traffic, 1);
	}
	pump_run(traffic->rig.hbmd.mover);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->failed_loads, 3);
	assert_failures(traffic, 1);
	assert_int_equal(traffic_find(traffic, 0, 1), 0);
	assert_int_equal(block_of(traffic, 0)->unverified, 0);
	assert_int_equal(block_of(traffic, 2)->unverified, 1);

	traffic_load(traffic, 0);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->failed_loads, 3);
	traffic_end(traffic);
}

static void test_the_first_load(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(0);

	corrupt(traffic, 1);
	expect_first_loads(traffic);
}

static void move_to(struct traffic *traffic, uint32_t key, struct tier *tier)
{
	struct cache *cache = traffic->rig.hbmd.cache;

	assert_int_equal(cache_move(cache, traffic_find(traffic, 0, key), tier), HBM_OK);
}

static void try_moves(enum hbm_tier to)
{
	struct traffic *traffic = open_traffic(512 * KIB);
	struct tier *tier = cache_tier(traffic->rig.hbmd.cache, to, 0);

	assert_int_equal(block_of(traffic, 0)->actual, traffic->rig.hbmd.cache->ddr->number);
	corrupt(traffic, 1);
	for (uint32_t key = 0; key < 2; key++)
		move_to(traffic, key, tier);
	pump_run(traffic->rig.hbmd.mover);
	rig_settle(&traffic->rig);
	assert_failures(traffic, 1);
	assert_int_equal(traffic_find(traffic, 0, 1), 0);

	/* it goes nowhere after all, and is wrong all the same */
	corrupt(traffic, 2);
	move_to(traffic, 2, tier);
	pump_run(traffic->rig.hbmd.mover);
	assert_int_equal(block_of(traffic, 2)->state, BLOCK_MOVING);
	move_to(traffic, 2, traffic->rig.hbmd.cache->ddr);
	rig_settle(&traffic->rig);
	assert_failures(traffic, 2);
	assert_int_equal(traffic_find(traffic, 0, 2), 0);
	assert_int_equal(block_of(traffic, 0)->actual, tier->number);
	assert_int_equal(block_of(traffic, 0)->unverified, 0);
	traffic_load(traffic, 0);
	pump_run(traffic->rig.hbmd.mover);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->failed_loads, 0);
	traffic_end(traffic);
}

static void test_moves_down(void **state)
{
	(void)state;
	try_moves(HBM_TIER_NVME);
}

static void test_moves_up(void **state)
{
	(void)state;
	try_moves(HBM_TIER_HBM);
}

/* A load that finds the block on its way: whoever is first, none gets wrong bytes. */
static void test_a_load_beside_a_move(void **state)
{
	(void)state;
	struct traffic *traffic = open_traffic(512 * KIB);

	corrupt(traffic, 1);
	for (uint32_t key = 0; key < 2; key++) {
		move_to(traffic, key, traffic->rig.hbmd.cache->nvme);
		traffic_load(traffic, key);
	}
	pump_run(traffic->rig.hbmd.mover);
	traffic_load(traffic, 0);
	traffic_wait(traffic, 0);
	rig_settle(&traffic->rig);
	assert_int_equal(traffic->failed_loads, 1);
	assert_failures(traffic, 1);
	assert_int_equal(traffic_find(traffic, 0, 1), 0);
	traffic_end(traffic);
}

/* ---- within a device ---- */

/* Blocks in HBM, which a client's device reaches without host memory. */
static struct traffic *open_in_hbm(void)
{
	struct traffic *traffic = traffic_new("test_unverified");

	traffic->rig.config.checksum = CONFIG_CHECKSUM_ALWAYS;
	traffic_open(traffic, 1, traffic_one_size);
	for (uint32_t key = 0; key < KEYS; key++)
		traffic_use(traffic, 0, key, 1, 0);
	traffic_wait(traffic, 0);
	for (uint32_t key = 0; key < KEYS; key++) {
		assert_int_equal(block_of(traffic, key)->actual,
				 cache_hbm(traffic->rig.hbmd.cache, 0)->number);
		block_set_unverified(&traffic->rig.hbmd.cache->blocks,
				     traffic_find(traffic, 0, key));
	}

	return traffic;
}

static void corrupt_in_hbm(struct traffic *traffic, uint32_t key)
{
	struct place place =
		block_place(&traffic->rig.hbmd.cache->blocks, traffic_find(traffic, 0, key));
	const struct device *device = place.tier->device;
	CUdeviceptr at = place.tier->base + tier_offset(place.unit) + 4097;
	char byte;

	assert_int_equal(device_enter(device), CUDA_SUCCESS);
	assert_int_equal(device->driver->cuMemcpyDtoH(&byte, at, 1), CUDA_SUCCESS);
	byte ^= 4;
	assert_int_equal(device->driver->cuMemcpyHtoD(at, &byte, 1), CUDA_SUCCESS);
	traffic->faulty = true;
}

static void test_the_first_load_within_a_device(void **state)
{
	(void)state;
	struct traffic *traffic = open_in_hbm();

	corrupt_in_hbm(traffic, 1);
	expect_first_loads(traffic);
}

static void try_moves_from_hbm(enum hbm_tier to)
{
	struct traffic *traffic = open_in_hbm();
	struct tier *tier = cache_tier(traffic->rig.hbmd.cache, to, 0);

	corrupt_in_hbm(traffic, 1);
	for (uint32_t key = 0; key < 2; key++)
		move_to(traffic, key, tier);
	pump_run(traffic->rig.hbmd.mover);
	rig_settle(&traffic->rig);
	assert_failures(traffic, 1);
	assert_int_equal(traffic_find(traffic, 0, 1), 0);
	assert_int_equal(block_of(traffic, 0)->actual, tier->number);
	assert_int_equal(block_of(traffic, 0)->unverified, 0);
	traffic_load(traffic, 0);
	pump_run(traffic->rig.hbmd.mover);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->failed_loads, 0);
	traffic_end(traffic);
}

static void test_moves_from_a_device(void **state)
{
	(void)state;
	try_moves_from_hbm(HBM_TIER_DDR);
	try_moves_from_hbm(HBM_TIER_NVME);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_load),
		cmocka_unit_test(test_moves_down),
		cmocka_unit_test(test_moves_up),
		cmocka_unit_test(test_a_load_beside_a_move),
		cmocka_unit_test(test_the_first_load_within_a_device),
		cmocka_unit_test(test_moves_from_a_device),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
