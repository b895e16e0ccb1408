/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces whose blocks stay in memory, end to end: what does not fit in DDR is dropped, nothing
 * of it is written to NVMe, and whoever asks for that is refused in one line. The same of
 * suspended and of saved sequences, and of what has a salt where nvme.salted is no.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/hbmctl.h"
#include "tests/support/kv_stage.h"
#include "tests/support/suspend_stage.h"

#include <hbm/saved.h>
#include <string.h>

#define STAY "stay in memory"

static uint32_t open_as(struct hbm *hbm, const char *salt, bool memory_only)
{
	const struct hbm_namespace_options options = {.model = "edge",
						      .salt = salt,
						      .block_bytes = KV_STAGE_BLOCK,
						      .memory_only = memory_only};
	uint32_t ns;

	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);

	return ns;
}

static int see_nvme(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;
	uint64_t *seen = arg;

	assert_int_equal(bytes, sizeof(*tier));
	if (tier->tier == HBM_TIER_NVME)
		*seen += tier->in_blocks + tier->placed + tier->moving + tier->blocks;

	return 0;
}

/* Neither now nor before. */
static void expect_nvme_unused(struct hbm *hbm)
{
	uint64_t seen = 0;

	assert_int_equal(hbm_query(hbm, HBM_QUERY_TIERS, see_nvme, &seen), 0);
	assert_int_equal(seen, 0);
	assert_true(spawn_balanced(&daemon_));
}

/* ---- blocks ---- */

static void test_what_does_not_fit_is_dropped(void **state)
{
	(void)state;
	const uint64_t count = 2 * KV_STAGE_ALL;
	uint64_t there = 0;

	kv.ns = open_as(kv.hbm, NULL, true);
	for (uint64_t i = 0; i < count; i += 32)
		kv_stage_store(1 + i, 32, 0);
	kv_await_moves(&kv);
	expect_nvme_unused(kv.hbm);

	/* As many as HBM and DDR hold, the last ones, to the byte. */
	for (uint64_t i = 1; i <= count; i++) {
		const int tier = kv_tier(&kv, i);

		assert_int_equal(tier != HBM_TIER_NONE, i > count - 2 * KV_STAGE_TIER);
		assert_int_not_equal(tier, HBM_TIER_NVME);
		there += tier != HBM_TIER_NONE;
	}
	assert_int_equal(there, 2 * KV_STAGE_TIER);
	kv_stage_load(count - 31, 32);

	/* An operator empties both. */
	kv_push_to_nvme(&kv);
	expect_nvme_unused(kv.hbm);
	assert_int_equal(kv_lookup(&kv, count - 31, 32, NULL), 0);
}

static int see_namespace(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_namespace *ns = record, *wanted = arg;

	assert_int_equal(bytes, sizeof(*ns));
	if (ns->ns == wanted->ns)
		assert_int_equal(ns->memory_only, wanted->memory_only);

	return 0;
}

/* With it, it is another one than without: nothing of the one is found in the other. */
static void test_it_is_a_namespace_of_its_own(void **state)
{
	(void)state;
	const uint32_t there = open_as(kv.hbm, NULL, true), plain = open_as(kv.hbm, NULL, false);
	struct hbm_wire_namespace wanted = {.ns = there, .memory_only = 1};

	assert_int_not_equal(there, plain);
	assert_int_equal(open_as(kv.hbm, NULL, true), there);
	kv.ns = there;
	kv_stage_store(1, 8, 0);
	kv.ns = plain;
	assert_int_equal(kv_lookup(&kv, 1, 8, NULL), 0);
	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_NAMESPACES, see_namespace, &wanted), 0);
	wanted = (struct hbm_wire_namespace){.ns = plain};
	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_NAMESPACES, see_namespace, &wanted), 0);

	hbmctl_expect("namespaces", 0);
	hbmctl_expect_text("namespaces", "MEMORY-ONLY");
	json_t *list = hbmctl_json("namespaces");
	const json_t *records = hbmctl_array(list, "namespaces");
	unsigned shown = 0;

	for (size_t i = 0; i < json_array_size(records); i++)
		shown += json_is_true(hbmctl_member(json_array_get(records, i), "memory_only"));
	assert_int_equal(shown, 1);
	json_decref(list);
}

