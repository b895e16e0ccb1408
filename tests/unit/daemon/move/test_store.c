/* SPDX-License-Identifier: Apache-2.0 */
/* Stores that do not come to a good end: no room, a block that is dropped meanwhile, I/O
 * that fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/cache/cache.h"
#include "daemon/move/pump.h"
#include "daemon/move/store.h"
#include "daemon/tier/tier.h"
#include "tests/support/traffic.h"

enum { BYTES = 64 * KIB, EXTENTS_MAX = 64 };

/* All the room of a tier, taken by nobody that could be evicted. */
struct taken {
	struct tier *tier;
	uint32_t units[EXTENTS_MAX], count;
};

static void take_all(struct taken *taken, struct tier *tier)
{
	*taken = (struct taken){.tier = tier};
	for (uint32_t unit; (unit = tier_alloc(tier, BYTES)) != UINT32_MAX;) {
		assert_in_range(taken->count, 0, EXTENTS_MAX - 1);
		taken->units[taken->count++] = unit;
	}
}

static void give_back(struct taken *taken)
{
	while (taken->count > 0)
		tier_free(taken->tier, taken->units[--taken->count], BYTES);
}

static void test_a_store_without_room_is_refused(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	struct taken taken;

	traffic_open(traffic, 1, traffic_one_size);
	take_all(&taken, cache_hbm(traffic->rig.hbmd.cache, 0));
	traffic->faulty = true;
	traffic_use(traffic, 0, 0, 1, 0);
	assert_int_equal(traffic->busy, 0);
	assert_int_equal(traffic->failed_stores, 1);
	assert_int_equal(traffic->works[0].store.transfer.status, HBM_NO_SPACE);
	assert_int_equal(traffic_find(traffic, 0, 0), 0);

	give_back(&taken);
	traffic->faulty = false;
	traffic_use(traffic, 0, 0, 1, 0);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->failed_stores, 1);
	traffic_end(traffic);
}

struct watched {
	struct store store;
	unsigned done;
};

static void store_is_done(struct store *store)
{
	container_of(store, struct watched, store)->done++;
}

/* Nothing is copied for it when there is room at last. */
static void test_a_block_dropped_while_it_waits_for_room(void **state)
{
	(void)state;
	static const struct hbm_wire_key key = {{9}};
	struct traffic *traffic = traffic_new(__func__);
	struct taken taken;

	traffic_open(traffic, 1, traffic_one_size);
	struct rig *rig = &traffic->rig;
	struct cache *cache = rig->hbmd.cache;
	const struct span span = {rig->client[0].address, BYTES};
	uint32_t number = cache_insert(cache, traffic->ns[0], &key, 0);
	struct watched watched = {.store = {.block = number,
					    .device = &rig->hbmd.devices->list[0],
					    .spans = &span,
					    .span_count = 1,
					    .done = store_is_done}};

	take_all(&taken, cache_hbm(cache, 0));
	struct cache_touch touch;
	cache_touch_begin(cache, &touch);
	cache_touch(cache, &touch, number, 0);
	cache_touch_end(cache);
	store_begin(rig->hbmd.mover, &watched.store);
	cache_drop(cache, number);
	assert_int_equal(watched.done, 0);

	give_back(&taken);
	pump_run(rig->hbmd.mover);
	assert_int_equal(mover_active(rig->hbmd.mover), 0);
	assert_int_equal(watched.done, 1);
	assert_int_equal(watched.store.transfer.status, HBM_NO_SPACE);
	traffic_end(traffic);
}

static void test_an_io_error_is_counted(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);

	traffic->rig.config.device_cache = (struct config_size){0};
	traffic->rig.config.ddr_size = (struct config_size){0};
	free(traffic->rig.config.nvme_fail);
	traffic->rig.config.nvme_fail = strdup("write:1:EIO");
	traffic_open(traffic, 1, traffic_one_size);
	traffic->faulty = true;
	traffic_use(traffic, 0, 0, 1, 0);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->failed_stores, 1);
	assert_int_equal(traffic->works[0].store.transfer.status, HBM_IO);
	assert_int_equal(traffic->rig.hbmd.cache->counters.io_errors, 1);
	assert_int_equal(traffic_find(traffic, 0, 0), 0);
	traffic_end(traffic);
}

