/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who waits for whom in a copy queue: the copies of one payer stand before another's for a
 * turn, not for all of them, be they large or in shreds. The queue's thread is held at a gate
 * while copies are posted, and device copies are counted instead of time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "daemon/base/list.h"
#include "daemon/device/copy_queue.h"
#include "tests/support/soft_pool.h"

enum { LARGE = 25, SHREDS = 2048 };

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static CUresult (*pass)(void *host, CUdeviceptr address, size_t bytes, CUstream stream);
static unsigned issued, issued_before; /* device copies; before the one that is watched */
static void *watched;

static CUresult gated(void *host, CUdeviceptr address, size_t bytes, CUstream stream)
{
	pthread_mutex_lock(&gate);
	if (host == watched)
		issued_before = issued;
	issued++;
	pthread_mutex_unlock(&gate);

	return pass(host, address, bytes, stream);
}

struct work {
	struct copy copy;
	struct setting *setting;
	unsigned turn;
};

struct setting {
	struct soft_pool pool;
	struct link_stats *link_stats;
	struct driver driver; /* with a gate */
	struct device device; /* of that driver */
	struct device_memory memory;
	char *host;
	struct copy_queue *queue;
	struct work works[LARGE + 1];
	unsigned posted, ended;
	struct span shreds[SHREDS];
};

static void ended(struct copy *copy)
{
	struct work *work = container_of(copy, struct work, copy);
	work->turn = work->setting->ended++;
	assert_int_equal(copy->status, HBM_OK);
}

static bool all_ended(void *arg)
{
	const struct setting *setting = arg;
	return setting->ended == setting->posted;
}

static int setup(void **state)
{
	struct setting *setting = calloc(1, sizeof(*setting));

	assert_non_null(setting);
	pool_open(&setting->pool, 8 * MIB);
	setting->device = setting->pool.devices->list[0];
	setting->driver = *setting->device.driver;
	pass = setting->driver.cuMemcpyDtoHAsync;
	setting->driver.cuMemcpyDtoHAsync = gated;
	setting->device.driver = &setting->driver;
	issued = issued_before = 0;

	assert_int_equal(link_stats_new(&setting->link_stats), 0);
	assert_int_equal(device_memory_open(&setting->memory, &setting->device, 8 * MIB, 8 * MIB),
			 0);
	setting->host =
		mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(setting->host, MAP_FAILED);
	assert_int_equal(setting->driver.cuMemHostRegister(setting->host, 16 * MIB, 0), 0);
	const struct copy_queue_options options = {
		.loop = setting->pool.loop,
		.link_stats = setting->link_stats,
		.in_flight = 8 * MIB,
		.issue = {.rows_least = 2, .host_chunk = 16 * MIB, .ddr_base = setting->host}};
	assert_int_equal(copy_queue_new(&setting->queue, &setting->device, COPY_D2H, &options), 0);
	*state = setting;

	return 0;
}

static int teardown(void **state)
{
	struct setting *setting = *state;

	setting->queue = copy_queue_free(setting->queue);
	assert_int_equal(setting->driver.cuMemHostUnregister(setting->host), 0);
	munmap(setting->host, 16 * MIB);
	device_memory_close(&setting->memory);
	setting->link_stats = link_stats_free(setting->link_stats);
	pool_close(&setting->pool);
	free(setting);

	return 0;
}

static struct work *post(struct setting *setting, uint64_t payer, const struct span *spans,
			 uint32_t count, char *host)
{
	struct work *work = &setting->works[setting->posted++];

	*work = (struct work){.setting = setting};
	work->copy = (struct copy){.payer = {.id = payer},
				   .spans = spans,
				   .span_count = count,
				   .host = host,
				   .done = ended};
	for (uint32_t i = 0; i < count; i++)
		work->copy.bytes += spans[i].bytes;
	copy_queue_post(setting->queue, &work->copy, true);

	return work;
}

/* One payer's 25 copies, then another's one, which is returned. */
static const struct work *run_behind(struct setting *setting, const struct span *spans,
				     uint32_t count)
{
	const struct span late = {setting->memory.address, MIB / 2}; /* no small one */

	watched = setting->host + 8 * MIB;
	pthread_mutex_lock(&gate);
	for (unsigned i = 0; i < LARGE; i++)
		post(setting, 1, spans, count, setting->host);
	const struct work *work = post(setting, 2, &late, 1, watched);
	pthread_mutex_unlock(&gate);
	pool_run(&setting->pool, all_ended, setting);

	return work;
}

