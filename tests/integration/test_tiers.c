/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks through daemons of every shape: tiers left out, sizes mixed, several devices.
 * What comes back is right, or is a miss; what was accepted last, up to the capacity, is
 * there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv.h"
#include "tests/support/seed.h"
#include "tests/support/stage.h"

#include <stdlib.h>

#define BLOCK 65536u
#define BATCH 16u

/* ---- Tiers left out ---- */

static uint64_t load_all(struct kv *kv, uint64_t count)
{
	uint64_t found = 0;
	hbm_result results[BATCH];
	for (uint64_t first = 1; first <= count; first += BATCH) {
		assert_int_equal(kv_load(kv, 0, first, BATCH, results), 0);
		for (uint64_t i = 0; i < BATCH; i++)
			found += results[i].status == HBM_OK;
	}

	return found;
}

/* Stores more than there is room for, twice over; of the newest, as many as there is room
 * for are there. */
static void run_shape(const char *const *sets, uint64_t capacity)
{
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	struct kv kv;
	hbm_result results[BATCH];
	uint64_t count = 2 * capacity + 2 * BATCH;
	kv_open(&kv, &daemon_, 0, BLOCK, BATCH);

	for (uint64_t first = 1; first <= count; first += BATCH) {
		assert_int_equal(kv_store(&kv, 0, first, BATCH, 0, results), 0);
		for (uint64_t i = 0; i < BATCH; i++)
			assert_int_equal(results[i].status, capacity > 0 ? HBM_OK : HBM_NO_SPACE);
	}

	uint64_t resident = 0;
	for (uint64_t block = 1; block <= count; block++)
		resident += kv_tier(&kv, block) != HBM_TIER_NONE;
	assert_int_equal(resident, capacity);
	assert_int_equal(load_all(&kv, count), capacity);
	load_all(&kv, count);
	kv_close(&kv);
	stage_finish(fds);
	spawn_free(&daemon_);
	spawn_init(&daemon_);
}

#define NO_HBM "device.cache=0"
#define HBM "device.cache=4MiB"
#define NO_DDR "ddr.size=0"
#define DDR "ddr.size=8MiB"
#define NO_NVME "nvme.path=", "nvme.size=0"
#define NVME "nvme.size=16MiB"

static void test_with_any_tier_left_out(void **state)
{
	(void)state;
	static const struct {
		const char *sets[6];
		uint64_t capacity; /* blocks */
	} shapes[] = {
		{{HBM, DDR, NVME}, 448},       {{NO_HBM, DDR, NVME}, 384},
		{{HBM, NO_DDR, NVME}, 320},    {{HBM, DDR, NO_NVME}, 192},
		{{NO_HBM, NO_DDR, NVME}, 256}, {{NO_HBM, DDR, NO_NVME}, 128},
		{{HBM, NO_DDR, NO_NVME}, 64},  {{NO_HBM, NO_DDR, NO_NVME}, 0},
	};
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		run_shape(shapes[i].sets, shapes[i].capacity);
}

/* ---- Sizes mixed ---- */

#define SIZES 6
static const uint64_t sizes[SIZES] = {4096, 12288, 65536, 262144, 1 << 20, 2 << 20};

/* Stores or loads a few blocks of a chain of one size, chosen at random. */
static void step(struct kv kvs[SIZES], struct seed *seed, uint64_t counts[3])
{
	struct kv *kv = &kvs[seed_below(seed, SIZES)];
	hbm_result results[4];
	uint64_t first = 1 + seed_below(seed, 40) * 4, count = 1 + seed_below(seed, 4);
	int status = seed_below(seed, 2) ? kv_load(kv, 0, first, count, results)
					 : kv_store(kv, 0, first, count, 0, results);

	assert_int_equal(status, 0);

	for (uint64_t i = 0; i < count; i++) {
		counts[0] += results[i].status == HBM_OK;
		counts[1] += results[i].status == HBM_MISS;
		counts[2] += results[i].status == HBM_NO_SPACE;
		assert_int_not_equal(results[i].status, HBM_IO);
		assert_int_not_equal(results[i].status, HBM_DEVICE);
	}
}

