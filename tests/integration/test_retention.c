/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients retain, end to end: it goes last from each tier, with its ancestors, by priority;
 * not for longer than was said, and not more of it than one user may have.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/hbmctl.h"
#include "tests/support/kv_stage.h"

#include <string.h>

#define CHAIN 8u

static int retain(unsigned priority, uint64_t for_us, uint64_t first, uint64_t count)
{
	hbm_key keys[KV_STAGE_TIER];

	for (uint64_t i = 0; i < count; i++)
		keys[i] = kv_key(first + i);
	return hbm_retain(kv.hbm, kv.ns, priority, for_us, keys, count, results);
}

static void expect_retained(unsigned priority, uint64_t for_us, uint64_t first, uint64_t count)
{
	assert_int_equal(retain(priority, for_us, first, count), 0);
	kv_stage_expect(count, HBM_OK);
}

static int see_tier(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;
	uint64_t *retained = arg;

	assert_int_equal(bytes, sizeof(*tier));
	retained[tier->tier] = tier->retained;

	return 0;
}

static uint64_t retained_in(enum hbm_tier tier)
{
	uint64_t retained[HBM_TIERS] = {0};

	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_TIERS, see_tier, retained), 0);

	return retained[tier];
}

/* A chain of a prompt outlives other chains, many times what all tiers hold; its tail alone was
 * named. */
static void test_it_goes_last(void **state)
{
	(void)state;
	kv_stage_store(1, CHAIN, 0);
	expect_retained(2, 0, CHAIN, 1);
	assert_int_equal(retained_in(HBM_TIER_HBM), CHAIN * KV_STAGE_BLOCK);
	kv_stage_store(101, CHAIN, 0);
	for (uint64_t round = 1; round <= 3; round++)
		kv_stage_press(1000 * round);
	for (uint64_t i = 0; i < CHAIN; i++) {
		assert_int_equal(kv_tier(&kv, 1 + i), HBM_TIER_HBM);
		assert_int_equal(kv_tier(&kv, 101 + i), HBM_TIER_NONE);
	}
	kv_stage_load(1, CHAIN);

	/* No pin: an operator evicts it as any other, and it stays in each tier. */
	kv_push_to_nvme(&kv);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_NVME);
	assert_int_equal(retained_in(HBM_TIER_NVME), CHAIN * KV_STAGE_BLOCK);
	for (uint64_t round = 4; round <= 6; round++)
		kv_stage_press(1000 * round);
	kv_stage_load(1, CHAIN);
	assert_int_equal(retained_in(HBM_TIER_HBM), CHAIN * KV_STAGE_BLOCK);
	kv_stage_keys(HBM_WIRE_REMOVE, 1, 1, HBM_OK);
	assert_int_equal(retained_in(HBM_TIER_HBM), 0);
	assert_true(spawn_balanced(&daemon_));
}

/* Then it is as any other; and so it is when it was released, from the tail. */
static void test_not_for_longer(void **state)
{
	(void)state;
	kv_stage_store(1, CHAIN, 0);
	kv_stage_store(101, CHAIN, 0);
	kv_stage_store(201, CHAIN, 0);
	expect_retained(3, 1, 1, CHAIN); /* for a microsecond */
	expect_retained(3, 0, 101, CHAIN);
	expect_retained(3, 0, 201, CHAIN);
	assert_int_equal(retain(0, 0, 101, 1), 0);
	kv_stage_expect(1, HBM_DENIED); /* others continue it */
	expect_retained(0, 0, 101, CHAIN);
	for (uint64_t round = 1; round <= 3; round++)
		kv_stage_press(1000 * round);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_NONE);
	assert_int_equal(kv_tier(&kv, 101), HBM_TIER_NONE);
	kv_stage_load(201, CHAIN);
	expect_retained(0, 0, 201, CHAIN);
	assert_int_equal(retained_in(HBM_TIER_HBM), 0);
}

/* A quarter of each tier, by default: nobody has all of it. */
static void test_not_more_than_one_may_have(void **state)
{
	(void)state;
	const uint64_t quarter = KV_STAGE_TIER / 4;

	for (uint64_t i = 0; i < KV_STAGE_TIER; i += CHAIN)
		kv_stage_store(1 + i, CHAIN, 0);
	for (uint64_t i = 0; i < KV_STAGE_TIER; i += CHAIN) {
		assert_int_equal(retain(1, 0, i + CHAIN, 1), 0);
		kv_stage_expect(1, i < quarter ? HBM_OK : HBM_LIMIT);
	}
	assert_int_equal(retained_in(HBM_TIER_HBM), quarter * KV_STAGE_BLOCK);
	for (uint64_t round = 1; round <= 3; round++)
		kv_stage_press(1000 * round);
	for (uint64_t i = 1; i <= KV_STAGE_TIER; i++)
		assert_int_equal(kv_tier(&kv, i), i <= quarter ? HBM_TIER_HBM : HBM_TIER_NONE);
	assert_true(spawn_balanced(&daemon_));
}

static void refused(int r, int status, const char *text)
{
	assert_int_equal(r, status);
	if (!strstr(hbm_error(kv.hbm), text))
		fail_msg("\"%s\" says nothing of \"%s\"", hbm_error(kv.hbm), text);
	assert_null(strchr(hbm_error(kv.hbm), '\n'));
}

static void test_what_is_refused(void **state)
{
	(void)state;
	const uint32_t ns = kv.ns;

	kv_stage_store(1, CHAIN, 0);
	refused(retain(4, 0, 1, 1), HBM_INVALID, "priority 4");
	refused(retain(0, 5, 1, 1), HBM_INVALID, "released now");
	refused(retain(1, 3600001000, 1, 1), HBM_LIMIT, "limits.retain_ms");
	kv.ns = 77;
	refused(retain(1, 0, 1, 1), HBM_NOT_FOUND, "namespace 77");
	kv.ns = ns;
	assert_int_equal(retain(1, 0, 100, 1), 0);
	kv_stage_expect(1, HBM_MISS);
	assert_int_equal(retained_in(HBM_TIER_HBM), 0);
}

static void test_what_operators_see(void **state)
{
	(void)state;
	unsigned shown = 0;

	kv_stage_store(1, CHAIN, 0);
	expect_retained(2, 0, 3, 1);
	json_t *list = hbmctl_json("blocks");
	const json_t *records = hbmctl_array(list, "blocks");

	for (size_t i = 0; i < json_array_size(records); i++)
		shown += hbmctl_count(json_array_get(records, i), "priority") == 2;
	assert_int_equal(shown, 3);
	json_decref(list);
	assert_int_equal(hbmctl_limit_used("limits.retained_total"), 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, kv_stage_setup, kv_stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_it_goes_last),
		TEST(test_not_for_longer),
		TEST(test_not_more_than_one_may_have),
		TEST(test_what_is_refused),
		TEST(test_what_operators_see),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
