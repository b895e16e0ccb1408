/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that overlap: tickets, the pollable descriptor, and fences in both directions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>

#define BLOCK 65536u
#define TICKETS 48

static unsigned fds;
static struct kv kv;
static struct hbm_block blocks[256];
static struct hbm_segment segments[256];
static hbm_result results[256];

static void start(const char *const *sets)
{
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, BLOCK, 256);
	for (uint64_t i = 0; i < 256; i++)
		kv_put(&kv, i, 1 + i);
	kv_blocks(&kv, 0, 1, 256, 0, blocks, segments);
}

static int setup(void **state)
{
	stage_setup(state);
	start(NULL);
	return 0;
}

static int setup_impatient(void **state)
{
	static const char *const sets[] = {"limits.ready_ms=50", NULL};
	stage_setup(state);
	start(sets);
	return 0;
}

static int teardown(void **state)
{
	kv_close(&kv);
	stage_finish(fds);
	return stage_teardown(state);
}

/* ---- Tickets ---- */

static void test_many_tickets_through_poll(void **state)
{
	(void)state;
	hbm_ticket tickets[TICKETS];
	for (uint64_t i = 0; i < TICKETS; i++) {
		blocks[i].parent = (hbm_key){{0}};
		assert_int_equal(hbm_submit_store(kv.hbm, kv.ns, &blocks[i], 1, NULL, &results[i],
						  &tickets[i]),
				 0);
	}

	for (size_t ended = 0; ended < TICKETS;) {
		struct pollfd fd = {.fd = hbm_fd(kv.hbm), .events = POLLIN};
		assert_int_equal(hbm_dispatch(kv.hbm, 0) >= 0, 1);
		for (size_t i = 0; i < TICKETS; i++) {
			int status = tickets[i] ? hbm_poll(kv.hbm, tickets[i]) : -EAGAIN;
			if (status == -EAGAIN)
				continue;

			assert_int_equal(status, 0);
			assert_int_equal(results[i].status, HBM_OK);
			tickets[i] = 0;
			ended++;
		}

		if (ended < TICKETS)
			assert_int_equal(poll(&fd, 1, 20000), 1);
	}

	for (uint64_t i = 0; i < TICKETS; i++)
		assert_int_equal(kv_load(&kv, i, 1 + i, 1, results), 0);
}

static void test_a_ticket_is_given_back_once(void **state)
{
	(void)state;
	hbm_ticket ticket;
	assert_int_equal(hbm_submit_store(kv.hbm, kv.ns, blocks, 4, NULL, results, &ticket), 0);
	assert_int_equal(hbm_wait(kv.hbm, ticket, 20000), 0);
	assert_int_equal(hbm_wait(kv.hbm, ticket, 0), -EINVAL);
	assert_int_equal(hbm_poll(kv.hbm, ticket), -EINVAL);
}

/* More requests than may be in flight: the library waits for the daemon, nothing is lost. */
static void test_more_tickets_than_may_be_in_flight(void **state)
{
	(void)state;
	static hbm_ticket tickets[1000];
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(hbm_submit_load(kv.hbm, kv.ns, blocks, 1, NULL, NULL, &tickets[i]),
				 0);

	for (size_t i = 1000; i-- > 0;)
		assert_int_equal(hbm_wait(kv.hbm, tickets[i], 20000), 0);
}

/* ---- Fences from the daemon ---- */

static void expect_fence(uint32_t slot, uint64_t value)
{
	for (int i = 0; i < 20000 && *hbm_fence(kv.hbm, slot) != value; i++)
		poll(NULL, 0, 1);
	assert_int_equal(*hbm_fence(kv.hbm, slot), value);
}

