/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies that the loop issues itself: which, and which not, so that no client waits for
 * another's call; what happens to them when the driver fails, or takes long. Calls of the
 * driver are counted by the thread that makes them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/device/copy_direct.h"
#include "daemon/device/copy_queue.h"
#include "tests/support/soft_pool.h"

enum { WORKS = 64 };
#define SMALL (64 * 1024ull)
#define MOST (256 * 1024ull)
#define SLOW_NS UINT64_C(1000000000) /* being preempted does not take so long */
#define SMALL_COST (SMALL + COPY_SPAN_COST)

/* ---- calls of the driver, by whom ---- */

static struct driver real;
static pthread_t loop_thread;
static atomic_uint by_loop, by_thread; /* copies */
static atomic_uint waits_of_loop, waits_of_thread, queries_of_thread;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER; /* the thread's copies stop here */
static atomic_uint slow_us;                              /* that a copy takes */

static bool is_loop(void)
{
	return pthread_equal(pthread_self(), loop_thread);
}

static CUresult counted_copy(CUdeviceptr target, const void *source, size_t bytes, CUstream stream)
{
	atomic_fetch_add(is_loop() ? &by_loop : &by_thread, 1);
	if (!is_loop()) {
		pthread_mutex_lock(&held);
		pthread_mutex_unlock(&held);
	}

	if (atomic_load(&slow_us) > 0)
		usleep(atomic_load(&slow_us));

	return real.cuMemcpyHtoDAsync(target, source, bytes, stream);
}

static CUresult counted_wait(CUstream stream)
{
	atomic_fetch_add(is_loop() ? &waits_of_loop : &waits_of_thread, 1);
	return real.cuStreamSynchronize(stream);
}

static CUresult counted_query(CUevent event)
{
	atomic_fetch_add(&queries_of_thread, !is_loop());
	return real.cuEventQuery(event);
}

/* ---- setting ---- */

struct work {
	struct copy copy;
	struct setting *setting;
	struct span spans[COPY_DIRECT_SPANS + 1];
	unsigned over;
};

struct setting {
	struct soft_pool pool;
	struct link_stats *link_stats;
	struct driver driver; /* that counts */
	struct device *device;
	struct device_memory memory;
	char *host;
	struct copy_queue *queue;
	struct work works[WORKS];
	unsigned posted, ended;
	uint64_t used; /* of host and device memory: no two copies share any */
};

static void open_queue(struct setting *setting, uint64_t in_flight)
{
	const struct copy_queue_options options = {
		.loop = setting->pool.loop,
		.link_stats = setting->link_stats,
		.in_flight = in_flight,
		.direct = MOST,
		.direct_ns = SLOW_NS,
		.issue = {.rows_least = 2, .host_chunk = 16 * MIB, .ddr_base = setting->host}};

	assert_int_equal(copy_queue_new(&setting->queue, setting->device, COPY_H2D, &options), 0);
}

static void do_nothing(struct job *job)
{
	(void)job;
}

struct start {
	struct job job;
	bool over;
};

static void started(struct job *job)
{
	container_of(job, struct start, job)->over = true;
}

static bool has_started(void *arg)
{
	const struct start *start = arg;
	return start->over;
}

/* The device's control thread has nothing left to do. */
static void await_control(struct setting *setting, struct device *device)
{
	struct start start = {.job = {.run = do_nothing, .done = started}};

	worker_post(device->control, &start.job);
	pool_run(&setting->pool, has_started, &start);
}

static int setup(void **state)
{
	struct setting *setting = calloc(1, sizeof(*setting));

	assert_non_null(setting);
	pool_open(&setting->pool, 8 * MIB);
	setting->device = &setting->pool.devices->list[0];
	pool_run(&setting->pool, pool_is_full, &setting->pool);
	for (uint32_t i = 0; i < setting->pool.devices->count; i++)
		await_control(setting, &setting->pool.devices->list[i]);

	real = *setting->device->driver;
	setting->driver = real;
	setting->driver.cuMemcpyHtoDAsync = counted_copy;
	setting->driver.cuStreamSynchronize = counted_wait;
	setting->driver.cuEventQuery = counted_query;
	loop_thread = pthread_self();
	by_loop = by_thread = waits_of_loop = waits_of_thread = queries_of_thread = slow_us = 0;

	assert_int_equal(link_stats_new(&setting->link_stats), 0);
	assert_int_equal(device_memory_open(&setting->memory, setting->device, 8 * MIB, 8 * MIB),
			 0);
	setting->host =
		mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(setting->host, MAP_FAILED);
	assert_int_equal(real.cuMemHostRegister(setting->host, 16 * MIB, 0), 0);
	setting->device->driver = &setting->driver;
	open_queue(setting, 8 * MIB);
	*state = setting;

	return 0;
}

