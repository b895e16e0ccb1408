/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of many small segments by way of a landing, end to end: what is stored and loaded
 * so is the same as without, in both directions and behind a fence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <string.h>

#define PIECE 4096u
#define LAYERS 16u
#define BLOCK (PIECE * LAYERS)
#define BLOCKS 8u
#define ROOM 6u /* blocks that the landing takes */

/* An engine's region: a row of blocks for each layer. */
struct rig {
	struct kv kv;
	unsigned fds;
	CUstream stream;
	struct hbm_landing landing;
	struct hbm_block blocks[BLOCKS], landed[BLOCKS];
	struct hbm_segment segments[BLOCKS][LAYERS], ranges[BLOCKS];
	hbm_result results[BLOCKS];
};

static void rig_open(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	spawn_start(&daemon_, NULL, NULL);
	rig->fds = spawn_fds(&daemon_);
	kv_open(&rig->kv, &daemon_, 0, BLOCK, BLOCKS);
	rig->landing = (struct hbm_landing){.region = kv_region(&rig->kv, 2u << 20),
					    .offset = 8192,
					    .bytes = ROOM * BLOCK + BLOCK / 2};
	assert_int_equal(rig->kv.driver->cuCtxSetCurrent(rig->kv.context), CUDA_SUCCESS);
	assert_int_equal(rig->kv.driver->cuStreamCreate(&rig->stream, CU_STREAM_NON_BLOCKING),
			 CUDA_SUCCESS);

	for (size_t i = 0; i < BLOCKS; i++) {
		for (size_t k = 0; k < LAYERS; k++)
			rig->segments[i][k] = (struct hbm_segment){rig->kv.region,
								   (k * BLOCKS + i) * PIECE, PIECE};
		rig->blocks[i] = (struct hbm_block){.key = kv_key(i + 1),
						    .segments = rig->segments[i],
						    .segment_count = LAYERS};
		if (i != 0)
			rig->blocks[i].parent = kv_key(i);
	}

	assert_int_equal(hbm_landing_plan(rig->kv.hbm, &rig->landing, rig->blocks, BLOCKS,
					  rig->landed, rig->ranges),
			 0);
}

static void rig_close(struct rig *rig)
{
	assert_int_equal(rig->kv.driver->cuStreamDestroy(rig->stream), CUDA_SUCCESS);
	assert_int_equal(hbm_region_destroy(rig->kv.hbm, rig->landing.region), 0);
	kv_close(&rig->kv);
	stage_finish(rig->fds);
}

static void synchronise(struct rig *rig)
{
	assert_int_equal(rig->kv.driver->cuStreamSynchronize(rig->stream), CUDA_SUCCESS);
}

/* Writes block `content` where block i is; 0: zeros. */
static void put(struct rig *rig, size_t i, uint64_t content)
{
	unsigned char bytes[BLOCK] = {0};

	if (content != 0)
		kv_fill(content, bytes, BLOCK);
	for (size_t k = 0; k < LAYERS; k++)
		kv_write(&rig->kv, hbm_region_address(rig->kv.region) + rig->segments[i][k].offset,
			 bytes + k * PIECE, PIECE);
}

static void expect(struct rig *rig, size_t i, uint64_t content)
{
	unsigned char bytes[BLOCK] = {0}, seen[BLOCK];

	if (content != 0)
		kv_fill(content, bytes, BLOCK);
	for (size_t k = 0; k < LAYERS; k++)
		kv_read(&rig->kv, seen + k * PIECE,
			hbm_region_address(rig->kv.region) + rig->segments[i][k].offset, PIECE);
	assert_memory_equal(seen, bytes, BLOCK);
}

static void store_all(struct rig *rig)
{
	for (size_t i = 0; i < BLOCKS; i++)
		put(rig, i, i + 1);
	assert_int_equal(
		hbm_landing_gather(rig->kv.hbm, rig->blocks, rig->landed, BLOCKS, rig->stream), 0);
	synchronise(rig);
	assert_int_equal(hbm_store(rig->kv.hbm, rig->kv.ns, rig->landed, BLOCKS, rig->results), 0);
	for (size_t i = 0; i < BLOCKS; i++) {
		assert_int_equal(rig->results[i].status, HBM_OK);
		put(rig, i, 0);
	}
}

