/* SPDX-License-Identifier: Apache-2.0 */
/* Idle sequences that are suspended before memory is needed, end to end: which, in which order,
 * and how many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/stage.h"
#include "tests/support/suspend_stage.h"

/* Whether a goes before b, among six with priorities and next uses that repeat. */
static bool goes_before(size_t a, size_t b)
{
	if (a / 2 % 2 != b / 2 % 2)
		return a / 2 % 2 < b / 2 % 2;
	if (a % 2 != b % 2)
		return a % 2 > b % 2;

	return a > b;
}

/* The fifth is not idle. Each call goes as far as a model of it does. */
static void test_balance(void **state)
{
	(void)state;
	struct hbm_sequence *all[6];
	bool gone[6] = {false};
	uint64_t wanted = 0;
	size_t count;

	suspend_start(pool_rig_layouts[0]);
	for (size_t i = 0; i < 6; i++) {
		const struct hbm_sequence_options options = {.priority = (int32_t)(i / 2 % 2)};
		const uint64_t length = 10 + 5 * i;

		assert_int_equal(hbm_sequence_open(suspend_rig.pool, &options, &all[i]), 0);
		suspend_grow(all[i], 0, length, 1000 * i);
		assert_int_equal(hbm_sequence_idle(all[i], i != 4, i % 2), 0);
	}

	assert_int_equal(
		hbm_pool_balance(suspend_rig.pool, suspend_memory(), HBM_TIER_NVME, &count), 0);
	assert_int_equal(count, 0);
	for (unsigned round = 0; round < 4; round++) {
		uint64_t expected = 0, free = suspend_memory();
		size_t chosen = 0;

		wanted = free + RIG_SLAB * (1 + 3 * round);
		while (free < wanted) {
			size_t best = 6;

			for (size_t i = 0; i < 6; i++)
				if (!gone[i] && i != 4 && (best == 6 || goes_before(i, best)))
					best = i;
			if (best == 6)
				break;
			free += pool_rig_facts(all[best]).mapped_bytes;
			gone[best] = true;
			chosen++;
		}
		expected = free;
		assert_int_equal(hbm_pool_balance(suspend_rig.pool, wanted, HBM_TIER_NVME, &count),
				 0);
		assert_int_equal(count, chosen);
		assert_int_equal(suspend_memory(), expected);
		for (size_t i = 0; i < 6; i++)
			assert_int_equal(pool_rig_facts(all[i]).state == HBM_SEQUENCE_SUSPENDED,
					 gone[i]);
	}
	for (size_t i = 0; i < 6; i++) {
		if (gone[i])
			suspend_in(all[i]);
		suspend_expect(all[i], 0, 10 + 5 * i, 1000 * i);
	}
	/* What was resumed is in use until its user says otherwise. */
	assert_int_equal(hbm_sequence_idle(all[4], false, 0), 0);
	for (size_t i = 0; i < 6; i++)
		if (!gone[i])
			assert_int_equal(hbm_sequence_idle(all[i], false, 0), 0);
	assert_int_equal(hbm_pool_balance(suspend_rig.pool, 1ull << 40, HBM_TIER_NVME, &count), 0);
	assert_int_equal(count, 0);
	suspend_finish();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_balance),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
