/* SPDX-License-Identifier: Apache-2.0 */
/* Pins, as clients see them: what they keep, who may take them off, and what is left of them
 * when a session ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv_stage.h"

static void test_pins_survive_pressure(void **state)
{
	(void)state;
	kv_stage_store(1, 8, 0);
	kv_stage_keys(HBM_WIRE_PIN, 8, 1, HBM_OK); /* and with it all it descends from */
	kv_stage_keys(HBM_WIRE_PIN, 8, 1, HBM_OK);
	for (uint64_t round = 1; round <= 3; round++)
		kv_stage_press(1000 * round);
	assert_int_equal(kv_lookup(&kv, 1, 8, NULL), 8);
	kv_stage_keys(HBM_WIRE_REMOVE, 8, 1, HBM_DENIED);
	kv_stage_keys(HBM_WIRE_REMOVE, 1, 1, HBM_DENIED);
	kv_stage_load(1, 8);
	kv_stage_keys(HBM_WIRE_UNPIN, 8, 1, HBM_OK);
	kv_stage_press(5000);
	assert_int_equal(kv_lookup(&kv, 1, 8, NULL), 8); /* it was pinned twice */
	kv_stage_keys(HBM_WIRE_UNPIN, 8, 1, HBM_OK);
	kv_stage_keys(HBM_WIRE_UNPIN, 8, 1, HBM_NOT_FOUND);
	kv_stage_press(6000);
	kv_stage_press(7000);
	assert_int_equal(kv_lookup(&kv, 1, 8, NULL), 0);
}

/* UNPIN takes one pin for each time a key is named, in whatever order the keys come. */
static void test_a_key_named_twice_takes_two_pins(void **state)
{
	(void)state;
	const hbm_key named[] = {kv_key(2), kv_key(1), kv_key(2), kv_key(9), kv_key(2)};
	static const int expected[] = {HBM_OK, HBM_NOT_FOUND, HBM_OK, HBM_MISS, HBM_NOT_FOUND};
	kv_stage_store(1, 2, 0);
	kv_stage_keys(HBM_WIRE_PIN, 2, 1, HBM_OK);
	kv_stage_keys(HBM_WIRE_PIN, 2, 1, HBM_OK);
	assert_in_range(hbm_keys(kv.hbm, HBM_WIRE_UNPIN, kv.ns, 0, named, 5, results), 0,
			INT32_MAX);
	for (int i = 0; i < 5; i++)
		assert_int_equal(results[i].status, expected[i]);
	kv_stage_keys(HBM_WIRE_UNPIN, 2, 1, HBM_NOT_FOUND);
	kv_stage_keys(HBM_WIRE_REMOVE, 1, 1, HBM_OK); /* nothing is pinned any more */
}

/* However many pins there are, and whatever key follows it. */
static void test_a_key_named_once_takes_one_pin(void **state)
{
	(void)state;
	kv_stage_store(1, 2, 0);
	kv_stage_keys(HBM_WIRE_PIN, 1, 1, HBM_OK);
	kv_stage_keys(HBM_WIRE_PIN, 1, 1, HBM_OK);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_UNPIN, 1, 2, 0, results), 0);
	assert_int_equal(results[0].status, HBM_OK);
	assert_int_equal(results[1].status, HBM_NOT_FOUND);
	kv_stage_keys(HBM_WIRE_UNPIN, 1, 1, HBM_OK);
	kv_stage_keys(HBM_WIRE_UNPIN, 1, 1, HBM_NOT_FOUND);
}

/* They are in nobody's way when the daemon stops. */
static void test_kept_pins_at_the_end(void **state)
{
	(void)state;
	kv_stage_store(1, 3, 0);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_PIN, 1, 3, HBM_WIRE_KEEP, results), 0);
	kv_stage_expect(3, HBM_OK);
}

static void test_many_pins_are_taken_off_at_once(void **state)
{
	(void)state;
	kv_stage_store(1, 24, 0);
	kv_stage_keys(HBM_WIRE_PIN, 1, 24, HBM_OK);
	kv_stage_keys(HBM_WIRE_UNPIN, 3, 16, HBM_OK);
	kv_stage_keys(HBM_WIRE_UNPIN, 3, 16, HBM_NOT_FOUND);
	kv_stage_keys(HBM_WIRE_UNPIN, 1, 2, HBM_OK);
	kv_stage_keys(HBM_WIRE_UNPIN, 19, 6, HBM_OK);
	kv_stage_keys(HBM_WIRE_REMOVE, 1, 24, HBM_OK);
}

static void test_not_everything_can_be_pinned(void **state)
{
	(void)state;
	kv_stage_store(1, KV_STAGE_TIER, 0);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_PIN, 1, KV_STAGE_TIER, 0, results), 0);
	for (uint64_t i = 0; i < KV_STAGE_TIER; i++)
		assert_int_equal(results[i].status, i < KV_STAGE_TIER / 2 ? HBM_OK : HBM_LIMIT);
	kv_stage_press(1000);
	assert_int_equal(kv_lookup(&kv, 1, KV_STAGE_TIER, NULL), KV_STAGE_TIER / 2);
}

static void test_a_session_takes_its_pins_along_and_leaves_the_kept(void **state)
{
	(void)state;
	struct kv other;
	kv_stage_store(1, 2, 0);
	kv_stage_store(11, 2, 0);
	kv_open(&other, &daemon_, 0, KV_STAGE_BLOCK, 1);
	assert_int_equal(kv_keys(&other, HBM_WIRE_PIN, 1, 2, 0, results), 0);
	kv_stage_expect(2, HBM_OK);
	assert_int_equal(kv_keys(&other, HBM_WIRE_PIN, 11, 2, HBM_WIRE_KEEP, results), 0);
	kv_stage_expect(2, HBM_OK);
	kv_stage_press(1000);
	kv_stage_press(2000);
	assert_int_equal(kv_lookup(&kv, 1, 2, NULL), 2);
	assert_int_equal(kv_lookup(&kv, 11, 2, NULL), 2);
	kv_close(&other);
	kv_stage_press(3000);
	kv_stage_press(4000);
	assert_int_equal(kv_lookup(&kv, 1, 2, NULL), 0);
	assert_int_equal(kv_lookup(&kv, 11, 2, NULL), 2);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_UNPIN, 11, 2, HBM_WIRE_KEEP, results), 0);
	kv_stage_expect(2, HBM_OK);
	kv_stage_press(5000);
	kv_stage_press(6000);
	assert_int_equal(kv_lookup(&kv, 11, 2, NULL), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, kv_stage_setup, kv_stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_pins_survive_pressure),
		TEST(test_a_key_named_twice_takes_two_pins),
		TEST(test_a_key_named_once_takes_one_pin),
		TEST(test_kept_pins_at_the_end),
		TEST(test_many_pins_are_taken_off_at_once),
		TEST(test_not_everything_can_be_pinned),
		TEST(test_a_session_takes_its_pins_along_and_leaves_the_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
