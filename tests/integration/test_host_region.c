/* SPDX-License-Identifier: Apache-2.0 */
/* Regions of host memory: what a client writes there with its own stores is stored, and comes back
 * from every tier; the memory is shared, published, charged and given back as device memory is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/host_stage.h"

#include <string.h>
#include <sys/mman.h>

/* ---- Bytes ---- */

static int add_link(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_link *link = record;

	(void)bytes;
	((uint64_t *)arg)[link->link] = link->bytes;

	return 0;
}

static void test_what_is_stored_comes_back(void **state)
{
	(void)state;
	struct hbm_region *region = host_make(host_hbm, 2 * HOST_SLAB);
	uint32_t ns = host_namespace(host_hbm);

	assert_int_equal(hbm_region_device(region), HBM_DEVICE_HOST);
	assert_int_equal((uintptr_t)hbm_region_host(region), hbm_region_address(region));
	host_fill(region);
	host_store(host_hbm, ns, region);
	memset(hbm_region_host(region), 0, 2 * HOST_SLAB);
	host_load(host_hbm, ns, region); /* from DDR */
	host_check(region);

	assert_int_equal(hbm_evict(host_hbm, HBM_TIER_DDR, 0, UINT64_MAX, NULL), 0);
	memset(hbm_region_host(region), 0, 2 * HOST_SLAB);
	host_load(host_hbm, ns, region); /* from NVMe */
	host_check(region);
	assert_true(spawn_balanced(&daemon_));

	/* one copy each, and no device's */
	uint64_t links[HBM_LINKS] = {0};
	assert_int_equal(hbm_query(host_hbm, HBM_QUERY_LINKS, add_link, links), 0);
	assert_int_equal(links[HBM_LINK_HOST], 3ull * HOST_BLOCKS * HOST_BLOCK);
	assert_int_equal(links[HBM_LINK_D2H] + links[HBM_LINK_H2D], 0);
	assert_int_equal(hbm_region_destroy(host_hbm, region), 0);
}