static void mix(const char *const *sets)
{
	struct seed seed;
	struct kv kvs[SIZES];
	uint64_t counts[3] = {0};

	seed_open(&seed, "test_tiers");
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	for (size_t i = 0; i < SIZES; i++)
		kv_open(&kvs[i], &daemon_, 0, sizes[i], 4);
	for (int i = 0; i < (getenv("HBM_TEST_LONG") ? 30000 : 1500); i++)
		step(kvs, &seed, counts);
	for (size_t i = 0; i < SIZES; i++)
		kv_close(&kvs[i]);
	assert_true(counts[0] > 0);
	assert_true(counts[1] > 0);
	stage_finish(fds);
}

static void test_sizes_mixed(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.cache=8MiB", "ddr.size=12MiB", "nvme.size=24MiB",
					   NULL};
	mix(sets);
}

static void test_sizes_mixed_without_reserves(void **state)
{
	(void)state;
	static const char *const sets[] = {
		"device.cache=8MiB",    "ddr.size=12MiB",    "nvme.size=24MiB",
		"device.headroom=2MiB", "ddr.headroom=2MiB", "ddr.staging=2MiB",
		"limits.moves=2",       "hbmd.io=threads",   NULL};
	mix(sets);
}

/* ---- Devices ---- */

static void test_a_block_stored_on_one_device_is_loaded_on_another(void **state)
{
	(void)state;
	static const char *const sets[] = {"soft.devices=3", "device.cache=4MiB", NULL};
	struct kv kvs[3];
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	for (uint32_t i = 0; i < 3; i++)
		kv_open(&kvs[i], &daemon_, i, BLOCK, 64);
	hbm_result results[64];
	assert_int_equal(kv_store(&kvs[0], 0, 1, 64, 0, results), 0);

	for (int round = 0; round < 6; round++) {
		struct kv *kv = &kvs[(round + 1) % 3];

		assert_int_equal(kv_load(kv, 0, 1, 64, results), 0);
		for (int i = 0; i < 64; i++)
			assert_int_equal(results[i].status, HBM_OK);
		assert_int_equal(kv_tier(kv, 1), HBM_TIER_HBM);
		if (round == 3)
			assert_int_equal(hbm_evict(kv->hbm, HBM_TIER_HBM, 1, UINT64_MAX, NULL), 0);
	}

	for (uint32_t i = 0; i < 3; i++)
		kv_close(&kvs[i]);
	stage_finish(fds);
}

static int find_hbm(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;
	struct hbm_wire_tier *wanted = arg;

	assert_int_equal(bytes, sizeof(*tier));
	if (tier->tier != HBM_TIER_HBM || tier->device != wanted->device)
		return 0;

	*wanted = *tier;

	return 1;
}

/* Occupied and logical size are the same where nothing is encoded. */
static uint64_t hbm_blocks(const struct kv *kv, uint32_t device)
{
	struct hbm_wire_tier tier = {.device = device};
	assert_int_equal(hbm_query(kv->hbm, HBM_QUERY_TIERS, find_hbm, &tier), 1);
	assert_int_equal(tier.bytes, tier.blocks * BLOCK);
	assert_int_equal(tier.logical_bytes, tier.bytes);
	return tier.blocks;
}

/* What was pushed out comes back to where the session that touches it has its memory. */
static void test_a_touch_brings_blocks_to_the_sessions_device(void **state)
{
	(void)state;
	static const char *const sets[] = {"soft.devices=2", "device.cache=4MiB", NULL};
	struct kv kv;
	hbm_key key = kv_key(1);
	hbm_result result;
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 1, BLOCK, 1);
	assert_int_equal(kv_store(&kv, 0, 1, 1, 0, &result), 0);
	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_HBM, 1, UINT64_MAX, NULL), 0);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_DDR);
	assert_int_equal(hbm_keys(kv.hbm, HBM_WIRE_TOUCH, kv.ns, 0, &key, 1, &result), 0);
	assert_int_equal(hbm_blocks(&kv, 0), 0);
	assert_int_equal(hbm_blocks(&kv, 1), 1);
	kv_close(&kv);
	stage_finish(fds);
}

