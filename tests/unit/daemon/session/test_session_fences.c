/* SPDX-License-Identifier: Apache-2.0 */
/* Fences of a session: shared with its client, waited for, cancelled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/list.h"
#include "daemon/ledger/ledger.h"
#include "daemon/session/fences.h"
#include "daemon/session/request.h"
#include "daemon/session/session.h"
#include "tests/support/raw.h"
#include "tests/support/session_rig.h"

struct waiter {
	struct ready_wait wait;
	struct request *request; /* keeps the session */
	bool fired;
	int status;
};

static void waiter_fire(struct ready_wait *wait, int status)
{
	struct waiter *waiter = container_of(wait, struct waiter, wait);

	assert_int_equal(waiter->fired, false);
	waiter->fired = true;
	waiter->status = status;
	if (waiter->request)
		request_reply(waiter->request, status, NULL, 0);
}

static bool has_fired(void *arg)
{
	return ((struct waiter *)arg)->fired;
}

static void start_wait(struct session_rig *rig, struct waiter *waiter, uint32_t slot,
		       uint64_t value)
{
	*waiter = (struct waiter){.wait = {.slot = slot, .value = value, .fire = waiter_fire}};
	session_wait_ready(rig->session, &waiter->wait);
	assert_int_equal(waiter->fired, false);
}

static bool fence_is_set(void *fence)
{
	return __atomic_load_n((uint64_t *)fence, __ATOMIC_ACQUIRE) == 2;
}