/* Pieces cross from one slab into the next, lie in no order, and have odd sizes. */
static void test_a_block_in_scattered_pieces(void **state)
{
	(void)state;
	struct hbm_region *region = host_make(host_hbm, 2 * HOST_SLAB);
	struct hbm_region *other = host_make(host_hbm, 2 * HOST_SLAB);
	const struct hbm_segment from[] = {{other, HOST_SLAB - 5, 65536},
					   {region, 40001, 24},
					   {region, 7, 32744},
					   {other, 0, 32768}};
	const struct hbm_segment to[] = {{region, HOST_SLAB - 1, 131064},
					 {other, 2 * HOST_SLAB - 8, 8}};
	struct hbm_block block = {.key = kv_key(7), .segments = from, .segment_count = 4};
	uint32_t ns = host_namespace(host_hbm);
	char bytes[HOST_BLOCK];
	hbm_result result;

	kv_fill(7, bytes, HOST_BLOCK);
	for (size_t i = 0, at = 0; i < 4; at += from[i].bytes, i++)
		memcpy(host_at(from[i].region, from[i].offset), bytes + at, from[i].bytes);
	assert_int_equal(hbm_store(host_hbm, ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);

	block.segments = to;
	block.segment_count = 2;
	assert_int_equal(hbm_load(host_hbm, ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	assert_memory_equal(host_at(region, HOST_SLAB - 1), bytes, 131064);
	assert_memory_equal(host_at(other, 2 * HOST_SLAB - 8), bytes + 131064, 8);
}

/* From a device, and back to it: the block is the same one. */
static void test_host_and_device_have_the_same_blocks(void **state)
{
	(void)state;
	struct kv kv = {0};
	struct hbm_region *region = host_make(host_hbm, HOST_SLAB), *on_device = NULL;
	const struct hbm_region_options options = {.address_space = HOST_SLAB};
	uint32_t ns = host_namespace(host_hbm);

	assert_int_equal(hbm_region_create(host_hbm, &options, &on_device), 0);
	assert_int_equal(host_commit(host_hbm, on_device, 0, HOST_SLAB), 0);
	kv_enter(&kv, host_hbm, 0);
	host_fill(region);
	kv_write(&kv, hbm_region_address(on_device), host_at(region, 0),
		 HOST_BLOCKS * (uint64_t)HOST_BLOCK);
	if (hbm_info(host_hbm)->driver == HBM_DRIVER_SOFT)
		host_check(on_device); /* which the process sees, too */
	else
		assert_null(hbm_region_host(on_device));
	host_store(host_hbm, ns, on_device);
	memset(host_at(region, 0), 0, HOST_SLAB);
	host_load(host_hbm, ns, region); /* from HBM, where it stays */
	host_check(region);

	const hbm_key key = kv_key(1);
	hbm_result result;
	assert_int_equal(hbm_lookup(host_hbm, ns, &key, 1, NULL, &result), 0);
	assert_int_equal(result.tier, HBM_TIER_HBM);
	memset(host_at(region, 0), 0, HOST_SLAB);
	kv_write(&kv, hbm_region_address(on_device), host_at(region, 0),
		 HOST_BLOCKS * (uint64_t)HOST_BLOCK);
	host_load(host_hbm, ns, on_device);
	kv_read(&kv, host_at(region, 0), hbm_region_address(on_device),
		HOST_BLOCKS * (uint64_t)HOST_BLOCK);
	host_check(region);
	kv_leave(&kv);
}

/* What is used by name alone is used on the client's device, also when its first region is of host
 * memory; and what a device copies together is not there. */
static void test_beside_a_region_of_a_device(void **state)
{
	(void)state;
	struct hbm_region *region = host_make(host_hbm, HOST_SLAB), *on_device = NULL;
	const struct hbm_region_options options = {.address_space = HOST_SLAB};
	const struct hbm_landing landing = {.region = region, .bytes = HOST_SLAB};
	const hbm_key key = kv_key(1);
	uint32_t ns = host_namespace(host_hbm);
	struct hbm_segment segments[2] = {{region, 0, HOST_BLOCK / 2},
					  {region, HOST_BLOCK, HOST_BLOCK / 2}};
	struct hbm_block block = {.key = key, .segments = segments, .segment_count = 2}, landed;
	hbm_result result;

	assert_int_equal(hbm_landing_plan(host_hbm, &landing, &block, 1, &landed, segments),
			 HBM_UNSUPPORTED);

	assert_int_equal(hbm_region_create(host_hbm, &options, &on_device), 0);
	host_fill(region);
	host_store(host_hbm, ns, region);
	assert_int_equal(hbm_lookup(host_hbm, ns, &key, 1, NULL, &result), 0);
	assert_int_equal(result.tier, HBM_TIER_DDR);
	assert_int_equal(hbm_keys(host_hbm, HBM_WIRE_TOUCH, ns, 0, &key, 1, &result), 0);
	assert_int_equal(hbm_lookup(host_hbm, ns, &key, 1, NULL, &result), 0);
	assert_int_equal(result.tier, HBM_TIER_HBM);
}

static void test_fences_and_prefetch(void **state)
{
	(void)state;
	struct hbm_region *region = host_make(host_hbm, HOST_SLAB);
	const struct hbm_segment segment = {region, 0, HOST_BLOCK};
	const struct hbm_block block = {.key = kv_key(1), .segments = &segment, .segment_count = 1};
	const struct hbm_sync sync = {
		.ready_slot = 3, .ready_value = 5, .fence_slot = 4, .fence_value = 9};
	uint32_t ns = host_namespace(host_hbm);
	hbm_ticket ticket;
	hbm_result result;

	assert_int_equal(hbm_submit_store(host_hbm, ns, &block, 1, &sync, &result, &ticket), 0);
	kv_fill(1, host_at(region, 0), HOST_BLOCK); /* it is not read before it is ready */
	assert_int_equal(hbm_fence_signal(host_hbm, 3, 5), 0);
	assert_int_equal(hbm_wait(host_hbm, ticket, -1), 0);
	assert_int_equal(result.status, HBM_OK);
	assert_int_equal(*hbm_fence(host_hbm, 4), 9);

	assert_int_equal(hbm_evict(host_hbm, HBM_TIER_DDR, 0, UINT64_MAX, NULL), 0);
	assert_int_equal(hbm_prefetch(host_hbm, ns, HBM_DEVICE_HOST, &block.key, 1, 0, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	assert_int_equal(result.tier, HBM_TIER_NVME);
	assert_int_equal(hbm_lookup(host_hbm, ns, &block.key, 1, NULL, &result), 0);
	assert_int_equal(result.tier, HBM_TIER_DDR); /* no higher */
}

/* ---- Memory ---- */

static void test_memory_comes_and_goes(void **state)
{
	(void)state;
	struct hbm_region *region = host_create(host_hbm, 2 * HOST_POOL);
	char *address = hbm_region_host(region);

	for (char round = 1; round < 4; round++) {
		assert_int_equal(host_commit(host_hbm, region, 2 * HOST_SLAB, 3 * HOST_SLAB), 0);
		assert_int_equal(host_pool(host_hbm).leased, 3 * HOST_SLAB);
		assert_int_equal(address[4 * HOST_SLAB], 0); /* what was there is not seen */
		memset(address + 2 * HOST_SLAB, round, 3 * HOST_SLAB);
		assert_int_equal(host_decommit(host_hbm, region, 3 * HOST_SLAB, HOST_SLAB), 0);
		assert_int_equal(address[4 * HOST_SLAB], round);
		assert_int_equal(host_decommit(host_hbm, region, 4 * HOST_SLAB, HOST_SLAB), 0);
		assert_int_equal(host_decommit(host_hbm, region, 2 * HOST_SLAB, HOST_SLAB), 0);
		host_await(host_hbm, 0);
	}

	assert_ptr_equal(hbm_region_host(region), address);
	assert_int_equal(host_commit(host_hbm, region, 0, HOST_POOL), 0);
	assert_int_equal(host_commit(host_hbm, region, HOST_POOL, HOST_SLAB), HBM_NO_SPACE);
	assert_non_null(strstr(hbm_error(host_hbm), "host memory: 0 of 33554432 bytes"));
	assert_int_equal(hbm_region_destroy(host_hbm, region), 0);
	host_await(host_hbm, 0);
	assert_true(spawn_balanced(&daemon_));
}

/* What it still has mapped after it was given back is no one else's. */
static void test_what_a_client_keeps_is_held(void **state)
{
	(void)state;
	struct hbm_region *region = host_make(host_hbm, 2 * HOST_SLAB);
	char *kept = mremap(host_at(region, 0), 0, HOST_SLAB, MREMAP_MAYMOVE);

	assert_ptr_not_equal(kept, MAP_FAILED);
	assert_int_equal(hbm_region_destroy(host_hbm, region), 0);
	while (host_pool(host_hbm).retiring > 0)
		;
	assert_int_equal(host_pool(host_hbm).held, HOST_SLAB);
	memset(kept, 1, HOST_SLAB);
	region = host_make(host_hbm, HOST_POOL - HOST_SLAB);
	for (uint64_t at = 0; at < HOST_POOL - HOST_SLAB; at += 4096)
		assert_int_equal(*host_at(region, at), 0);

	assert_int_equal(munmap(kept, HOST_SLAB), 0);
	host_await(host_hbm, HOST_POOL - HOST_SLAB);
	assert_int_equal(hbm_region_destroy(host_hbm, region), 0);
}

static void test_ranges_are_shared(void **state)
{
	(void)state;
	struct hbm_region *region = host_make(host_hbm, HOST_SLAB);
	struct hbm_region *twin = host_create(host_hbm, 2 * HOST_SLAB);
	const struct hbm_share share = {.source = region,
					.target = twin,
					.target_offset = HOST_SLAB,
					.bytes = HOST_SLAB,
					.flags = HBM_SHARE_READ_ONLY};

	assert_int_equal(hbm_share(host_hbm, &share, 1), 0);
	memcpy(host_at(region, 9), "bytes", 6);
	assert_string_equal(host_at(twin, HOST_SLAB + 9), "bytes");
	assert_int_equal(host_pool(host_hbm).leased, HOST_SLAB);
	assert_int_equal(host_decommit(host_hbm, region, 0, HOST_SLAB), 0);
	assert_string_equal(host_at(twin, HOST_SLAB + 9), "bytes");

	/* read-only, for the daemon too */
	const struct hbm_segment segment = {twin, HOST_SLAB, HOST_BLOCK};
	const struct hbm_block block = {.key = kv_key(1), .segments = &segment, .segment_count = 1};
	hbm_result result;
	assert_int_equal(hbm_load(host_hbm, host_namespace(host_hbm), &block, 1, &result),
			 HBM_DENIED);
	assert_int_equal(hbm_region_destroy(host_hbm, twin), 0);
	host_await(host_hbm, 0);
}

static void test_published_memory_outlives_its_region(void **state)
{
	(void)state;
	struct hbm *second = spawn_connect(&daemon_);
	struct hbm_region *region = host_make(host_hbm, 2 * HOST_SLAB), *attached = NULL;
	const struct hbm_publish_options options = {.name = "weights"};

	memcpy(host_at(region, HOST_SLAB), "weights", 8);
	assert_int_equal(hbm_region_publish(host_hbm, region, HOST_SLAB, HOST_SLAB, &options), 0);
	assert_int_equal(hbm_region_destroy(host_hbm, region), 0);
	assert_int_equal(hbm_region_attach(second, HBM_OWN_UID, "weights", 0, &attached), 0);
	assert_int_equal(hbm_region_device(attached), HBM_DEVICE_HOST);
	assert_string_equal(host_at(attached, 0), "weights");
	assert_int_equal(hbm_region_unpublish(host_hbm, HBM_OWN_UID, "weights"), 0);
	hbm_close(second);
	host_await(host_hbm, 0);
}

/* ---- Devices, and who needs none ---- */

/* A range that begins there. */
static bool is_registered(struct kv *kv, const struct hbm_region *region, uint64_t offset)
{
	CUdeviceptr at;

	assert_int_equal(kv->driver->cuCtxSetCurrent(kv->context), CUDA_SUCCESS);

	return kv->driver->cuMemHostGetDevicePointer(&at, host_at(region, offset), 0) ==
	       CUDA_SUCCESS;
}

static void test_devices_copy_to_what_is_registered(void **state)
{
	(void)state;
	struct kv kv = {0};
	struct hbm_region *region = host_make(host_hbm, 4 * HOST_SLAB), *on_device = NULL;
	const struct hbm_region_options options = {.address_space = HOST_SLAB};
	struct hbm_range range = {region, HOST_SLAB, 2 * HOST_SLAB};
	uint64_t address = 0, word = 0x123456789;

	assert_int_equal(hbm_region_create(host_hbm, &options, &on_device), 0);
	assert_int_equal(host_commit(host_hbm, on_device, 0, HOST_SLAB), 0);
	kv_enter(&kv, host_hbm, 0);
	assert_int_equal(hbm_region_register(host_hbm, &range, 0, &address), 0);
	assert_int_not_equal(address, 0);
	assert_true(is_registered(&kv, region, HOST_SLAB));
	kv_write(&kv, hbm_region_address(on_device), &word, sizeof(word));
	kv_read(&kv, host_at(region, 2 * HOST_SLAB - 4), hbm_region_address(on_device), 8);
	assert_memory_equal(host_at(region, 2 * HOST_SLAB - 4), &word, 8);

	/* once, of what is committed, and of host regions alone */
	range.offset = 2 * HOST_SLAB;
	assert_int_equal(hbm_region_register(host_hbm, &range, 0, NULL), HBM_EXISTS);
	range = (struct hbm_range){on_device, 0, HOST_SLAB};
	assert_int_equal(hbm_region_register(host_hbm, &range, 0, NULL), HBM_UNSUPPORTED);
	range = (struct hbm_range){region, 0, HOST_SLAB};
	assert_int_equal(hbm_region_register(host_hbm, &range, 1, NULL), HBM_INVALID);
	assert_int_equal(host_decommit(host_hbm, region, 0, HOST_SLAB), 0);
	assert_int_equal(hbm_region_register(host_hbm, &range, 0, NULL), HBM_NOT_FOUND);

	/* a decommit of a part ends all of it, and no more */
	range = (struct hbm_range){region, 3 * HOST_SLAB, HOST_SLAB};
	assert_int_equal(hbm_region_register(host_hbm, &range, 0, NULL), 0);
	assert_int_equal(host_decommit(host_hbm, region, 2 * HOST_SLAB, HOST_SLAB), 0);
	assert_false(is_registered(&kv, region, HOST_SLAB));
	assert_true(is_registered(&kv, region, 3 * HOST_SLAB));
	assert_int_equal(hbm_region_destroy(host_hbm, region), 0);
	kv_leave(&kv);
}

static void test_a_connection_without_devices(void **state)
{
	(void)state;
	const struct hbm_options options = {.socket = daemon_.socket, .inspect_only = true};
	struct hbm *hbm = NULL;

	assert_int_equal(hbm_connect(&hbm, &options), 0);
	struct hbm_region *region = host_make(hbm, HOST_SLAB);
	uint32_t ns = host_namespace(hbm);

	host_fill(region);
	host_store(hbm, ns, region);
	memset(host_at(region, 0), 0, HOST_SLAB);
	host_load(hbm, ns, region);
	host_check(region);
	hbm_close(hbm);
}

/* ---- What is refused ---- */

static void test_refusals(void **state)
{
	(void)state;
	struct hbm_region *region = host_make(host_hbm, HOST_SLAB), *on_device = NULL;
	const struct hbm_region_options options = {.address_space = HOST_SLAB};
	uint32_t ns = host_namespace(host_hbm);
	hbm_result result;

	assert_int_equal(hbm_region_create(host_hbm, &options, &on_device), 0);
	assert_int_equal(host_commit(host_hbm, on_device, 0, HOST_SLAB), 0);

	/* a request is of one device, or of the host */
	const struct hbm_segment mixed[] = {{region, 0, HOST_BLOCK / 2},
					    {on_device, 0, HOST_BLOCK / 2}};
	struct hbm_block block = {.key = kv_key(1), .segments = mixed, .segment_count = 2};
	assert_int_equal(hbm_store(host_hbm, ns, &block, 1, &result), HBM_INVALID);

	/* lent is what others map on a device; and HBM is a device's */
	const struct hbm_segment segment = {region, 0, HOST_BLOCK};
	block = (struct hbm_block){
		.key = kv_key(1), .segments = &segment, .segment_count = 1, .lend = true};
	assert_int_equal(hbm_store(host_hbm, ns, &block, 1, &result), HBM_UNSUPPORTED);
	block.lend = false;
	block.tier = HBM_TIER_HBM;
	assert_int_equal(hbm_store(host_hbm, ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_NO_SPACE);

	const struct hbm_share share = {.source = region, .target = on_device, .bytes = HOST_SLAB};
	assert_int_equal(hbm_share(host_hbm, &share, 1), HBM_INVALID);
	assert_int_equal(host_commit(host_hbm, region, 0, HOST_SLAB), HBM_EXISTS);
	assert_int_equal(host_commit(host_hbm, region, 1, HOST_SLAB), HBM_INVALID);
	assert_true(spawn_balanced(&daemon_));
}

static void test_a_daemon_without_any(void **state)
{
	(void)state;
	spawn_start(&daemon_, NULL, NULL);
	unsigned fds = spawn_fds(&daemon_);
	struct hbm *hbm = spawn_connect(&daemon_);
	const struct hbm_region_options options = {
		.device = HBM_DEVICE_HOST, .address_space = HOST_SLAB, .slab = HOST_SLAB};
	struct hbm_region *region = NULL;

	assert_int_equal(hbm_region_create(hbm, &options, &region), HBM_UNSUPPORTED);
	assert_non_null(strstr(hbm_error(hbm), "ddr.regions is 0"));
	assert_null(region);
	hbm_close(hbm);
	stage_finish(fds);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, host_stage_setup, host_stage_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_stored_comes_back),
		TEST(test_a_block_in_scattered_pieces),
		TEST(test_host_and_device_have_the_same_blocks),
		TEST(test_beside_a_region_of_a_device),
		TEST(test_fences_and_prefetch),
		TEST(test_memory_comes_and_goes),
		TEST(test_what_a_client_keeps_is_held),
		TEST(test_ranges_are_shared),
		TEST(test_published_memory_outlives_its_region),
		TEST(test_devices_copy_to_what_is_registered),
		TEST(test_a_connection_without_devices),
		TEST(test_refusals),
		cmocka_unit_test_setup_teardown(test_a_daemon_without_any, stage_setup,
						stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
