/* SPDX-License-Identifier: Apache-2.0 */
/* Guest regions: what the library refuses before anything is sent. The rest is for
 * tests/integration/test_guest_region.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/client_region.h"
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

static void test_nonsense_is_not_sent(void **state)
{
	(void)state;
	static const char handle[HBM_WIRE_HANDLE_BYTES];
	static const struct hbm_import_options wrong[] = {
		{.fd = 1, .bytes = 0},
		{.fd = 1, .bytes = UINT64_MAX},
		{.fd = -1, .bytes = SLAB},
		{.fd = -1, .bytes = 0, .ipc_handle = handle},
	};
	struct hbm_region *untouched = (struct hbm_region *)8, *region = untouched;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(hbm_region_import(hbm, &wrong[i], &region), HBM_INVALID);
		assert_string_not_equal(hbm_error(hbm), "");
	}

	assert_ptr_equal(region, untouched);
	assert_int_equal(fake.seen[HBM_WIRE_REGION_IMPORT], 0);
}

int main(void)
{
#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, client_region_setup, client_region_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_nonsense_is_not_sent),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