/* It is the device's, and counted there. */
static void test_a_device_error_is_no_io_error(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);

	traffic->rig.config.device_cache = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);
	traffic->faulty = true;
	assert_int_equal(traffic->rig.call.fail_nth("cuMemcpyDtoHAsync", 1, CUDA_ERROR_UNKNOWN), 0);
	traffic_use(traffic, 0, 0, 1, 0);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->rig.call.fail_nth(NULL, 0, CUDA_SUCCESS), 0);
	assert_int_equal(traffic->works[0].store.transfer.status, HBM_DEVICE);
	assert_int_equal(traffic->rig.hbmd.cache->counters.io_errors, 0);
	assert_int_equal(traffic->rig.hbmd.devices->list[0].errors, 1);
	traffic_end(traffic);
}

/* A store to DDR whose copy goes on for all that is known. */
static struct traffic *traffic_late(const char *name, const char *faults)
{
	struct traffic *traffic = traffic_new(name);

	traffic->rig.config.device_cache = (struct config_size){0};
	traffic_open(traffic, 1, traffic_one_size);
	const struct cache *cache = traffic->rig.hbmd.cache;
	traffic->faulty = true;
	traffic->rig.call.hold(true);
	assert_int_equal(traffic->rig.call.faults(faults), 0);
	traffic_use(traffic, 0, 0, 1, 0);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->works[0].store.transfer.status, HBM_DEVICE);
	assert_ptr_equal(traffic->works[0].store.transfer.late, traffic->rig.hbmd.devices->list);
	assert_int_equal(cache->ddr->failed, traffic_one_size[0]);
	assert_int_equal(cache->ddr->moving, 0);
	rig_assert_balanced(&traffic->rig);
	traffic->faulty = false;

	return traffic;
}

static bool is_known(void *arg)
{
	const struct traffic *traffic = arg;
	return traffic->rig.hbmd.devices->list[0].late.asking == 0;
}

/* Its memory may be written until the copy is known to be over: then it is free again. */
static void test_memory_of_a_late_copy_comes_back(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_late(__func__, "cuEventQuery:1,cuStreamSynchronize:1");
	const struct tier *ddr = traffic->rig.hbmd.cache->ddr;
	uint64_t available = extent_available(ddr->extents);

	traffic->rig.call.hold(false);
	rig_run(&traffic->rig, is_known, traffic);
	assert_int_equal(ddr->failed, 0);
	assert_int_equal(extent_available(ddr->extents), available + traffic_one_size[0]);
	rig_assert_balanced(&traffic->rig);
	traffic_use(traffic, 0, 1, 1, 0);
	traffic_wait(traffic, 0);
	traffic_use(traffic, 0, 1, 1, 0);
	traffic_wait(traffic, 0);
	assert_int_equal(traffic->loads, 1);
	traffic_end(traffic);
}

/* If it never will be, nobody gets it. */
static void test_memory_of_a_copy_that_nobody_knows_of_stays(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_late(
		__func__, "cuEventQuery:1,cuStreamSynchronize:1,cuCtxSynchronize:1+:999");
	const struct tier *ddr = traffic->rig.hbmd.cache->ddr;
	const struct device *device = traffic->rig.hbmd.devices->list;

	rig_run(&traffic->rig, is_known, traffic);
	assert_true(device_is_lost(device));
	assert_int_equal(ddr->failed, traffic_one_size[0]);
	rig_assert_balanced(&traffic->rig);

	/* it ends all the same, before its memory goes */
	traffic->rig.call.hold(false);
	traffic->rig.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	assert_int_equal(device_enter(device), CUDA_SUCCESS);
	assert_int_equal(device->driver->cuCtxSynchronize(), CUDA_SUCCESS);
	traffic_end(traffic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_store_without_room_is_refused),
		cmocka_unit_test(test_a_block_dropped_while_it_waits_for_room),
		cmocka_unit_test(test_an_io_error_is_counted),
		cmocka_unit_test(test_a_device_error_is_no_io_error),
		cmocka_unit_test(test_memory_of_a_late_copy_comes_back),
		cmocka_unit_test(test_memory_of_a_copy_that_nobody_knows_of_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