static void fences_are_shared_both_ways(void **state)
{
	struct session_rig *rig = *state;
	struct waiter first, second, third;
	int fds[2];

	ledger_set_limit(&rig->ledger.host, LEDGER_READY_MS, 5000);
	session_rig_greet(rig, fds);
	uint64_t *page =
		mmap(NULL, HBM_WIRE_FENCES * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	assert_ptr_not_equal(page, MAP_FAILED);
	assert_int_equal(ftruncate(fds[0], 0), -1); /* sealed */
	assert_int_equal(ftruncate(fds[0], 8192), -1);

	session_complete(rig->session, &(struct completion_fence){511, 0, 42}, 0);
	session_complete(rig->session, &(struct completion_fence){HBM_WIRE_NO_FENCE, 0, 1}, 9);
	assert_int_equal(page[511], 42);

	page[3] = 5; /* reached before, beyond, and later */
	start_wait(rig, &first, 3, 5);
	start_wait(rig, &second, 3, 4);
	start_wait(rig, &third, 4, 9);
	pool_run(&rig->pool, has_fired, &first);
	pool_run(&rig->pool, has_fired, &second);
	assert_int_equal(first.status, HBM_OK);
	assert_int_equal(second.status, HBM_OK);
	session_rig_idle(rig);
	assert_int_equal(third.fired, false);
	__atomic_store_n(&page[4], 8, __ATOMIC_RELEASE);
	session_rig_idle(rig);
	assert_int_equal(third.fired, false);
	__atomic_store_n(&page[4], 9, __ATOMIC_RELEASE); /* no bell */
	pool_run(&rig->pool, has_fired, &third);
	assert_int_equal(third.status, HBM_OK);
	assert_int_equal(munmap(page, HBM_WIRE_FENCES * 8), 0);
	close(fds[0]);
	close(fds[1]);
}

/* A client may clear O_NONBLOCK, as it shares the doorbell's file; the daemon must not
 * block for that. */
static void a_hostile_doorbell_blocks_nobody(void **state)
{
	struct session_rig *rig = *state;
	struct waiter waiter;
	int fds[2];

	session_rig_greet(rig, fds);
	assert_int_equal(fcntl(fds[1], F_SETFL, 0), 0);
	start_wait(rig, &waiter, 0, 1);

	for (int i = 0; i < 100; i++) {
		uint64_t one = 1;
		assert_int_equal(write(fds[1], &one, 8), 8);
		unsigned turns = 1;
		pool_run(&rig->pool, session_rig_turned, &turns);
	}

	pool_run(&rig->pool, has_fired, &waiter);
	assert_int_equal(waiter.status, HBM_TIMEOUT);
	close(fds[0]);
	close(fds[1]);
}

struct watched_fences {
	struct fences fences;
	uint64_t set_for, looks, until_ns;
};

/* Each look sets the tick anew. */
static bool has_looked_long_enough(void *arg)
{
	struct watched_fences *watched = arg;
	watched->looks += watched->fences.tick.at_ns != watched->set_for;
	watched->set_for = watched->fences.tick.at_ns;
	return clock_now() >= watched->until_ns;
}

/* A fence that does not come is looked for less and less often: a client could open a
 * thousand sessions of such. */
static void fences_that_do_not_come_cost_little(void **state)
{
	struct session_rig *rig = *state;
	/* a failed assertion must not pull it away from the loop */
	static struct watched_fences watched;

	session_rig_greet(rig, NULL);
	assert_int_equal(fences_open(&watched.fences, rig->pool.loop, 10000000000u), 0);
	static struct waiter waiter = {.wait = {.slot = 2, .value = 1, .fire = waiter_fire}};
	fences_wait(&watched.fences, &waiter.wait);
	watched.until_ns = clock_now() + 400000000u;
	pool_run(&rig->pool, has_looked_long_enough, &watched);
	assert_in_range(watched.looks, 1, 200); /* every FENCES_TICK_NS would be 2,000 */
	uint64_t set_ns = clock_now(), waited_ns = set_ns - waiter.wait.since_ns;
	assert_in_range(watched.fences.tick.at_ns, 0, set_ns + waited_ns / FENCES_BACKOFF);
	fences_complete(&watched.fences, &(struct completion_fence){2, 0, 1}, 0);
	pool_run(&rig->pool, has_fired, &waiter);
	assert_int_equal(waiter.status, HBM_OK);
	fences_close(&watched.fences);
}

static void what_waits_can_be_cancelled(void **state)
{
	struct session_rig *rig = *state;
	struct waiter waiters[4];

	session_rig_greet(rig, NULL);
	ledger_set_limit(&rig->ledger.host, LEDGER_READY_MS, 60000);
	for (uint64_t i = 0; i < 4; i++) {
		start_wait(rig, &waiters[i], 0, 1);
		waiters[i].wait.id = i;
	}

	assert_int_equal(session_cancel(rig->session, &(uint64_t){4}), false);
	assert_int_equal(session_cancel(rig->session, &(uint64_t){0}), true);
	assert_int_equal(session_cancel(rig->session, &(uint64_t){0}), false);
	assert_int_equal(waiters[0].status, HBM_CANCELLED);
	assert_int_equal(session_cancel(rig->session, &(uint64_t){2}), true);
	assert_int_equal(waiters[2].status, HBM_CANCELLED);
	assert_int_equal(waiters[1].fired, false);
	assert_int_equal(session_cancel(rig->session, NULL), true);
	assert_int_equal(waiters[1].status, HBM_CANCELLED);
	assert_int_equal(waiters[3].status, HBM_CANCELLED);
	assert_int_equal(session_cancel(rig->session, NULL), false);
}

static void waits_end_with_the_session(void **state)
{
	struct session_rig *rig = *state;
	struct waiter waiter;

	session_rig_greet(rig, NULL);
	ledger_set_limit(&rig->ledger.host, LEDGER_READY_MS, 5000);
	rig->park = true;
	session_rig_ping(rig, 1);
	rig->wanted = 2;
	pool_run(&rig->pool, session_rig_has_arrived, rig);
	start_wait(rig, &waiter, 0, UINT64_MAX);
	waiter.request = container_of(list_pop_front(&rig->parked), struct request, link);
	close(rig->client);
	rig->client = -1;
	pool_run(&rig->pool, session_rig_is_freed, rig);
	assert_int_equal(waiter.fired, true);
}

/* What is malformed is no part; where it would have been the last, the fences of those that came are
 * set when they have ended, and the next request is another. */
static void parts_end_with_a_malformed_one(void **state)
{
	struct session_rig *rig = *state;
	struct raw_blocks message = raw_store(1, 5, 1, 4096);
	char reply[1024];
	int fds[2];

	session_rig_greet(rig, fds);
	const uint64_t *page = mmap(NULL, HBM_WIRE_FENCES * 8, PROT_READ, MAP_SHARED, fds[0], 0);
	assert_ptr_not_equal(page, MAP_FAILED);
	rig->park = true;
	message.head.fence_slot = 7;
	message.head.failed_slot = 8;
	message.head.fence_value = 1;
	message.head.header.flags = HBM_WIRE_MORE;
	rig->wanted = rig->arrived_count + 1;
	session_rig_say(rig, &message, sizeof(message));
	pool_run(&rig->pool, session_rig_has_arrived, rig);
	message.head.header.id = 2;
	message.head.header.zero = 1;
	for (unsigned i = 0; i < 2; i++) {
		session_rig_say(rig, &message, sizeof(message));
		session_rig_hear(rig, reply, sizeof(reply), HBM_WIRE_STORE, 2, HBM_INVALID);
		assert_int_equal(!rig->session->parts, i == 1);
		message.head.header.flags = 0;
	}
	assert_int_equal(page[7], 0);
	session_complete_request(
		container_of(rig->parked.next, struct request, link),
		&(struct completion_fence){.slot = 7, .failed_slot = 8, .value = 1}, 3);
	assert_int_equal(page[7], 1);
	assert_int_equal(page[8], 4);
	session_rig_answer(rig);

	/* With nothing in flight they are set at once. */
	message.head.header.flags = HBM_WIRE_MORE;
	message.head.header.zero = 0;
	message.head.fence_value = 2;
	rig->wanted = rig->arrived_count + 1;
	session_rig_say(rig, &message, sizeof(message));
	pool_run(&rig->pool, session_rig_has_arrived, rig);
	session_complete_request(
		container_of(rig->parked.next, struct request, link),
		&(struct completion_fence){.slot = 7, .failed_slot = 8, .value = 2}, 0);
	session_rig_answer(rig);
	assert_int_equal(page[7], 1);
	message.head.header.flags = 0;
	message.head.header.zero = 1;
	session_rig_say(rig, &message, sizeof(message));
	pool_run(&rig->pool, fence_is_set, (void *)(uintptr_t)&page[7]);
	assert_int_equal(page[8], 1);
	assert_int_equal(munmap((void *)(uintptr_t)page, HBM_WIRE_FENCES * 8), 0);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, session_rig_setup, session_rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(fences_are_shared_both_ways),         TEST(a_hostile_doorbell_blocks_nobody),
		TEST(fences_that_do_not_come_cost_little), TEST(what_waits_can_be_cancelled),
		TEST(waits_end_with_the_session),          TEST(parts_end_with_a_malformed_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
