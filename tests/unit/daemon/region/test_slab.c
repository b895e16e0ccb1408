/* SPDX-License-Identifier: Apache-2.0 */
/* The pool of slabs: its books, what orders get, conversion between sizes, and devices
 * that refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/device/device.h"
#include "daemon/region/slab.h"
#include "tests/support/seed.h"
#include "tests/support/soft_pool.h"

#define BUDGET (32 * MIB)

struct fixture {
	struct soft_pool pool;
	struct slabs *slabs; /* of device 0 */
};

static int setup(void **state)
{
	static struct fixture fixture;
	pool_open(&fixture.pool, BUDGET);
	fixture.slabs = fixture.pool.devices->list[0].slabs;
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	pool_close(&fixture->pool);
	return 0;
}

struct wanted {
	struct slab_request request;
	bool over;
};

static void request_over(struct slab_request *request)
{
	container_of(request, struct wanted, request)->over = true;
}

static bool is_over(void *arg)
{
	return ((struct wanted *)arg)->over;
}

static int begin(struct fixture *fixture, struct wanted *wanted, uint64_t bytes, uint64_t count)
{
	/* What an earlier use of the request left there is of no consequence. */
	*wanted = (struct wanted){
		.request = {
			.bytes = bytes, .count = count, .done = request_over, .status = HBM_IO}};
	return slabs_request(fixture->slabs, &wanted->request);
}

/* Takes count slabs: the status. */
static int take(struct fixture *fixture, struct wanted *wanted, uint64_t bytes, uint64_t count)
{
	int status = begin(fixture, wanted, bytes, count);
	if (status != HBM_OK)
		return status;

	pool_run(&fixture->pool, is_over, wanted);
	assert_null(slabs_check(fixture->slabs));

	return wanted->request.status;
}

static void give(struct fixture *fixture, struct wanted *wanted, bool exported, bool quarantined)
{
	for (struct list *node; (node = list_pop_front(&wanted->request.taken));) {
		struct slab *slab = container_of(node, struct slab, link);

		slab->exported = exported;
		if (quarantined)
			slab_quarantine(slab);

		slab_unref(slab, quarantined);
		assert_null(slabs_check(fixture->slabs));
	}
}

static size_t length(const struct list *list)
{
	size_t n = 0;
	for (const struct list *node = list->next; node != list; node = node->next)
		n++;
	return n;
}

/* Of both devices: the soft driver counts calls for all of them. */
static bool all_ready(void *arg)
{
	struct fixture *fixture = arg;
	return slabs_books(fixture->pool.devices->list[0].slabs).ready == BUDGET &&
	       slabs_books(fixture->pool.devices->list[1].slabs).ready == BUDGET;
}

static bool nothing_retires(void *arg)
{
	struct fixture *fixture = arg;
	return slabs_books(fixture->slabs).retiring == 0;
}

static bool all_created(void *arg)
{
	struct fixture *fixture = arg;
	return fixture->pool.call.calls("cuMemCreate") == 2 * BUDGET / (4 * MIB);
}

static void slabs_are_made_ahead(void **state)
{
	struct fixture *fixture = *state;
	struct slabs_books books = slabs_books(fixture->slabs);
	struct wanted wanted;

	assert_int_equal(books.budget, BUDGET);
	assert_int_equal(books.uncreated, BUDGET); /* the first is being created */
	assert_int_equal(books.ready, 0);
	assert_int_equal(slabs_default(fixture->slabs), 4 * MIB);
	pool_run(&fixture->pool, all_created, fixture);
	assert_int_equal(take(fixture, &wanted, 4 * MIB, 3), HBM_OK);
	assert_int_equal(length(&wanted.request.taken), 3);
	assert_int_equal(slabs_books(fixture->slabs).leased, 12 * MIB);
	assert_int_equal(all_created(fixture), true);
	give(fixture, &wanted, false, false);
	assert_int_equal(slabs_books(fixture->slabs).leased, 0);
}

