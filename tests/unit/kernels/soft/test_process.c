/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: what it is to the process it is in: a forked child gets nothing from it, as with
 * the real driver, and is not hurt by that either; a child that is the first to use it
 * gets everything. And what it costs its process on request: litter that stays, calls
 * that take their time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/soft_device.h"

static int status_of(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int open_anew(void)
{
	char error[256] = "";
	struct driver *driver;

	if (driver_open(&driver, DRIVER_SOFT, NULL, error, sizeof(error)) == 0)
		return 1;
	return strstr(error, "cuInit failed with CUDA_ERROR_NOT_INITIALIZED: it was in use before "
			     "fork()") != NULL
		       ? 0
		       : 2;
}

/* In a child: what does not work; 0: nothing does, and giving the parent's table back
 * does no harm. */
static int use_of_parent(struct driver *driver)
{
	CUcontext context;
	CUmemAllocationProp prop = soft_prop(0);
	CUmemGenericAllocationHandle handle;

	if (driver->cuInit(0) != CUDA_ERROR_NOT_INITIALIZED)
		return 3;
	if (driver->cuCtxGetCurrent(&context) != CUDA_ERROR_NOT_INITIALIZED)
		return 4;
	if (driver->cuMemCreate(&handle, GRANULE, &prop, 0) != CUDA_ERROR_NOT_INITIALIZED)
		return 5;

	driver_close(driver);

	return open_anew();
}

static void test_a_forked_child_gets_nothing(void **state)
{
	struct driver *driver = ((struct soft_device *)*state)->driver;
	CUstream stream = soft_stream(driver); /* a thread that the child does not have */
	pid_t child = fork();

	assert_int_not_equal(child, -1);
	if (child == 0)
		_exit(use_of_parent(driver));

	assert_int_equal(status_of(child), 0);
	assert_int_equal(driver->cuStreamSynchronize(stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
}

/* Also when the parent has done with the driver before. */
static void test_past_use_is_enough(void **state)
{
	struct soft_device soft;
	pid_t child;

	(void)state;
	soft_open(&soft, NULL);
	soft_close(&soft);
	child = fork();
	assert_int_not_equal(child, -1);
	if (child == 0)
		_exit(open_anew());

	assert_int_equal(status_of(child), 0);
	soft_open(&soft, NULL);
	soft_close(&soft);
}

/* This and the next two run first: afterwards this process has used the driver. */
static void test_the_first_to_use_it_may_be_a_child(void **state)
{
	pid_t child = fork();

	(void)state;
	assert_int_not_equal(child, -1);
	if (child == 0)
		_exit(open_anew());

	assert_int_equal(status_of(child), 1);
}

/* ---- Litter ---- */

static unsigned entries(const char *path)
{
	unsigned count = 0;
	DIR *folder = opendir(path);

	assert_non_null(folder);
	while (readdir(folder) != NULL)
		count++;
	closedir(folder);

	return count;
}

/* Descriptors in a process that opens a driver, takes a context, makes calls, and closes
 * all that. */
static void count_on_the_way(unsigned counts[4], unsigned threads[4])
{
	struct driver *driver;
	CUcontext context;
	int devices;

	for (int step = 0; step < 4; step++) {
		if (step == 1 && driver_open(&driver, DRIVER_SOFT, NULL, NULL, 0) != 0)
			_exit(1);
		if (step == 2 && driver->cuDevicePrimaryCtxRetain(&context, 0) != CUDA_SUCCESS)
			_exit(2);

		for (int i = 0; step == 3 && i < 200; i++)
			driver->cuDeviceGetCount(&devices);
		counts[step] = entries("/proc/self/fd");
		threads[step] = entries("/proc/self/task");
	}

	driver->cuDevicePrimaryCtxRelease(0);
	driver_close(driver);
	if (entries("/proc/self/fd") != counts[3] || entries("/proc/self/task") != threads[3])
		_exit(3);
}

/* What a child saw that does not fit; 0: all does. */
static int judge(bool litters)
{
	struct leaks leaks;
	unsigned counts[4], threads[4];

	leaks_begin(&leaks); /* a sanitizer's own thread is there from here on */
	leaks_end(&leaks);
	count_on_the_way(counts, threads);

	for (int step = 1; step < 4; step++)
		if ((counts[step] > counts[step - 1]) != litters)
			return 3 + step;

	return (threads[3] == threads[0] + 2) == litters ? 0 : 7;
}

static void test_litter_stays(void **state)
{
	pid_t child;

	(void)state;

	for (int litters = 0; litters < 2; litters++) {
		child = fork();
		assert_int_not_equal(child, -1);

		if (child == 0) {
			setenv("HBM_SOFT", litters ? "litter=1" : "litter=0", 1);
			_exit(judge(litters));
		}

		assert_int_equal(status_of(child), 0);
	}
}

/* ---- Slowness ---- */

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* In a child, because cuInit is slow only once in a process; options given do not make it
 * fast. */
static int take_time(void)
{
	const struct driver_soft_options options = {.devices = 1};
	struct driver *driver;
	uint64_t start = now_us(), took;
	int count;

	if (driver_open(&driver, DRIVER_SOFT, &options, NULL, 0) != 0 || now_us() - start < 300000)
		return 1;

	start = now_us();
	if (driver->cuInit(0) != CUDA_SUCCESS || now_us() - start >= 300000)
		return 2;

	for (int i = 0; i < 2; i++) {
		start = now_us();
		driver->cuDeviceGetCount(&count);
		took = now_us() - start;
		if (took < 5000)
			return 3;
	}

	driver_close(driver);

	return 0;
}

static void test_slow_calls(void **state)
{
	pid_t child = fork();

	(void)state;
	assert_int_not_equal(child, -1);

	if (child == 0) {
		setenv("HBM_SOFT", "slow=cuInit:300000+cuDeviceGetCount:5000", 1);
		_exit(take_time());
	}

	assert_int_equal(status_of(child), 0);
}

static void test_bad_words_are_refused(void **state)
{
	static const char *const bad[] = {"litter=2",       "litter",          "litter=yes",
					  "slow=",          "slow=cuInit",     "slow=cuInit:",
					  "slow=cuInit:-1", "slow=cuInit:2e9", "slow=nothing:1",
					  "slow=*:1",       "slow=cuInit:1+"};
	const struct driver_soft_options options = {.devices = 1};
	struct driver *driver = NULL;

	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(setenv("HBM_SOFT", bad[i], 1), 0);
		assert_int_equal(driver_open(&driver, DRIVER_SOFT, &options, NULL, 0), -EINVAL);
		assert_null(driver);
	}

	unsetenv("HBM_SOFT");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_to_use_it_may_be_a_child),
		cmocka_unit_test(test_litter_stays),
		cmocka_unit_test(test_slow_calls),
		cmocka_unit_test_setup_teardown(test_a_forked_child_gets_nothing, soft_setup,
						soft_teardown),
		cmocka_unit_test(test_past_use_is_enough),
		cmocka_unit_test(test_bad_words_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
