/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fences without a session: the page, the doorbell, and how each wait ends. The client is
 * the test, which has the same page and rings the same bell.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <hbm/wire.h>

#include "daemon/base/clock.h"
#include "daemon/session/fences.h"

#define SECOND 1000000000ull
#define PATIENCE (3600 * SECOND)

struct waiter {
	struct ready_wait wait;
	unsigned fired;
	int status;
};

struct fixture {
	struct loop *loop;
	struct fences fences;
	struct timer guard;
	const struct waiter *awaited;
	struct waiter waiters[4];
};

static void fired(struct ready_wait *wait, int status)
{
	struct waiter *waiter = container_of(wait, struct waiter, wait);
	waiter->fired++;
	waiter->status = status;
}

static int setup(void **state)
{
	static struct fixture fixture;
	const struct loop_options options = {.engine = LOOP_THREADS, .io_depth = 1};

	memset(&fixture, 0, sizeof(fixture));
	assert_int_equal(loop_new(&fixture.loop, &options), 0);
	assert_int_equal(fences_open(&fixture.fences, fixture.loop, PATIENCE), 0);
	*state = &fixture;

	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	loop_timer_stop(fixture->loop, &fixture->guard);
	fences_close(&fixture->fences);
	fixture->loop = loop_free(fixture->loop);

	return 0;
}

static void look(struct timer *timer)
{
	struct fixture *fixture = container_of(timer, struct fixture, guard);

	if (!fixture->awaited || fixture->awaited->fired > 0)
		loop_stop(fixture->loop);
	else
		loop_timer_set(fixture->loop, timer, clock_now() + 100000);
}

/* Runs the loop until it is over for a wait; without one, for a turn. */
static void run_until(struct fixture *fixture, const struct waiter *waiter)
{
	fixture->awaited = waiter;
	fixture->guard.fire = look;
	loop_timer_set(fixture->loop, &fixture->guard, 0);
	assert_int_equal(loop_run(fixture->loop), 0);
}

static struct waiter *start(struct fixture *fixture, unsigned i, uint32_t slot, uint64_t value)
{
	struct waiter *waiter = &fixture->waiters[i];

	*waiter = (struct waiter){
		.wait = {.id = 100 + i, .slot = slot, .value = value, .fire = fired}};
	fences_wait(&fixture->fences, &waiter->wait);
	assert_int_equal(waiter->fired, 0);

	return waiter;
}

/* As if the wait had begun that long ago. */
static void age(struct waiter *waiter, uint64_t ns)
{
	waiter->wait.since_ns -= ns;
	waiter->wait.deadline_ns -= ns;
}

static void write_fence(struct fixture *fixture, uint32_t slot, uint64_t value)
{
	__atomic_store_n(&fixture->fences.page[slot], value, __ATOMIC_RELEASE);
}

static void complete(struct fixture *fixture, uint32_t slot, uint32_t failed_slot, uint64_t value,
		     uint64_t failed)
{
	const struct completion_fence fence = {slot, failed_slot, value};

	fences_complete(&fixture->fences, &fence, failed);
}

static bool has_rung(const struct fixture *fixture)
{
	struct pollfd poller = {.fd = fixture->fences.doorbell, .events = POLLIN};
	return poll(&poller, 1, 0) == 1;
}

static void ring(struct fixture *fixture)
{
	assert_int_equal(write(fixture->fences.doorbell, &(uint64_t){1}, 8), 8);
}

/* ---- tests ---- */

static void a_new_page_is_zero_and_its_bell_silent(void **state)
{
	struct fixture *fixture = *state;

	for (uint32_t slot = 0; slot < HBM_WIRE_FENCES; slot++)
		assert_int_equal(fixture->fences.page[slot], 0);
	assert_false(has_rung(fixture));
	assert_false(timer_is_set(&fixture->fences.tick));
}