/* Memory that comes back stays uncreated, and what is made on order is still made. */
static void nothing_is_made_ahead_while_draining(void **state)
{
	struct fixture *fixture = *state;
	struct wanted wanted;

	pool_run(&fixture->pool, all_created, fixture);
	assert_int_equal(take(fixture, &wanted, 4 * MIB, 3), HBM_OK);
	slabs_drain(fixture->slabs);
	give(fixture, &wanted, true, false);
	pool_run(&fixture->pool, nothing_retires, fixture);
	uint64_t calls = fixture->pool.call.calls("cuMemCreate");
	struct slabs_books books = slabs_books(fixture->slabs);
	assert_int_equal(books.uncreated, 12 * MIB);
	assert_int_equal(books.ready, BUDGET - 12 * MIB);

	assert_int_equal(take(fixture, &wanted, 2 * MIB, 2), HBM_OK);
	give(fixture, &wanted, true, false);
	pool_run(&fixture->pool, nothing_retires, fixture);
	assert_int_equal(fixture->pool.call.calls("cuMemCreate"), calls + 2);
	assert_int_equal(slabs_books(fixture->slabs).uncreated, 12 * MIB);
}

static void ready_slabs_make_way_for_other_sizes(void **state)
{
	struct fixture *fixture = *state;
	struct wanted all;

	pool_run(&fixture->pool, all_ready, fixture);
	assert_int_equal(take(fixture, &all, 2 * MIB, 16), HBM_OK);
	assert_int_equal(length(&all.request.taken), 16);
	assert_int_equal(slabs_books(fixture->slabs).leased, BUDGET);
	give(fixture, &all, false, false);
	assert_int_equal(take(fixture, &all, 32 * MIB, 1), HBM_OK);
	give(fixture, &all, false, false);
}

static void more_than_the_budget_is_refused_at_once(void **state)
{
	struct fixture *fixture = *state;
	struct wanted wanted, rest;

	assert_int_equal(take(fixture, &wanted, 4 * MIB, 9), HBM_NO_SPACE);
	assert_int_equal(take(fixture, &wanted, 1ull << 63, 2), HBM_NO_SPACE);
	assert_int_equal(take(fixture, &wanted, 4 * MIB, UINT64_MAX), HBM_NO_SPACE);
	assert_int_equal(take(fixture, &wanted, 4 * MIB, 6), HBM_OK);
	assert_int_equal(take(fixture, &rest, 4 * MIB, 3), HBM_NO_SPACE);
	assert_int_equal(take(fixture, &rest, 4 * MIB, 2), HBM_OK);
	give(fixture, &wanted, false, false);
	give(fixture, &rest, false, false);
}

static void exported_slabs_are_never_used_again(void **state)
{
	struct fixture *fixture = *state;
	struct wanted wanted;

	assert_int_equal(take(fixture, &wanted, 4 * MIB, 8), HBM_OK);
	uint64_t calls = fixture->pool.call.calls("cuMemRelease");
	give(fixture, &wanted, true, true);
	assert_int_equal(
		slabs_books(fixture->slabs).leased + slabs_books(fixture->slabs).quarantined, 0);

	/* What is retiring is waited for, not refused. */
	assert_int_equal(take(fixture, &wanted, 4 * MIB, 8), HBM_OK);
	assert_int_equal(fixture->pool.call.calls("cuMemRelease"), calls + 8);
	give(fixture, &wanted, false, false);
}

struct look {
	struct job job;
	struct fixture *fixture;
	uint64_t releases;
	bool over;
};

static void look_run(struct job *job)
{
	struct look *look = container_of(job, struct look, job);

	look->releases = look->fixture->pool.call.calls("cuMemRelease");
}

static void look_done(struct job *job)
{
	container_of(job, struct look, job)->over = true;
}

static bool look_is_over(void *arg)
{
	return ((struct look *)arg)->over;
}

static void a_job_waits_for_few_releases(void **state)
{
	struct fixture *fixture = *state;
	struct look look = {.job = {.run = look_run, .done = look_done}, .fixture = fixture};
	struct wanted wanted;

	assert_int_equal(take(fixture, &wanted, 2 * MIB, 16), HBM_OK);
	uint64_t calls = fixture->pool.call.calls("cuMemRelease");
	give(fixture, &wanted, true, false);
	worker_post(fixture->pool.devices->list[0].control, &look.job);
	pool_run(&fixture->pool, look_is_over, &look);
	assert_in_range(look.releases - calls, 1, 8);
	pool_run(&fixture->pool, nothing_retires, fixture);
	assert_in_range(fixture->pool.call.calls("cuMemRelease") - calls, 16, UINT64_MAX);
	assert_int_equal(slabs_books(fixture->slabs).held, 0);
	assert_null(slabs_check(fixture->slabs));
}

