/* SPDX-License-Identifier: Apache-2.0 */
/* The node of each GPU is kept, once, whatever number of daemons there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/device/device.h"
#include "daemon/service/device_nodes.h"
#include "daemon/state/keep.h"
#include "tests/support/file.h"
#include "tests/support/leaks.h"
#include "tests/support/store_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct leaks leaks;
static char folder[64], information[160], gpu[128], node[128];

static CUresult bus_id(char *id, int length, CUdevice device)
{
	snprintf(id, (size_t)length, "0000:3B:00.%d", (int)device); /* as the driver spells it */
	return CUDA_SUCCESS;
}

static int setup(void **state)
{
	(void)state;
	leaks_begin(&leaks);
	store_rig_open();
	snprintf(folder, sizeof(folder), "/tmp/hbm-nodes-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(gpu, sizeof(gpu), "%s/0000:3b:00.0", folder);
	snprintf(information, sizeof(information), "%s/information", gpu);
	snprintf(node, sizeof(node), "%s/nvidia7", folder);
	assert_int_equal(mkdir(gpu, 0700), 0);
	file_write(information, "Model: \t\t a GPU\nDevice Minor: \t 7\nGPU Excluded:\t No\n");
	file_write(node, "");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(node);
	unlink(information);
	rmdir(gpu);
	assert_int_equal(rmdir(folder), 0);
	store_rig_close();
	assert_int_equal(leaks_end(&leaks), 0);
	return 0;
}

/* Two devices, of one of which there is nothing to be found. */
static void keep_nodes(enum hbm_driver kind)
{
	static struct driver driver;
	static struct device list[2];

	driver.cuDeviceGetPCIBusId = bus_id;
	list[0] = (struct device){.driver = &driver, .handle = 0};
	list[1] = (struct device){.driver = &driver, .handle = 1};
	const struct devices devices = {.driver = &driver, .kind = kind, .count = 2, .list = list};
	device_nodes_keep(&devices, folder, folder);
}

static void test_a_node_is_kept_once(void **state)
{
	char name[KEEP_NAME_BYTES];
	(void)state;

	keep_nodes(HBM_DRIVER_CUDA);
	assert_int_equal(store_rig_count(), 1);
	for (int i = 0; i < 3; i++) {
		store_rig_settle();
		store_rig_next();
		assert_true(keep_find("device-7", name));
		keep_nodes(HBM_DRIVER_CUDA);
		keep_let_go();
		assert_int_equal(store_rig_count(), 1);
	}
}

static void test_a_soft_device_has_none(void **state)
{
	(void)state;
	keep_nodes(HBM_DRIVER_SOFT);
	assert_int_equal(store_rig_count(), 0);
}

static void test_a_node_that_is_not_there(void **state)
{
	(void)state;
	unlink(node);
	keep_nodes(HBM_DRIVER_CUDA);
	assert_int_equal(store_rig_count(), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_node_is_kept_once),
		TEST(test_a_soft_device_has_none),
		TEST(test_a_node_that_is_not_there),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