/* The tick of a wait that has lasted long is minutes away: the bell alone tells. */
static void the_bell_is_answered_at_once(void **state)
{
	struct fixture *fixture = *state;
	struct waiter *waiter = start(fixture, 0, 7, 3);

	age(waiter, PATIENCE / 2);
	run_until(fixture, NULL);
	assert_int_equal(waiter->fired, 0);
	assert_true(fixture->fences.tick.at_ns > clock_now() + 60 * SECOND);

	write_fence(fixture, 7, 3);
	ring(fixture);
	run_until(fixture, waiter);
	assert_int_equal(waiter->status, HBM_OK);
	assert_false(has_rung(fixture));
	assert_false(timer_is_set(&fixture->fences.tick));
}

/* The next look comes when the wait has lasted a sixteenth longer, but no later than it
 * ends. */
static void the_next_look_is_a_sixteenth_away(void **state)
{
	struct fixture *fixture = *state;
	struct waiter *waiter = start(fixture, 0, 7, 3);

	age(waiter, 1600 * SECOND);
	run_until(fixture, NULL);
	uint64_t lasted = fixture->fences.tick.at_ns - waiter->wait.since_ns;
	assert_in_range(lasted, 1700 * SECOND, 1800 * SECOND);

	age(waiter, 1900 * SECOND);
	ring(fixture);
	run_until(fixture, NULL);
	assert_int_equal(fixture->fences.tick.at_ns, waiter->wait.deadline_ns);
	assert_int_equal(waiter->fired, 0);

	/* of several the one that ends or has to be looked at first counts */
	struct waiter *young = start(fixture, 1, 8, 1);
	age(start(fixture, 2, 9, 1), 1600 * SECOND);
	run_until(fixture, NULL);
	assert_true(fixture->fences.tick.at_ns < clock_now() + SECOND);
	assert_true(fences_cancel(&fixture->fences, NULL, NULL));
	assert_int_equal(waiter->status, HBM_CANCELLED);
	assert_int_equal(young->status, HBM_CANCELLED);
}

static void a_fence_is_reached_by_its_value_and_no_less(void **state)
{
	struct fixture *fixture = *state;
	struct waiter *exact = start(fixture, 0, 0, 5);
	struct waiter *less = start(fixture, 1, 0, 6);
	struct waiter *last = start(fixture, 2, HBM_WIRE_FENCES - 1, UINT64_MAX);

	complete(fixture, HBM_WIRE_NO_FENCE, 0, UINT64_MAX, 0);
	complete(fixture, 0, 0, 5, 0);
	run_until(fixture, exact);
	assert_int_equal(exact->status, HBM_OK);
	assert_int_equal(less->fired, 0);

	write_fence(fixture, HBM_WIRE_FENCES - 1, UINT64_MAX);
	run_until(fixture, last);
	assert_int_equal(last->status, HBM_OK);
	assert_int_equal(less->fired, 0);

	fences_end(&fixture->fences);
	assert_int_equal(less->status, HBM_SHUTDOWN);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(fixture->waiters[i].fired, 1);
}

static void the_failed_blocks_are_written_beside_the_value(void **state)
{
	struct fixture *fixture = *state;
	const volatile uint64_t *page = fixture->fences.page;

	write_fence(fixture, 6, 77);
	complete(fixture, 5, 6, 1, 3);
	assert_int_equal(page[5], 1);
	assert_int_equal(page[6], 3);

	/* 0 when all went well, whatever was there */
	complete(fixture, 5, 6, 2, 0);
	assert_int_equal(page[5], 2);
	assert_int_equal(page[6], 0);

	/* alone; and slot 0 is none, so it keeps what it has */
	complete(fixture, HBM_WIRE_NO_FENCE, HBM_WIRE_FENCES - 1, 9, 4);
	assert_int_equal(page[HBM_WIRE_FENCES - 1], 4);
	write_fence(fixture, 0, 8);
	complete(fixture, 5, 0, 3, 4);
	assert_int_equal(page[5], 3);
	assert_int_equal(page[0], 8);
}

static void who_waits_too_long_is_told_so(void **state)
{
	struct fixture *fixture = *state;
	struct waiter *late = start(fixture, 0, 1, 1), *reached = start(fixture, 1, 2, 1);
	struct waiter *early = start(fixture, 2, 3, 1);

	age(late, PATIENCE);
	age(reached, PATIENCE);
	write_fence(fixture, 2, 1);
	run_until(fixture, late);
	assert_int_equal(late->status, HBM_TIMEOUT);
	assert_int_equal(reached->status, HBM_OK); /* late, but it is ready */
	assert_int_equal(early->fired, 0);
	assert_true(fences_cancel(&fixture->fences, NULL, NULL));
}