static void test_a_fence_is_set_when_the_bytes_are_there(void **state)
{
	(void)state;
	hbm_ticket ticket;
	struct hbm_sync sync = {.ready_slot = HBM_WIRE_NO_FENCE, .fence_slot = 7, .fence_value = 3};
	assert_int_equal(hbm_submit_store(kv.hbm, kv.ns, blocks, 16, &sync, results, &ticket), 0);
	expect_fence(7, 3);
	assert_int_equal(hbm_wait(kv.hbm, ticket, 20000), 0);
	for (uint64_t i = 0; i < 16; i++)
		kv_wipe(&kv, i);
	kv_blocks(&kv, 0, 1, 16, 0, blocks, segments);
	sync.fence_value = 4;
	assert_int_equal(hbm_submit_load(kv.hbm, kv.ns, blocks, 16, &sync, results, &ticket), 0);
	expect_fence(7, 4);
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(kv_holds(&kv, i, 1 + i), 1);
	assert_int_equal(hbm_wait(kv.hbm, ticket, 20000), 0);
}

static void test_a_fence_is_set_also_when_a_request_is_refused(void **state)
{
	(void)state;
	hbm_ticket ticket;
	const struct hbm_sync sync = {
		.ready_slot = HBM_WIRE_NO_FENCE, .fence_slot = 9, .fence_value = 5};
	const struct hbm_range all = {kv.region, 0, hbm_region_bytes(kv.region)};
	assert_int_equal(hbm_decommit(kv.hbm, &all, 1), 0);
	assert_int_equal(hbm_submit_store(kv.hbm, kv.ns, blocks, 1, &sync, results, &ticket), 0);
	assert_int_equal(hbm_wait(kv.hbm, ticket, 20000), HBM_NOT_FOUND);
	expect_fence(9, 5);
}

static void test_a_miss_sets_its_fence(void **state)
{
	(void)state;
	hbm_ticket ticket;
	const struct hbm_sync sync = {
		.ready_slot = HBM_WIRE_NO_FENCE, .fence_slot = 511, .fence_value = UINT64_MAX};
	assert_int_equal(hbm_submit_load(kv.hbm, kv.ns, blocks, 1, &sync, results, &ticket), 0);
	assert_int_equal(hbm_wait(kv.hbm, ticket, 20000), 0);
	assert_int_equal(results[0].status, HBM_MISS);
	expect_fence(511, UINT64_MAX);
}

/* A stream that has waited for the fence reads beside it whether its blocks are there. */
static void expect_failed(int status, uint64_t value, uint64_t failed, hbm_ticket ticket)
{
	expect_fence(7, value);
	assert_int_equal(*hbm_fence(kv.hbm, 8), failed);
	assert_int_equal(hbm_wait(kv.hbm, ticket, 20000), status);
}

static void test_the_blocks_that_failed_are_counted(void **state)
{
	(void)state;
	hbm_ticket ticket;
	struct hbm_sync sync = {.ready_slot = HBM_WIRE_NO_FENCE, .fence_slot = 7, .failed_slot = 8};

	*hbm_fence(kv.hbm, 8) = 99;
	sync.fence_value = 1;
	assert_int_equal(hbm_submit_store(kv.hbm, kv.ns, blocks, 16, &sync, results, &ticket), 0);
	expect_failed(0, 1, 0, ticket);

	/* what is there already is no failure; what has no parent is one */
	sync.fence_value = 2;
	blocks[15].key.bytes[15] ^= 0x55;
	blocks[15].parent.bytes[15] ^= 0x55;
	assert_int_equal(hbm_submit_store(kv.hbm, kv.ns, blocks, 16, &sync, results, &ticket), 0);
	expect_failed(0, 2, 1, ticket);
	assert_int_equal(results[0].status, HBM_EXISTS);
	assert_int_equal(results[15].status, HBM_NO_PARENT);

	/* three that were never stored, among 16 */
	for (size_t i = 3; i < 6; i++)
		blocks[i].key.bytes[15] ^= 0x55;
	blocks[15].key.bytes[15] ^= 0x55;
	sync.fence_value = 3;
	assert_int_equal(hbm_submit_load(kv.hbm, kv.ns, blocks, 16, &sync, results, &ticket), 0);
	expect_failed(0, 3, 3, ticket);
	assert_int_equal(results[4].status, HBM_MISS);
	assert_int_equal(results[6].status, HBM_OK);

	/* a refused request: all of them */
	sync.fence_value = 4;
	assert_int_equal(hbm_submit_load(kv.hbm, kv.ns + 1, blocks, 16, &sync, results, &ticket),
			 0);
	expect_failed(HBM_NOT_FOUND, 4, 16, ticket);

	const struct hbm_range all = {kv.region, 0, hbm_region_bytes(kv.region)};
	assert_int_equal(hbm_decommit(kv.hbm, &all, 1), 0);
	sync.fence_value = 5;
	assert_int_equal(hbm_submit_load(kv.hbm, kv.ns, blocks, 12, &sync, results, &ticket), 0);
	expect_failed(HBM_NOT_FOUND, 5, 12, ticket);
}

