/* SPDX-License-Identifier: Apache-2.0 */
/* STORE and LOAD on the wire, what is refused before it is sent, and fences as a stream's
 * memory. */
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLAB FAKE_SLAB

static struct hbm_region *first, *second, *far;

static struct hbm_region *make_region(uint32_t device)
{
	struct hbm_region_options options = {
		.device = device, .address_space = 4 * SLAB, .slab = SLAB};
	struct hbm_region *region;
	assert_int_equal(hbm_region_create(hbm, &options, &region), 0);
	return region;
}

static int setup(void **state)
{
	(void)state;
	fake_stage_open(1);
	fake_stage_connect();
	first = make_region(0);
	second = make_region(0);
	far = make_region(1);

	return 0;
}

static void check_wire_block(const struct hbm_wire_blocks *message, size_t nth, uint8_t key,
			     uint8_t parent, uint32_t segments, uint16_t tier)
{
	assert_int_equal(message->blocks[nth].key.bytes[0], key);
	assert_int_equal(message->blocks[nth].parent.bytes[0], parent);
	assert_int_equal(message->blocks[nth].segments, segments);
	assert_int_equal(message->blocks[nth].tier, tier);
	assert_int_equal(message->blocks[nth].flags,
			 tier == HBM_TIER_NONE ? 0
					       : HBM_WIRE_BLOCK_PIN | HBM_WIRE_BLOCK_LEND |
							 HBM_WIRE_BLOCK_DURABLE);
}

static void test_store_and_load(void **state)
{
	(void)state;
	const struct hbm_segment a[] = {{first, 4096, 4096}, {second, 0, 8192}, {first, 100, 4096}};
	const struct hbm_segment b[] = {{second, 3 * SLAB, 16384}};
	const struct hbm_block blocks[] = {
		{{{1}}, {{0}}, a, 3, HBM_TIER_NVME, true, true, true},
		{{{2}}, {{1}}, b, 1, HBM_TIER_NONE, false, false, false}};
	const struct hbm_sync sync = {3, 4, 30, 40, 5};
	hbm_ticket ticket;
	hbm_result results[2] = {{0xff, 0, 0}, {0xff, 0, 0}};
	assert_int_equal(hbm_submit_store(hbm, 6, blocks, 2, &sync, results, &ticket), 0);
	assert_int_equal(hbm_wait(hbm, ticket, -1), 0);
	assert_int_equal(results[1].status, HBM_OK);

	fake_await(&fake, HBM_WIRE_STORE, 1);
	const struct hbm_wire_blocks *message = fake.last;
	size_t size = sizeof(*message) + 2 * sizeof(message->blocks[0]) +
		      4 * sizeof(struct hbm_wire_range);
	assert_int_equal(message->header.size, size);
	assert_int_equal(message->ns, 6);
	assert_int_equal(message->count, 2);
	assert_int_equal(message->segments, 4);
	assert_int_equal(message->ready_slot, 3);
	assert_int_equal(message->fence_slot, 4);
	assert_int_equal(message->ready_value, 30);
	assert_int_equal(message->fence_value, 40);
	assert_int_equal(message->failed_slot, 5);
	check_wire_block(message, 0, 1, 0, 3, HBM_TIER_NVME);
	check_wire_block(message, 1, 2, 1, 1, HBM_TIER_NONE);
	const struct hbm_wire_range *segments = (const void *)&message->blocks[2];
	assert_int_equal(segments[0].region, segments[2].region);
	assert_int_equal(segments[1].region, segments[3].region);
	assert_int_not_equal(segments[0].region, segments[1].region);
	assert_int_equal(segments[2].offset, 100);
	assert_int_equal(segments[3].offset, 3 * SLAB);
	assert_int_equal(segments[3].bytes, 16384);

	assert_int_equal(hbm_load(hbm, 6, blocks, 2, NULL), 0);
	fake_await(&fake, HBM_WIRE_LOAD, 1);
	message = fake.last;
	assert_int_equal(message->ready_slot, HBM_WIRE_NO_FENCE);
	assert_int_equal(message->fence_slot, HBM_WIRE_NO_FENCE);
	assert_int_equal(message->failed_slot, 0);

	/* A load has no parents, tiers and pins, whatever the caller left there. */
	check_wire_block(message, 0, 1, 0, 3, HBM_TIER_NONE);
	check_wire_block(message, 1, 2, 0, 1, HBM_TIER_NONE);
	assert_int_equal(hbm_submit_store(hbm, 6, blocks, 2, HBM_NO_FENCES, NULL, &ticket), 0);
	assert_int_equal(hbm_wait(hbm, ticket, -1), 0);
}

static int store_one(const struct hbm_segment *segments, size_t count)
{
	const struct hbm_block block = {{{1}},         {{0}}, segments, count,
					HBM_TIER_NONE, false, false,    false};
	return hbm_store(hbm, 1, &block, 1, NULL);
}

static void test_segments_are_checked_here(void **state)
{
	(void)state;
	const struct hbm_segment good = {first, 0, 4096};
	const struct hbm_segment wrong[] = {
		{NULL, 0, 4096},
		{first, 4 * SLAB, 4096},
		{first, 4 * SLAB - 1, 4096},
		{first, 0, 0},
		{first, 0, 4 * SLAB + 4096},
		{first, UINT64_MAX - 4095, 4096},
		{first, 4096, -4096},
		{first, UINT64_MAX, UINT64_MAX},
		{far, 0, 4096},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const struct hbm_segment pair[] = {good, wrong[i]};
		assert_int_equal(store_one(pair, 2), HBM_INVALID);
	}

	assert_int_equal(store_one(NULL, 0), HBM_INVALID);
	assert_int_equal(fake.seen[HBM_WIRE_STORE], 0);
	assert_int_equal(store_one(&good, 1), 0);

	/* any number of bytes, from anywhere */
	const struct hbm_segment odd[] = {{first, 1, 4096}, {first, 7, 99}};
	assert_int_equal(store_one(odd, 2), 0);
}

