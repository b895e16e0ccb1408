/* SPDX-License-Identifier: Apache-2.0 */
/* Devices as a client sees them: their order, those it does not see, and its own context. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/support/client_region.h"
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

static bool reaches(unsigned device, const struct hbm_region *region)
{
	char byte;
	return soft.peek(&byte, device, hbm_region_address(region), 1) == 0;
}

/* What is the daemon's device 0 is device 1 here: a region of it is of device 1. */
static void test_devices_counted_differently(void **state)
{
	(void)state;
	int ordinal = -1;
	assert_int_equal(hbm_device_ordinal(hbm, 0, &ordinal), 0);
	assert_int_equal(ordinal, 0);
	CUuuid first = fake.uuids[0];
	fake.uuids[0] = fake.uuids[1];
	fake.uuids[1] = first;
	client_region_reconnect();
	assert_int_equal(hbm_device_ordinal(hbm, 0, &ordinal), 0);
	assert_int_equal(ordinal, 1);
	assert_int_equal(hbm_device_ordinal(hbm, 1, &ordinal), 0);
	assert_int_equal(ordinal, 0);
	assert_int_equal(hbm_device_ordinal(hbm, FAKE_DEVICES, &ordinal), HBM_INVALID);

	struct hbm_region *region = client_region_make(1);
	assert_int_equal(client_region_commit(region, 0, 1), 0);
	assert_int_equal(hbm_region_device(region), 0);
	assert_true(reaches(1, region));
	assert_false(reaches(0, region));
}

static void test_device_not_seen(void **state)
{
	(void)state;
	struct hbm_region_options options = {.address_space = SLAB, .slab = SLAB};
	struct hbm_region *region;
	uint64_t address;
	int ordinal = 7;
	fake.uuids[0].bytes[0] = (char)0x9f;
	client_region_reconnect();
	assert_int_equal(hbm_device_ordinal(hbm, 0, &ordinal), -ENODEV);
	assert_int_equal(ordinal, 7);
	assert_string_equal(
		hbm_error(hbm),
		"device 0 (GPU-9f626d20-736f-6674-2064-657669636500) is not visible to this "
		"process: see CUDA_VISIBLE_DEVICES");
	assert_int_equal(hbm_region_create(hbm, &options, &region), -ENODEV);
	assert_int_equal(hbm_fence_device(hbm, 0, 0, &address), -ENODEV);
	assert_int_equal(hbm_fence_device(hbm, 1, 0, &address), 0);
	options.device = 1;
	assert_int_equal(hbm_region_create(hbm, &options, &region), 0);
}

/* A driver whose devices cannot be told apart is not used, and is asked again. */
static void test_devices_that_do_not_tell(void **state)
{
	(void)state;
	int ordinal;
	for (const char *const *name = (const char *const[]){"cuDeviceGetCount", "cuDeviceGet",
							     "cuDeviceGetUuid", NULL};
	     *name; name++) {
		client_region_reconnect();
		assert_int_equal(soft.fail_nth(*name, 1, CUDA_ERROR_UNKNOWN), 0);
		assert_int_equal(hbm_device_ordinal(hbm, 0, &ordinal), HBM_DEVICE);
		assert_non_null(strstr(hbm_error(hbm), *name));
		assert_int_equal(hbm_device_ordinal(hbm, 0, &ordinal), 0);
	}
}

static void test_the_callers_context_stays(void **state)
{
	(void)state;
	const struct driver *driver = fake.driver;
	CUdevice device;
	CUcontext mine, current;
	assert_int_equal(driver->cuDeviceGet(&device, 1), CUDA_SUCCESS);
	assert_int_equal(driver->cuDevicePrimaryCtxRetain(&mine, device), CUDA_SUCCESS);

	for (int i = 0; i < 2; i++) {
		CUcontext before = i ? mine : NULL;

		assert_int_equal(driver->cuCtxSetCurrent(before), CUDA_SUCCESS);
		struct hbm_region *region = client_region_make(2);
		uint64_t address;
		assert_int_equal(client_region_commit(region, 0, 2), 0);
		assert_int_equal(client_region_decommit(region, 0, 1), 0);
		assert_int_equal(hbm_fence_device(hbm, 0, 1, &address), 0);
		assert_int_equal(hbm_region_destroy(hbm, region), 0);
		assert_int_equal(driver->cuCtxGetCurrent(&current), CUDA_SUCCESS);
		assert_ptr_equal(current, before);
	}

	assert_int_equal(driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);
	assert_int_equal(driver->cuDevicePrimaryCtxRelease(device), CUDA_SUCCESS);
}

int main(void)
{
#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, client_region_setup, client_region_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_devices_counted_differently),
		TEST(test_device_not_seen),
		TEST(test_devices_that_do_not_tell),
		TEST(test_the_callers_context_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
