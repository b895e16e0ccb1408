/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models that are spread over devices and hosts, each by what its memory does, in miniature:
 * rows of the table in hbm(7). What a test asserts is what its system needs, which is at its
 * head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/system_stage.h"

#include <unistd.h>

/* ---- HexGen ---- */

/*
 * HexGen divides a model unevenly among unlike devices: each has layers, heads and memory of its
 * own, one iteration is a step on each, and a request has its share of all devices or of none.
 */
static void test_system_hexgen(void **state)
{
	(void)state;
	static const char *const sets[] = {"soft.devices=2", NULL};
	static const char *const stages[] = {
		"layers=3 heads=3 dim=9000 bytes=4 order=token max=64",
		"layers=1 heads=2 dim=9000 bytes=4 order=layer max=64"};
	struct pool_rig rigs[2];
	struct hbm_sequence *sequences[2];

	system_stage_start(sets);
	for (uint32_t i = 0; i < 2; i++)
		system_stage_pool(&rigs[i], stages[i], i, 0);

	/* The share of the second device is not there: nor is that of the first taken. */
	struct hbm *hbm = rigs[0].hbm;
	struct hbm_reserve_change changes[] = {{.device = 0, .bytes = 8 * RIG_SLAB},
					       {.device = 1, .bytes = 1ll << 40}};

	assert_int_equal(hbm_reserve(hbm, changes, 2, 0), HBM_NO_SPACE);
	assert_int_equal(system_stage_memory(hbm, 0).promised, 0);
	changes[1].bytes = 4 * RIG_SLAB;
	assert_int_equal(hbm_reserve(hbm, changes, 2, 0), 0);
	assert_int_equal(system_stage_memory(hbm, 0).promised, 8 * RIG_SLAB);
	assert_int_equal(system_stage_memory(hbm, 1).promised, 4 * RIG_SLAB);
	changes[0].bytes = changes[1].bytes = INT64_MIN;
	assert_int_equal(hbm_reserve(hbm, changes, 2, 0), 0);

	for (uint32_t i = 0; i < 2; i++)
		sequences[i] = pool_rig_sequence(&rigs[i]);
	for (uint64_t n = 1; n <= RIG_MAX; n++)
		for (uint32_t i = 0; i < 2; i++)
			system_stage_grow(&rigs[i], sequences[i], n, 1000 * i);
	for (uint32_t i = 0; i < 2; i++) {
		system_stage_expect(&rigs[i], sequences[i], 0, RIG_MAX, 1000 * i);
		assert_int_equal(system_stage_used(hbm, i), system_stage_bytes(&rigs[i], RIG_MAX));
	}
	assert_true(system_stage_used(hbm, 0) > 2 * system_stage_used(hbm, 1));
	for (uint32_t i = 0; i < 2; i++)
		pool_rig_close(&rigs[i]);
	system_stage_finish();
}

/* ---- FusionAI ---- */

#define FUSION_BLOCK 65536u
#define FUSION_BLOCKS 96u /* 6 MiB, of 2 MiB of HBM, 2 of DDR and 8 of NVMe */

struct fusion_tiers {
	uint64_t capacity[HBM_TIERS];
	unsigned count;
};

static int fusion_tier(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;
	struct fusion_tiers *tiers = arg;

	(void)bytes;
	tiers->capacity[tier->tier] += tier->capacity;
	tiers->count++;

	return 0;
}

/*
 * FusionAI joins consumer GPUs, which have little memory and come and go: a context that is
 * larger than HBM lives in DDR and on NVMe and is all found again, a node says what it has, and
 * churn leaves nothing behind.
 */
static void test_system_fusionai(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.cache=2MiB", "ddr.size=2MiB", "nvme.size=8MiB",
					   NULL};
	struct fusion_tiers tiers = {.count = 0};
	hbm_result results[FUSION_BLOCKS];
	unsigned below = 0;

	system_stage_start(sets);
	struct hbm *hbm = spawn_connect(&daemon_);

	assert_int_equal(hbm_query(hbm, HBM_QUERY_TIERS, fusion_tier, &tiers), 0);
	assert_int_equal(tiers.count, 3);
	assert_int_equal(tiers.capacity[HBM_TIER_HBM], 2 << 20);
	assert_int_equal(tiers.capacity[HBM_TIER_DDR], 2 << 20);
	assert_int_equal(tiers.capacity[HBM_TIER_NVME], 8 << 20);

	for (uint64_t round = 0; round < 6; round++) {
		struct kv node;

		kv_open(&node, &daemon_, 0, FUSION_BLOCK, FUSION_BLOCKS);
		if (round == 0) {
			for (uint64_t i = 0; i < FUSION_BLOCKS; i += 8) {
				assert_int_equal(kv_store(&node, i, 1 + i, 8, i, results), 0);
				kv_await_moves(&node);
			}
			for (uint64_t i = 0; i < FUSION_BLOCKS; i++)
				below += kv_tier(&node, 1 + i) != HBM_TIER_HBM;
			assert_true(below >= FUSION_BLOCKS - (2u << 20) / FUSION_BLOCK);
		}
		assert_int_equal(kv_load(&node, 0, 1, FUSION_BLOCKS, results), 0);
		for (uint64_t i = 0; i < FUSION_BLOCKS; i++)
			assert_int_equal(results[i].status, HBM_OK);
		kv_close(&node);
		spawn_settle(&daemon_);
		assert_int_equal(system_stage_used(hbm, 0), 0);
	}
	hbm_close(hbm);
	system_stage_finish();
}

/* ---- Ring Attention, sequence parallelism ---- */