static void test_blocks_are_checked_here(void **state)
{
	(void)state;
	const struct hbm_segment small = {first, 0, 4096}, large = {first, 0, 8192};
	const struct hbm_block sizes[] = {
		{{{1}}, {{0}}, &small, 1, HBM_TIER_NONE, false, false, false},
		{{{2}}, {{1}}, &large, 1, HBM_TIER_NONE, false, false, false}};
	assert_int_equal(hbm_store(hbm, 1, sizes, 2, NULL), HBM_INVALID);
	const struct hbm_block no_key = {{{0}},         {{0}}, &small, 1,
					 HBM_TIER_NONE, false, false,  false},
			       no_tier = {{{1}}, {{0}}, &small, 1, HBM_TIERS, false, false, false};
	assert_int_equal(hbm_store(hbm, 1, &no_key, 1, NULL), HBM_INVALID);
	assert_int_equal(hbm_store(hbm, 1, &no_tier, 1, NULL), HBM_INVALID);
	assert_int_equal(hbm_store(hbm, 1, sizes, 0, NULL), HBM_INVALID);
	assert_int_equal(hbm_store(hbm, 1, sizes, SIZE_MAX, NULL), HBM_LIMIT);
	hbm_ticket ticket;
	const struct hbm_sync ready = {HBM_WIRE_FENCES, 0, 0, 0, 0},
			      fence = {0, HBM_WIRE_FENCES, 0, 0, 0};
	assert_int_equal(hbm_submit_load(hbm, 1, sizes, 1, &ready, NULL, &ticket), HBM_INVALID);
	assert_int_equal(hbm_submit_load(hbm, 1, sizes, 1, &fence, NULL, &ticket), HBM_INVALID);
	assert_int_equal(fake.seen[HBM_WIRE_STORE] + fake.seen[HBM_WIRE_LOAD], 0);
}

/* The longest request, by blocks and by segments, and one more of each: blocks that are too many
 * go in two (test_parts.c), one with too many segments does not go. */
static void test_the_longest_message(void **state)
{
	(void)state;
	enum { ROOM = HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_blocks) };
	enum { BLOCKS = ROOM / (sizeof(struct hbm_wire_block) + sizeof(struct hbm_wire_range)) };
	enum { SEGMENTS = (ROOM - sizeof(struct hbm_wire_block)) / sizeof(struct hbm_wire_range) };
	const struct hbm_segment one = {first, 0, 4096};
	struct hbm_block *blocks = malloc((BLOCKS + 1) * sizeof(*blocks));
	for (size_t i = 0; i <= BLOCKS; i++)
		blocks[i] = (struct hbm_block){{{1}},         {{0}}, &one,  1,
					       HBM_TIER_NONE, false, false, false};
	assert_int_equal(hbm_store(hbm, 1, blocks, BLOCKS, NULL), 0);
	assert_int_equal(fake.seen[HBM_WIRE_STORE], 1);
	assert_int_equal(hbm_store(hbm, 1, blocks, BLOCKS + 1, NULL), 0);
	assert_int_equal(fake.seen[HBM_WIRE_STORE], 3);
	free(blocks);

	struct hbm_segment *segments = malloc((SEGMENTS + 1) * sizeof(*segments));
	for (size_t i = 0; i <= SEGMENTS; i++)
		segments[i] = (struct hbm_segment){first, 0, 1};
	segments[0].bytes = 3 * SLAB - (SEGMENTS - 1);
	assert_int_equal(store_one(segments, SEGMENTS), 0);
	assert_int_equal(store_one(segments, SEGMENTS + 1), HBM_LIMIT);
	free(segments);
	assert_int_equal(fake.seen[HBM_WIRE_STORE], 4);
}

/* ---- Fences on a stream ---- */

static void test_a_stream_writes_a_fence(void **state)
{
	(void)state;
	const struct driver *driver = fake.driver;
	uint64_t address;
	assert_int_equal(hbm_fence_device(hbm, 0, HBM_WIRE_FENCES, &address), HBM_INVALID);
	assert_int_equal(hbm_fence_device(hbm, FAKE_DEVICES, 0, &address), HBM_INVALID);
	CUdevice device;
	CUcontext context;
	CUstream stream;
	assert_int_equal(driver->cuDeviceGet(&device, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuDevicePrimaryCtxRetain(&context, device), CUDA_SUCCESS);
	assert_int_equal(driver->cuCtxSetCurrent(context), CUDA_SUCCESS);
	assert_int_equal(hbm_fence_device(hbm, 0, 11, &address), 0);
	assert_int_equal(driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamWriteValue64(stream, address, 1234, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamSynchronize(stream), CUDA_SUCCESS);
	assert_int_equal(fake.fence_page[11], 1234);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);
	assert_int_equal(driver->cuDevicePrimaryCtxRelease(device), CUDA_SUCCESS);
	assert_int_equal(hbm_fence_device(hbm, 1, 11, &address), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_store_and_load),          TEST(test_segments_are_checked_here),
		TEST(test_blocks_are_checked_here), TEST(test_the_longest_message),
		TEST(test_a_stream_writes_a_fence),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
