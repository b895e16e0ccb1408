/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: a device that is gone, and copies that go on when their process was told of an
 * error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/soft_device.h"

#define BYTES 4096u

/* A copy from the device into host memory, with what it will write. */
struct late {
	struct soft_device soft;
	CUdeviceptr memory;
	unsigned char *host;
	CUstream stream;
	CUevent event;
};

static void late_open(struct late *late)
{
	static const struct driver_soft_options options = {.devices = 2, .memory = 64 * MIB};
	static unsigned char bytes[BYTES];
	const struct driver *driver;

	soft_open(&late->soft, &options);
	driver = late->soft.driver;
	assert_int_equal(driver->cuDevicePrimaryCtxRetain(&late->soft.context, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuCtxSetCurrent(late->soft.context), CUDA_SUCCESS);
	late->memory = soft_memory(driver, 0, GRANULE);
	late->host = soft_host(driver, BYTES, CU_MEMHOSTREGISTER_PORTABLE);
	late->stream = soft_stream(driver);
	assert_int_equal(driver->cuEventCreate(&late->event, CU_EVENT_DISABLE_TIMING),
			 CUDA_SUCCESS);
	memset(bytes, 0x5a, sizeof(bytes));
	assert_int_equal(driver->cuMemcpyHtoD(late->memory, bytes, sizeof(bytes)), CUDA_SUCCESS);
}

static void late_close(struct late *late)
{
	assert_int_equal(munmap(late->host, BYTES), 0);
	soft_close(&late->soft);
}

static void late_copy(struct late *late)
{
	const struct driver *driver = late->soft.driver;

	assert_int_equal(driver->cuMemcpyDtoHAsync(late->host, late->memory, BYTES, late->stream),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuEventRecord(late->event, late->stream), CUDA_SUCCESS);
}

static void late_await_bytes(const struct late *late)
{
	const volatile unsigned char *last = &late->host[BYTES - 1];

	while (*last != 0x5a)
		sched_yield();
}

static void test_all_calls_of_one_device_fail(void **state)
{
	struct late late;
	struct driver *driver;
	CUmemAllocationProp prop = soft_prop(0), other = soft_prop(1);
	CUmemGenericAllocationHandle handle, here;
	CUcontext context;
	CUdeviceptr address;
	size_t bytes;
	int fd, pitch;

	(void)state;
	late_open(&late);
	driver = late.soft.driver;
	assert_int_equal(driver->cuMemCreate(&handle, GRANULE, &prop, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemAddressReserve(&address, GRANULE, 0, 0, 0), CUDA_SUCCESS);
	assert_int_equal(late.soft.call.gone(7), -EINVAL);
	assert_int_equal(late.soft.call.gone(0), 0);

	assert_int_equal(driver->cuMemCreate(&here, GRANULE, &prop, 0), CUDA_ERROR_UNKNOWN);
	assert_int_equal(driver->cuMemMap(address, GRANULE, 0, handle, 0), CUDA_ERROR_UNKNOWN);
	assert_int_equal(driver->cuMemExportToShareableHandle(
				 &fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
			 CUDA_ERROR_UNKNOWN);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_ERROR_UNKNOWN);
	assert_int_equal(driver->cuMemUnmap(late.memory, GRANULE), CUDA_ERROR_UNKNOWN);
	assert_int_equal(
		soft_access(driver, late.memory, GRANULE, 0, CU_MEM_ACCESS_FLAGS_PROT_READ),
		CUDA_ERROR_UNKNOWN);
	assert_int_equal(driver->cuMemcpyDtoHAsync(late.host, late.memory, 8, late.stream),
			 CUDA_ERROR_UNKNOWN);
	assert_int_equal(driver->cuStreamSynchronize(late.stream), CUDA_ERROR_UNKNOWN);
	assert_int_equal(driver->cuCtxSynchronize(), CUDA_ERROR_UNKNOWN);
	assert_int_equal(driver->cuMemHostUnregister(late.host), CUDA_ERROR_UNKNOWN);
	assert_int_equal(driver->cuDeviceGetAttribute(&pitch, CU_DEVICE_ATTRIBUTE_MAX_PITCH, 0),
			 CUDA_ERROR_UNKNOWN);
	assert_int_equal(driver->cuDevicePrimaryCtxRetain(&context, 0), CUDA_ERROR_UNKNOWN);

	/* the other device is none the worse for it */
	assert_int_equal(driver->cuDeviceTotalMem(&bytes, 1), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemCreate(&here, GRANULE, &other, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemMap(address, GRANULE, 0, here, 0), CUDA_SUCCESS);
	late_close(&late);
}

static void test_a_fault_takes_the_device_away(void **state)
{
	struct late late;

	(void)state;
	late_open(&late);
	assert_int_equal(late.soft.call.faults("cuStreamQuery:2:gone"), 0);
	assert_int_equal(late.soft.driver->cuStreamQuery(late.stream), CUDA_SUCCESS);
	assert_int_equal(late.soft.driver->cuStreamQuery(late.stream), CUDA_ERROR_UNKNOWN);
	assert_int_equal(late.soft.driver->cuCtxSynchronize(), CUDA_ERROR_UNKNOWN);
	late_close(&late);
}

/* Its waits return, and the bytes come afterwards. */
static void test_copies_go_on_without_their_device(void **state)
{
	struct late late;
	struct driver *driver;

	(void)state;
	late_open(&late);
	driver = late.soft.driver;
	late.soft.call.hold(true);
	late_copy(&late);
	assert_int_equal(driver->cuEventQuery(late.event), CUDA_ERROR_NOT_READY);
	while (late.soft.call.live("copies held") == 0)
		sched_yield();

	assert_int_equal(late.soft.call.gone(0), 0);
	assert_int_equal(driver->cuEventSynchronize(late.event), CUDA_ERROR_UNKNOWN);
	assert_int_equal(driver->cuStreamSynchronize(late.stream), CUDA_ERROR_UNKNOWN);
	assert_int_equal(late.host[BYTES - 1], 0);
	late.soft.call.hold(false);
	late_await_bytes(&late);
	late_close(&late);
}

static void test_copies_go_on_after_a_failed_synchronise(void **state)
{
	struct late late;
	struct driver *driver;

	(void)state;
	late_open(&late);
	driver = late.soft.driver;
	late.soft.call.hold(true);
	late_copy(&late);
	assert_int_equal(late.soft.call.faults("cuEventSynchronize:1,cuStreamSynchronize:1"), 0);
	assert_int_equal(driver->cuEventSynchronize(late.event), CUDA_ERROR_OPERATING_SYSTEM);
	assert_int_equal(driver->cuStreamSynchronize(late.stream), CUDA_ERROR_OPERATING_SYSTEM);
	assert_int_equal(late.host[BYTES - 1], 0);
	late.soft.call.hold(false);
	assert_int_equal(driver->cuStreamSynchronize(late.stream), CUDA_SUCCESS);
	assert_int_equal(late.host[BYTES - 1], 0x5a);
	late_close(&late);
}

/* Tests of other processes hold copies by a file. */
static void test_a_file_holds_copies(void **state)
{
	char path[] = "/tmp/hbm-hold-XXXXXX", words[64];
	struct late late;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	snprintf(words, sizeof(words), "hold=%s", path);
	setenv("HBM_SOFT", words, 1);
	late_open(&late);
	late_copy(&late);
	while (late.soft.call.live("copies held") == 0)
		sched_yield();

	assert_int_equal(late.host[BYTES - 1], 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(late.soft.driver->cuEventSynchronize(late.event), CUDA_SUCCESS);
	assert_int_equal(late.host[BYTES - 1], 0x5a);
	unsetenv("HBM_SOFT");
	late_close(&late);
}

struct unmapping {
	struct late *late;
	CUresult result;
	atomic_bool over;
};

static void *unmap_elsewhere(void *arg)
{
	struct unmapping *unmapping = arg;
	const struct late *late = unmapping->late;

	assert_int_equal(late->soft.driver->cuCtxSetCurrent(late->soft.context), CUDA_SUCCESS);
	unmapping->result = late->soft.driver->cuMemUnmap(late->memory, GRANULE);
	atomic_store(&unmapping->over, true);
	return NULL;
}

/* Without the option, unmapping what a copy uses is refused. */
static void test_unmapping_waits_for_copies(void **state)
{
	struct late late;
	struct unmapping unmapping = {.late = &late};
	pthread_t thread;

	(void)state;
	setenv("HBM_SOFT", "unmap_waits=1", 1);
	late_open(&late);
	late.soft.call.hold(true);
	late_copy(&late);
	assert_int_equal(pthread_create(&thread, NULL, unmap_elsewhere, &unmapping), 0);
	while (late.soft.call.calls("cuMemUnmap") == 0 || late.soft.call.live("copies held") == 0)
		sched_yield();
	assert_false(atomic_load(&unmapping.over));
	late.soft.call.hold(false);
	pthread_join(thread, NULL);
	assert_int_equal(unmapping.result, CUDA_SUCCESS);
	assert_int_equal(late.host[BYTES - 1], 0x5a);
	unsetenv("HBM_SOFT");
	late_close(&late);
}

/* As long as two calls that hold the context's lock one after the other. */
static void test_calls_hold_their_context(void **state)
{
	struct late late;
	struct timespec before, after;

	(void)state;
	setenv("HBM_SOFT", "call_us=2000", 1);
	late_open(&late);
	clock_gettime(CLOCK_MONOTONIC, &before);
	late_copy(&late);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_true((after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec >=
		    4000000L);
	unsetenv("HBM_SOFT");
	late_close(&late);
}

/* Closing the driver ends what is held. */
static void test_closing_lets_go(void **state)
{
	struct late late;

	(void)state;
	late_open(&late);
	late.soft.call.hold(true);
	late_copy(&late);
	late_close(&late);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_calls_of_one_device_fail),
		cmocka_unit_test(test_a_fault_takes_the_device_away),
		cmocka_unit_test(test_copies_go_on_without_their_device),
		cmocka_unit_test(test_copies_go_on_after_a_failed_synchronise),
		cmocka_unit_test(test_a_file_holds_copies),
		cmocka_unit_test(test_unmapping_waits_for_copies),
		cmocka_unit_test(test_calls_hold_their_context),
		cmocka_unit_test(test_closing_lets_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
