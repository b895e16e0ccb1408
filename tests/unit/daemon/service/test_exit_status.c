/* SPDX-License-Identifier: Apache-2.0 */
/* What no time mends ends the daemon for good; what it may mend, and what nobody thought
 * of, is tried again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sysexits.h>

#include "daemon/service/exit_status.h"

static void test_the_numbers_are_those_of_sysexits(void **state)
{
	(void)state;
	assert_int_equal(EXIT_STATUS_UNMET, EX_UNAVAILABLE);
	assert_int_equal(EXIT_STATUS_CONFIG, EX_CONFIG);
}

static void test_errors_of_the_configuration(void **state)
{
	(void)state;
	static const int errors[] = {EINVAL, EEXIST,  EACCES,  EPERM,        EROFS,     EFBIG,
				     EISDIR, ENOTDIR, ENOTBLK, ENAMETOOLONG, EOPNOTSUPP};

	for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		assert_int_equal(exit_status_of_start(-errors[i]), EXIT_STATUS_CONFIG);
}

static void test_errors_that_may_pass(void **state)
{
	(void)state;
	static const int errors[] = {ENOENT, ENODEV, ENXIO,      EIO,    ENOSPC, ENOMEM,
				     EBUSY,  EAGAIN, EADDRINUSE, EMFILE, EPIPE};

	for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		assert_int_equal(exit_status_of_start(-errors[i]), EXIT_STATUS_UNMET);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_numbers_are_those_of_sysexits),
		cmocka_unit_test(test_errors_of_the_configuration),
		cmocka_unit_test(test_errors_that_may_pass),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