/* Of 25 large ones those pass that were issued already, less than 10 MiB, and a turn. */
static void test_behind_large_copies(void **state)
{
	struct setting *setting = *state;
	const struct span span = {setting->memory.address, 2 * MIB};
	const struct work *late = run_behind(setting, &span, 1);

	assert_in_range(late->turn, 0, 6);
	assert_in_range(issued_before, 0, 12); /* pieces of 1 MiB */
	assert_int_equal(issued, 2 * LARGE + 1);
}

static void test_behind_shreds(void **state)
{
	struct setting *setting = *state;

	/* the last first, so that they are no rows */
	for (uint64_t i = 0; i < SHREDS; i++)
		setting->shreds[i] = (struct span){setting->memory.address + 64 * (SHREDS - i), 1};
	const struct work *late = run_behind(setting, setting->shreds, SHREDS);

	assert_in_range(late->turn, 0, 2);
	assert_in_range(issued_before, 0, 19 * COPY_PIECE_SPANS);
	assert_int_equal(issued, LARGE * SHREDS + 1);
}

/* Shreds that lie side by side are few copies. */
static void test_adjacent_shreds(void **state)
{
	struct setting *setting = *state;

	for (uint64_t i = 0; i < SHREDS; i++)
		setting->shreds[i] = (struct span){setting->memory.address + i, 1};
	post(setting, 1, setting->shreds, SHREDS, setting->host);
	pool_run(&setting->pool, all_ended, setting);
	assert_int_equal(issued, SHREDS / COPY_PIECE_SPANS);
}

/* Demotion is not stopped by what somebody waits for, however much that is: of eight pieces
 * one. */
static void test_demotion_goes_on(void **state)
{
	struct setting *setting = *state;
	const struct span span = {setting->memory.address, 64 * 1024};
	struct work *background = &setting->works[LARGE];

	watched = setting->host + 8 * MIB;
	pthread_mutex_lock(&gate);
	*background = (struct work){.setting = setting};
	background->copy = (struct copy){.spans = &span,
					 .span_count = 1,
					 .bytes = span.bytes,
					 .host = watched,
					 .done = ended};
	for (unsigned i = 0; i < LARGE - 1; i++)
		post(setting, 1 + i % 3, &span, 1, setting->host);
	copy_queue_post(setting->queue, &background->copy, false);
	setting->posted++;
	pthread_mutex_unlock(&gate);
	pool_run(&setting->pool, all_ended, setting);
	assert_in_range(issued_before, 0, 2 * 8 - 1); /* and those that left before it came */
}

static void post_background(struct setting *setting, const struct span *span, char *host)
{
	struct work *work = &setting->works[setting->posted++];

	*work = (struct work){.setting = setting};
	work->copy = (struct copy){
		.spans = span, .span_count = 1, .bytes = span->bytes, .host = host, .done = ended};
	copy_queue_post(setting->queue, &work->copy, false);
}

/* The last of many that the daemon wanted becomes urgent. */
static void test_background_becomes_urgent(void **state)
{
	struct setting *setting = *state;
	const struct span span = {setting->memory.address, 2 * MIB};
	struct work *last = &setting->works[LARGE - 1];

	pthread_mutex_lock(&gate);
	for (unsigned i = 0; i < LARGE; i++)
		post_background(setting, &span, setting->host + (i + 1 == LARGE ? 2 * MIB : 0));
	copy_queue_hasten(setting->queue, &last->copy, (struct fair_payer){.id = 7});
	copy_queue_hasten(setting->queue, &last->copy, (struct fair_payer){.id = 8});
	pthread_mutex_unlock(&gate);
	pool_run(&setting->pool, all_ended, setting);
	assert_in_range(last->turn, 0, 6);
	copy_queue_hasten(setting->queue, &last->copy, (struct fair_payer){.id = 7});
}

/* ---- Streams ---- */

static bool let_go; /* under the gate */
static bool begun;  /* the first copy is being issued; atomic */
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;

/* On a stream: what follows waits. */
static void hold(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&gate);
	while (!let_go)
		pthread_cond_wait(&opened, &gate);
	pthread_mutex_unlock(&gate);
}

static void (*hold_next)(void *arg); /* before the first copy that is issued */
static struct driver *holding;

static CUresult held(void *host, CUdeviceptr address, size_t bytes, CUstream stream)
{
	__atomic_store_n(&begun, true, __ATOMIC_RELEASE);
	pthread_mutex_lock(&gate);
	CUhostFn function = hold_next;
	hold_next = NULL;
	pthread_mutex_unlock(&gate);
	if (function)
		assert_int_equal(holding->cuLaunchHostFunc(stream, function, NULL), CUDA_SUCCESS);

	return pass(host, address, bytes, stream);
}