#define RING_SHARD (RIG_MAX / 2)

/* Memory of the client on a device, which it can share by a descriptor. */
struct ring_buffer {
	CUdeviceptr address;
	uint64_t bytes;
	CUmemGenericAllocationHandle allocation;
	int fd;
	struct hbm_region *region;
};

static void ring_buffer_open(struct pool_rig *rig, uint64_t bytes, struct ring_buffer *buffer)
{
	const struct driver *driver = rig->kv.driver;
	const CUmemLocation where = {CU_MEM_LOCATION_TYPE_DEVICE, rig->kv.handle};
	const CUmemAccessDesc access = {where, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	const CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
					  .requestedHandleTypes =
						  CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
					  .location = where};

	*buffer = (struct ring_buffer){.bytes = bytes};
	assert_int_equal(driver->cuCtxSetCurrent(rig->kv.context), 0);
	assert_int_equal(driver->cuMemCreate(&buffer->allocation, bytes, &prop, 0), 0);
	assert_int_equal(driver->cuMemAddressReserve(&buffer->address, bytes, 0, 0, 0), 0);
	assert_int_equal(driver->cuMemMap(buffer->address, bytes, 0, buffer->allocation, 0), 0);
	assert_int_equal(driver->cuMemSetAccess(buffer->address, bytes, &access, 1), 0);
	assert_int_equal(
		driver->cuMemExportToShareableHandle(&buffer->fd, buffer->allocation,
						     CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
		0);

	const struct hbm_import_options options = {
		.device = 1, .fd = buffer->fd, .bytes = bytes, .address = buffer->address};

	assert_int_equal(hbm_region_import(rig->hbm, &options, &buffer->region), 0);
}

static void ring_buffer_close(struct pool_rig *rig, struct ring_buffer *buffer)
{
	const struct driver *driver = rig->kv.driver;

	assert_int_equal(hbm_region_destroy(rig->hbm, buffer->region), 0);
	close(buffer->fd);
	assert_int_equal(driver->cuCtxSetCurrent(rig->kv.context), 0);
	assert_int_equal(driver->cuMemUnmap(buffer->address, buffer->bytes), 0);
	assert_int_equal(driver->cuMemAddressFree(buffer->address, buffer->bytes), 0);
	assert_int_equal(driver->cuMemRelease(buffer->allocation), 0);
}

/*
 * Ring Attention has a sequence on several devices, each with a range of its tokens; each passes
 * its range on to the next, into a buffer of the peer that is shared by a descriptor. All ranges
 * together are the sequence, and each keeps its own.
 */
static void test_system_ring_attention(void **state)
{
	(void)state;
	static const char *const sets[] = {"soft.devices=2", NULL};
	const struct hbm_namespace_options options = {.model = "ring", .block_bytes = RIG_SLAB};
	static struct system_blocks sent;
	struct ring_buffer buffer;
	struct pool_rig rigs[2];
	struct hbm_sequence *shards[2];
	uint32_t ns[2];

	system_stage_start(sets);
	for (uint32_t i = 0; i < 2; i++) {
		system_stage_pool(&rigs[i], pool_rig_layouts[0], i, 0);
		assert_int_equal(hbm_namespace_open(rigs[i].hbm, &options, &ns[i]), 0);
		shards[i] = system_stage_prompt(&rigs[i], RING_SHARD, i * RING_SHARD);
	}

	/* The first device's range goes to the second's buffer. */
	system_stage_blocks(&rigs[0], shards[0], 0, RING_SHARD, 1, &sent);
	const struct hbm_sequence_facts from = pool_rig_facts(shards[0]);
	uint64_t offsets[SYSTEM_BLOCKS];

	assert_int_equal(hbm_store(rigs[0].hbm, ns[0], sent.blocks, sent.count, sent.results), 0);
	system_stage_expect_results(&sent, HBM_OK);
	ring_buffer_open(&rigs[1], sent.count * RIG_SLAB, &buffer);
	for (size_t i = 0; i < sent.count; i++) {
		offsets[i] = sent.segments[i].offset + hbm_region_address(sent.segments[i].region) -
			     from.address;
		sent.segments[i] = (struct hbm_segment){buffer.region, i * RIG_SLAB, RIG_SLAB};
	}
	assert_int_equal(hbm_load(rigs[1].hbm, ns[1], sent.blocks, sent.count, sent.results), 0);
	system_stage_expect_results(&sent, HBM_OK);

	/* As a kernel there reads it: the first bytes of each token's keys, by their offset. */
	for (uint64_t token = 0; token < RING_SHARD; token++) {
		uint64_t offset, seen, i = 0;

		assert_int_equal(
			hbm_layout_offset(rigs[0].layout, 1, HBM_VALUES, token, 0, &offset), 0);
		while (offset < offsets[i] || offset >= offsets[i] + RIG_SLAB)
			i++;
		kv_read(&rigs[1].kv, &seen, buffer.address + i * RIG_SLAB + offset - offsets[i],
			sizeof(seen));
		assert_int_equal(seen, pool_rig_word(token, 1, HBM_VALUES, false));
	}
	for (uint32_t i = 0; i < 2; i++)
		system_stage_expect(&rigs[i], shards[i], 0, RING_SHARD, i * RING_SHARD);
	ring_buffer_close(&rigs[1], &buffer);
	for (uint32_t i = 0; i < 2; i++)
		pool_rig_close(&rigs[i]);
	system_stage_finish();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_system_hexgen),
		TEST(test_system_fusionai),
		TEST(test_system_ring_attention),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