static void one_or_all_are_cancelled(void **state)
{
	struct fixture *fixture = *state;
	struct waiter *waiters = fixture->waiters;

	for (unsigned i = 0; i < 4; i++)
		start(fixture, i, i, 1);

	assert_false(fences_cancel(&fixture->fences, &(uint64_t){99}, NULL));
	assert_true(fences_cancel(&fixture->fences, &(uint64_t){102}, NULL));
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(waiters[i].fired, i == 2);
	assert_int_equal(waiters[2].status, HBM_CANCELLED);
	assert_false(fences_cancel(&fixture->fences, &(uint64_t){102}, NULL));

	assert_true(fences_cancel(&fixture->fences, NULL, NULL));
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(waiters[i].fired, 1);
		assert_int_equal(waiters[i].status, HBM_CANCELLED);
	}
	assert_false(fences_cancel(&fixture->fences, NULL, NULL));
	assert_false(timer_is_set(&fixture->fences.tick));
}

/* Reached or not: after the end nothing begins. */
static void after_the_end_no_wait_succeeds(void **state)
{
	struct fixture *fixture = *state;

	fences_end(&fixture->fences);
	write_fence(fixture, 1, 1);
	struct waiter *waiter = start(fixture, 0, 1, 1);
	run_until(fixture, waiter);
	assert_int_equal(waiter->status, HBM_SHUTDOWN);
}

static void the_page_stays_when_its_file_is_handed_over(void **state)
{
	struct fixture *fixture = *state;

	fences_handed_over(&fixture->fences);
	assert_int_equal(fixture->fences.memfd, -1);
	complete(fixture, 3, 0, 9, 0);
	assert_int_equal(fixture->fences.page[3], 9);

	fences_close(&fixture->fences);
	assert_null(fixture->fences.loop);
	fences_close(&fixture->fences); /* of what is closed: nothing */
	assert_int_not_equal(fcntl(0, F_GETFD), -1);
}

/* Where the process has no standard input, that is the doorbell's descriptor. */
static void a_doorbell_may_be_descriptor_0(void **state)
{
	struct fixture *fixture = *state;
	struct fences fences;
	int input = dup(0);

	assert_true(input > 0);
	close(0);
	assert_int_equal(fences_open(&fences, fixture->loop, PATIENCE), 0);
	assert_int_equal(fences.doorbell, 0);
	fences_close(&fences);
	assert_int_equal(fcntl(0, F_GETFD), -1);

	assert_int_equal(dup2(input, 0), 0);
	close(input);
}

/* Whichever of its descriptors cannot be had, it keeps none; and descriptor 0 is somebody
 * else's. */
static void a_failed_open_closes_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct fences fences;
	struct rlimit limit;
	int next = dup(0);

	assert_true(next > 0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);

	for (rlim_t room = 0; room < 2; room++) {
		const struct rlimit few = {(rlim_t)next + room, limit.rlim_max};

		assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
		int r = fences_open(&fences, fixture->loop, PATIENCE);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);

		assert_int_equal(r, -EMFILE);
		assert_int_not_equal(fcntl(0, F_GETFD), -1);
		assert_int_equal(dup(0), next);
		close(next);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_new_page_is_zero_and_its_bell_silent),
		TEST(the_bell_is_answered_at_once),
		TEST(the_next_look_is_a_sixteenth_away),
		TEST(a_fence_is_reached_by_its_value_and_no_less),
		TEST(the_failed_blocks_are_written_beside_the_value),
		TEST(who_waits_too_long_is_told_so),
		TEST(one_or_all_are_cancelled),
		TEST(after_the_end_no_wait_succeeds),
		TEST(the_page_stays_when_its_file_is_handed_over),
		TEST(a_doorbell_may_be_descriptor_0),
		TEST(a_failed_open_closes_nothing),
	};
	alarm(60); /* a hang is a failure */

	return cmocka_run_group_tests(tests, NULL, NULL);
}
