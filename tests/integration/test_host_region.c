/* SPDX-License-Identifier: Apache-2.0 */
/* Regions of host memory: what a client writes there with its own stores is stored, and comes back
 * from every tier; it is charged, limited, quarantined and given back as device memory is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 128 << 10, BLOCKS = 8 };

#define SLAB (2ull << 20)
#define POOL (32ull << 20)

static const char *const sets[] = {"ddr.regions=32MiB", "device.slab=2MiB", NULL};

static unsigned fds;
static struct hbm *hbm;

static int setup(void **state)
{
	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	hbm = spawn_connect(&daemon_);

	return 0;
}

static int teardown(void **state)
{
	hbm = hbm_close(hbm);
	if (daemon_.pid > 0)
		stage_finish(fds);

	return stage_teardown(state);
}

static struct hbm_region *create(uint64_t bytes, uint64_t slab)
{
	const struct hbm_region_options options = {
		.device = HBM_DEVICE_HOST, .address_space = bytes, .slab = slab};
	struct hbm_region *region = NULL;

	if (hbm_region_create(hbm, &options, &region) != 0)
		fail_msg("%s", hbm_error(hbm));

	return region;
}

/* All of it committed. */
static struct hbm_region *make(uint64_t bytes)
{
	struct hbm_region *region = create(bytes, SLAB);
	const struct hbm_range all = {region, 0, bytes};

	if (hbm_commit(hbm, &all, 1) != 0)
		fail_msg("%s", hbm_error(hbm));

	return region;
}

static int see_host(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_device *device = record;

	(void)bytes;
	if (device->index != HBM_WIRE_DEVICE_HOST)
		return 0;
	*(struct hbm_wire_device *)arg = *device;

	return 1;
}

static struct hbm_wire_device pool(void)
{
	struct hbm_wire_device device;

	assert_int_equal(hbm_query(hbm, HBM_QUERY_DEVICES, see_host, &device), 1);
	assert_int_equal(device.regions, POOL);
	assert_int_equal(device.leased + device.quarantined + device.retiring + device.ready +
				 device.uncreated + device.held,
			 POOL);

	return device;
}

static uint32_t open_namespace(void)
{
	const struct hbm_namespace_options options = {.model = "host", .block_bytes = BLOCK};
	uint32_t ns;

	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);

	return ns;
}

/* The n-th block of a region, in one segment. */
static struct hbm_block block_at(struct hbm_region *region, uint64_t n, struct hbm_segment *segment)
{
	*segment = (struct hbm_segment){region, n * BLOCK, BLOCK};

	return (struct hbm_block){.key = kv_key(n + 1), .segments = segment, .segment_count = 1};
}

static void move_blocks(struct hbm_region *region, uint32_t ns, bool store)
{
	struct hbm_block blocks[BLOCKS];
	struct hbm_segment segments[BLOCKS];
	hbm_result results[BLOCKS];

	for (uint64_t i = 0; i < BLOCKS; i++)
		blocks[i] = block_at(region, i, &segments[i]);
	int rc = store ? hbm_store(hbm, ns, blocks, BLOCKS, results)
		       : hbm_load(hbm, ns, blocks, BLOCKS, results);
	if (rc != 0)
		fail_msg("%s", hbm_error(hbm));
	for (uint64_t i = 0; i < BLOCKS; i++)
		assert_int_equal(results[i].status, HBM_OK);
}

static void fill(struct hbm_region *region)
{
	for (uint64_t i = 0; i < BLOCKS; i++)
		kv_fill(i + 1, (char *)hbm_region_host(region) + i * BLOCK, BLOCK);
}

static void check(struct hbm_region *region)
{
	char *bytes = malloc(BLOCK);

	for (uint64_t i = 0; i < BLOCKS; i++) {
		kv_fill(i + 1, bytes, BLOCK);
		assert_memory_equal((char *)hbm_region_host(region) + i * BLOCK, bytes, BLOCK);
	}
	free(bytes);
}

static void test_what_is_stored_comes_back(void **state)
{
	(void)state;
	struct hbm_region *region = make(2 * SLAB);
	uint32_t ns = open_namespace();

	assert_int_equal(hbm_region_device(region), HBM_DEVICE_HOST);
	assert_int_equal((uintptr_t)hbm_region_host(region), hbm_region_address(region));
	assert_int_equal(pool().leased, 2 * SLAB);
	fill(region);
	move_blocks(region, ns, true);
	for (int tier = 0; tier < 2; tier++) {
		memset(hbm_region_host(region), 0, 2 * SLAB);
		move_blocks(region, ns, false);
		check(region);
		assert_int_equal(hbm_evict(hbm, HBM_TIER_DDR, 0, UINT64_MAX, NULL), 0);
	}

	assert_int_equal(hbm_region_destroy(hbm, region), 0);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(pool().leased, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_stored_comes_back, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
