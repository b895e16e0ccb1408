/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: streams, events, values in memory, and host functions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/soft_device.h"

static uint64_t *shared_word(const struct driver *driver)
{
	return soft_host(driver, 4096, CU_MEMHOSTREGISTER_DEVICEMAP | CU_MEMHOSTREGISTER_PORTABLE);
}

/* Of a word in a page that shared_word() made. */
static CUdeviceptr device_address(const struct driver *driver, const uint64_t *word)
{
	const uint64_t inside = (uintptr_t)word % 4096;

	return soft_alias(driver, (void *)((uintptr_t)word - inside)) + inside;
}

static void set_word(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static uint64_t get_word(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void test_create_refuses(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUstream stream;
	int least, greatest;

	assert_int_equal(driver->cuCtxGetStreamPriorityRange(&least, &greatest), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamCreate(&stream, 2), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuStreamCreate(NULL, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuStreamCreateWithPriority(&stream, 0, least + 1),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuStreamCreateWithPriority(&stream, 0, greatest - 1),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(
		driver->cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, greatest),
		CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
}

static void test_stream_after_destroy(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUstream stream = soft_stream(driver), next;

	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	next = soft_stream(driver);
	assert_ptr_not_equal(stream, next);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuStreamQuery(stream), CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuStreamQuery(NULL),
			 CUDA_ERROR_INVALID_HANDLE); /* there is no default stream */
	assert_int_equal(driver->cuStreamDestroy(next), CUDA_SUCCESS);
}

static void test_other_contexts_handles(void **state)
{
	const struct soft_device *soft = *state;
	const struct driver *driver = soft->driver;
	CUstream stream = soft_stream(driver), other_stream;
	CUevent event, other_event;
	CUcontext other;
	float milliseconds;

	assert_int_equal(driver->cuEventCreate(&event, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuDevicePrimaryCtxRetain(&other, 1), CUDA_SUCCESS);
	assert_int_equal(driver->cuCtxSetCurrent(other), CUDA_SUCCESS);
	other_stream = soft_stream(driver);
	assert_int_equal(driver->cuEventCreate(&other_event, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuEventRecord(event, other_stream), CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuEventRecord(other_event, stream), CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuStreamWaitEvent(other_stream, event, 0),
			 CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuEventSynchronize(event), CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuEventElapsedTime(&milliseconds, other_event, event),
			 CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuEventDestroy(event), CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuEventDestroy(other_event), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamDestroy(other_stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuCtxSetCurrent(soft->context), CUDA_SUCCESS);
	assert_int_equal(driver->cuDevicePrimaryCtxRelease(1), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventDestroy(event), CUDA_SUCCESS);

	/* A stream is no event, and an event no stream. */
	assert_int_equal(driver->cuEventDestroy((CUevent)(void *)stream),
			 CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
}

static void test_wait_conditions(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	static const struct {
		unsigned flags;
		uint64_t asked, no, yes;
	} cases[] = {
		{CU_STREAM_WAIT_VALUE_GEQ, 10, 9, 11},
		{CU_STREAM_WAIT_VALUE_GEQ, 10, 9, 10},
		/* the difference is signed: timelines may wrap */
		{CU_STREAM_WAIT_VALUE_GEQ, 0, ~0ull, 5},
		{CU_STREAM_WAIT_VALUE_EQ, 10, 11, 10},
		{CU_STREAM_WAIT_VALUE_AND, 6, 9, 2},
		{CU_STREAM_WAIT_VALUE_NOR, ~1ull, 1, 0},
	};
	CUstream stream = soft_stream(driver);
	uint64_t *word = shared_word(driver);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		set_word(word, cases[i].no);
		assert_int_equal(driver->cuStreamWaitValue64(stream, device_address(driver, word),
							     cases[i].asked, cases[i].flags),
				 CUDA_SUCCESS);
		usleep(2000);
		assert_int_equal(driver->cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
		set_word(word, cases[i].yes);
		assert_int_equal(driver->cuStreamSynchronize(stream), CUDA_SUCCESS);
	}

	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	soft_host_free(driver, word, 4096);
}

static void test_values_refuse(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUstream stream = soft_stream(driver);
	uint64_t *word = shared_word(driver), plain = 0;

	assert_int_equal(
		driver->cuStreamWaitValue64(stream, device_address(driver, word) + 4, 0, 0),
		CUDA_ERROR_MISALIGNED_ADDRESS);
	assert_int_equal(
		driver->cuStreamWriteValue64(stream, device_address(driver, word) + 1, 0, 0),
		CUDA_ERROR_MISALIGNED_ADDRESS);
	assert_int_equal(driver->cuStreamWriteValue64(stream, (CUdeviceptr)(uintptr_t)&plain, 0, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuStreamWriteValue64(stream, device_address(driver, word), 0, 2),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(
		driver->cuStreamWaitValue64(stream, device_address(driver, word), 0, 1u << 30),
		CUDA_ERROR_NOT_SUPPORTED);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	soft_host_free(driver, word, 4096);
}

static void test_values_in_device_memory(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr memory = soft_memory(driver, 0, GRANULE);
	CUstream one = soft_stream(driver), two = soft_stream(driver);
	uint64_t seen = 0;

	assert_int_equal(driver->cuStreamWaitValue64(two, memory + 64, 5, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamWriteValue64(two, memory + 128, 6, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemUnmap(memory, GRANULE), CUDA_ERROR_ILLEGAL_STATE);
	assert_int_equal(driver->cuStreamWriteValue64(one, memory + 64, 5, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamSynchronize(two), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamSynchronize(one), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyDtoH(&seen, memory + 128, sizeof(seen)), CUDA_SUCCESS);
	assert_int_equal(seen, 6);
	assert_int_equal(driver->cuStreamDestroy(one), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamDestroy(two), CUDA_SUCCESS);
	soft_memory_free(driver, memory, GRANULE);
}

static void test_value_from_another_process(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUstream stream = soft_stream(driver);
	uint64_t *word = shared_word(driver);
	int status;
	pid_t child;

	set_word(word, 0);
	assert_int_equal(driver->cuStreamWaitValue64(stream, device_address(driver, word), 3, 0),
			 CUDA_SUCCESS);
	assert_int_equal(
		driver->cuStreamWriteValue64(stream, device_address(driver, word + 1), 4, 0),
		CUDA_SUCCESS);
	child = fork();
	assert_int_not_equal(child, -1);

	if (child == 0) {
		usleep(3000);
		set_word(word, 3);
		_exit(0);
	}

	assert_int_equal(driver->cuStreamSynchronize(stream), CUDA_SUCCESS);
	assert_int_equal(get_word(word + 1), 4);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	soft_host_free(driver, word, 4096);
}

static void test_events_order_streams(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUstream first = soft_stream(driver), second = soft_stream(driver);
	uint64_t *word = shared_word(driver);
	CUevent event;

	set_word(word, 0);
	set_word(word + 1, 0);
	assert_int_equal(driver->cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventQuery(event), CUDA_SUCCESS); /* never recorded */
	assert_int_equal(driver->cuStreamWaitEvent(second, event, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamSynchronize(second), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamWaitValue64(first, device_address(driver, word), 1, 0),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuEventRecord(event, first), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamWaitEvent(second, event, 0), CUDA_SUCCESS);
	assert_int_equal(
		driver->cuStreamWriteValue64(second, device_address(driver, word + 1), 1, 0),
		CUDA_SUCCESS);
	usleep(2000);
	assert_int_equal(get_word(word + 1), 0);
	assert_int_equal(driver->cuEventQuery(event), CUDA_ERROR_NOT_READY);

	/* The wait is for that recording: destroying the event does not end it. */
	assert_int_equal(driver->cuEventDestroy(event), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamQuery(second), CUDA_ERROR_NOT_READY);
	set_word(word, 1);
	assert_int_equal(driver->cuStreamSynchronize(second), CUDA_SUCCESS);
	assert_int_equal(get_word(word + 1), 1);
	assert_int_equal(driver->cuStreamDestroy(first), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamDestroy(second), CUDA_SUCCESS);
	soft_host_free(driver, word, 4096);
}

/* A wait taken before an event was recorded again is not moved to the later recording. */
static void test_rerecording_leaves_waits_alone(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUstream slow = soft_stream(driver), waiter = soft_stream(driver);
	uint64_t *word = shared_word(driver);
	CUevent event;

	set_word(word, 0);
	assert_int_equal(driver->cuEventCreate(&event, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventRecord(event, waiter), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamWaitEvent(waiter, event, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamWaitValue64(slow, device_address(driver, word), 1, 0),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuEventRecord(event, slow), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamSynchronize(waiter), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventQuery(event), CUDA_ERROR_NOT_READY);
	set_word(word, 1);
	assert_int_equal(driver->cuEventSynchronize(event), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventQuery(event), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventDestroy(event), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamDestroy(slow), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamDestroy(waiter), CUDA_SUCCESS);
	soft_host_free(driver, word, 4096);
}

static void test_elapsed_time(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUstream stream = soft_stream(driver);
	CUevent start, end, untimed;
	float milliseconds = -1;

	assert_int_equal(driver->cuEventCreate(&start, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventCreate(&end, CU_EVENT_BLOCKING_SYNC), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventCreate(&untimed, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventCreate(&untimed, 4), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuEventElapsedTime(&milliseconds, start, end),
			 CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuEventRecord(start, stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventRecord(untimed, stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventRecord(end, stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventSynchronize(end), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventElapsedTime(&milliseconds, start, untimed),
			 CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuEventElapsedTime(&milliseconds, start, end), CUDA_SUCCESS);
	assert_true(milliseconds >= 0);
	assert_int_equal(driver->cuEventDestroy(start), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventDestroy(start), CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuEventDestroy(end), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventDestroy(untimed), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
}

struct called {
	const struct driver *driver;
	pthread_t thread;
	CUresult result;
	int times;
};

static void host_function(void *argument)
{
	struct called *called = argument;
	int count;

	called->thread = pthread_self();
	called->times++;
	called->result = called->driver->cuDeviceGetCount(&count);
}

static void test_host_functions(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	struct called called = {.driver = driver};
	CUstream stream = soft_stream(driver);
	uint64_t *word = shared_word(driver);

	set_word(word, 0);
	assert_int_equal(driver->cuLaunchHostFunc(stream, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuStreamWaitValue64(stream, device_address(driver, word), 1, 0),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuLaunchHostFunc(stream, host_function, &called), CUDA_SUCCESS);
	assert_int_equal(called.times, 0);
	set_word(word, 1);
	assert_int_equal(driver->cuStreamSynchronize(stream), CUDA_SUCCESS);
	assert_int_equal(called.times, 1);
	assert_int_equal(called.result, CUDA_ERROR_NOT_PERMITTED);
	assert_int_equal(pthread_equal(called.thread, pthread_self()), 0);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	soft_host_free(driver, word, 4096);
}

/* Destroying a stream does not wait, and what was queued still runs. */
static void test_destroy_with_work(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr memory = soft_memory(driver, 0, GRANULE);
	CUstream stream = soft_stream(driver);
	uint64_t *word = shared_word(driver);
	CUevent event;

	set_word(word, 0);
	assert_int_equal(driver->cuEventCreate(&event, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamWaitValue64(stream, device_address(driver, word), 1, 0),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuMemsetD8Async(memory, 1, GRANULE, stream), CUDA_SUCCESS);
	assert_int_equal(
		driver->cuStreamWriteValue64(stream, device_address(driver, word + 1), 1, 0),
		CUDA_SUCCESS);
	assert_int_equal(driver->cuEventRecord(event, stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemUnmap(memory, GRANULE), CUDA_ERROR_ILLEGAL_STATE);
	set_word(word, 1);
	assert_int_equal(driver->cuCtxSynchronize(),
			 CUDA_SUCCESS); /* of all streams, this one too */
	assert_int_equal(get_word(word + 1), 1);
	assert_int_equal(driver->cuEventQuery(event), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventDestroy(event), CUDA_SUCCESS);
	soft_memory_free(driver, memory, GRANULE);
	soft_host_free(driver, word, 4096);
}

#define THREADS 4
#define ROUNDS 300

struct racer {
	const struct soft_device *soft;
	unsigned index;
	CUdeviceptr memory;
	unsigned char *host;
	uint64_t wrong;
};

/* Copies its own pattern there and back on its own stream, mapping and unmapping scratch
 * memory in between. */
static int at_once_setup(void **state)
{
	setenv("HBM_SOFT", "at_once=4KiB", 1);
	int r = soft_setup(state);
	unsetenv("HBM_SOFT");

	return r;
}

/* On an idle stream a small copy is done when its call returns, and so is what is recorded
 * after it; behind something else it has its turn. */
static void test_small_copies_at_once(void **state)
{
	enum { SMALL = 4096 };
	struct soft_device *soft = *state;
	const struct driver *driver = soft->driver;
	uint64_t *word = shared_word(driver);
	char *host = soft_host(driver, SMALL, CU_MEMHOSTREGISTER_PORTABLE), seen[SMALL];
	CUdeviceptr memory = soft_memory(driver, 0, GRANULE);
	CUstream stream = soft_stream(driver);
	CUevent event;

	assert_int_equal(driver->cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
	memset(host, 1, SMALL);
	assert_int_equal(driver->cuMemcpyHtoDAsync(memory, host, SMALL, stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventRecord(event, stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventQuery(event), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamQuery(stream), CUDA_SUCCESS);
	assert_int_equal(soft->call.peek(seen, 0, memory, SMALL), 0);
	assert_memory_equal(seen, host, SMALL);

	assert_int_equal(driver->cuStreamWaitValue64(stream, device_address(driver, word), 1, 0),
			 CUDA_SUCCESS);
	memset(host, 2, SMALL);
	assert_int_equal(driver->cuMemcpyHtoDAsync(memory, host, SMALL, stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventRecord(event, stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventQuery(event), CUDA_ERROR_NOT_READY);
	assert_int_equal(soft->call.peek(seen, 0, memory, SMALL), 0);
	assert_int_equal(seen[0], 1);
	set_word(word, 1);
	assert_int_equal(driver->cuEventSynchronize(event), CUDA_SUCCESS);
	assert_int_equal(soft->call.peek(seen, 0, memory, SMALL), 0);
	assert_memory_equal(seen, host, SMALL);

	assert_int_equal(driver->cuEventDestroy(event), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	soft_memory_free(driver, memory, GRANULE);
	soft_host_free(driver, host, SMALL);
	soft_host_free(driver, word, 4096);
}

static void *race(void *argument)
{
	struct racer *racer = argument;
	const struct driver *driver = racer->soft->driver;
	CUmemAllocationProp prop = soft_prop(0);
	CUstream stream;

	if (driver->cuCtxSetCurrent(racer->soft->context) != CUDA_SUCCESS ||
	    driver->cuStreamCreate(&stream, 0) != CUDA_SUCCESS)
		return racer;

	for (unsigned round = 0; round < ROUNDS; round++) {
		CUmemGenericAllocationHandle handle = 0;
		unsigned char byte = (unsigned char)(round + racer->index);

		memset(racer->host, byte, 4096);
		racer->wrong += driver->cuMemcpyHtoDAsync(racer->memory, racer->host, 4096,
							  stream) != CUDA_SUCCESS;
		racer->wrong += driver->cuMemcpyDtoHAsync(racer->host + 4096, racer->memory, 4096,
							  stream) != CUDA_SUCCESS;
		racer->wrong += driver->cuMemCreate(&handle, GRANULE, &prop, 0) != CUDA_SUCCESS;
		racer->wrong += driver->cuStreamSynchronize(stream) != CUDA_SUCCESS;
		racer->wrong += memcmp(racer->host, racer->host + 4096, 4096) != 0;
		racer->wrong += driver->cuMemRelease(handle) != CUDA_SUCCESS;
	}

	racer->wrong += driver->cuStreamDestroy(stream) != CUDA_SUCCESS;

	return NULL;
}

static void test_threads_beside_each_other(void **state)
{
	const struct soft_device *soft = *state;
	const struct driver *driver = soft->driver;
	CUdeviceptr memory = soft_memory(driver, 0, GRANULE);
	unsigned char *host = soft_host(driver, THREADS * 8192, 0);
	struct racer racers[THREADS];
	pthread_t threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		racers[i] = (struct racer){soft, i, memory + i * 4096, host + i * 8192, 0};
		assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	}

	for (unsigned i = 0; i < THREADS; i++) {
		void *failed;

		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
		assert_int_equal(racers[i].wrong, 0);
	}

	soft_host_free(driver, host, THREADS * 8192);
	soft_memory_free(driver, memory, GRANULE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_create_refuses, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_stream_after_destroy, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_other_contexts_handles, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_wait_conditions, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_values_refuse, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_values_in_device_memory, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_value_from_another_process, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_events_order_streams, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_rerecording_leaves_waits_alone, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_elapsed_time, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_host_functions, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_destroy_with_work, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_small_copies_at_once, at_once_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_threads_beside_each_other, soft_setup,
						soft_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
