/* SPDX-License-Identifier: Apache-2.0 */
/* The peak of sequences that grow and end, against a simulation of every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <hbm/hbm.h>

#include "tests/support/seed.h"

#define SEQUENCES 12u
#define ROUNDS 3000u

/* What one needs after that step. */
static uint64_t simulated_bytes(const struct hbm_sequence_demand *demand, uint64_t step)
{
	uint64_t slab = demand->slab_bytes > 1 ? demand->slab_bytes : 1;
	uint64_t bytes = (demand->present + step) * demand->token_bytes;

	return step > demand->to_come ? 0 : (bytes + slab - 1) / slab * slab;
}

/* The largest sum over all steps. */
static uint64_t simulated_peak(const struct hbm_sequence_demand *demands, size_t count)
{
	uint64_t peak = 0, last = 0;

	for (size_t i = 0; i < count; i++)
		last = demands[i].to_come > last ? demands[i].to_come : last;

	for (uint64_t step = 0; step <= last; step++) {
		uint64_t sum = 0;

		for (size_t i = 0; i < count; i++)
			sum += simulated_bytes(&demands[i], step);
		peak = sum > peak ? sum : peak;
	}

	return peak;
}

static void make_demands(struct seed *seed, struct hbm_sequence_demand *demands, size_t count,
			 uint64_t slab)
{
	for (size_t i = 0; i < count; i++)
		demands[i] = (struct hbm_sequence_demand){.present = seed_below(seed, 200),
							  .to_come = seed_below(seed, 100),
							  .token_bytes = 1 + seed_below(seed, 9),
							  .slab_bytes = slab};
}

static void test_by_the_byte_it_is_exact(void **state)
{
	struct seed seed;
	struct hbm_sequence_demand demands[SEQUENCES];

	(void)state;
	seed_open(&seed, "admission");
	for (unsigned round = 0; round < ROUNDS; round++) {
		size_t count = seed_below(&seed, SEQUENCES + 1), running;
		uint64_t peak, free_bytes = seed_below(&seed, 12000);
		size_t admitted, expected = 0;

		make_demands(&seed, demands, count, 0);
		assert_int_equal(hbm_peak_demand(demands, count, &peak), 0);
		assert_int_equal(peak, simulated_peak(demands, count));

		running = count > 0 ? seed_below(&seed, count) : 0;
		assert_int_equal(hbm_admit(free_bytes, demands, running, demands + running,
					   count - running, &admitted),
				 0);
		while (expected < count - running &&
		       simulated_peak(demands, running + expected + 1) <= free_bytes)
			expected++;
		assert_int_equal(admitted, expected);
	}
}

/* With slabs it is never less than the need, and more by less than a slab for each. */
static void test_with_slabs_it_is_safe(void **state)
{
	struct seed seed;
	struct hbm_sequence_demand demands[SEQUENCES];

	(void)state;
	seed_open(&seed, "admission");
	for (unsigned round = 0; round < ROUNDS; round++) {
		size_t count = seed_below(&seed, SEQUENCES + 1);
		uint64_t slab = 1 + seed_below(&seed, 300), peak;

		make_demands(&seed, demands, count, slab);
		assert_int_equal(hbm_peak_demand(demands, count, &peak), 0);
		assert_in_range(peak, simulated_peak(demands, count),
				simulated_peak(demands, count) + count * slab);
	}
}

/* Sequences that end at different times need less than the sum of their maxima. */
static void test_less_than_the_sum_of_the_maxima(void **state)
{
	static const struct hbm_sequence_demand demands[] = {
		{.present = 90, .to_come = 10, .token_bytes = 1},
		{.present = 10, .to_come = 90, .token_bytes = 1},
		{.present = 10, .to_come = 90, .token_bytes = 1},
	};
	uint64_t peak;
	size_t admitted;

	(void)state;
	/* after 10 steps: 100 + 20 + 20; after 90: 100 + 100 */
	assert_int_equal(hbm_peak_demand(demands, 3, &peak), 0);
	assert_int_equal(peak, 200);
	assert_int_equal(hbm_admit(200, demands, 1, demands + 1, 2, &admitted), 0);
	assert_int_equal(admitted, 2);
	assert_int_equal(hbm_admit(199, demands, 1, demands + 1, 2, &admitted), 0);
	assert_int_equal(admitted, 1);
}

static void test_hostile_numbers(void **state)
{
	struct hbm_sequence_demand demand = {.present = UINT64_MAX, .to_come = 1, .token_bytes = 1};
	struct hbm_sequence_demand large[] = {{.present = UINT64_MAX, .token_bytes = 1},
					      {.present = UINT64_MAX, .token_bytes = 1}};
	size_t admitted = 7;
	uint64_t peak = 7;

	(void)state;
	assert_int_equal(hbm_admit(1, NULL, 0, &demand, 1, &admitted), HBM_INVALID);
	demand = (struct hbm_sequence_demand){.present = 2, .token_bytes = UINT64_MAX};
	assert_int_equal(hbm_peak_demand(&demand, 1, &peak), HBM_INVALID);
	demand = (struct hbm_sequence_demand){
		.present = 2, .token_bytes = 1, .slab_bytes = UINT64_MAX};
	assert_int_equal(hbm_peak_demand(&demand, 1, &peak), HBM_INVALID);
	assert_int_equal(admitted, 7);
	assert_int_equal(peak, 7);

	assert_int_equal(hbm_peak_demand(large, 2, &peak), 0);
	assert_int_equal(peak, UINT64_MAX);
	assert_int_equal(hbm_admit(UINT64_MAX - 1, NULL, 0, large, 2, &admitted), 0);
	assert_int_equal(admitted, 0);
	assert_int_equal(hbm_admit(0, NULL, 0, NULL, 0, &admitted), 0);
	assert_int_equal(admitted, 0);
	assert_int_equal(hbm_peak_demand(NULL, 0, &peak), 0);
	assert_int_equal(peak, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_the_byte_it_is_exact),
		cmocka_unit_test(test_with_slabs_it_is_safe),
		cmocka_unit_test(test_less_than_the_sum_of_the_maxima),
		cmocka_unit_test(test_hostile_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
