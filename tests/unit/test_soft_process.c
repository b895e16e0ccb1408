/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: what it is to the process it is in: a forked child gets nothing from it, as with the real driver, and is not
 * hurt by that either; a child that is the first to use it gets everything. */
#include "tests/unit/soft_device.h"

#include <sys/wait.h>
#include <unistd.h>

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
	return strstr(error, "cuInit failed with CUDA_ERROR_NOT_INITIALIZED") != NULL ? 0 : 2;
}

/* In a child: what does not work; 0: nothing does, and giving the parent's table back does no harm. */
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
static void test_having_been_used_is_enough(void **state)
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

/* It runs first: afterwards this process has used the driver. */
static void test_the_first_to_use_it_may_be_a_child(void **state)
{
	pid_t child = fork();

	(void)state;
	assert_int_not_equal(child, -1);
	if (child == 0)
		_exit(open_anew());
	assert_int_equal(status_of(child), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_to_use_it_may_be_a_child),
		cmocka_unit_test_setup_teardown(test_a_forked_child_gets_nothing, soft_setup, soft_teardown),
		cmocka_unit_test(test_having_been_used_is_enough),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