static bool all_ended(void *arg)
{
	const struct setting *setting = arg;
	return setting->ended == setting->posted;
}

static int teardown(void **state)
{
	struct setting *setting = *state;

	setting->pool.call.hold(false);
	pool_run(&setting->pool, all_ended, setting);
	assert_int_equal(real.cuCtxSynchronize(), CUDA_SUCCESS); /* late copies are over */
	setting->queue = copy_queue_free(setting->queue);
	setting->device->driver = setting->pool.devices->driver;
	assert_int_equal(setting->pool.call.live("streams"), 0);
	assert_int_equal(setting->pool.call.live("events"), 0);

	assert_int_equal(real.cuMemHostUnregister(setting->host), 0);
	munmap(setting->host, 16 * MIB);
	device_memory_close(&setting->memory);
	setting->link_stats = link_stats_free(setting->link_stats);
	pool_close(&setting->pool);
	free(setting);

	return 0;
}

static void over(struct copy *copy)
{
	struct work *work = container_of(copy, struct work, copy);

	work->over++;
	work->setting->ended++;
}

static void run(struct setting *setting)
{
	pool_run(&setting->pool, all_ended, setting);
	for (unsigned i = 0; i < setting->posted; i++)
		assert_int_equal(setting->works[i].over, 1);

	/* the thread may be about to leave */
	while (!gate_try(&setting->device->gate))
		sched_yield();
	gate_leave(&setting->device->gate);
}

/* In so many spans of equal size, a gap between them: each another place of the device. */
static struct work *post(struct setting *setting, uint64_t bytes, uint32_t spans, bool urgent)
{
	unsigned nth = setting->posted++;
	struct work *work = &setting->works[nth];

	assert_in_range(nth, 0, WORKS - 1);
	*work = (struct work){.setting = setting};
	for (uint32_t i = 0; i < spans; i++)
		work->spans[i] = (struct span){setting->memory.address + setting->used +
						       i * 2 * (bytes / spans),
					       bytes / spans};
	work->copy = (struct copy){.payer = {.id = nth % 2},
				   .spans = work->spans,
				   .span_count = spans,
				   .bytes = bytes,
				   .host = setting->host + setting->used,
				   .done = over};
	setting->used += 2 * bytes;
	assert_in_range(setting->used, 0, 8 * MIB);
	copy_queue_post(setting->queue, &work->copy, urgent);

	return work;
}

static struct work *post_small(struct setting *setting)
{
	return post(setting, SMALL, 1, true);
}

static uint64_t counted(const struct setting *setting)
{
	struct hbm_wire_link link;
	link_stats_link(setting->link_stats, HBM_LINK_H2D, &link);
	return link.direct_copies;
}

/* ---- which ---- */

static void test_issued_by_the_loop(void **state)
{
	struct setting *setting = *state;
	static char seen[SMALL];

	for (uint64_t i = 0; i < SMALL; i++)
		setting->host[i] = (char)(i * 7 + (i >> 8));
	const struct work *work = post_small(setting);

	assert_int_equal(by_loop, 1);
	assert_int_equal(work->over, 0); /* never from within the call */
	run(setting);
	assert_int_equal(work->copy.status, HBM_OK);
	assert_int_equal(setting->pool.call.peek(seen, 0, setting->memory.address, SMALL), 0);
	assert_memory_equal(seen, setting->host, SMALL);
	assert_int_equal(by_thread, 0);
	assert_int_equal(counted(setting), 1);
}

static void test_left_to_the_thread(void **state)
{
	struct setting *setting = *state;

	post(setting, SMALL, 1, false);
	run(setting);
	post(setting, MOST + 1, 1, true);
	run(setting);
	post(setting, 16 * (COPY_DIRECT_SPANS + 1), COPY_DIRECT_SPANS + 1, true);
	run(setting);
	assert_int_equal(by_loop, 0);
	assert_int_equal(counted(setting), 0);

	post(setting, MOST, COPY_DIRECT_SPANS, true);
	run(setting);
	assert_int_equal(counted(setting), 1);
}

