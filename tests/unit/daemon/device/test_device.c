/* SPDX-License-Identifier: Apache-2.0 */
/* Opening devices and the daemon's own device memory, also where the n-th device call
 * fails, for every n. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/config/config.h"
#include "daemon/device/device.h"
#include "daemon/loop/loop.h"
#include "tests/support/soft_pool.h"

static void configure(struct config *config)
{
	log_open(LOG_CRIT);
	assert_int_equal(config_defaults(config), 0);
	config->driver = CONFIG_DRIVER_SOFT;
	config->soft_devices = 2;
	config->soft_memory = 64 * MIB;
}

static void devices_have_facts(void **state)
{
	(void)state;
	struct soft_pool pool;
	pool_open(&pool, 0);
	assert_int_equal(pool.devices->kind, HBM_DRIVER_SOFT);

	for (uint32_t i = 0; i < 2; i++) {
		const struct device *device = &pool.devices->list[i];

		assert_int_equal(device->index, i);
		assert_int_equal(device->total, 64 * MIB);
		assert_int_equal(device->granularity, GRANULE);
		assert_int_not_equal(device->name[0], '\0');
		assert_non_null(device->control);
	}

	pool_close(&pool);
}

/* Memory for network cards where it can be had: not where the driver does not offer it, nor
 * where it refuses it all the same. */
static void memory_is_made_for_rdma_where_it_can_be(void **state)
{
	(void)state;
	static const char *const fails[] = {"", "cuMemGetAllocationGranularity:1"};

	for (unsigned i = 0; i < 2; i++) {
		struct config config;
		struct devices *devices;
		struct loop *loop;
		char error[256];

		configure(&config);
		free(config.soft_fail);
		config.soft_fail = strdup(fails[i]);
		assert_int_equal(loop_new(&loop, &(struct loop_options){.io_depth = 1}), 0);
		assert_int_equal(devices_open(&devices, &config, loop, error, sizeof(error)), 0);
		assert_int_equal(
			device_allocation(&devices->list[0]).allocFlags.gpuDirectRDMACapable,
			i == 0);
		assert_int_equal(devices->list[0].granularity, GRANULE);
		devices_close(devices);
		loop_flush(loop);
		loop_free(loop);
		config_clear(&config);
	}
}

/* A driver whose device has every attribute but the lacking one, which it does not have
 * or does not know. */
static CUdevice_attribute lacking;
static CUresult lacking_result;
static int compute_mode;

static CUresult attribute_of(int *value, CUdevice_attribute attribute, CUdevice device)
{
	(void)device;
	*value =
		attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_MODE ? compute_mode : attribute != lacking;
	return attribute == lacking ? lacking_result : CUDA_SUCCESS;
}

static void a_device_without_what_is_needed_is_refused(void **state)
{
	(void)state;
	static const struct {
		CUdevice_attribute attribute;
		int answer;
	} cases[] = {
		{CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, -EOPNOTSUPP},
		{CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, -EOPNOTSUPP},
		{CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, -EOPNOTSUPP},
		{CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, -EOPNOTSUPP},
		{CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS, 0}, /* the clients' business */
		{CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, 0},
	};
	const struct driver driver = {.cuDeviceGetAttribute = attribute_of};
	const struct device device = {.driver = &driver, .name = "a device"};
	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		char error[256] = "";
		lacking = cases[i / 2].attribute;
		lacking_result = i % 2 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
		assert_int_equal(device_check(&device, error, sizeof(error)), cases[i / 2].answer);
		assert_int_equal(strstr(error, "a device") != NULL, cases[i / 2].answer != 0);
	}
}

static void a_compute_mode_that_excludes_us_is_refused(void **state)
{
	(void)state;
	static const int answers[] = {
		[0] = 0, [1] = 0, [2] = -EACCES, [3] = 0}; /* 1, 3: warnings */
	const struct driver driver = {.cuDeviceGetAttribute = attribute_of};
	const struct device device = {.driver = &driver};
	lacking = CU_DEVICE_ATTRIBUTE_PCI_BUS_ID;
	log_open(LOG_CRIT);

	for (compute_mode = 0; compute_mode < 4; compute_mode++) {
		char error[256] = "";
		assert_int_equal(device_check(&device, error, sizeof(error)),
				 answers[compute_mode]);
		assert_int_equal(error[0] != '\0', answers[compute_mode] != 0);
	}

	compute_mode = 0;
}

