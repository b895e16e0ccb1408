/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be overwritten: remembered, counted, and not free before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/tier/tier.h"
#include "tests/support/leaks.h"

#define MANY 5000u /* more than are kept room for */
#define UNITS 64u

static void test_the_last_comes_first(void **state)
{
	struct wipes wipes = {0};
	struct wipe wipe;
	struct leaks leaks;

	(void)state;
	leaks_begin(&leaks);
	assert_false(wipes_take(&wipes, &wipe));
	for (unsigned round = 0; round < 2; round++) {
		uint64_t bytes = 0;

		for (uint32_t i = 0; i < MANY; i++, bytes += i)
			assert_true(wipes_add(&wipes, &(struct wipe){.unit = i, .bytes = i + 1u}));
		assert_int_equal(wipes.bytes, bytes);
		for (uint32_t i = MANY; i-- > 0;) {
			assert_true(wipes_take(&wipes, &wipe));
			assert_int_equal(wipe.unit, i);
			assert_int_equal(wipes.bytes, bytes);
			wipes_end(&wipes, &wipe);
			bytes -= i + 1u;
		}
		assert_false(wipes_take(&wipes, &wipe));
		assert_int_equal(wipes.bytes, 0);
	}

	assert_true(wipes_add(&wipes, &(struct wipe){.bytes = 1}));
	assert_false(wipes.kept);
	wipes_clear(&wipes);
	assert_int_equal(leaks_end(&leaks), 0);
}

static void open_tier(struct tier *tier, uint64_t units)
{
	assert_int_equal(tier_init(tier, HBM_TIER_DDR, 1, units * EXTENT_UNIT, 0, 1000), 0);
	tier->ops = &tier_ddr_ops;
}

/* Until it is overwritten an extent is nobody's. */
static void test_it_is_moving_until_then(void **state)
{
	struct tier tier;
	struct wipe wipe;

	(void)state;
	open_tier(&tier, UNITS);
	assert_int_equal(tier_grow(&tier, 0, UNITS * EXTENT_UNIT), 0);
	assert_int_equal(tier_alloc(&tier, UNITS * EXTENT_UNIT), 0);
	tier_wipe(&tier, 0, UNITS * EXTENT_UNIT, (struct fair_payer){.id = 7});
	assert_int_equal(tier.moving, UNITS * EXTENT_UNIT);
	assert_int_equal(tier_alloc(&tier, EXTENT_UNIT), UINT32_MAX);

	assert_true(wipes_take(&tier.wipes, &wipe));
	assert_int_equal(wipe.payer.id, 7);
	assert_int_equal(wipe.bytes, UNITS * EXTENT_UNIT);
	wipes_end(&tier.wipes, &wipe);
	tier_free(&tier, wipe.unit, wipe.bytes);
	assert_int_equal(tier_alloc(&tier, UNITS * EXTENT_UNIT), 0);

	/* Of a tier that is lost there is nothing to overwrite. */
	tier.lost = true;
	tier_wipe(&tier, 0, UNITS * EXTENT_UNIT, (struct fair_payer){0});
	assert_int_equal(tier.moving, 0);
	assert_false(wipes_take(&tier.wipes, &wipe));
	tier_clear(&tier);
}

/* What is between the blocks of before, and nothing beyond the tier. */
static void test_gaps(void **state)
{
	struct tier tier;
	struct wipe wipe;
	uint64_t bytes = 0;

	(void)state;
	open_tier(&tier, UNITS);
	tier.claiming = tier.dirty = true;
	assert_int_equal(tier_grow(&tier, 0, UNITS * EXTENT_UNIT), 0);
	assert_true(tier_claim(&tier, 10, 5 * EXTENT_UNIT, 1));
	tier_wipe_gap(&tier, 0, 10);
	tier_wipe_gap(&tier, 15, 15);
	tier_wipe_gap(&tier, 15, UINT32_MAX);
	tier_end_claims(&tier);
	assert_false(tier.dirty);
	assert_int_equal(tier_alloc(&tier, EXTENT_UNIT), UINT32_MAX);
	while (wipes_take(&tier.wipes, &wipe)) {
		bytes += wipe.bytes;
		wipes_end(&tier.wipes, &wipe);
		tier_free(&tier, wipe.unit, wipe.bytes);
	}
	assert_int_equal(bytes, (UNITS - 5) * EXTENT_UNIT);
	tier_free(&tier, 10, 5 * EXTENT_UNIT);
	assert_int_equal(extent_available(tier.extents), UNITS * EXTENT_UNIT);
	tier_clear(&tier);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_last_comes_first),
		cmocka_unit_test(test_it_is_moving_until_then),
		cmocka_unit_test(test_gaps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