/* One request's memory is on one device. */
static void test_segments_on_two_devices_are_refused(void **state)
{
	(void)state;
	static const char *const sets[] = {"soft.devices=2", NULL};
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	struct kv kv;
	kv_open(&kv, &daemon_, 0, BLOCK, 8);
	const struct hbm_region_options options = {.device = 1, .address_space = 2 << 20};
	struct hbm_region *other;
	assert_int_equal(hbm_region_create(kv.hbm, &options, &other), 0);
	assert_int_equal(hbm_commit(kv.hbm, &(struct hbm_range){other, 0, 2 << 20}, 1), 0);
	const struct hbm_segment segments[] = {{kv.region, 0, BLOCK / 2}, {other, 0, BLOCK / 2}};
	const struct hbm_block block = {.key = kv_key(1), .segments = segments, .segment_count = 2};
	assert_int_equal(hbm_store(kv.hbm, kv.ns, &block, 1, NULL), HBM_INVALID);
	kv_close(&kv);
	stage_finish(fds);
}

static void test_a_tier_left_out_is_not_evicted_from(void **state)
{
	(void)state;
	static const char *const sets[] = {"nvme.path=", "nvme.size=0", NULL};
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	struct hbm *hbm = spawn_connect(&daemon_);
	assert_int_equal(hbm_evict(hbm, HBM_TIER_NVME, 0, 1, NULL), HBM_UNSUPPORTED);
	assert_int_equal(hbm_evict(hbm, HBM_TIER_DDR, 0, 1, NULL), HBM_OK);
	hbm_close(hbm);
	stage_finish(fds);
}

/* ---- The time of a load, before the first ---- */

static int see_link(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_link *link = record;
	assert_int_equal(bytes, sizeof(*link));
	((uint64_t *)arg)[link->link] = link->count;
	return 0;
}

/* Two blocks that are stored and evicted to NVMe, and never loaded: the estimates for them
 * in DDR and on NVMe. */
static void estimate(const char *const *sets, uint64_t *ddr, uint64_t *nvme)
{
	struct kv kv;
	struct hbm_lookup answer = {0};
	hbm_key chain[2] = {kv_key(1), kv_key(2)};
	uint64_t movements[HBM_LINKS] = {0};

	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, BLOCK, 2);
	assert_int_equal(kv_store(&kv, 0, 1, 2, 0, NULL), 0);

	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL), 0);
	assert_int_equal(kv_tier(&kv, 2), HBM_TIER_DDR);
	assert_int_equal(hbm_lookup(kv.hbm, kv.ns, chain, 2, &answer, NULL), 0);
	assert_int_equal(answer.resident, 2);
	*ddr = answer.load_ns;

	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_DDR, 0, UINT64_MAX, NULL), 0);
	assert_int_equal(kv_tier(&kv, 2), HBM_TIER_NVME);
	assert_int_equal(hbm_lookup(kv.hbm, kv.ns, chain, 2, &answer, NULL), 0);
	assert_int_equal(answer.resident, 2);
	*nvme = answer.load_ns;

	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_LINKS, see_link, movements), 0);
	assert_int_equal(movements[HBM_LINK_H2D], 0);
	assert_int_equal(movements[HBM_LINK_NVME_READ], 0);
	kv_close(&kv);
	stage_finish(fds);
}

static void test_a_load_is_estimated_before_the_first(void **state)
{
	(void)state;
	/* The file is the same again, and nothing in it. */
	static const char *const blind[] = {"soft.fail=cuMemcpyHtoD:1", "nvme.catalog=no", NULL},
				 *const sighted[] = {"nvme.catalog=no", NULL};
	uint64_t ddr = 0, nvme = 0;

	/* Where only NVMe could be measured: a new file, and the same again. */
	for (int i = 0; i < 2; i++) {
		estimate(blind, &ddr, &nvme);
		assert_int_equal(ddr, 0);
		assert_in_range(nvme, 1, UINT64_MAX);
	}

	estimate(sighted, &ddr, &nvme);
	assert_in_range(ddr, 1, UINT64_MAX);
	assert_in_range(nvme, ddr, UINT64_MAX);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_with_any_tier_left_out),
		TEST(test_sizes_mixed),
		TEST(test_sizes_mixed_without_reserves),
		TEST(test_a_block_stored_on_one_device_is_loaded_on_another),
		TEST(test_a_touch_brings_blocks_to_the_sessions_device),
		TEST(test_segments_on_two_devices_are_refused),
		TEST(test_a_tier_left_out_is_not_evicted_from),
		TEST(test_a_load_is_estimated_before_the_first),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