static void opening_survives_the_nth_failure(void **state)
{
	(void)state;
	int r = -1;
	for (unsigned n = 1; r < 0; n++) {
		struct config config;
		struct leaks leaks;
		struct loop *loop;
		struct devices *devices = NULL;
		char error[256] = "", fail[32];

		assert_in_range(n, 1, 100);
		leaks_begin(&leaks);
		configure(&config);
		snprintf(fail, sizeof(fail), "*:%u", n);
		char *before = config.soft_fail;
		config.soft_fail = fail;
		assert_int_equal(loop_new(&loop, &(struct loop_options){.io_depth = 1}), 0);
		r = devices_open(&devices, &config, loop, error, sizeof(error));
		if (r < 0) {
			assert_null(devices);
			assert_int_not_equal(error[0], '\0');
		}

		devices_close(devices);
		loop_free(loop);
		config.soft_fail = before;
		config_clear(&config);
		assert_int_equal(leaks_end(&leaks), 0);
	}
}

enum { MANY = 4 };

static pthread_barrier_t all_here;
static unsigned retained;

/* Does not return before it is called for every device. */
static CUresult retain_with_the_others(CUcontext *context, CUdevice device)
{
	(void)device;
	pthread_barrier_wait(&all_here);
	*context = (CUcontext)&all_here;
	__atomic_fetch_add(&retained, 1, __ATOMIC_RELAXED);

	return CUDA_SUCCESS;
}

static CUresult enter_it(CUcontext context)
{
	(void)context;
	return CUDA_SUCCESS;
}

static CUresult know_of_memory(size_t *bytes, size_t *total)
{
	*bytes = *total = 5 * MIB;
	return CUDA_SUCCESS;
}

static void contexts_are_made_at_the_same_time(void **state)
{
	(void)state;
	struct driver driver = {.cuDevicePrimaryCtxRetain = retain_with_the_others,
				.cuCtxSetCurrent = enter_it,
				.cuMemGetInfo = know_of_memory};
	struct device list[MANY] = {0};
	struct devices devices = {.driver = &driver, .count = MANY, .list = list};
	struct loop *loop;
	char error[256] = "";

	log_open(LOG_CRIT);
	assert_int_equal(loop_new(&loop, &(struct loop_options){.io_depth = 1}), 0);
	for (uint32_t i = 0; i < MANY; i++)
		list[i] = (struct device){.driver = &driver, .index = i};

	pthread_barrier_init(&all_here, NULL, MANY);
	assert_int_equal(devices_start(&devices, loop, error, sizeof(error)), 0);
	pthread_barrier_destroy(&all_here);
	assert_int_equal(retained, MANY);
	for (uint32_t i = 0; i < MANY; i++) {
		assert_int_equal(device_free(&list[i]), 5 * MIB);
		list[i].control = worker_free(list[i].control);
	}

	loop_free(loop);
}

static void memory_is_mapped_and_usable(void **state)
{
	(void)state;
	struct soft_pool pool;
	struct device_memory memory;
	pool_open(&pool, 0);
	struct device *device = &pool.devices->list[1];
	assert_int_equal(device_memory_open(&memory, device, 12 * MIB, 4 * MIB), CUDA_SUCCESS);
	assert_int_equal(memory.mapped, 12 * MIB);
	assert_int_equal(pool.call.live("mappings"), 3);
	char out[6] = "";
	CUdeviceptr at = memory.address + 8 * MIB - 3;
	assert_int_equal(device->driver->cuMemcpyHtoD(at, "hello", 6), CUDA_SUCCESS);
	assert_int_equal(device->driver->cuMemcpyDtoH(out, at, 6), CUDA_SUCCESS);
	assert_string_equal(out, "hello");
	device_memory_close(&memory);
	assert_int_equal(memory.address, 0);
	device_memory_close(&memory);
	assert_int_equal(device_memory_open(&memory, device, 0, 4 * MIB), CUDA_SUCCESS);
	device_memory_close(&memory);
	assert_int_equal(device_memory_open(&memory, device, 68 * MIB, 4 * MIB),
			 CUDA_ERROR_OUT_OF_MEMORY);
	pool_close(&pool);
}

/* Few handles, whatever the number of bytes: the n-th doubling of a granule is there at
 * most once at the end. */
