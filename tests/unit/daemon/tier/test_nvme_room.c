/* SPDX-License-Identifier: Apache-2.0 */
/* Room for copies: on top of the tier, of it, or none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/tier/extent.h"
#include "daemon/tier/nvme_room.h"

#define U ((uint64_t)EXTENT_UNIT)

static void assert_room(uint64_t most, uint64_t wanted, bool inside, uint64_t copies, uint64_t size)
{
	struct nvme_room room = {.most = most, .wanted = wanted, .inside = inside};
	uint64_t both = 10 * U;

	assert_int_equal(nvme_room_for_copies(&room, &both), copies);
	assert_int_equal(both, size);
}

static void test_on_top(void **state)
{
	(void)state;
	assert_room(UINT64_MAX, 0, false, 0, 10 * U);
	assert_room(UINT64_MAX, 4 * U, false, 4 * U, 14 * U);
	assert_room(14 * U, 4 * U, true, 4 * U, 14 * U);
	assert_room(UINT64_MAX, 4 * U - 1, false, 3 * U, 13 * U); /* whole extents */
}

static void test_no_room_on_top(void **state)
{
	(void)state;
	assert_room(14 * U - 1, 4 * U, false, 0, 10 * U); /* all or none */
	assert_room(14 * U - 1, 4 * U, true, 4 * U, 10 * U);
	assert_room(10 * U, 8 * U, true, 5 * U, 10 * U); /* at most half */
	assert_room(9 * U, U, false, 0, 10 * U);
	assert_room(UINT64_MAX, UINT64_MAX, false, 0, 10 * U);
	assert_room(UINT64_MAX, EXTENT_END - 9 * U, false, 0, 10 * U); /* what a unit can name */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_on_top),
		cmocka_unit_test(test_no_room_on_top),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