/* ---- calls of others ---- */

struct stay {
	struct job job;
	sem_t inside, leave;
	bool over;
};

static void stay_inside(struct job *job)
{
	struct stay *stay = container_of(job, struct stay, job);

	sem_post(&stay->inside);
	sem_wait(&stay->leave);
}

static void stayed(struct job *job)
{
	container_of(job, struct stay, job)->over = true;
}

static bool has_stayed(void *arg)
{
	const struct stay *stay = arg;
	return stay->over;
}

/* The control thread of any device is in a call, of whatever length. */
static void test_beside_a_control_thread(void **state)
{
	struct setting *setting = *state;

	for (uint32_t i = 0; i < setting->pool.devices->count; i++) {
		struct stay stay = {.job = {.run = stay_inside, .done = stayed}};
		unsigned before = by_loop;

		sem_init(&stay.inside, 0, 0);
		sem_init(&stay.leave, 0, 0);
		worker_post(setting->pool.devices->list[i].control, &stay.job);
		sem_wait(&stay.inside);
		post_small(setting);
		run(setting);
		sem_post(&stay.leave);
		pool_run(&setting->pool, has_stayed, &stay);
		assert_int_equal(by_loop, before);
		sem_destroy(&stay.inside);
		sem_destroy(&stay.leave);
	}
}

static void await(atomic_uint *count, unsigned least)
{
	while (atomic_load(count) < least)
		sched_yield();
}

/* The queue's own thread is. */
static void test_beside_the_copy_thread(void **state)
{
	struct setting *setting = *state;

	pthread_mutex_lock(&held);
	post(setting, SMALL, 1, false);
	await(&by_thread, 1);
	post_small(setting);
	pthread_mutex_unlock(&held);
	run(setting);
	assert_int_equal(by_loop, 0);
	assert_int_equal(by_thread, 2);
}

/* ---- bounds and turns ---- */

static void test_in_flight_is_bounded(void **state)
{
	struct setting *setting = *state;
	unsigned most = COPY_DIRECT_IN_FLIGHT / SMALL_COST;

	setting->pool.call.hold(true);
	for (unsigned i = 0; i < 2 * most; i++)
		post_small(setting);
	assert_int_equal(by_loop, most);
	await(&by_thread, most);

	setting->pool.call.hold(false);
	run(setting);
	assert_int_equal(by_loop, most);
	assert_int_equal(counted(setting), most);
}

/* What the thread has in flight counts. */
static void test_beside_much_in_flight(void **state)
{
	struct setting *setting = *state;

	setting->pool.call.hold(true);
	post(setting, COPY_DIRECT_IN_FLIGHT, 1, false);
	await(&queries_of_thread, 1);
	post_small(setting);
	assert_int_equal(by_loop, 0);
	await(&by_thread, 2);
	setting->pool.call.hold(false);
	run(setting);
}

/* A small copy does not pass what waits for its turn. */
static void test_behind_what_waits(void **state)
{
	struct setting *setting = *state;

	setting->queue = copy_queue_free(setting->queue);
	open_queue(setting, SMALL); /* so much in flight at most */
	setting->pool.call.hold(true);
	post(setting, MOST + 1, 1, true);
	await(&queries_of_thread, 1);
	post(setting, MOST + 1, 1, true);
	for (unsigned i = 0; i < 20; i++)
		post_small(setting);
	assert_int_equal(by_loop, 0);
	setting->pool.call.hold(false);
	run(setting);
}

/* ---- copies that take long ---- */

static bool thread_has_asked(void *arg)
{
	(void)arg;
	return atomic_load(&queries_of_thread) > 0;
}

/* The thread looks after what is not over soon, and the loop issues no others meanwhile. */
static void test_handed_over(void **state)
{
	struct setting *setting = *state;

	setting->pool.call.hold(true);
	post_small(setting);
	pool_run(&setting->pool, thread_has_asked, NULL);
	post_small(setting);
	assert_int_equal(by_loop, 1);
	await(&by_thread, 1);
	setting->pool.call.hold(false);
	run(setting);

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(setting->works[i].copy.status, HBM_OK);
	assert_int_equal(waits_of_loop, 0);
}

