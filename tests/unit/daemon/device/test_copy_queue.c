/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy queues: copies between scattered device memory and one flat range, cut where a
 * registration ends; which failures cost which copy.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/base/list.h"
#include "daemon/device/copy_queue.h"
#include "daemon/device/device.h"
#include "tests/support/soft_pool.h"

enum { COPIES = 300, CHUNKS = 4 };
#define BYTES (16 * 1024ull) /* of a copy */
#define CHUNK (2 * MIB)      /* of host memory registered at once */

struct setting;

struct work {
	struct copy copy;
	struct setting *setting;
	struct span spans[3];
	unsigned over;
	unsigned turn;
};

struct setting {
	struct soft_pool pool;
	struct link_stats *link_stats;
	struct device *device;
	struct device_memory memory; /* first half: scattered, second: flat */
	char *host;
	struct work works[COPIES];
	unsigned used, ended, batches;
};

static void over(struct copy *copy)
{
	struct work *work = container_of(copy, struct work, copy);
	work->over++;
	work->turn = work->setting->ended++;
}

static void batch_done(void *arg)
{
	struct setting *setting = arg;
	setting->batches++;
}

static bool all_ended(void *arg)
{
	const struct setting *setting = arg;
	return setting->ended == setting->used;
}

static void run(struct setting *setting)
{
	pool_run(&setting->pool, all_ended, setting);
	for (unsigned i = 0; i < setting->used; i++)
		assert_int_equal(setting->works[i].over, 1);
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

/* The device's own thread has made its first call: from now on all calls are of this
 * test's doing. */
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
	for (uint32_t i = 0; i < 2; i++)
		await_control(setting, &setting->pool.devices->list[i]);
	assert_int_equal(link_stats_new(&setting->link_stats), 0);
	assert_int_equal(device_memory_open(&setting->memory, setting->device, 16 * MIB, 8 * MIB),
			 0);
	setting->host = mmap(NULL, CHUNKS * CHUNK, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(setting->host, MAP_FAILED);

	for (unsigned i = 0; i < CHUNKS; i++)
		assert_int_equal(setting->device->driver->cuMemHostRegister(
					 setting->host + i * CHUNK, CHUNK, 0),
				 0);

	const struct copy_queue_options options = {
		.loop = setting->pool.loop,
		.link_stats = setting->link_stats,
		.in_flight = 8 * MIB,
		.issue = {.rows_least = 2, .host_chunk = CHUNK, .ddr_base = setting->host}};
	for (enum copy_direction kind = COPY_D2D; kind <= COPY_H2D; kind++) {
		assert_int_equal(copy_queue_new(&setting->device->queues[kind], setting->device,
						kind, &options),
				 0);
		copy_queue_on_batch(setting->device->queues[kind], batch_done, setting);
	}

	*state = setting;

	return 0;
}

static int teardown(void **state)
{
	struct setting *setting = *state;

	for (unsigned i = 0; i < 3; i++)
		setting->device->queues[i] = copy_queue_free(setting->device->queues[i]);
	assert_int_equal(setting->pool.call.live("streams"), 0);
	assert_int_equal(setting->pool.call.live("events"), 0);

	for (unsigned i = 0; i < CHUNKS; i++)
		assert_int_equal(
			setting->device->driver->cuMemHostUnregister(setting->host + i * CHUNK), 0);

	munmap(setting->host, CHUNKS * CHUNK);
	device_memory_close(&setting->memory);
	setting->link_stats = link_stats_free(setting->link_stats);
	pool_close(&setting->pool);
	free(setting);

	return 0;
}

/* Its device side: three pieces, the last first, in the nth place of the scattered half. */
static struct work *new_work(struct setting *setting)
{
	unsigned nth = setting->used++;

	assert_in_range(nth, 0, COPIES - 1);
	struct work *work = &setting->works[nth];
	uint64_t base = setting->memory.address + nth * BYTES;
	*work = (struct work){.setting = setting,
			      .spans = {{base + 12288, 4096}, {base + 24, 12264}, {base, 24}}};
	work->copy = (struct copy){.spans = work->spans,
				   .span_count = 3,
				   .bytes = BYTES,
				   .flat = setting->memory.address + 8 * MIB + nth * BYTES,
				   .host = setting->host + CHUNK - BYTES / 2 +
					   nth * BYTES, /* the first one across a border */
				   .done = over};

	return work;
}

static char byte_of(unsigned nth, uint64_t i)
{
	return (char)((nth * 131 + i * 7 + (i >> 8)) & 0x7f);
}

static void put_flat(char *flat, unsigned nth)
{
	for (uint64_t i = 0; i < BYTES; i++)
		flat[i] = byte_of(nth, i);
}

static void check_flat(const char *flat, unsigned nth)
{
	for (uint64_t i = 0; i < BYTES; i++)
		if (flat[i] != byte_of(nth, i))
			fail_msg("byte %llu of copy %u", (unsigned long long)i, nth);
}

/* The same in device memory. */
static void put_on_device(const struct setting *setting, uint64_t address, const char *bytes,
			  uint64_t size)
{
	assert_int_equal(setting->pool.call.poke(setting->device->index, address, bytes, size), 0);
}

static void get_from_device(const struct setting *setting, char *bytes, uint64_t address,
			    uint64_t size)
{
	assert_int_equal(setting->pool.call.peek(bytes, setting->device->index, address, size), 0);
}

static void put_flat_on_device(const struct work *work, unsigned nth)
{
	char flat[BYTES];
	put_flat(flat, nth);
	put_on_device(work->setting, work->copy.flat, flat, BYTES);
}

static void check_flat_on_device(const struct work *work, unsigned nth)
{
	char flat[BYTES];
	get_from_device(work->setting, flat, work->copy.flat, BYTES);
	check_flat(flat, nth);
}

static void put_scattered(const struct work *work, unsigned nth)
{
	char flat[BYTES], *at = flat;
	put_flat(flat, nth);
	for (unsigned s = 0; s < 3; at += work->spans[s++].bytes)
		put_on_device(work->setting, work->spans[s].address, at, work->spans[s].bytes);
}

static void check_scattered(const struct work *work, unsigned nth)
{
	char flat[BYTES], *at = flat;
	for (unsigned s = 0; s < 3; at += work->spans[s++].bytes)
		get_from_device(work->setting, at, work->spans[s].address, work->spans[s].bytes);
	check_flat(flat, nth);
}

static void test_gathered_into_host_memory(void **state)
{
	struct setting *setting = *state;

	for (unsigned i = 0; i < COPIES; i++) {
		struct work *work = new_work(setting);
		put_scattered(work, i);
		copy_queue_post(setting->device->queues[COPY_D2H], &work->copy, i % 3 == 0);
	}

	run(setting);

	for (unsigned i = 0; i < COPIES; i++) {
		struct work *work = &setting->works[i];
		assert_int_equal(work->copy.status, HBM_OK);
		check_flat(work->copy.host, i);
	}

	assert_in_range(setting->batches, 1, COPIES);
	struct hbm_wire_link link;
	link_stats_link(setting->link_stats, HBM_LINK_D2H, &link);
	assert_int_equal(link.count, COPIES);
	assert_int_equal(link.bytes, COPIES * BYTES);
	assert_int_equal(link.errors, 0);
}

static void test_scattered_from_host_memory(void **state)
{
	struct setting *setting = *state;
	for (unsigned i = 0; i < COPIES; i++) {
		struct work *work = new_work(setting);
		put_flat(work->copy.host, i);
		copy_queue_post(setting->device->queues[COPY_H2D], &work->copy, true);
	}

	run(setting);

	for (unsigned i = 0; i < COPIES; i++) {
		assert_int_equal(setting->works[i].copy.status, HBM_OK);
		check_scattered(&setting->works[i], i);
	}
}

static void test_within_the_device(void **state)
{
	struct setting *setting = *state;
	for (unsigned i = 0; i < COPIES; i++) {
		struct work *work = new_work(setting);
		work->copy.gather = i % 2 == 0;
		if (work->copy.gather)
			put_scattered(work, i);
		else
			put_flat_on_device(work, i);

		copy_queue_post(setting->device->queues[COPY_D2D], &work->copy, false);
	}

	run(setting);

	for (unsigned i = 0; i < COPIES; i++) {
		assert_int_equal(setting->works[i].copy.status, HBM_OK);
		check_flat_on_device(&setting->works[i], i);
		check_scattered(&setting->works[i], i);
	}
}

static uint64_t single_copies(const struct setting *setting)
{
	return setting->pool.call.calls("cuMemcpyHtoDAsync") +
	       setting->pool.call.calls("cuMemcpyDtoHAsync") +
	       setting->pool.call.calls("cuMemcpyDtoDAsync");
}

/* The rows of a block in an engine's layers, and in host memory across two borders, the
 * first in the middle of a row: rows that end there are copied apart. */
static void test_rows_at_a_stride(void **state)
{
	struct setting *setting = *state;
	enum { ROWS = 100 };
	static char flat[ROWS * BYTES], seen[BYTES];
	struct span spans[ROWS];
	struct work *work = new_work(setting);

	for (unsigned i = 0; i < ROWS; i++)
		spans[i] = (struct span){setting->memory.address + i * (BYTES + 4096ull), BYTES};
	for (size_t i = 0; i < sizeof(flat); i++)
		flat[i] = (char)(i * 11 + i / 4093);
	work->copy.spans = spans;
	work->copy.span_count = ROWS;
	work->copy.bytes = sizeof(flat);
	memcpy(work->copy.host, flat, sizeof(flat));

	static const enum copy_direction kinds[] = {COPY_H2D, COPY_D2D, COPY_D2H};
	for (unsigned k = 0; k < 3; k++) {
		uint64_t rows = setting->pool.call.calls("cuMemcpy2DAsync"),
			 single = single_copies(setting);
		work->copy.gather = true;
		work->over = 0;
		setting->ended = 0;
		memset(k == 2 ? work->copy.host : seen, 0, k == 2 ? sizeof(flat) : sizeof(seen));
		copy_queue_post(setting->device->queues[kinds[k]], &work->copy, true);
		run(setting);
		assert_int_equal(work->copy.status, HBM_OK);
		assert_in_range(setting->pool.call.calls("cuMemcpy2DAsync") - rows, 1, ROWS / 10);
		assert_in_range(single_copies(setting) - single, 0, ROWS / 10);
		for (unsigned i = 0; i < ROWS && k == 0; i++) {
			get_from_device(setting, seen, spans[i].address, BYTES);
			assert_memory_equal(seen, flat + (uint64_t)i * BYTES, BYTES);
		}
		for (unsigned i = 0; i < ROWS && k == 1; i++) {
			get_from_device(setting, seen, work->copy.flat + (uint64_t)i * BYTES,
					BYTES);
			assert_memory_equal(seen, flat + (uint64_t)i * BYTES, BYTES);
		}
	}

	assert_memory_equal(work->copy.host, flat, sizeof(flat));
}

/* A copy that cannot be issued fails alone; all are over exactly once. */
static void test_a_failed_copy_fails_alone(void **state)
{
	struct setting *setting = *state;
	for (unsigned nth = 1; nth <= 30; nth++) { /* three calls a copy, one for the border */
		setting->used = setting->ended = 0;
		assert_int_equal(
			setting->pool.call.fail_nth("cuMemcpyDtoHAsync", nth, CUDA_ERROR_UNKNOWN),
			0);

		for (unsigned i = 0; i < 10; i++)
			copy_queue_post(setting->device->queues[COPY_D2H], &new_work(setting)->copy,
					true);

		run(setting);
		unsigned failed = 0;
		for (unsigned i = 0; i < 10; i++)
			failed += setting->works[i].copy.status == HBM_DEVICE;
		assert_int_equal(failed, 1);
		assert_int_equal(setting->device->errors, nth);
		assert_int_equal(setting->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS), 0);
	}
}