static void memory_of_odd_size_has_few_handles(void **state)
{
	(void)state;
	struct soft_pool pool;
	struct device_memory memory;
	pool_open(&pool, 0);
	struct device *device = &pool.devices->list[0];
	assert_int_equal(device_memory_open(&memory, device, 46 * MIB, 16 * MIB), CUDA_SUCCESS);
	assert_int_equal(memory.mapped, 46 * MIB);
	assert_int_equal(pool.call.live("mappings"), 5); /* 16, 16, 8, 4, 2 */
	char out[6] = "";
	CUdeviceptr at = memory.address + 44 * MIB - 3;
	assert_int_equal(device->driver->cuMemcpyHtoD(at, "hello", 6), CUDA_SUCCESS);
	assert_int_equal(device->driver->cuMemcpyDtoH(out, at, 6), CUDA_SUCCESS);
	assert_string_equal(out, "hello");
	device_memory_close(&memory);
	assert_int_equal(pool.call.live("mappings"), 0);
	assert_int_equal(device_memory_open(&memory, device, 2 * MIB, 16 * MIB), CUDA_SUCCESS);
	assert_int_equal(pool.call.live("mappings"), 1);
	device_memory_close(&memory);
	pool_close(&pool);
}

static void memory_survives_the_nth_failure(void **state)
{
	(void)state;
	struct soft_pool pool;
	pool_open(&pool, 0);
	struct device *device = &pool.devices->list[0];
	unsigned failures = 0;
	for (unsigned n = 1; n < 30; n++) {
		struct device_memory memory = {0};

		assert_int_equal(pool.call.fail_nth("*", n, CUDA_ERROR_UNKNOWN), 0);
		CUresult r = device_memory_open(&memory, device, 12 * MIB, 4 * MIB);
		if (r != CUDA_SUCCESS) {
			assert_int_equal(r, CUDA_ERROR_UNKNOWN);
			assert_int_equal(memory.address, 0);
			failures++;
		}

		device_memory_close(&memory);
		pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
		assert_int_equal(pool.call.live("handles"), 0);
		assert_int_equal(pool.call.live("mappings"), 0);
		assert_int_equal(pool.call.live("reservations"), 0);
	}

	assert_in_range(failures, 8, 20);
	pool_close(&pool);
}

static void failures_are_counted_and_named(void **state)
{
	(void)state;
	struct soft_pool pool;
	pool_open(&pool, 0);
	struct device *device = &pool.devices->list[0];
	assert_int_equal(device_failed(device, "cuMemCreate", CUDA_ERROR_OUT_OF_MEMORY),
			 HBM_NO_SPACE);
	assert_int_equal(device_failed(device, "cuMemMap", CUDA_ERROR_UNKNOWN), HBM_DEVICE);
	assert_int_equal(device->errors, 2);
	pool_close(&pool);
}

static bool has_asked(void *arg)
{
	const struct device *device = arg;
	return !__atomic_load_n(&device->probe.asked, __ATOMIC_RELAXED);
}

/* What passes once may be anything; from a device that is gone everything fails alike. */
static void a_device_that_does_not_answer_is_lost(void **state)
{
	(void)state;
	struct soft_pool pool;
	pool_open(&pool, 0);
	struct device *device = &pool.devices->list[0];

	device_failed(device, "cuMemcpyAsync", CUDA_ERROR_UNKNOWN);
	pool_run(&pool, has_asked, device);
	assert_false(device_is_lost(device));

	assert_int_equal(pool.call.fail_nth("cuCtxSynchronize", 1, CUDA_ERROR_UNKNOWN), 0);
	device_failed(device, "cuMemCreate", CUDA_ERROR_OUT_OF_MEMORY); /* says nothing of it */
	assert_true(has_asked(device));
	assert_false(device_is_lost(device));
	device_failed(device, "cuMemcpyAsync", CUDA_ERROR_UNKNOWN);
	pool_run(&pool, has_asked, device);
	assert_true(device_is_lost(device));
	assert_false(device_is_lost(&pool.devices->list[1]));

	uint64_t calls = pool.call.calls("cuCtxSynchronize");
	device_failed(device, "cuMemcpyAsync", CUDA_ERROR_UNKNOWN);
	assert_true(has_asked(device));
	assert_int_equal(pool.call.calls("cuCtxSynchronize"), calls);
	pool_close(&pool);
}

static bool has_read(void *arg)
{
	const struct device *device = arg;
	return !__atomic_load_n(&device->look.asked, __ATOMIC_RELAXED);
}

