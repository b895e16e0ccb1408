/* SPDX-License-Identifier: Apache-2.0 */
/* Scrubbing: memory that was not clear is, and where the n-th device call fails nothing is left,
 * for every n. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/device/scrub.h"
#include "tests/support/soft_pool.h"

enum { GRANULES = 3, CALLS_AT_MOST = 30 };

static const char *const kinds[] = {"reservations", "mappings", "streams"};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static struct soft_pool pool;
static struct device *device;
static CUmemGenericAllocationHandle handle;

static int setup(void **state)
{
	(void)state;
	assert_int_equal(setenv("HBM_SOFT", "dirt=00ff00ff00ff00ff", 1), 0);
	pool_open(&pool, 0);
	device = &pool.devices->list[1];
	assert_int_equal(device_enter(device), CUDA_SUCCESS);

	CUmemAllocationProp prop = device_allocation(device);

	assert_int_equal(device->driver->cuMemCreate(&handle, GRANULES * GRANULE, &prop, 0),
			 CUDA_SUCCESS);

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(device_release(device, handle), CUDA_SUCCESS);
	pool_close(&pool);
	unsetenv("HBM_SOFT");

	return 0;
}

/* Whether each byte of the memory is that one, or that other. */
static void expect_bytes(unsigned char one, unsigned char other)
{
	const struct driver *driver = device->driver;
	const uint64_t bytes = GRANULES * GRANULE;
	unsigned char *seen = malloc(bytes);
	CUdeviceptr address;
	uint64_t right = 0;

	assert_non_null(seen);
	assert_int_equal(driver->cuMemAddressReserve(&address, bytes, 0, 0, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemMap(address, bytes, 0, handle, 0), CUDA_SUCCESS);
	assert_int_equal(device_allow(device, address, bytes), CUDA_SUCCESS);
	assert_int_equal(pool.call.peek(seen, 1, address, bytes), 0);
	for (uint64_t i = 0; i < bytes; i++)
		right += seen[i] == one || seen[i] == other;
	assert_int_equal(right, bytes);
	assert_int_equal(device_unmap(device, address, bytes), CUDA_SUCCESS);
	assert_int_equal(device_unreserve(device, address, bytes), CUDA_SUCCESS);
	free(seen);
}

static void what_is_dirty_is_clear(void **state)
{
	(void)state;
	expect_bytes(0x00, 0xff);
	assert_int_equal(scrub_memory(device, handle, GRANULES * GRANULE), CUDA_SUCCESS);
	expect_bytes(0x00, 0x00);
}

static void each_call_fails(void **state)
{
	unsigned failed = 0;

	(void)state;
	for (unsigned n = 1; n <= CALLS_AT_MOST; n++) {
		uint64_t before[KINDS];

		for (unsigned i = 0; i < KINDS; i++)
			before[i] = pool.call.live(kinds[i]);
		assert_int_equal(pool.call.fail_nth("*", n, CUDA_ERROR_OPERATING_SYSTEM), 0);
		failed += scrub_memory(device, handle, GRANULES * GRANULE) != CUDA_SUCCESS;
		assert_int_equal(pool.call.fail_nth(NULL, 0, CUDA_SUCCESS), 0);
		for (unsigned i = 0; i < KINDS; i++)
			if (pool.call.live(kinds[i]) != before[i])
				fail_msg("%s are left after call %u has failed", kinds[i], n);
	}

	/* all before the wait for the stream; that, and what undoes them, is tried again */
	assert_int_equal(failed, 5);
	assert_int_equal(scrub_memory(device, handle, GRANULES * GRANULE), CUDA_SUCCESS);
	expect_bytes(0x00, 0x00);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(what_is_dirty_is_clear),
		TEST(each_call_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