/* What cannot be waited for in the usual way is waited for in another: the copies are not
 * lost by it. */
static void test_events_that_fail(void **state)
{
	struct setting *setting = *state;
	static const char *const calls[] = {"cuEventRecord", "cuEventQuery"};
	for (unsigned c = 0; c < 2; c++) {
		setting->used = setting->ended = 0;
		assert_int_equal(setting->pool.call.fail_nth(calls[c], 1, CUDA_ERROR_UNKNOWN), 0);

		for (unsigned i = 0; i < 40; i++) {
			struct work *work = new_work(setting);
			put_scattered(work, i);
			copy_queue_post(setting->device->queues[COPY_D2H], &work->copy, true);
		}

		run(setting);

		for (unsigned i = 0; i < 40; i++) {
			assert_int_equal(setting->works[i].copy.status, HBM_OK);
			check_flat(setting->works[i].copy.host, i);
		}

		assert_int_equal(setting->device->errors, c + 1);
	}
}

/* The device said twice that it does not know: the bytes come after the copies have ended. */
static void test_copies_of_unknown_end_are_late(void **state)
{
	struct setting *setting = *state;
	struct work *work = new_work(setting);

	put_scattered(work, 0);
	setting->pool.call.hold(true);
	assert_int_equal(setting->pool.call.faults("cuEventQuery:1,cuStreamSynchronize:1"), 0);
	copy_queue_post(setting->device->queues[COPY_D2H], &work->copy, true);
	run(setting);
	assert_int_equal(work->copy.status, HBM_DEVICE);
	assert_true(work->copy.late);
	assert_true(setting->device->late.logged);

	memset(work->copy.host, 0, work->copy.bytes);
	setting->pool.call.hold(false);
	struct work *next = new_work(setting);
	put_scattered(next, 0);
	copy_queue_post(setting->device->queues[COPY_D2H], &next->copy, true);
	run(setting);
	assert_int_equal(next->copy.status, HBM_OK);
	assert_false(next->copy.late);
	check_flat(work->copy.host, 0); /* written by then, as the queue is one stream */
}

