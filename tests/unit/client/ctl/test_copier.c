/* SPDX-License-Identifier: Apache-2.0 */
/* Copies into and out of a region's memory where this process counts the daemon's devices
 * otherwise. */
#include "client/ctl/copier.h"
#include "tests/support/fake_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

/* What the daemon calls device 0 is device 1 here, and the other way round. */
static int setup(void **state)
{
	(void)state;
	fake_stage_open(1);
	CUuuid first = fake.uuids[0];
	fake.uuids[0] = fake.uuids[1];
	fake.uuids[1] = first;
	fake_stage_connect();

	return 0;
}

static struct hbm_region *make_region(void)
{
	struct hbm_region_options options = {.address_space = FAKE_SLAB, .slab = FAKE_SLAB};
	struct hbm_region *region = NULL;
	assert_int_equal(hbm_region_create(hbm, &options, &region), 0);
	assert_int_equal(hbm_commit(hbm, &(struct hbm_range){region, 0, FAKE_SLAB}, 1), 0);
	return region;
}

static void test_copies_reach_the_region(void **state)
{
	(void)state;
	struct copier *copier = NULL;
	char error[256] = "", byte = 0;
	struct hbm_region *region = make_region();
	assert_int_equal(copier_open(&copier, hbm, hbm_region_device(region), error, sizeof(error)),
			 0);
	assert_int_equal(copier_enter(copier), 0);
	assert_int_equal(copier_write(copier, hbm_region_address(region), "q", 1), 0);
	assert_int_equal(copier_read(copier, &byte, hbm_region_address(region), 1), 0);
	assert_int_equal(byte, 'q');
	assert_int_equal(fake.driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);
	assert_null(copier_close(copier));
}

static void test_a_device_unknown_to_the_daemon(void **state)
{
	(void)state;
	struct copier *copier = NULL;
	char error[256] = "";
	assert_int_equal(copier_open(&copier, hbm, FAKE_DEVICES, error, sizeof(error)), -1);
	assert_string_equal(error, "device 2: the daemon has 2");
	assert_null(copier);
	assert_null(copier_close(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_copies_reach_the_region, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_a_device_unknown_to_the_daemon, setup,
						fake_stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
