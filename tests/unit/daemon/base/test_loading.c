/* SPDX-License-Identifier: Apache-2.0 */
/* Load times: the slowest link counts, and what comes from NVMe crosses the device's link
 * too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/loading.h"

/* In milliseconds. */
static int loading_ms(const struct loading_rates *rates, uint64_t hbm, uint64_t ddr, uint64_t nvme)
{
	return (int)(loading_seconds(rates, hbm, ddr, nvme) * 1000 + 0.5);
}

static void test_the_slowest_link_counts(void **state)
{
	(void)state;
	const struct loading_rates rates = {
		.hbm_bytes_s = 100, .link_bytes_s = 10, .nvme_bytes_s = 5};

	assert_int_equal(loading_ms(&rates, 0, 0, 0), 0);
	assert_int_equal(loading_ms(&rates, 1000, 0, 0), 10000);
	assert_int_equal(loading_ms(&rates, 10, 1000, 0), 100000);
	assert_int_equal(loading_ms(&rates, 0, 100, 50), 15000);
	assert_int_equal(loading_ms(&rates, 0, 10, 100), 20000);
}

static void test_an_unknown_rate_takes_no_time(void **state)
{
	(void)state;
	struct loading_rates rates = {.link_bytes_s = 10};

	assert_int_equal(loading_ms(&rates, 1000, 10, 100), 11000);
	rates.link_bytes_s = 0;
	assert_int_equal(loading_ms(&rates, 1000, 10, 100), 0);
}

static void test_sums_do_not_wrap(void **state)
{
	(void)state;
	const struct loading_rates rates = {.link_bytes_s = 0x1p64};

	assert_int_equal(loading_ms(&rates, 0, UINT64_MAX, UINT64_MAX), 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_slowest_link_counts),
		cmocka_unit_test(test_an_unknown_rate_takes_no_time),
		cmocka_unit_test(test_sums_do_not_wrap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
