/* SPDX-License-Identifier: Apache-2.0 */
/* A tier's slots: the reserve comes first, who waits is served in order, and the books
 * add up at every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "daemon/device/device.h"
#include "daemon/tier/tier.h"

#define U ((uint64_t)EXTENT_UNIT)

struct waiter {
	struct extent_request wait;
	uint32_t unit; /* UINT32_MAX: not yet */
	unsigned turn;
};

static unsigned turns;

static void granted(struct extent_request *wait, uint32_t unit)
{
	struct waiter *waiter = container_of(wait, struct waiter, wait);
	assert_int_equal(waiter->unit, UINT32_MAX);
	waiter->unit = unit;
	waiter->turn = ++turns;
}

static struct waiter waiter_of(uint64_t units)
{
	return (struct waiter){.wait = {.bytes = units * U, .granted = granted},
			       .unit = UINT32_MAX};
}

static void tier_open(struct tier *tier, uint64_t capacity, uint64_t headroom)
{
	turns = 0;
	assert_int_equal(tier_init(tier, HBM_TIER_DDR, 3, capacity * U, headroom * U, 100), 0);
}

static void assert_books(const struct tier *tier)
{
	assert_int_equal(extent_available(tier->extents) + tier->placed + tier->moving,
			 extent_capacity(tier->extents));
}

static void test_the_headroom_is_filled_first(void **state)
{
	(void)state;
	struct tier tier;
	tier_open(&tier, 10, 4);
	assert_int_equal(tier.usable, 0);
	assert_int_equal(tier_grow(&tier, 0, 3 * U), 0);
	assert_int_equal(tier.usable, 0);
	assert_int_equal(tier_grow(&tier, 3 * U, 3 * U), 0);
	assert_int_equal(tier.usable, 2 * U);
	assert_int_equal(tier_grow(&tier, 6 * U, 8 * U), 0);
	assert_int_equal(tier.usable, 10 * U);
	tier_clear(&tier);
	tier_clear(&tier);
}

static void test_the_room_for_copies_is_filled_last(void **state)
{
	(void)state;
	struct tier tier;
	tier_open(&tier, 10, 4);
	tier.copies_max = 3 * U;
	assert_int_equal(tier_grow(&tier, 0, 14 * U), 0);
	assert_int_equal(tier.usable, 10 * U);
	assert_int_equal(tier_grow(&tier, 14 * U, 3 * U), 0);
	assert_int_equal(tier.usable, 10 * U);
	tier_clear(&tier);
}

static void test_a_slot_through_its_life(void **state)
{
	(void)state;
	struct tier tier;
	tier_open(&tier, 8, 0);
	assert_int_equal(tier_grow(&tier, 0, 8 * U), 0);
	uint32_t unit = tier_alloc(&tier, 3 * U);
	assert_int_equal(unit, 0);
	assert_int_equal(tier.moving, 3 * U);
	assert_books(&tier);
	tier_place(&tier, 3 * U);
	assert_int_equal(tier.placed, 3 * U);
	assert_int_equal(tier_alloc(&tier, 6 * U), UINT32_MAX);
	assert_int_equal(tier_alloc(&tier, 5 * U), 3);
	assert_books(&tier);
	tier_unplace(&tier, 3 * U);
	tier_free(&tier, unit, 3 * U);
	tier_free(&tier, 3, 5 * U);
	assert_books(&tier);
	assert_int_equal(extent_available(tier.extents), 8 * U);
	tier_clear(&tier);
}

static void assert_used(const struct tier *tier, uint64_t first, uint64_t second)
{
	assert_int_equal(tier->parts[0].used, first * U);
	assert_int_equal(tier->parts[1].used, second * U);
}