static void orders_are_served_in_turn(void **state)
{
	struct fixture *fixture = *state;
	struct wanted first, second, third;

	assert_int_equal(take(fixture, &first, 32 * MIB, 1), HBM_OK);
	give(fixture, &first, true, false);
	assert_int_equal(begin(fixture, &first, 2 * MIB, 8), HBM_OK);
	assert_int_equal(begin(fixture, &second, 16 * MIB, 1), HBM_OK);
	assert_int_equal(begin(fixture, &third, 2 * MIB, 1), HBM_NO_SPACE);
	pool_run(&fixture->pool, is_over, &first);
	pool_run(&fixture->pool, is_over, &second);
	assert_int_equal(first.request.status, HBM_OK);
	assert_int_equal(second.request.status, HBM_OK);
	give(fixture, &first, false, false);
	give(fixture, &second, false, false);
}

static void quarantine_is_counted(void **state)
{
	struct fixture *fixture = *state;
	struct wanted wanted;

	assert_int_equal(take(fixture, &wanted, 8 * MIB, 1), HBM_OK);
	struct slab *slab = container_of(list_pop_front(&wanted.request.taken), struct slab, link);
	slab->exported = true;
	slab_quarantine(slab);
	assert_int_equal(slabs_books(fixture->slabs).quarantined, 8 * MIB);
	assert_int_equal(slabs_books(fixture->slabs).leased, 0);
	assert_int_equal(take(fixture, &wanted, 8 * MIB, 4), HBM_NO_SPACE);
	slab_unref(slab, true);
	pool_run(&fixture->pool, nothing_retires, fixture);
	assert_int_equal(slabs_books(fixture->slabs).quarantined, 0);
}

/* What the books say of one slab of 8 MiB. */
static void assert_counted(struct fixture *fixture, uint64_t leased, uint64_t quarantined)
{
	struct slabs_books books = slabs_books(fixture->slabs);

	assert_int_equal(books.leased, leased * MIB);
	assert_int_equal(books.quarantined, quarantined * MIB);
	assert_null(slabs_check(fixture->slabs));
}

static struct slab *one_slab(struct fixture *fixture)
{
	struct wanted wanted;

	assert_int_equal(take(fixture, &wanted, 8 * MIB, 1), HBM_OK);
	return container_of(list_pop_front(&wanted.request.taken), struct slab, link);
}

static void a_shared_slab_is_counted_once_and_freed_with_its_last_reference(void **state)
{
	struct fixture *fixture = *state;
	struct slab *slab = one_slab(fixture);

	assert_ptr_equal(slab_ref(slab), slab);
	assert_ptr_equal(slab_ref(slab), slab);
	assert_counted(fixture, 8, 0);
	slab_unref(slab, false);
	slab_unref(slab, false);
	assert_counted(fixture, 8, 0);
	slab_unref(slab, false);
	assert_counted(fixture, 0, 0);
}

static void a_shared_slab_is_quarantined_once_all_of_its_references_are(void **state)
{
	struct fixture *fixture = *state;
	struct slab *slab = one_slab(fixture);

	slab->exported = true;
	slab_ref(slab_ref(slab));
	slab_quarantine(slab);
	assert_counted(fixture, 8, 0);
	slab_quarantine(slab);
	assert_counted(fixture, 8, 0);
	slab_unref(slab, false); /* the only one that could still be used */
	assert_counted(fixture, 0, 8);
	slab_unref(slab, true);
	assert_counted(fixture, 0, 8);
	slab_unref(slab, true);
	pool_run(&fixture->pool, nothing_retires, fixture);
	assert_counted(fixture, 0, 0);
}

static void a_quarantined_reference_may_go_before_the_live_one(void **state)
{
	struct fixture *fixture = *state;
	struct slab *slab = slab_ref(one_slab(fixture));

	slab_quarantine(slab);
	slab_unref(slab, true);
	assert_counted(fixture, 8, 0);
	slab_quarantine(slab);
	assert_counted(fixture, 0, 8);
	slab_unref(slab, true);
	assert_counted(fixture, 0, 0);
}

static void slabs_come_and_go_between_steps_of_the_check(void **state)
{
	struct fixture *fixture = *state;
	struct slabs *slabs = fixture->slabs;
	struct wanted wanted;

	pool_run(&fixture->pool, all_ready, fixture);
	slabs_check_begin(slabs);
	assert_true(slabs_check_some(slabs, 1));
	assert_int_equal(begin(fixture, &wanted, 4 * MIB, 2), HBM_OK); /* one was passed */
	pool_run(&fixture->pool, is_over, &wanted);
	while (slabs_check_some(slabs, 1))
		;
	assert_null(slabs_check_end(slabs));

	for (struct list *node; (node = list_pop_front(&wanted.request.taken));)
		slab_unref(container_of(node, struct slab, link), false);
	assert_true(slabs_check_some(slabs, 1)); /* they are ready again */
	while (slabs_check_some(slabs, 1))
		;
	assert_null(slabs_check_end(slabs));
}

