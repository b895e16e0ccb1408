/* SPDX-License-Identifier: Apache-2.0 */
/* The division of RLIMIT_NOFILE: never more than there are, and clients get most. */
#include "daemon/service/descriptors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <hbm/wire.h>

#define SESSION 4

static uint64_t kept_in(const struct descriptors *fits)
{
	return fits->silent * SESSION + fits->operators + fits->clients;
}

static void plenty(void **state)
{
	(void)state;
	struct descriptors fits = descriptors_divide(65536, 100, 64, 21);

	assert_int_equal(fits.silent, 64);
	assert_int_equal(fits.operators, 21 * SESSION);
	assert_int_equal(fits.clients, 65536 - 100 - 64 * SESSION - 21 * SESSION - 32);
}

static void few(void **state)
{
	(void)state;
	for (uint64_t limit = 200; limit < 2000; limit++) {
		struct descriptors fits = descriptors_divide(limit, 100, 64, 21);

		assert_in_range(fits.silent, 2, 64);
		assert_in_range(kept_in(&fits), 0, limit - 100);
		assert_in_range(fits.clients, (limit - 100) / 2, limit);
	}
}

static void none(void **state)
{
	(void)state;
	struct descriptors fits = descriptors_divide(100, 120, 64, 21);

	assert_int_equal(fits.silent, 2);
	assert_int_equal(fits.operators, 0);
	assert_int_equal(fits.clients, 0);
}

static void unread(void **state)
{
	(void)state;
	assert_int_equal(descriptors_unread(8000, UINT64_MAX, false), 7000);
	assert_int_equal(descriptors_unread(8000, UINT64_MAX, true), 3500);
	assert_int_equal(descriptors_unread(8000, 500, false), 500);
	assert_int_equal(descriptors_unread(8000, 1, false), HBM_WIRE_FDS_MAX);
	assert_int_equal(descriptors_unread(64, UINT64_MAX, false), HBM_WIRE_FDS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plenty),
		cmocka_unit_test(few),
		cmocka_unit_test(none),
		cmocka_unit_test(unread),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
