/* SPDX-License-Identifier: Apache-2.0 */
/* A device is lost for good: its blocks are missed, all others stay, and so does whoever
 * uses another device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/cache/cache.h"
#include "daemon/device/device.h"
#include "kernels/soft/soft.h"
#include "tests/support/seed.h"
#include "tests/support/traffic.h"

static CUresult fail_run(struct hbm_soft_launch *launch, void *const *params)
{
	(void)launch;
	(void)params;
	return CUDA_ERROR_LAUNCH_FAILED;
}

/* A kernel that fails ruins the context: nothing that needs it works any more. Module and
 * stream go with it. */
static void ruin(struct rig *rig, uint32_t device)
{
	static const char text[] =
		".version 6.0\n.target sm_70\n.address_size 64\n.visible .entry fail() { ret; }\n";
	static const struct hbm_soft_kernel kernel = {.name = "fail", .run = fail_run};
	const struct driver *driver = rig->hbmd.devices->driver;
	CUmodule module;
	CUfunction function;
	CUstream stream;

	assert_int_equal(rig->call.kernel(&kernel), 0);
	assert_int_equal(device_enter(&rig->hbmd.devices->list[device]), CUDA_SUCCESS);
	assert_int_equal(driver->cuModuleLoadData(&module, text), CUDA_SUCCESS);
	assert_int_equal(driver->cuModuleGetFunction(&function, module, "fail"), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
	assert_int_equal(driver->cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamSynchronize(stream), CUDA_ERROR_LAUNCH_FAILED);
}

/* Uses a chain and waits; how many of its loads and stores failed. */
static uint64_t failures_of(struct traffic *traffic, uint32_t first, uint32_t count,
			    uint32_t device)
{
	uint64_t before = traffic->failed_loads + traffic->failed_stores;
	traffic_use(traffic, 0, first, count, device);
	traffic_wait(traffic, 0);
	rig_settle(&traffic->rig);
	return traffic->failed_loads + traffic->failed_stores - before;
}

/* What is read from NVMe for one device is verified, whatever has become of another. */
static void test_nvme_serves_others_when_the_first_device_is_lost(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.soft_devices = 2;
	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);
	assert_int_equal(failures_of(traffic, 0, TRAFFIC_CHAIN, 1), 0);
	traffic->faulty = true;
	ruin(&traffic->rig, 0);
	assert_int_equal(failures_of(traffic, TRAFFIC_CHAIN, 1, 0), 1);
	assert_true(device_is_lost(&traffic->rig.hbmd.devices->list[0]));
	traffic->faulty = false;
	uint64_t stores = traffic->stores;
	assert_int_equal(failures_of(traffic, 0, TRAFFIC_CHAIN, 1), 0);
	assert_int_equal(traffic->stores, stores); /* all were found */
	traffic_end(traffic);
}

/* Blocks that are elsewhere stay when they were to come to a device that is lost; what it
 * had, pinned or not, is missed and can be stored again; nothing belongs there any more. */
static void test_a_lost_device_takes_only_its_own(void **state)
{
	enum { OWN = TRAFFIC_CHAIN, OTHERS = 24 };

	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.soft_devices = 2;
	traffic_open(traffic, 1, traffic_one_size);
	struct cache *cache = traffic->rig.hbmd.cache;
	for (uint32_t first = OWN; first < OWN + OTHERS; first += TRAFFIC_CHAIN)
		assert_int_equal(failures_of(traffic, first, TRAFFIC_CHAIN, 1), 0);
	assert_int_equal(failures_of(traffic, 0, OWN, 0), 0);
	traffic_pin(traffic, 0, 1);
	assert_int_not_equal(traffic->pinned[0][1], 0);
	traffic->faulty = true;
	ruin(&traffic->rig, 0);

	/* Uses on the device, of which it knows nothing yet: each moves blocks there. */
	for (uint32_t first = OWN; first < OWN + OTHERS; first += TRAFFIC_CHAIN)
		traffic_use(traffic, 0, first, TRAFFIC_CHAIN, 0);
	traffic_wait(traffic, 0);
	rig_settle(&traffic->rig);
	assert_int_equal(traffic->failed_loads, OTHERS);
	assert_int_equal(cache_hbm(cache, 0)->usable, 0);
	assert_int_equal(cache_hbm(cache, 0)->placed, 0);
	for (uint32_t key = 0; key < OWN; key++)
		assert_int_equal(traffic_find(traffic, 0, key), 0);
	traffic_unpin(traffic, 0, 1);
	rig_assert_at_rest(&traffic->rig);
	traffic->faulty = false;
	uint64_t stores = traffic->stores;
	for (uint32_t first = OWN; first < OWN + OTHERS; first += TRAFFIC_CHAIN)
		assert_int_equal(failures_of(traffic, first, TRAFFIC_CHAIN, 1), 0);
	assert_int_equal(traffic->stores, stores);
	assert_int_equal(failures_of(traffic, 0, OWN, 1), 0);
	assert_int_equal(traffic->stores, stores + OWN);
	traffic_end(traffic);
}

/* A device is lost at any moment, and whatever is asked afterwards. */
static void test_random_while_a_device_is_lost(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.soft_devices = 2;
	traffic_open(traffic, TRAFFIC_NAMESPACES, traffic_mixed_sizes);

	for (unsigned i = 0; i < 300; i++) {
		traffic_wait(traffic,
			     (uint32_t)seed_below(&traffic->seed, TRAFFIC_SLOTS - TRAFFIC_CHAIN));
		traffic_random_operation(traffic);
	}

	traffic->faulty = true;
	ruin(&traffic->rig, (uint32_t)seed_below(&traffic->seed, 2));
	traffic_random(traffic, 500);
	assert_int_not_equal(traffic->failed_loads + traffic->failed_stores, 0);
	traffic_end(traffic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nvme_serves_others_when_the_first_device_is_lost),
		cmocka_unit_test(test_a_lost_device_takes_only_its_own),
		cmocka_unit_test(test_random_while_a_device_is_lost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