static void what_cannot_be_released_stays_quarantined(void **state)
{
	struct fixture *fixture = *state;
	struct wanted wanted;

	pool_run(&fixture->pool, all_ready, fixture);
	assert_int_equal(take(fixture, &wanted, 4 * MIB, 1), HBM_OK);
	struct slab *slab = container_of(wanted.request.taken.next, struct slab, link);
	CUmemGenericAllocationHandle handle = slab->handle;
	assert_int_equal(fixture->pool.call.faults("cuMemRelease:1,cuMemRelease:2"), 0);
	give(fixture, &wanted, true, false);
	pool_run(&fixture->pool, nothing_retires, fixture);
	assert_int_equal(slabs_books(fixture->slabs).quarantined, 4 * MIB);
	assert_null(slabs_check(fixture->slabs));
	assert_int_equal(take(fixture, &wanted, 4 * MIB, 8), HBM_NO_SPACE);
	fixture->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	assert_int_equal(fixture->pool.devices->driver->cuMemRelease(handle), CUDA_SUCCESS);
}

static void one_refusal_to_release_is_forgiven(void **state)
{
	struct fixture *fixture = *state;
	struct wanted wanted;

	pool_run(&fixture->pool, all_ready, fixture);
	assert_int_equal(take(fixture, &wanted, 4 * MIB, 1), HBM_OK);
	assert_int_equal(fixture->pool.call.faults("cuMemRelease:1"), 0);
	give(fixture, &wanted, true, false);
	pool_run(&fixture->pool, nothing_retires, fixture);
	assert_int_equal(slabs_books(fixture->slabs).quarantined, 0);
}

/* One order with the n-th creation failing: its status. Afterwards all is back in slabs
 * of the default size. */
static int take_failing(struct fixture *fixture, unsigned n, CUresult result)
{
	struct wanted wanted;

	pool_run(&fixture->pool, all_ready, fixture);
	assert_int_equal(fixture->pool.call.fail_nth("cuMemCreate", n, result), 0);
	int status = take(fixture, &wanted, 2 * MIB, 6);
	fixture->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	assert_int_equal(length(&wanted.request.taken), status == HBM_OK ? 6 : 0);
	give(fixture, &wanted, true, false);
	assert_int_equal(take(fixture, &wanted, 32 * MIB, 1), HBM_OK);
	give(fixture, &wanted, true, false);

	return status;
}

/* For every n until the order passes. What is made ahead may take the failure meant for
 * the order, so one success is no proof; and an order refused for want of memory may have
 * been helped by what lay ready. */
static void creation_fails_at_every_step(void **state)
{
	struct fixture *fixture = *state;
	unsigned failed = 0, passed = 0;

	for (unsigned n = 1; passed < 3; n++) {
		int status = take_failing(fixture, n, CUDA_ERROR_UNKNOWN);
		assert_int_equal(status == HBM_OK ? HBM_DEVICE : status, HBM_DEVICE);
		failed += status != HBM_OK;
		passed = status == HBM_OK ? passed + 1 : 0;
		assert_in_range(n, 1, 60);
	}

	assert_in_range(failed, 1, 60);

	for (unsigned n = 1; n < 10; n++) {
		int status = take_failing(fixture, n, CUDA_ERROR_OUT_OF_MEMORY);
		assert_int_equal(status == HBM_OK ? HBM_NO_SPACE : status, HBM_NO_SPACE);
	}
}

/* A request fails that already has some of its slabs: they no longer count as leased, and
 * what others lease still does. */
static void a_failed_request_leaves_the_leases_of_others(void **state)
{
	struct fixture *fixture = *state;
	struct wanted held, wanted;

	pool_run(&fixture->pool, all_ready, fixture);
	assert_int_equal(take(fixture, &held, 4 * MIB, 1), HBM_OK);
	assert_int_equal(fixture->pool.call.fail_nth("cuMemCreate", 3, CUDA_ERROR_UNKNOWN), 0);
	assert_int_equal(take(fixture, &wanted, 2 * MIB, 6), HBM_DEVICE);
	fixture->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	assert_int_equal(slabs_books(fixture->slabs).leased, 4 * MIB);
	give(fixture, &held, false, false);
	assert_int_equal(slabs_books(fixture->slabs).leased, 0);
}

