/* SPDX-License-Identifier: Apache-2.0 */
/* The pool of slabs on devices that refuse: what cannot be made or released, what somebody else has,
 * and which memory is waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/device/device.h"
#include "daemon/region/slab.h"
#include "tests/support/slab_rig.h"

static void what_cannot_be_released_stays_quarantined(void **state)
{
	struct slab_rig *rig = *state;
	struct slab_wanted wanted;

	pool_run(&rig->pool, slab_rig_all_ready, rig);
	assert_int_equal(slab_rig_take(rig, &wanted, 4 * MIB, 1), HBM_OK);
	struct slab *slab = container_of(wanted.request.taken.next, struct slab, link);
	CUmemGenericAllocationHandle handle = slab->handle;
	assert_int_equal(rig->pool.call.faults("cuMemRelease:1,cuMemRelease:2"), 0);
	slab_rig_give(rig, &wanted, true, false);
	pool_run(&rig->pool, slab_rig_nothing_retires, rig);
	assert_int_equal(slabs_books(rig->slabs).quarantined, 4 * MIB);
	assert_null(slabs_check(rig->slabs));
	assert_int_equal(slab_rig_take(rig, &wanted, 4 * MIB, 8), HBM_NO_SPACE);
	rig->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	assert_int_equal(rig->pool.devices->driver->cuMemRelease(handle), CUDA_SUCCESS);
}

static void one_refusal_to_release_is_forgiven(void **state)
{
	struct slab_rig *rig = *state;
	struct slab_wanted wanted;

	pool_run(&rig->pool, slab_rig_all_ready, rig);
	assert_int_equal(slab_rig_take(rig, &wanted, 4 * MIB, 1), HBM_OK);
	assert_int_equal(rig->pool.call.faults("cuMemRelease:1"), 0);
	slab_rig_give(rig, &wanted, true, false);
	pool_run(&rig->pool, slab_rig_nothing_retires, rig);
	assert_int_equal(slabs_books(rig->slabs).quarantined, 0);
}

/* One order with the n-th creation failing: its status. Afterwards all is back in slabs
 * of the default size. */
static int take_failing(struct slab_rig *rig, unsigned n, CUresult result)
{
	struct slab_wanted wanted;

	pool_run(&rig->pool, slab_rig_all_ready, rig);
	assert_int_equal(rig->pool.call.fail_nth("cuMemCreate", n, result), 0);
	int status = slab_rig_take(rig, &wanted, 2 * MIB, 6);
	rig->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	assert_int_equal(list_length(&wanted.request.taken), status == HBM_OK ? 6 : 0);
	slab_rig_give(rig, &wanted, true, false);
	assert_int_equal(slab_rig_take(rig, &wanted, 32 * MIB, 1), HBM_OK);
	slab_rig_give(rig, &wanted, true, false);

	return status;
}

/* For every n until the order passes. What is made ahead may take the failure meant for
 * the order, so one success is no proof; and an order refused for want of memory may have
 * been helped by what lay ready. */
static void creation_fails_at_every_step(void **state)
{
	struct slab_rig *rig = *state;
	unsigned failed = 0, passed = 0;

	for (unsigned n = 1; passed < 3; n++) {
		int status = take_failing(rig, n, CUDA_ERROR_UNKNOWN);
		assert_int_equal(status == HBM_OK ? HBM_DEVICE : status, HBM_DEVICE);
		failed += status != HBM_OK;
		passed = status == HBM_OK ? passed + 1 : 0;
		assert_in_range(n, 1, 60);
	}

	assert_in_range(failed, 1, 60);

	for (unsigned n = 1; n < 10; n++) {
		int status = take_failing(rig, n, CUDA_ERROR_OUT_OF_MEMORY);
		assert_int_equal(status == HBM_OK ? HBM_NO_SPACE : status, HBM_NO_SPACE);
	}
}

/* A request fails that already has some of its slabs: they no longer count as leased, and
 * what others lease still does. */
static void a_failed_request_leaves_the_leases_of_others(void **state)
{
	struct slab_rig *rig = *state;
	struct slab_wanted held, wanted;

	pool_run(&rig->pool, slab_rig_all_ready, rig);
	assert_int_equal(slab_rig_take(rig, &held, 4 * MIB, 1), HBM_OK);
	assert_int_equal(rig->pool.call.fail_nth("cuMemCreate", 3, CUDA_ERROR_UNKNOWN), 0);
	assert_int_equal(slab_rig_take(rig, &wanted, 2 * MIB, 6), HBM_DEVICE);
	rig->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	assert_int_equal(slabs_books(rig->slabs).leased, 4 * MIB);
	slab_rig_give(rig, &held, false, false);
	assert_int_equal(slabs_books(rig->slabs).leased, 0);
}