/* A sticky error has ended all work of its context. */
static void test_a_sticky_error_leaves_nothing_late(void **state)
{
	struct setting *setting = *state;
	struct work *work = new_work(setting);

	assert_int_equal(setting->pool.call.faults("cuEventQuery:1:700,"
						   "cuStreamSynchronize:1:700"),
			 0);
	copy_queue_post(setting->device->queues[COPY_D2H], &work->copy, true);
	run(setting);
	assert_int_equal(work->copy.status, HBM_DEVICE);
	assert_false(work->copy.late);
	assert_true(device_is_lost(setting->device));
	/* The soft driver only says that its work has ended. */
	assert_int_equal(setting->device->driver->cuCtxSynchronize(), CUDA_SUCCESS);
}

/* A failure of the queue's first step is not permanent. */
static void test_a_context_that_cannot_be_entered_at_first(void **state)
{
	struct setting *setting = *state;
	assert_int_equal(setting->pool.call.fail_nth("cuCtxSetCurrent", 1, CUDA_ERROR_UNKNOWN), 0);

	for (int round = 0; round < 2; round++) {
		setting->used = setting->ended = 0;
		struct work *work = new_work(setting);
		put_flat(work->copy.host, 0);
		copy_queue_post(setting->device->queues[COPY_H2D], &work->copy, true);
		run(setting);
		assert_int_equal(work->copy.status, round == 0 ? HBM_DEVICE : HBM_OK);
	}

	check_scattered(&setting->works[0], 0);
}