/* It was accepted for what is retiring, and the device does not release that. */
static void a_request_that_waits_in_vain_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct wanted all, wanted;

	pool_run(&fixture->pool, all_ready, fixture);
	assert_int_equal(take(fixture, &all, 32 * MIB, 1), HBM_OK);
	CUmemGenericAllocationHandle handle =
		container_of(all.request.taken.next, struct slab, link)->handle;
	assert_int_equal(fixture->pool.call.faults("cuMemRelease:1,cuMemRelease:2"), 0);
	give(fixture, &all, true, false);
	assert_int_equal(take(fixture, &wanted, 2 * MIB, 16), HBM_NO_SPACE);
	assert_true(list_empty(&wanted.request.taken));
	assert_int_equal(slabs_books(fixture->slabs).quarantined, 32 * MIB);

	fixture->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	assert_int_equal(fixture->pool.devices->driver->cuMemRelease(handle), CUDA_SUCCESS);
}

/* What is made ahead is made later if the device has no memory now, unasked. */
static void making_ahead_is_retried(void **state)
{
	struct fixture *fixture = *state;
	struct wanted wanted;

	pool_run(&fixture->pool, all_ready, fixture);
	assert_int_equal(take(fixture, &wanted, 4 * MIB, 1), HBM_OK);
	assert_int_equal(fixture->pool.call.fail_nth("cuMemCreate", 1, CUDA_ERROR_OUT_OF_MEMORY),
			 0);
	give(fixture, &wanted, true, false);
	pool_run(&fixture->pool, all_ready, fixture);
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
	struct fixture *fixture = *state;
	const struct driver *driver = fixture->pool.devices->driver;
	struct device *device = &fixture->pool.devices->list[0];
	struct wanted wanted;
	CUmemAllocationProp prop = device_allocation(device);
	CUmemGenericAllocationHandle outside, kept;

	assert_int_equal(take(fixture, &wanted, 32 * MIB, 1), HBM_OK);
	assert_int_equal(driver->cuMemCreate(&outside, 32 * MIB - 4 * MIB, &prop, 0), CUDA_SUCCESS);
	kept = keep(driver, container_of(wanted.request.taken.next, struct slab, link));
	give(fixture, &wanted, true, false);

	/* 4 MiB of the device are free, but all of the budget is held. */
	assert_int_equal(take(fixture, &wanted, 2 * MIB, 1), HBM_NO_SPACE);
	assert_int_equal(slabs_books(fixture->slabs).held, 32 * MIB);
	assert_int_equal(slabs_books(fixture->slabs).uncreated, 0);
	assert_int_equal(driver->cuMemRelease(kept), CUDA_SUCCESS);
	assert_int_equal(take(fixture, &wanted, 32 * MIB, 1), HBM_OK);
	give(fixture, &wanted, true, false);
	assert_int_equal(driver->cuMemRelease(outside), CUDA_SUCCESS);
}

/* The books call it free, and for a while the device has not got it: a process is ending. Others
 * do not wait for that. */
static void memory_that_comes_back_soon_is_waited_for(void **state)
{
	struct fixture *fixture = *state;
	struct wanted first, late, other;

	pool_run(&fixture->pool, all_ready, fixture);
	assert_int_equal(take(fixture, &first, 8 * MIB, 1), HBM_OK);
	assert_int_equal(take(fixture, &other, 4 * MIB, 6), HBM_OK);
	give(fixture, &first, true, false);
	pool_run(&fixture->pool, nothing_retires, fixture);
	assert_int_equal(fixture->pool.call.faults("cuMemCreate:1,cuMemCreate:2,cuMemCreate:3"), 0);
	assert_int_equal(take(fixture, &late, 8 * MIB, 1), HBM_OK);
	give(fixture, &late, false, false);
	give(fixture, &other, false, false);
}

/* Nobody has given anything back: the memory is others', and does not come. */
static void memory_that_others_have_is_not_waited_for(void **state)
{
	struct fixture *fixture = *state;
	struct wanted wanted;

	pool_run(&fixture->pool, all_ready, fixture);
	assert_int_equal(fixture->pool.call.faults("cuMemCreate:1+"), 0);
	assert_int_equal(take(fixture, &wanted, 8 * MIB, 1), HBM_NO_SPACE);
	assert_int_equal(fixture->pool.call.calls("cuMemCreate") > 0, true);
	assert_int_equal(wanted.request.waited_ns, 0);
	fixture->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
}