/* What somebody waits for does not stand behind what was begun for the daemon. */
static void test_urgent_beside_the_rest(void **state)
{
	struct setting *setting = *state;
	const struct span span = {setting->memory.address, 64 * 1024};

	let_go = begun = false;
	hold_next = hold;
	holding = &setting->driver;
	setting->driver.cuMemcpyDtoHAsync = held;
	pthread_mutex_lock(&gate);
	post_background(setting, &span, setting->host);
	while (!__atomic_load_n(&begun, __ATOMIC_ACQUIRE))
		sched_yield();
	const struct work *urgent = post(setting, 1, &span, 1, setting->host + MIB);
	setting->posted = 1; /* to wait for one */
	pthread_mutex_unlock(&gate);
	pool_run(&setting->pool, all_ended, setting);
	assert_int_equal(urgent->turn, 0);

	pthread_mutex_lock(&gate);
	setting->posted = 2;
	let_go = true;
	pthread_cond_signal(&opened);
	pthread_mutex_unlock(&gate);
	pool_run(&setting->pool, all_ended, setting);
}

static CUresult (*query)(CUevent event);
static unsigned queries; /* atomic */

static CUresult counted(CUevent event)
{
	__atomic_fetch_add(&queries, 1, __ATOMIC_RELAXED);
	return query(event);
}

static CUresult (*sleep_on)(CUevent event);
static bool sleeps; /* on an event, so that it can do nothing else; atomic */

static CUresult seen_asleep(CUevent event)
{
	__atomic_store_n(&sleeps, true, __ATOMIC_RELAXED);
	return sleep_on(event);
}

/* What is posted while the thread sleeps, because a copy takes long, is issued all the same. */
static void test_urgent_while_the_thread_sleeps(void **state)
{
	struct setting *setting = *state;
	const struct span span = {setting->memory.address, 64 * 1024};

	let_go = begun = sleeps = false;
	queries = 0;
	hold_next = hold;
	holding = &setting->driver;
	query = setting->driver.cuEventQuery;
	sleep_on = setting->driver.cuEventSynchronize;
	setting->driver.cuMemcpyDtoHAsync = held;
	setting->driver.cuEventQuery = counted;
	setting->driver.cuEventSynchronize = seen_asleep;
	post_background(setting, &span, setting->host);
	while (__atomic_load_n(&queries, __ATOMIC_RELAXED) < 100 &&
	       !__atomic_load_n(&sleeps, __ATOMIC_RELAXED))
		sched_yield(); /* long past the questions that come before a sleep */

	const struct work *urgent = post(setting, 1, &span, 1, setting->host + MIB);
	if (!__atomic_load_n(&sleeps, __ATOMIC_RELAXED)) {
		setting->posted = 1; /* to wait for one */
		pool_run(&setting->pool, all_ended, setting);
	}

	pthread_mutex_lock(&gate);
	setting->posted = 2;
	let_go = true;
	pthread_cond_signal(&opened);
	pthread_mutex_unlock(&gate);
	pool_run(&setting->pool, all_ended, setting);
	assert_int_equal(urgent->turn, 0);
}

static bool one_ended(void *arg)
{
	const struct work *work = arg;
	return work->turn != UINT_MAX;
}

/* A copy that becomes urgent between two pieces ends with the one that is done last, though
 * that is not its last. */
static void test_urgent_between_two_pieces(void **state)
{
	struct setting *setting = *state;
	const struct span whole = {setting->memory.address, 2 * MIB},
			  small = {setting->memory.address, 64 * 1024};
	struct work *first = &setting->works[0];

	let_go = begun = false;
	hold_next = hold;
	holding = &setting->driver;
	setting->driver.cuMemcpyDtoHAsync = held;
	pthread_mutex_lock(&gate);
	post_background(setting, &whole, setting->host);
	first->turn = UINT_MAX;
	while (!__atomic_load_n(&begun, __ATOMIC_ACQUIRE))
		sched_yield();
	copy_queue_hasten(setting->queue, &first->copy, (struct fair_payer){.id = 1});
	struct work *behind = post(setting, 1, &small, 1, setting->host + 4 * MIB);
	behind->turn = UINT_MAX;
	pthread_mutex_unlock(&gate);
	pool_run(&setting->pool, one_ended, behind);
	bool early = one_ended(first);

	pthread_mutex_lock(&gate);
	let_go = true;
	pthread_cond_signal(&opened);
	pthread_mutex_unlock(&gate);
	pool_run(&setting->pool, all_ended, setting);
	assert_false(early);
	assert_int_equal(first->turn, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_behind_large_copies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_behind_shreds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adjacent_shreds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_demotion_goes_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_background_becomes_urgent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_urgent_beside_the_rest, setup, teardown),
		cmocka_unit_test_setup_teardown(test_urgent_while_the_thread_sleeps, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_urgent_between_two_pieces, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
