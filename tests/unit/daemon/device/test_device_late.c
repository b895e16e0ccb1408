/* SPDX-License-Identifier: Apache-2.0 */
/* Late copies: when it is known that they are over, when it never will be, and who is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/list.h"
#include "daemon/device/device.h"
#include "tests/support/soft_pool.h"

struct told {
	struct late_listener listener;
	unsigned count;
	uint64_t over[2];   /* how many were, each time */
	uint64_t mark_then; /* 1: a copy becomes late when it is told first, of this number then */
	struct device *device;
};

struct setting {
	struct soft_pool pool;
	struct device *device;
	struct told told;
};

static void settled(struct late_listener *listener)
{
	struct told *told = container_of(listener, struct told, listener);

	if (told->count < 2)
		told->over[told->count] = told->device->late.over;
	if (told->count++ == 0 && told->mark_then == 1)
		told->mark_then = device_late_mark(told->device);
}

static bool is_told(void *arg)
{
	const struct setting *setting = arg;
	return setting->told.count > 0;
}

static bool is_answered(void *arg)
{
	const struct setting *setting = arg;
	return setting->device->late.asking == 0;
}

static int setup(void **state)
{
	static struct setting setting;

	setting = (struct setting){0};
	pool_open(&setting.pool, 0);
	setting.device = setting.told.device = &setting.pool.devices->list[0];
	setting.told.listener.settled = settled;
	device_late_listen(setting.device, &setting.told.listener);
	*state = &setting;

	return 0;
}

static int teardown(void **state)
{
	struct setting *setting = *state;

	list_remove(&setting->told.listener.link);
	pool_close(&setting->pool);

	return 0;
}

static void it_is_known_when_the_device_has_answered(void **state)
{
	struct setting *setting = *state;

	setting->pool.call.hold(true);
	uint64_t mark = device_late_mark(setting->device);
	assert_int_equal(mark, 1);
	assert_false(device_late_is_over(setting->device, mark));
	setting->pool.call.hold(false);
	pool_run(&setting->pool, is_told, setting);
	assert_true(device_late_is_over(setting->device, mark));
	assert_false(device_late_never(setting->device));
	assert_false(device_is_lost(setting->device));
	assert_int_equal(setting->told.count, 1);
	assert_int_equal(setting->pool.call.calls("cuCtxSynchronize"), 1);

	list_remove(&setting->told.listener.link);
	device_late_mark(setting->device);
	pool_run(&setting->pool, is_answered, setting);
	assert_int_equal(setting->told.count, 1);
}

/* What became late after a question was posed is the next one's. */
static void an_answer_is_about_what_was_before(void **state)
{
	struct setting *setting = *state;

	device_late_mark(setting->device);
	device_late_mark(setting->device);
	assert_int_equal(device_late_mark(setting->device), 3);
	setting->told.mark_then = 1;
	pool_run(&setting->pool, is_told, setting);
	assert_int_equal(setting->told.mark_then, 4);
	pool_run(&setting->pool, is_answered, setting);
	assert_int_equal(setting->told.over[0], 1);
	assert_int_equal(setting->told.over[1], 4);
	assert_true(device_late_is_over(setting->device, 4));
	assert_int_equal(setting->pool.call.calls("cuCtxSynchronize"), 2);
	assert_int_equal(setting->told.count, 2);
}

/* A sticky error has ended all work; after any other nobody knows. */
static void no_answer(void **state)
{
	struct setting *setting = *state;
	static const CUresult results[] = {CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_UNKNOWN};

	for (unsigned i = 0; i < 2; i++) {
		setting->device = &setting->pool.devices->list[i];
		list_remove(&setting->told.listener.link);
		device_late_listen(setting->device, &setting->told.listener);
		setting->told.count = 0;
		setting->pool.call.fail_nth("cuCtxSynchronize", 1, results[i]);
		device_late_mark(setting->device);
		pool_run(&setting->pool, is_told, setting);
		setting->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
		assert_true(device_is_lost(setting->device));
		assert_int_equal(device_late_is_over(setting->device, 1), i == 0);
		assert_int_equal(device_late_never(setting->device), i == 1);

		/* a lost device is not asked again */
		uint64_t calls = setting->pool.call.calls("cuCtxSynchronize");
		device_late_mark(setting->device);
		assert_true(device_late_never(setting->device));
		assert_int_equal(setting->pool.call.calls("cuCtxSynchronize"), calls);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(it_is_known_when_the_device_has_answered),
		TEST(an_answer_is_about_what_was_before),
		TEST(no_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