static void test_a_cancelled_request_has_failed_as_a_whole(void **state)
{
	(void)state;
	hbm_ticket ticket;
	const struct hbm_sync sync = {.ready_slot = 3,
				      .ready_value = 10,
				      .fence_slot = 7,
				      .fence_value = 1,
				      .failed_slot = 8};

	assert_int_equal(hbm_submit_store(kv.hbm, kv.ns, blocks, 5, &sync, results, &ticket), 0);
	assert_int_equal(hbm_cancel(kv.hbm, ticket), 0);
	expect_failed(HBM_CANCELLED, 1, 5, ticket);
}

static void test_a_slot_for_the_failed_is_checked_before_anything_is_sent(void **state)
{
	(void)state;
	hbm_ticket ticket;
	struct hbm_sync sync = {.ready_slot = HBM_WIRE_NO_FENCE, .fence_slot = 7, .failed_slot = 7};

	assert_int_equal(hbm_submit_load(kv.hbm, kv.ns, blocks, 1, &sync, NULL, &ticket),
			 HBM_INVALID);
	sync.failed_slot = HBM_WIRE_FENCES;
	assert_int_equal(hbm_submit_load(kv.hbm, kv.ns, blocks, 1, &sync, NULL, &ticket),
			 HBM_INVALID);
}

/* ---- Fences from the client ---- */

static sem_t may_signal;

static void *signal_later(void *arg)
{
	struct kv *owner = arg;
	sem_wait(&may_signal);
	hbm_fence_signal(owner->hbm, 3, 10);
	return NULL;
}

static void test_a_store_waits_until_the_data_is_ready(void **state)
{
	(void)state;
	pthread_t thread;
	hbm_ticket ticket;
	const struct hbm_sync sync = {
		.ready_slot = 3, .ready_value = 10, .fence_slot = HBM_WIRE_NO_FENCE};
	sem_init(&may_signal, 0, 0);
	assert_int_equal(pthread_create(&thread, NULL, signal_later, &kv), 0);
	kv_wipe(&kv, 0);
	assert_int_equal(hbm_submit_store(kv.hbm, kv.ns, blocks, 1, &sync, results, &ticket), 0);

	/* What comes after is not held up, and the block is not there. */
	assert_int_equal(hbm_ping(kv.hbm), 0);
	assert_int_equal(hbm_fence_signal(kv.hbm, 3, 9), 0);
	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 0);
	assert_int_equal(hbm_poll(kv.hbm, ticket), -EAGAIN);
	kv_put(&kv, 0, 1);
	sem_post(&may_signal);
	assert_int_equal(hbm_wait(kv.hbm, ticket, 20000), 0);
	assert_int_equal(results[0].status, HBM_OK);
	pthread_join(thread, NULL);
	sem_destroy(&may_signal);
	assert_int_equal(kv_load(&kv, 0, 1, 1, results), 0);
	assert_int_equal(results[0].status, HBM_OK);
}