/* In the part near the device, then wherever there is room; without one, where most is. */
static void test_parts_of_several_nodes(void **state)
{
	(void)state;
	static const uint64_t begins[] = {0, 6 * U};
	struct device far = {.node = 1}, unknown = {.node = -1};
	struct tier tier;

	tier_open(&tier, 10, 0);
	assert_int_equal(tier_largest_part(&tier), 10 * U);
	tier_divide(&tier, begins, 2);
	assert_int_equal(tier_largest_part(&tier), 6 * U);
	assert_int_equal(tier_grow(&tier, 4 * U, 6 * U), 0);
	assert_int_equal(tier_grow(&tier, 0, 4 * U), 0);
	assert_int_equal(tier.parts[0].bytes, 6 * U);
	assert_int_equal(tier.parts[1].bytes, 4 * U);

	assert_int_equal(tier_alloc_near(&tier, 2 * U, &far), 6);
	assert_used(&tier, 0, 2);
	assert_int_equal(tier_alloc_near(&tier, 3 * U, &far), 0); /* 2 are left there */
	assert_used(&tier, 3, 2);
	assert_int_equal(tier_alloc(&tier, U), 8);
	assert_int_equal(tier_alloc_near(&tier, U, &unknown), 3);
	assert_used(&tier, 4, 3);
	assert_int_equal(tier_alloc(&tier, 3 * U), UINT32_MAX); /* it would lie in both */

	tier_free(&tier, 6, 2 * U);
	tier_shrink(&tier, 0, 3 * U, U);
	assert_used(&tier, 2, 1);
	tier_free(&tier, 0, U);
	tier_free(&tier, 8, U);
	tier_free(&tier, 3, U);
	assert_used(&tier, 0, 0);
	assert_books(&tier);
	tier_clear(&tier);
}

/* To which part of host memory an address belongs. */
static void test_addresses_of_parts(void **state)
{
	(void)state;
	static const uint64_t begins[] = {0, 2 * U, 6 * U};
	static char space[12 * U];
	char *memory = space + U;
	struct tier tier;

	tier_open(&tier, 8, 2);
	assert_int_equal(tier_part_of(&tier, memory), -1); /* it is none of host memory */
	tier.host = memory;
	assert_int_equal(tier_part_of(&tier, memory), -1); /* and not divided */
	tier_divide(&tier, begins, 3);
	assert_int_equal(tier_part_of(&tier, memory), 0);
	assert_int_equal(tier_part_of(&tier, memory + 2 * U - 1), 0);
	assert_int_equal(tier_part_of(&tier, memory + 2 * U), 1);
	assert_int_equal(tier_part_of(&tier, memory + 6 * U - 1), 1);
	assert_int_equal(tier_part_of(&tier, memory + 6 * U), 2);
	assert_int_equal(tier_part_of(&tier, memory + 10 * U - 1), 2);
	assert_int_equal(tier_part_of(&tier, memory + 10 * U), -1);
	assert_int_equal(tier_part_of(&tier, memory - 1), -1);
	tier_clear(&tier);
}

/* A small one that came later does not pass a large one, which would wait for ever. */
static void test_waiting_requests_are_served_in_order(void **state)
{
	(void)state;
	struct tier tier;
	tier_open(&tier, 4, 0);
	assert_int_equal(tier_grow(&tier, 0, 4 * U), 0);
	struct waiter first = waiter_of(3), large = waiter_of(4), small = waiter_of(1);
	tier_request(&tier, &first.wait, (struct fair_payer){0});
	assert_int_equal(first.unit, 0);
	tier_request(&tier, &large.wait, (struct fair_payer){0});
	tier_request(&tier, &small.wait, (struct fair_payer){0});
	tier_serve(&tier);
	assert_int_equal(large.unit, UINT32_MAX);
	assert_int_equal(small.unit, UINT32_MAX);
	assert_int_equal(tier_alloc(&tier, U),
			 UINT32_MAX); /* nor does one that does not want to wait */
	tier_free(&tier, first.unit, 3 * U);
	tier_serve(&tier);
	assert_int_equal(large.unit, 0);
	assert_int_equal(small.unit, UINT32_MAX);
	tier_free(&tier, large.unit, 4 * U);
	tier_serve(&tier);
	assert_int_equal(small.unit, 0);
	assert_in_range(small.turn, large.turn + 1, 3);
	tier_free(&tier, small.unit, U);
	assert_books(&tier);
	tier_clear(&tier);
}

/* A payer's many do not hold all that becomes free, and the one whose turn it is keeps it
 * until there is enough for it. */