static void test_there_and_back(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	store_all(&rig);

	/* What was stored is the blocks. */
	assert_int_equal(hbm_load(rig.kv.hbm, rig.kv.ns, rig.blocks, BLOCKS, rig.results), 0);
	for (size_t i = 0; i < BLOCKS; i++) {
		expect(&rig, i, i + 1);
		put(&rig, i, 0);
	}

	assert_int_equal(hbm_load(rig.kv.hbm, rig.kv.ns, rig.landed, BLOCKS, rig.results), 0);
	assert_int_equal(hbm_landing_scatter(rig.kv.hbm, rig.blocks, rig.landed, rig.results,
					     BLOCKS, rig.stream),
			 0);
	synchronise(&rig);
	for (size_t i = 0; i < BLOCKS; i++)
		expect(&rig, i, i + 1);
	rig_close(&rig);
}

/* The stream waits for the load and scatters, and the CPU does nothing meanwhile. */
static void test_behind_a_fence(void **state)
{
	const struct hbm_sync sync = {
		.ready_slot = HBM_WIRE_NO_FENCE, .fence_slot = 3, .fence_value = 1};
	struct rig rig;
	hbm_ticket ticket;
	uint64_t fence;

	(void)state;
	rig_open(&rig);
	store_all(&rig);
	assert_int_equal(hbm_fence_device(rig.kv.hbm, 0, 3, &fence), 0);
	assert_int_equal(hbm_submit_load(rig.kv.hbm, rig.kv.ns, rig.landed, BLOCKS, &sync,
					 rig.results, &ticket),
			 0);
	assert_int_equal(
		rig.kv.driver->cuStreamWaitValue64(rig.stream, fence, 1, CU_STREAM_WAIT_VALUE_GEQ),
		CUDA_SUCCESS);
	assert_int_equal(
		hbm_landing_scatter(rig.kv.hbm, rig.blocks, rig.landed, NULL, BLOCKS, rig.stream),
		0);
	synchronise(&rig);
	for (size_t i = 0; i < BLOCKS; i++)
		expect(&rig, i, i + 1);
	assert_int_equal(hbm_wait(rig.kv.hbm, ticket, -1), 0);
	rig_close(&rig);
}

/* A block that is not there leaves its segments as they are. */
static void test_a_miss(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	store_all(&rig);
	rig.landed[2].key = kv_key(99);
	put(&rig, 2, 50);
	assert_int_equal(hbm_load(rig.kv.hbm, rig.kv.ns, rig.landed, BLOCKS, rig.results), 0);
	assert_int_equal(rig.results[2].status, HBM_MISS);
	assert_int_equal(hbm_landing_scatter(rig.kv.hbm, rig.blocks, rig.landed, rig.results,
					     BLOCKS, rig.stream),
			 0);
	synchronise(&rig);
	for (size_t i = 0; i < BLOCKS; i++)
		expect(&rig, i, i == 2 ? 50 : i + 1);
	rig_close(&rig);
}

/* Which blocks land: as many as there is room for, and those below the threshold. */
static void test_plan(void **state)
{
	struct hbm_region *region;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	region = rig.landing.region;
	for (size_t i = 0; i < BLOCKS; i++) {
		assert_int_equal(rig.landed[i].segment_count, i < ROOM ? 1 : LAYERS);
		assert_ptr_equal(rig.landed[i].segments,
				 i < ROOM ? &rig.ranges[i] : rig.segments[i]);
		if (i < ROOM)
			assert_int_equal(rig.ranges[i].offset, 8192 + i * BLOCK);
	}

	rig.landing.threshold = PIECE;
	assert_int_equal(hbm_landing_plan(rig.kv.hbm, &rig.landing, rig.blocks, BLOCKS, rig.landed,
					  rig.ranges),
			 0);
	for (size_t i = 0; i < BLOCKS; i++)
		assert_ptr_equal(rig.landed[i].segments, rig.segments[i]);

	rig.segments[7][15].offset = UINT64_MAX;
	assert_int_equal(hbm_landing_plan(rig.kv.hbm, &rig.landing, rig.blocks, BLOCKS, rig.landed,
					  rig.ranges),
			 HBM_INVALID);
	rig.landing.bytes = 4u << 20;
	assert_int_equal(
		hbm_landing_plan(rig.kv.hbm, &rig.landing, rig.blocks, 1, rig.landed, rig.ranges),
		HBM_INVALID);
	rig.landing.region = NULL;
	assert_int_equal(
		hbm_landing_plan(rig.kv.hbm, &rig.landing, rig.blocks, 1, rig.landed, rig.ranges),
		HBM_INVALID);
	rig.landing.region = region;
	rig_close(&rig);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_there_and_back),
		TEST(test_behind_a_fence),
		TEST(test_a_miss),
		TEST(test_plan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