/* A GPU writes its fence without ringing. */
static void test_a_fence_without_a_doorbell(void **state)
{
	(void)state;
	hbm_ticket ticket;
	const struct hbm_sync sync = {
		.ready_slot = 0, .ready_value = 1, .fence_slot = HBM_WIRE_NO_FENCE};
	assert_int_equal(hbm_submit_store(kv.hbm, kv.ns, blocks, 1, &sync, results, &ticket), 0);
	*hbm_fence(kv.hbm, 0) = 1;
	assert_int_equal(hbm_wait(kv.hbm, ticket, 20000), 0);
	assert_int_equal(results[0].status, HBM_OK);
}

static void test_a_ready_fence_times_out(void **state)
{
	(void)state;
	hbm_ticket ticket;
	const struct hbm_sync sync = {
		.ready_slot = 1, .ready_value = 1, .fence_slot = 2, .fence_value = 8};
	assert_int_equal(hbm_submit_store(kv.hbm, kv.ns, blocks, 1, &sync, results, &ticket), 0);
	assert_int_equal(hbm_wait(kv.hbm, ticket, 20000), HBM_TIMEOUT);
	expect_fence(2, 8);
	assert_int_equal(hbm_submit_load(kv.hbm, kv.ns, blocks, 1, &sync, results, &ticket), 0);
	assert_int_equal(hbm_wait(kv.hbm, ticket, 20000), HBM_TIMEOUT);
	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 0);
}

/* A session that ends while its requests wait takes them along. */
static void test_leaving_while_waiting(void **state)
{
	(void)state;
	struct kv other;
	hbm_ticket ticket;
	struct hbm_block block;
	struct hbm_segment segment;
	const struct hbm_sync sync = {
		.ready_slot = 3, .ready_value = 10, .fence_slot = 4, .fence_value = 1};
	kv_open(&other, &daemon_, 0, BLOCK, 8);
	kv_blocks(&other, 0, 500, 1, 0, &block, &segment);

	for (int i = 0; i < 8; i++)
		assert_int_equal(
			hbm_submit_store(other.hbm, other.ns, &block, 1, &sync, NULL, &ticket), 0);

	assert_int_equal(hbm_ping(other.hbm), 0);
	kv_close(&other);
	assert_int_equal(kv_lookup(&kv, 500, 1, NULL), 0);
}

/* ---- Regions under requests ---- */

static void test_a_region_destroyed_under_its_requests(void **state)
{
	(void)state;
	struct hbm_region *region = kv_region(&kv, 4 << 20);
	hbm_ticket tickets[8];
	const struct hbm_sync sync = {
		.ready_slot = 3, .ready_value = 1, .fence_slot = HBM_WIRE_NO_FENCE};
	for (size_t i = 0; i < 8; i++) {
		segments[i] = (struct hbm_segment){region, i * BLOCK, BLOCK};
		assert_int_equal(hbm_submit_store(kv.hbm, kv.ns, &blocks[i], 1,
						  i % 2 ? &sync : NULL, &results[i], &tickets[i]),
				 0);
	}

	assert_int_equal(hbm_fence_signal(kv.hbm, 3, 1), 0);
	assert_int_equal(hbm_region_destroy(kv.hbm, region), 0);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(hbm_wait(kv.hbm, tickets[i], 20000), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_many_tickets_through_poll),
		TEST(test_a_ticket_is_given_back_once),
		TEST(test_more_tickets_than_may_be_in_flight),
		TEST(test_a_fence_is_set_when_the_bytes_are_there),
		TEST(test_a_fence_is_set_also_when_a_request_is_refused),
		TEST(test_a_miss_sets_its_fence),
		TEST(test_the_blocks_that_failed_are_counted),
		TEST(test_a_cancelled_request_has_failed_as_a_whole),
		TEST(test_a_slot_for_the_failed_is_checked_before_anything_is_sent),
		TEST(test_a_store_waits_until_the_data_is_ready),
		TEST(test_a_fence_without_a_doorbell),
		cmocka_unit_test_setup_teardown(test_a_ready_fence_times_out, setup_impatient,
						teardown),
		cmocka_unit_test_setup_teardown(test_leaving_while_waiting, setup_impatient,
						teardown),
		TEST(test_a_region_destroyed_under_its_requests),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
