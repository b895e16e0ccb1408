/* SPDX-License-Identifier: Apache-2.0 */
/* Salts: each byte counts, and one that is cleared is gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "daemon/cache/salts.h"
#include "tests/support/leaks.h"

#define MAX 100u

static void test_each_byte_counts(void **state)
{
	(void)state;
	static const char none[HBM_WIRE_NAME_BYTES];
	char salt[HBM_WIRE_NAME_BYTES] = "a secret";
	struct salts *salts = NULL;
	struct leaks leaks;

	leaks_begin(&leaks);
	assert_int_equal(salts_new(&salts, MAX), 0);
	salts_set(salts, MAX, salt);
	for (size_t i = 0; i < sizeof(salt); i++) {
		assert_true(salts_equal(salts, MAX, salt));
		salt[i] ^= 1;
		assert_false(salts_equal(salts, MAX, salt));
		salt[i] ^= 1;
	}

	assert_true(salts_equal(salts, MAX - 1, none));
	salts_clear(salts, MAX);
	assert_true(salts_equal(salts, MAX, none));
	salts = salts_free(salts);
	assert_null(salts_free(salts));
	assert_int_equal(leaks_end(&leaks), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_byte_counts)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