/* What anybody has of it, us too; looked at now and then. */
static void free_memory_is_known(void **state)
{
	(void)state;
	struct soft_pool pool;
	struct device_memory memory;
	pool_open(&pool, 0);
	struct device *device = &pool.devices->list[0];
	uint64_t free_at_first = device_free(device);

	assert_int_equal(free_at_first, device->total);
	assert_int_equal(device_memory_open(&memory, device, 4 * GRANULE, GRANULE), 0);
	pool_run(&pool, has_read, device);
	assert_int_equal(device_free(device), free_at_first); /* not again at once */
	device->read_ns = 0;
	(void)device_free(device);
	pool_run(&pool, has_read, device);
	assert_int_equal(device_free(device), free_at_first - 4 * GRANULE);
	device_memory_close(&memory);
	pool_close(&pool);
}

/* How many lines a file has, which is then removed. */
static unsigned lines_in(const char *path)
{
	FILE *file = fopen(path, "r");
	unsigned lines = 0;

	assert_non_null(file);
	for (int c; (c = fgetc(file)) != EOF;)
		lines += c == '\n';
	fclose(file);
	unlink(path);

	return lines;
}

/* A lost device fails every copy of thousands: that is one line. Others have a quota. */
static void a_lost_device_is_logged_once(void **state)
{
	(void)state;
	char path[] = "/tmp/test_device.XXXXXX";
	struct soft_pool pool;
	pool_open(&pool, 0);
	struct device *device = &pool.devices->list[0], *other = &pool.devices->list[1];
	int log = mkstemp(path), before = dup(STDERR_FILENO);
	assert_in_range(log, 0, 1023);
	log_open(LOG_INFO);
	dup2(log, STDERR_FILENO);

	for (int i = 0; i < 3; i++) {
		device_failed(device, "cuMemcpyAsync", CUDA_ERROR_ECC_UNCORRECTABLE);
		device_failed(device, "cuMemMap", CUDA_ERROR_UNKNOWN);
	}

	other->log = (struct log_quota){.second_ns = UINT64_MAX / 2,
					.count = LOG_QUOTA}; /* far from over */
	device_failed(other, "cuMemcpyAsync", CUDA_ERROR_UNKNOWN);
	dup2(before, STDERR_FILENO);
	log_open(LOG_CRIT);
	close(before);
	close(log);
	assert_int_equal(lines_in(path), 4);
	assert_int_equal(device_errors(device), 6);
	assert_int_equal(device_errors(other), 1);
	assert_true(device_is_lost(device));
	assert_false(device_is_lost(other));
	pool_close(&pool);
}

static void undoing_is_tried_again_unless_all_is_lost(void **state)
{
	(void)state;
	struct soft_pool pool;
	pool_open(&pool, 0);
	struct device *device = &pool.devices->list[0];
	CUmemAllocationProp prop = device_allocation(device);
	CUmemGenericAllocationHandle handle;
	assert_int_equal(device->driver->cuMemCreate(&handle, GRANULE, &prop, 0), CUDA_SUCCESS);
	assert_int_equal(pool.call.fail_nth("cuMemRelease", 1, CUDA_ERROR_LAUNCH_FAILED), 0);
	assert_int_equal(device_release(device, handle), CUDA_ERROR_LAUNCH_FAILED);
	assert_int_equal(pool.call.live("handles"), 1);
	assert_int_equal(pool.call.fail_nth("cuMemRelease", 1, CUDA_ERROR_UNKNOWN), 0);
	assert_int_equal(device_release(device, handle), CUDA_SUCCESS);
	assert_int_equal(pool.call.live("handles"), 0);
	pool_close(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(devices_have_facts),
		cmocka_unit_test(memory_is_made_for_rdma_where_it_can_be),
		cmocka_unit_test(a_device_without_what_is_needed_is_refused),
		cmocka_unit_test(a_compute_mode_that_excludes_us_is_refused),
		cmocka_unit_test(opening_survives_the_nth_failure),
		cmocka_unit_test(contexts_are_made_at_the_same_time),
		cmocka_unit_test(memory_is_mapped_and_usable),
		cmocka_unit_test(memory_of_odd_size_has_few_handles),
		cmocka_unit_test(memory_survives_the_nth_failure),
		cmocka_unit_test(failures_are_counted_and_named),
		cmocka_unit_test(a_device_that_does_not_answer_is_lost),
		cmocka_unit_test(free_memory_is_known),
		cmocka_unit_test(a_lost_device_is_logged_once),
		cmocka_unit_test(undoing_is_tried_again_unless_all_is_lost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
