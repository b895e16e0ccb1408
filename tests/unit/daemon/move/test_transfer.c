/* SPDX-License-Identifier: Apache-2.0 */
/* Transfers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/move/transfer.h"

static void test_the_first_failure_is_the_status(void **state)
{
	(void)state;
	struct transfer transfer = {.status = HBM_OK};

	transfer_fail(&transfer, HBM_OK);
	assert_int_equal(transfer.status, HBM_OK);
	transfer_fail(&transfer, HBM_DEVICE);
	transfer_fail(&transfer, HBM_NO_SPACE);
	transfer_fail(&transfer, HBM_OK);
	assert_int_equal(transfer.status, HBM_DEVICE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_failure_is_the_status),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