static void test_payers_take_turns(void **state)
{
	enum { MANY = 25, LARGE = 512 }; /* units: 2 MiB */

	(void)state;
	struct tier tier;
	struct waiter many[MANY], other = waiter_of(LARGE / 2), first = waiter_of(LARGE);
	tier_open(&tier, LARGE, 0);
	assert_int_equal(tier_grow(&tier, 0, LARGE * U), 0);
	tier_request(&tier, &first.wait, (struct fair_payer){.id = 1});
	assert_int_equal(first.unit, 0);
	assert_null(tier_waiting(&tier));
	assert_null(tier_take_waiting(&tier));

	for (unsigned i = 0; i < MANY; i++) {
		many[i] = waiter_of(LARGE);
		tier_request(&tier, &many[i].wait, (struct fair_payer){.id = 1});
	}

	tier_request(&tier, &other.wait, (struct fair_payer){.id = 2});
	tier_free(&tier, first.unit, LARGE * U);
	tier_serve(&tier);
	assert_int_equal(other.unit, 0);
	assert_int_equal(many[0].unit, UINT32_MAX); /* it needs all of the tier */
	tier_free(&tier, other.unit, LARGE / 2 * U);

	for (unsigned i = 0; i < MANY - 1; i++) {
		tier_serve(&tier);
		assert_int_equal(many[i].unit, 0);
		assert_ptr_equal(tier_waiting(&tier), &many[i + 1].wait);
		tier_free(&tier, many[i].unit, LARGE * U);
	}

	assert_ptr_equal(tier_take_waiting(&tier), &many[MANY - 1].wait);
	assert_true(fair_queue_empty(&tier.waiting));
	assert_books(&tier);
	tier_clear(&tier);
}

static void test_growing_serves_waiting_requests(void **state)
{
	(void)state;
	struct tier tier;
	tier_open(&tier, 4, 0);
	struct waiter waiter = waiter_of(2);
	tier_request(&tier, &waiter.wait, (struct fair_payer){0});
	assert_int_equal(tier_grow(&tier, 0, U), 0);
	assert_int_equal(waiter.unit, UINT32_MAX);
	assert_int_equal(tier_grow(&tier, U, U), 0);
	assert_int_equal(waiter.unit, 0);
	assert_true(fair_queue_empty(&tier.waiting));
	tier_clear(&tier);
}

static void test_every_kind_has_a_name(void **state)
{
	(void)state;
	assert_string_equal(tier_name(HBM_TIER_NONE), "staging");
	assert_string_equal(tier_name(HBM_TIER_HBM), "hbm");
	assert_string_equal(tier_name(HBM_TIER_DDR), "ddr");
	assert_string_equal(tier_name(HBM_TIER_NVME), "nvme");
}

/* Until all that was there is claimed, nothing is usable, and no extent is allocated. */
static void test_claims(void **state)
{
	(void)state;
	struct tier tier;
	struct waiter waiter = waiter_of(2);

	tier_open(&tier, 10, 0);
	tier.claiming = true;
	assert_int_equal(tier_grow(&tier, 0, 6 * U), 0);
	assert_int_equal(tier.usable, 0);
	assert_int_equal(tier_alloc(&tier, U), UINT32_MAX);
	tier_request(&tier, &waiter.wait, (struct fair_payer){0});
	assert_true(tier_claim(&tier, 1, 3 * U, 2));
	assert_false(tier_claim(&tier, 3, U, 1));
	assert_false(tier_claim(&tier, 5, 2 * U, 1)); /* beyond */
	assert_int_equal(tier.moving, 3 * U);
	assert_int_equal(tier_grow(&tier, 6 * U, 4 * U), 0);
	assert_int_equal(tier.usable, 0);
	assert_int_equal(waiter.unit, UINT32_MAX);
	assert_books(&tier);

	tier_end_claims(&tier);
	assert_int_equal(tier.usable, 10 * U);
	assert_int_equal(waiter.unit, 4);
	assert_int_equal(tier_alloc(&tier, U), 0);
	assert_books(&tier);
	tier_free(&tier, 1, U);
	tier_free(&tier, 2, 2 * U);
	assert_int_equal(tier_alloc(&tier, 3 * U), 1);
	assert_books(&tier);
	tier_clear(&tier);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_headroom_is_filled_first),
		cmocka_unit_test(test_the_room_for_copies_is_filled_last),
		cmocka_unit_test(test_a_slot_through_its_life),
		cmocka_unit_test(test_parts_of_several_nodes),
		cmocka_unit_test(test_addresses_of_parts),
		cmocka_unit_test(test_waiting_requests_are_served_in_order),
		cmocka_unit_test(test_payers_take_turns),
		cmocka_unit_test(test_growing_serves_waiting_requests),
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_every_kind_has_a_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
