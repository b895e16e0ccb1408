/* SPDX-License-Identifier: Apache-2.0 */
/* Every status and every request has a name, and every number a sentence. */
#include "client/status.h"

#include <hbm/hbm.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <string.h>

static void test_every_status_has_a_name_of_its_own(void **state)
{
	(void)state;
	for (int i = HBM_OK; i <= HBM_CANCELLED; i++) {
		assert_non_null(hbm_status_name(i));
		assert_memory_equal(hbm_status_name(i), "HBM_", 4);

		for (int k = HBM_OK; k < i; k++) {
			assert_string_not_equal(hbm_status_name(i), hbm_status_name(k));
			assert_string_not_equal(hbm_strerror(i), hbm_strerror(k));
		}
	}

	assert_string_equal(hbm_status_name(HBM_NO_SPACE), "HBM_NO_SPACE");
	assert_string_equal(hbm_status_name(HBM_SHUTDOWN), "HBM_SHUTDOWN");
}

static void test_other_numbers_have_none(void **state)
{
	(void)state;
	static const int others[] = {HBM_DRAINING + 1, 4711, INT_MAX, -1, INT_MIN};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_null(hbm_status_name(others[i]));
		assert_non_null(hbm_strerror(others[i]));
	}

	assert_string_equal(hbm_strerror(INT_MIN), "unknown error");
	assert_string_equal(hbm_strerror(INT_MAX), "unknown status");
}

static void test_errno_sentences(void **state)
{
	(void)state;
	assert_string_equal(hbm_strerror(-ENOENT), strerror(ENOENT));

	/* Where the system speaks of a network, we say what has happened here. */
	static const int own[] = {ENOTCONN, EPROTO, ETIMEDOUT, EAGAIN};
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		assert_string_not_equal(hbm_strerror(-own[i]), strerror(own[i]));
}

static void test_every_opcode_has_a_name(void **state)
{
	(void)state;
#define HAS_ITS_NAME(opcode, value, request, reply)                                                \
	assert_string_equal(hbm_opcode_name(value), #opcode);
	HBM_OPCODE_LIST(HAS_ITS_NAME)
	assert_string_equal(hbm_opcode_name(HBM_WIRE_DECOMMIT), "DECOMMIT");
	assert_string_equal(hbm_opcode_name(0), "request");
	assert_string_equal(hbm_opcode_name(HBM_WIRE_OPCODES), "request");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_status_has_a_name_of_its_own),
		cmocka_unit_test(test_other_numbers_have_none),
		cmocka_unit_test(test_errno_sentences),
		cmocka_unit_test(test_every_opcode_has_a_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