/* After a call that has waited the loop makes none for a while. */
static void test_after_a_call_that_was_slow(void **state)
{
	struct setting *setting = *state;

	atomic_store(&slow_us, SLOW_NS / 1000 + 1);
	post_small(setting);
	assert_int_equal(by_loop, 1);
	atomic_store(&slow_us, 0);
	run(setting);

	post_small(setting);
	run(setting);
	assert_int_equal(by_loop, 1);
	assert_int_equal(by_thread, 1);
}

/* ---- failures ---- */

static void test_a_failed_copy_fails_alone(void **state)
{
	struct setting *setting = *state;
	static const int failed[] = {HBM_OK, HBM_DEVICE, HBM_OK};

	assert_int_equal(setting->pool.call.fail_nth("cuMemcpyHtoDAsync", 2, CUDA_ERROR_UNKNOWN),
			 0);
	for (unsigned i = 0; i < 3; i++) {
		const struct work *work = post_small(setting);
		unsigned issued = by_loop;

		run(setting);
		assert_int_equal(work->copy.status, failed[i]);
		assert_false(work->copy.late);
		assert_int_equal(issued, i + 1);
		await_control(setting, setting->device); /* it was asked whether it answers */
	}

	assert_int_equal(setting->device->errors, 1);
}

/* A context that cannot be entered is left to the thread. */
static void test_a_context_that_cannot_be_entered(void **state)
{
	struct setting *setting = *state;

	assert_int_equal(setting->pool.call.fail_nth("cuCtxSetCurrent", 1, CUDA_ERROR_UNKNOWN), 0);
	const struct work *work = post_small(setting);
	run(setting);
	assert_int_equal(by_loop, 0);
	assert_int_equal(work->copy.status, HBM_OK);
	assert_int_equal(device_errors(setting->device), 1);
	await_control(setting, setting->device);
}

/* The loop does not wait for the stream: the thread does. */
static void test_events_that_fail(void **state)
{
	struct setting *setting = *state;
	static const char *const calls[] = {"cuEventRecord", "cuEventQuery"};

	for (unsigned c = 0; c < 2; c++) {
		unsigned before = by_loop;

		assert_int_equal(setting->pool.call.fail_nth(calls[c], 1, CUDA_ERROR_UNKNOWN), 0);
		const struct work *work = post_small(setting);
		run(setting);
		assert_int_equal(by_loop, before + 1);
		assert_int_equal(work->copy.status, HBM_OK);
		assert_int_equal(waits_of_loop, 0);
		assert_int_equal(waits_of_thread, c + 1);
		await_control(setting, setting->device);
	}
}

static void test_of_unknown_end_is_late(void **state)
{
	struct setting *setting = *state;

	setting->pool.call.hold(true);
	assert_int_equal(setting->pool.call.faults("cuEventQuery:1,cuStreamSynchronize:1"), 0);
	const struct work *work = post_small(setting);
	assert_int_equal(by_loop, 1);
	run(setting);
	assert_int_equal(work->copy.status, HBM_DEVICE);
	assert_true(work->copy.late);
	assert_int_equal(waits_of_loop, 0);
}

/* A device that is lost may keep a call waiting: the loop makes none. */
static void test_a_lost_device(void **state)
{
	struct setting *setting = *state;

	assert_int_equal(setting->pool.call.faults("cuEventQuery:1:700,cuStreamSynchronize:1:700"),
			 0);
	const struct work *work = post_small(setting);
	run(setting);
	assert_int_equal(work->copy.status, HBM_DEVICE);
	assert_false(work->copy.late);
	assert_true(device_is_lost(setting->device));

	post_small(setting);
	run(setting);
	assert_int_equal(by_loop, 1);
	assert_int_equal(by_thread, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_issued_by_the_loop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_left_to_the_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(test_beside_a_control_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(test_beside_the_copy_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(test_in_flight_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_beside_much_in_flight, setup, teardown),
		cmocka_unit_test_setup_teardown(test_behind_what_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_handed_over, setup, teardown),
		cmocka_unit_test_setup_teardown(test_after_a_call_that_was_slow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_failed_copy_fails_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_context_that_cannot_be_entered, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_events_that_fail, setup, teardown),
		cmocka_unit_test_setup_teardown(test_of_unknown_end_is_late, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_lost_device, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
