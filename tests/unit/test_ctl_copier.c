/* SPDX-License-Identifier: Apache-2.0 */
/* Copies into and out of a region's memory where this process counts the daemon's devices otherwise. */
#include "client/ctl/copier.c"
#include "tests/support/fakedaemon.h"
#include "tests/support/leaks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static struct fake fake;
static struct leaks leaks;
static struct hbm *hbm;

/* What the daemon calls device 0 is device 1 here, and the other way round. */
static int setup(void **state)
{
	(void)state;
	leaks_begin(&leaks);
	fake_open(&fake, 1);
	CUuuid first = fake.uuids[0];
	fake.uuids[0] = fake.uuids[1];
	fake.uuids[1] = first;
	struct hbm_options options = {.socket = fake.path};
	return hbm_connect(&hbm, &options);
}

static int teardown(void **state)
{
	(void)state;
	hbm = hbm_close(hbm);
	fake_close(&fake);
	assert_int_equal(leaks_end(&leaks), 0);
	return 0;
}

static struct hbm_region *make_region(void)
{
	struct hbm_region_options options = {.reserve = FAKE_SLAB, .slab = FAKE_SLAB};
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
	assert_int_equal(copier_open(&copier, hbm, hbm_region_device(region), error, sizeof(error)), 0);
	assert_int_equal(copier_enter(copier), 0);
	assert_int_equal(copier_write(copier, hbm_region_address(region), "q", 1), 0);
	assert_int_equal(copier_read(copier, &byte, hbm_region_address(region), 1), 0);
	assert_int_equal(byte, 'q');
	assert_int_equal(fake.driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);
	assert_null(copier_close(copier));
}

static void test_a_device_the_daemon_has_not(void **state)
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
		cmocka_unit_test_setup_teardown(test_copies_reach_the_region, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_device_the_daemon_has_not, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