static void expect_line(int r, const char *line)
{
	assert_int_equal(r, HBM_INVALID);
	if (!strstr(line, STAY))
		fail_msg("\"%s\" says nothing of \"%s\"", line, STAY);
	assert_null(strchr(line, '\n'));
}

static void test_placing_on_nvme_is_refused(void **state)
{
	(void)state;
	struct hbm_block blocks[8];
	struct hbm_segment segments[8];
	hbm_key keys[8];

	kv.ns = open_as(kv.hbm, NULL, true);
	kv_stage_store(1, 8, 0);
	for (uint64_t i = 0; i < 8; i++)
		keys[i] = kv_key(1 + i);
	expect_line(hbm_move(kv.hbm, kv.ns, HBM_TIER_NVME, 0, keys, 8, results), hbm_error(kv.hbm));
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_HBM);
	assert_int_equal(hbm_move(kv.hbm, kv.ns, HBM_TIER_DDR, 0, keys, 8, results), 0);
	kv_stage_expect(8, HBM_OK);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_DDR);

	/* One of them is enough, and none is stored. */
	kv_blocks(&kv, 0, 101, 8, 0, blocks, segments);
	blocks[5].tier = HBM_TIER_NVME;
	expect_line(hbm_store(kv.hbm, kv.ns, blocks, 8, results), hbm_error(kv.hbm));
	assert_int_equal(kv_lookup(&kv, 101, 8, NULL), 0);
	kv_await_moves(&kv);
	expect_nvme_unused(kv.hbm);
	kv_stage_load(1, 8);
}

/* ---- what has a salt, as the operator wants it ---- */

static void salted(const char *set, bool stays)
{
	const char *const sets[] = {"device.cache=4MiB", "ddr.size=4MiB", "nvme.size=8MiB", set,
				    NULL};

	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);

	kv_open(&kv, &daemon_, 0, KV_STAGE_BLOCK, KV_STAGE_ALL);
	kv.ns = open_as(kv.hbm, "a tenant's", false);
	assert_int_equal(open_as(kv.hbm, "a tenant's", true) == kv.ns, stays);
	kv_stage_store(1, 8, 0);
	kv_push_to_nvme(&kv);
	assert_int_equal(kv_tier(&kv, 1), stays ? HBM_TIER_NONE : HBM_TIER_NVME);
	if (stays)
		expect_nvme_unused(kv.hbm);

	kv.ns = open_as(kv.hbm, NULL, false);
	kv_stage_store(1, 8, 0);
	kv_push_to_nvme(&kv);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_NVME);
	kv_close(&kv);
	stage_finish(fds);
	stage_teardown(NULL);
	stage_setup(NULL);
}

static void test_what_has_a_salt(void **state)
{
	(void)state;
	salted("nvme.salted=yes", false);
	salted("nvme.salted=no", true);
}

/* ---- sequences ---- */

static void test_suspended_sequences(void **state)
{
	(void)state;
	struct hbm_pool_options options = {.max_sequences = 8, .memory_only = true};
	struct hbm_pool *pool;

	suspend_start_with(pool_rig_layouts[0], &options);
	struct hbm_sequence *a = suspend_filled(30, 1000);

	suspend_refused(hbm_sequences_suspend(suspend_rig.pool, &a, 1, HBM_TIER_NVME), HBM_INVALID,
			STAY);
	assert_int_equal(pool_rig_facts(a).state, HBM_SEQUENCE_OPEN);
	suspend_out(a, HBM_TIER_DDR);
	suspend_refused(hbm_sequences_prefetch(suspend_rig.pool, &a, 1, HBM_TIER_NVME, 0),
			HBM_INVALID, STAY);
	assert_int_equal(pool_rig_facts(a).tier, HBM_TIER_DDR);
	suspend_scribble();
	expect_nvme_unused(suspend_rig.hbm);
	suspend_in(a);
	suspend_expect(a, 0, 30, 1000);

	options.layout = suspend_rig.layout;
	options.watermark_low = 1;
	options.watermark_tier = HBM_TIER_NVME;
	assert_int_equal(hbm_pool_open(suspend_rig.hbm, &options, &pool), HBM_INVALID);
	assert_non_null(strstr(hbm_error(suspend_rig.hbm), "memory_only"));
	suspend_finish();
}