/* It was accepted for what is retiring, and the device does not release that. */
static void a_request_that_waits_in_vain_is_refused(void **state)
{
	struct slab_rig *rig = *state;
	struct slab_wanted all, wanted;

	pool_run(&rig->pool, slab_rig_all_ready, rig);
	assert_int_equal(slab_rig_take(rig, &all, 32 * MIB, 1), HBM_OK);
	CUmemGenericAllocationHandle handle =
		container_of(all.request.taken.next, struct slab, link)->handle;
	assert_int_equal(rig->pool.call.faults("cuMemRelease:1,cuMemRelease:2"), 0);
	slab_rig_give(rig, &all, true, false);
	assert_int_equal(slab_rig_take(rig, &wanted, 2 * MIB, 16), HBM_NO_SPACE);
	assert_true(list_empty(&wanted.request.taken));
	assert_int_equal(slabs_books(rig->slabs).quarantined, 32 * MIB);

	rig->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	assert_int_equal(rig->pool.devices->driver->cuMemRelease(handle), CUDA_SUCCESS);
}

/* What is made ahead is made later if the device has no memory now, unasked. */
static void making_ahead_is_retried(void **state)
{
	struct slab_rig *rig = *state;
	struct slab_wanted wanted;

	pool_run(&rig->pool, slab_rig_all_ready, rig);
	assert_int_equal(slab_rig_take(rig, &wanted, 4 * MIB, 1), HBM_OK);
	assert_int_equal(rig->pool.call.fail_nth("cuMemCreate", 1, CUDA_ERROR_OUT_OF_MEMORY), 0);
	slab_rig_give(rig, &wanted, true, false);
	pool_run(&rig->pool, slab_rig_all_ready, rig);
}