static bool waits_or_is_over(void *arg)
{
	const struct wanted *wanted = arg;
	return wanted->over || wanted->request.waited_ns > 0;
}

/* The device says that it is held, and the client is gone: its last process will end. */
static void memory_of_a_client_that_ends_is_waited_for(void **state)
{
	struct fixture *fixture = *state;
	const struct driver *driver = fixture->pool.devices->driver;
	struct wanted wanted, next;
	CUmemAllocationProp prop = device_allocation(&fixture->pool.devices->list[0]);
	CUmemGenericAllocationHandle outside;

	assert_int_equal(take(fixture, &wanted, 32 * MIB, 1), HBM_OK);
	assert_int_equal(driver->cuMemCreate(&outside, 32 * MIB - 4 * MIB, &prop, 0), CUDA_SUCCESS);
	CUmemGenericAllocationHandle kept =
		keep(driver, container_of(wanted.request.taken.next, struct slab, link));
	give(fixture, &wanted, true, false);
	assert_int_equal(begin(fixture, &next, 32 * MIB, 1), HBM_OK);
	pool_run(&fixture->pool, waits_or_is_over, &next);
	assert_false(next.over);
	assert_int_equal(driver->cuMemRelease(kept), CUDA_SUCCESS);
	pool_run(&fixture->pool, is_over, &next);
	assert_int_equal(next.request.status, HBM_OK);
	give(fixture, &next, true, false);
	assert_int_equal(driver->cuMemRelease(outside), CUDA_SUCCESS);
}

/* It does not come back: the request is refused in the end, and another was served meanwhile. */
static void waiting_for_memory_ends(void **state)
{
	struct fixture *fixture = *state;
	struct wanted first, late, other;

	pool_run(&fixture->pool, all_ready, fixture);
	assert_int_equal(take(fixture, &first, 8 * MIB, 1), HBM_OK);
	slabs_drain(fixture->slabs); /* nothing is made ahead */
	give(fixture, &first, true, false);
	pool_run(&fixture->pool, nothing_retires, fixture);
	assert_int_equal(fixture->pool.call.faults("cuMemCreate:1+"), 0);
	assert_int_equal(begin(fixture, &late, 8 * MIB, 1), HBM_OK);
	assert_int_equal(take(fixture, &other, 4 * MIB, 1), HBM_OK); /* there are some ready */
	assert_false(late.over);
	pool_run(&fixture->pool, is_over, &late);
	assert_int_equal(late.request.status, HBM_NO_SPACE);
	fixture->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	give(fixture, &other, false, false);
}

/* Random orders against a count of what is out. */
static void random_orders_balance(void **state)
{
	struct fixture *fixture = *state;
	struct seed seed;
	struct wanted out[8];
	uint64_t leased = 0;

	seed_open(&seed, "slab");
	memset(out, 0, sizeof(out));

	for (int i = 0; i < 400; i++) {
		struct wanted *wanted = &out[seed_below(&seed, 8)];
		if (wanted->over) {
			leased -= wanted->request.bytes * wanted->request.count;
			give(fixture, wanted, seed_below(&seed, 2), seed_below(&seed, 2));
			wanted->over = false;
		} else {
			uint64_t bytes = (2 * MIB) << seed_below(&seed, 4),
				 count = 1 + seed_below(&seed, 4);
			int expected = leased + bytes * count <= BUDGET ? HBM_OK : HBM_NO_SPACE;

			assert_int_equal(take(fixture, wanted, bytes, count), expected);
			wanted->over = expected == HBM_OK;
			leased += wanted->over ? bytes * count : 0;
		}

		assert_int_equal(slabs_books(fixture->slabs).leased, leased);
	}

	for (size_t i = 0; i < 8; i++)
		if (out[i].over)
			give(fixture, &out[i], true, false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(slabs_are_made_ahead),
		TEST(nothing_is_made_ahead_while_draining),
		TEST(ready_slabs_make_way_for_other_sizes),
		TEST(more_than_the_budget_is_refused_at_once),
		TEST(exported_slabs_are_never_used_again),
		TEST(a_job_waits_for_few_releases),
		TEST(orders_are_served_in_turn),
		TEST(quarantine_is_counted),
		TEST(a_shared_slab_is_counted_once_and_freed_with_its_last_reference),
		TEST(a_shared_slab_is_quarantined_once_all_of_its_references_are),
		TEST(a_quarantined_reference_may_go_before_the_live_one),
		TEST(slabs_come_and_go_between_steps_of_the_check),
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
		TEST(random_orders_balance),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