/* Where there is no DDR, suspended sequences go to the tier below it; not these. */
static void test_suspended_sequences_without_ddr(void **state)
{
	(void)state;
	static const char *const sets[] = {"ddr.size=0", "nvme.size=256MiB", NULL};
	const struct hbm_pool_options options = {.max_sequences = 8, .memory_only = true};

	spawn_start(&daemon_, sets, NULL);
	suspend_fds = spawn_fds(&daemon_);
	suspend_start_with(pool_rig_layouts[0], &options);
	struct hbm_sequence *a = suspend_filled(30, 1000);

	suspend_refused(hbm_sequences_suspend(suspend_rig.pool, &a, 1, HBM_TIER_DDR), HBM_NO_SPACE,
			"0 of");
	suspend_expect(a, 0, 30, 1000);
	expect_nvme_unused(suspend_rig.hbm);
	suspend_finish();
}

/* The operator's word is as good: the namespace of a pool's suspended sequences has a salt. */
static void test_suspended_sequences_of_an_operator(void **state)
{
	(void)state;
	static const char *const sets[] = {"ddr.size=128MiB", "nvme.size=256MiB", "nvme.salted=no",
					   NULL};

	spawn_start(&daemon_, sets, NULL);
	suspend_fds = spawn_fds(&daemon_);
	suspend_start(pool_rig_layouts[0]);
	struct hbm_sequence *a = suspend_filled(30, 1000);

	suspend_refused(hbm_sequences_suspend(suspend_rig.pool, &a, 1, HBM_TIER_NVME), HBM_INVALID,
			STAY);
	suspend_expect(a, 0, 30, 1000);
	suspend_out(a, HBM_TIER_DDR);
	expect_nvme_unused(suspend_rig.hbm);
	suspend_in(a);
	suspend_expect(a, 0, 30, 1000);
	suspend_finish();
}

static void test_saved_sequences(void **state)
{
	(void)state;
	struct hbm_save_options options = {.space = {.model = "edge", .memory_only = true},
					   .tier = HBM_TIER_NVME};
	const struct hbm_saved_space other = {.model = "edge"};
	struct hbm_saved found;
	struct hbm_sequence *back;
	uint64_t saved = 0;

	suspend_start(pool_rig_layouts[0]);
	struct hbm_sequence *a = suspend_filled(30, 1000);
	const struct hbm_save save = {a, "a", 0};

	suspend_refused(hbm_sequences_save(suspend_rig.pool, &save, 1, &options, &saved),
			HBM_INVALID, STAY);
	assert_int_equal(saved, 0);
	assert_int_equal(suspend_blocks(), 0);
	options.tier = HBM_TIER_DDR;
	assert_int_equal(hbm_sequences_save(suspend_rig.pool, &save, 1, &options, &saved), 0);
	assert_int_equal(saved, 30);
	assert_int_equal(hbm_saved_find(suspend_rig.pool, &other, "a", &found), HBM_NOT_FOUND);
	assert_int_equal(hbm_sequence_restore(suspend_rig.pool, &options.space, "a", NULL, &back),
			 0);
	suspend_expect(back, 0, 30, 1000);
	expect_nvme_unused(suspend_rig.hbm);
	assert_int_equal(hbm_saved_drop(suspend_rig.pool, &options.space, "a"), 0);
	suspend_finish();
}

int main(void)
{
#define BLOCKS(name) cmocka_unit_test_setup_teardown(name, kv_stage_setup, kv_stage_teardown)
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		BLOCKS(test_what_does_not_fit_is_dropped),
		BLOCKS(test_it_is_a_namespace_of_its_own),
		BLOCKS(test_placing_on_nvme_is_refused),
		TEST(test_what_has_a_salt),
		TEST(test_suspended_sequences),
		TEST(test_suspended_sequences_without_ddr),
		TEST(test_suspended_sequences_of_an_operator),
		TEST(test_saved_sequences),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