/* What a client that took a slab over and keeps it makes of the device. */
static CUmemGenericAllocationHandle keep(const struct driver *driver, const struct slab *slab)
{
	int fd;
	CUmemGenericAllocationHandle handle;

	assert_int_equal(driver->cuMemExportToShareableHandle(
				 &fd, slab->handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
			 CUDA_SUCCESS);
	assert_int_equal(
		driver->cuMemImportFromShareableHandle(&handle, (void *)(uintptr_t)fd,
						       CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
		CUDA_SUCCESS);
	assert_int_equal(close(fd), 0);

	return handle;
}

static void memory_held_by_somebody_else_is_no_space(void **state)
{
	struct slab_rig *rig = *state;
	const struct driver *driver = rig->pool.devices->driver;
	struct device *device = &rig->pool.devices->list[0];
	struct slab_wanted wanted;
	CUmemAllocationProp prop = device_allocation(device);
	CUmemGenericAllocationHandle outside, kept;

	assert_int_equal(slab_rig_take(rig, &wanted, 32 * MIB, 1), HBM_OK);
	assert_int_equal(driver->cuMemCreate(&outside, 32 * MIB - 4 * MIB, &prop, 0), CUDA_SUCCESS);
	kept = keep(driver, container_of(wanted.request.taken.next, struct slab, link));
	slab_rig_give(rig, &wanted, true, false);

	/* 4 MiB of the device are free, but all of the budget is held. */
	assert_int_equal(slab_rig_take(rig, &wanted, 2 * MIB, 1), HBM_NO_SPACE);
	assert_int_equal(slabs_books(rig->slabs).held, 32 * MIB);
	assert_int_equal(slabs_books(rig->slabs).uncreated, 0);
	assert_int_equal(driver->cuMemRelease(kept), CUDA_SUCCESS);
	assert_int_equal(slab_rig_take(rig, &wanted, 32 * MIB, 1), HBM_OK);
	slab_rig_give(rig, &wanted, true, false);
	assert_int_equal(driver->cuMemRelease(outside), CUDA_SUCCESS);
}

/* The books call it free, and for a while the device has not got it: a process is ending. Others
 * do not wait for that. */
static void memory_that_comes_back_soon_is_waited_for(void **state)
{
	struct slab_rig *rig = *state;
	struct slab_wanted first, late, other;

	pool_run(&rig->pool, slab_rig_all_ready, rig);
	assert_int_equal(slab_rig_take(rig, &first, 8 * MIB, 1), HBM_OK);
	assert_int_equal(slab_rig_take(rig, &other, 4 * MIB, 6), HBM_OK);
	slab_rig_give(rig, &first, true, false);
	pool_run(&rig->pool, slab_rig_nothing_retires, rig);
	assert_int_equal(rig->pool.call.faults("cuMemCreate:1,cuMemCreate:2,cuMemCreate:3"), 0);
	assert_int_equal(slab_rig_take(rig, &late, 8 * MIB, 1), HBM_OK);
	slab_rig_give(rig, &late, false, false);
	slab_rig_give(rig, &other, false, false);
}

/* Nobody has given anything back: the memory is others', and does not come. */
static void memory_that_others_have_is_not_waited_for(void **state)
{
	struct slab_rig *rig = *state;
	struct slab_wanted wanted;

	pool_run(&rig->pool, slab_rig_all_ready, rig);
	assert_int_equal(rig->pool.call.faults("cuMemCreate:1+"), 0);
	assert_int_equal(slab_rig_take(rig, &wanted, 8 * MIB, 1), HBM_NO_SPACE);
	assert_int_equal(rig->pool.call.calls("cuMemCreate") > 0, true);
	assert_int_equal(wanted.request.waited_ns, 0);
	rig->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
}

static bool waits_or_is_over(void *arg)
{
	const struct slab_wanted *wanted = arg;
	return wanted->over || wanted->request.waited_ns > 0;
}

/* The device says that it is held, and the client is gone: its last process will end. */
static void memory_of_a_client_that_ends_is_waited_for(void **state)
{
	struct slab_rig *rig = *state;
	const struct driver *driver = rig->pool.devices->driver;
	struct slab_wanted wanted, next;
	CUmemAllocationProp prop = device_allocation(&rig->pool.devices->list[0]);
	CUmemGenericAllocationHandle outside;

	assert_int_equal(slab_rig_take(rig, &wanted, 32 * MIB, 1), HBM_OK);
	assert_int_equal(driver->cuMemCreate(&outside, 32 * MIB - 4 * MIB, &prop, 0), CUDA_SUCCESS);
	CUmemGenericAllocationHandle kept =
		keep(driver, container_of(wanted.request.taken.next, struct slab, link));
	slab_rig_give(rig, &wanted, true, false);
	assert_int_equal(slab_rig_begin(rig, &next, 32 * MIB, 1), HBM_OK);
	pool_run(&rig->pool, waits_or_is_over, &next);
	assert_false(next.over);
	assert_int_equal(driver->cuMemRelease(kept), CUDA_SUCCESS);
	pool_run(&rig->pool, slab_rig_is_over, &next);
	assert_int_equal(next.request.status, HBM_OK);
	slab_rig_give(rig, &next, true, false);
	assert_int_equal(driver->cuMemRelease(outside), CUDA_SUCCESS);
}

/* It does not come back: the request is refused in the end, and another was served meanwhile. */
static void waiting_for_memory_ends(void **state)
{
	struct slab_rig *rig = *state;
	struct slab_wanted first, late, other;

	pool_run(&rig->pool, slab_rig_all_ready, rig);
	assert_int_equal(slab_rig_take(rig, &first, 8 * MIB, 1), HBM_OK);
	slabs_drain(rig->slabs); /* nothing is made ahead */
	slab_rig_give(rig, &first, true, false);
	pool_run(&rig->pool, slab_rig_nothing_retires, rig);
	assert_int_equal(rig->pool.call.faults("cuMemCreate:1+"), 0);
	assert_int_equal(slab_rig_begin(rig, &late, 8 * MIB, 1), HBM_OK);
	assert_int_equal(slab_rig_take(rig, &other, 4 * MIB, 1), HBM_OK); /* there are some ready */
	assert_false(late.over);
	pool_run(&rig->pool, slab_rig_is_over, &late);
	assert_int_equal(late.request.status, HBM_NO_SPACE);
	rig->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	slab_rig_give(rig, &other, false, false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, slab_rig_setup, slab_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_cannot_be_released_stays_quarantined),
		TEST(one_refusal_to_release_is_forgiven),
		TEST(creation_fails_at_every_step),
		TEST(a_failed_request_leaves_the_leases_of_others),
		TEST(a_request_that_waits_in_vain_is_refused),
		TEST(making_ahead_is_retried),
		TEST(memory_held_by_somebody_else_is_no_space),
		TEST(memory_that_comes_back_soon_is_waited_for),
		TEST(memory_that_others_have_is_not_waited_for),
		TEST(memory_of_a_client_that_ends_is_waited_for),
		TEST(waiting_for_memory_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