/* A queue opens or does not; nothing is left of one that failed. */
static void test_every_call_of_opening_fails_once(void **state)
{
	struct setting *setting = *state;
	const struct copy_queue_options options = {
		.loop = setting->pool.loop,
		.link_stats = setting->link_stats,
		.in_flight = 8 * MIB,
		.issue = {.rows_least = 2, .host_chunk = CHUNK, .ddr_base = setting->host}};
	static const char *const calls[] = {"cuStreamCreate", "cuEventCreate", "cuEventCreate",
					    "cuCtxSetCurrent"};
	static const unsigned nth[] = {2, 1, 40, 1};
	uint64_t events = setting->pool.call.live("events"),
		 streams = setting->pool.call.live("streams");

	for (unsigned c = 0; c < 4; c++) {
		struct copy_queue *queue = NULL;

		assert_int_equal(setting->pool.call.fail_nth(calls[c], nth[c], CUDA_ERROR_UNKNOWN),
				 0);
		assert_int_not_equal(copy_queue_new(&queue, setting->device, COPY_D2D, &options),
				     0);
		assert_null(queue);
		assert_int_equal(setting->pool.call.live("events"), events);
		assert_int_equal(setting->pool.call.live("streams"), streams);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_gathered_into_host_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scattered_from_host_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_within_the_device, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rows_at_a_stride, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_failed_copy_fails_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_events_that_fail, setup, teardown),
		cmocka_unit_test_setup_teardown(test_copies_of_unknown_end_are_late, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_sticky_error_leaves_nothing_late, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_context_that_cannot_be_entered_at_first,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_call_of_opening_fails_once, setup,
						teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
