/* SPDX-License-Identifier: Apache-2.0 */
/* What is measured at startup, and that what cannot be measured is unknown, and nothing
 * else. No expectation is of a rate, only of whether there is one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/region/slab.h"
#include "daemon/tier/probe.h"
#include "tests/support/soft_pool.h"

struct setting {
	struct soft_pool pool;
	struct device *device;
	struct device_memory memory;
};

static int setup(void **state)
{
	struct setting *setting = calloc(1, sizeof(*setting));

	assert_non_null(setting);
	pool_open(&setting->pool, 8 * MIB);

	for (uint32_t i = 0; i < 2; i++) { /* they allocate ahead */
		struct device *device = &setting->pool.devices->list[i];
		device->slabs = slabs_close(device->slabs);
	}

	setting->device = &setting->pool.devices->list[1];
	assert_int_equal(device_memory_open(&setting->memory, setting->device, GRANULE, GRANULE),
			 CUDA_SUCCESS);
	*state = setting;

	return 0;
}

/* Nothing that a probe registered is left. */
static int teardown(void **state)
{
	struct setting *setting = *state;
	struct soft_pool *pool = &setting->pool;

	assert_int_equal(pool->call.faults(""), 0);
	assert_int_equal(pool->call.live("registrations"), 0);
	device_memory_close(&setting->memory);
	pool_close(pool);
	free(setting);

	return 0;
}

/* ---- device ---- */

static double probe(const struct setting *setting)
{
	return probe_device(setting->device, setting->memory.address, GRANULE);
}

static void test_a_device(void **state)
{
	struct setting *setting = *state;
	assert_true(probe(setting) > 0);
	assert_true(probe_device(setting->device, setting->memory.address, 4096) > 0);
	assert_false(probe_device(setting->device, setting->memory.address, 4095) > 0);
}

static void test_each_call_of_a_device_fails(void **state)
{
	struct setting *setting = *state;
	static const char *const calls[] = {"cuMemHostRegister:1", "cuMemcpyHtoD:1",
					    "cuMemcpyHtoD:3"};
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		assert_int_equal(setting->pool.call.faults(calls[i]), 0);
		assert_false(probe(setting) > 0);
		assert_int_equal(device_errors(setting->device), i + 1);
		assert_int_equal(setting->pool.call.live("registrations"), 0);
	}

	assert_true(probe(setting) > 0);
}

/* ---- NVMe ---- */

static int file_of(uint64_t bytes)
{
	char path[] = "/var/tmp/hbmd-probe-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	assert_in_range(fd, 0, INT32_MAX);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static void test_a_file(void **state)
{
	(void)state;
	int fd = file_of(20 * MIB);
	assert_true(probe_nvme(fd, 0, 4096) > 0);
	assert_true(probe_nvme(fd, MIB, 19 * MIB) > 0);
	close(fd);
}

static void test_a_file_that_cannot_be_read(void **state)
{
	(void)state;
	int fd = file_of(3 * MIB);
	assert_false(probe_nvme(fd, 3 * MIB, MIB) > 0); /* beyond its end */
	close(fd);
	assert_false(probe_nvme(fd, 0, MIB) > 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_device),
		TEST(test_each_call_of_a_device_fails),
		TEST(test_a_file),
		TEST(test_a_file_that_cannot_be_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
