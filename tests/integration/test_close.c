/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking requests back, and closing a connection with requests under way. The daemon's
 * patience with a ready fence is a minute here: a test that waits for that is ended by
 * its alarm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#define BLOCK 65536u
#define SLOTS 64
#define ALARM_S 30 /* less than the daemon's patience */

static unsigned fds;
static struct kv kv;
static struct hbm_block blocks[SLOTS];
static struct hbm_segment segments[SLOTS];
static const struct hbm_sync never = {
	.ready_slot = 3, .ready_value = 10, .fence_slot = 4, .fence_value = 1};

static int setup(void **state)
{
	static const char *const sets[] = {"limits.ready_ms=60000", NULL};

	alarm(ALARM_S);
	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, BLOCK, SLOTS);
	kv_blocks(&kv, 0, 1, SLOTS, 0, blocks, segments);

	return 0;
}

static int teardown(void **state)
{
	if (kv.hbm)
		kv_close(&kv);
	stage_finish(fds);
	alarm(0);
	return stage_teardown(state);
}

static hbm_ticket submit_never(bool store, size_t nth)
{
	hbm_ticket ticket;
	int rc = store ? hbm_submit_store(kv.hbm, kv.ns, &blocks[nth], 1, &never, NULL, &ticket)
		       : hbm_submit_load(kv.hbm, kv.ns, &blocks[nth], 1, &never, NULL, &ticket);
	assert_int_equal(rc, 0);
	return ticket;
}

/* ---- Cancelling ---- */

static void test_a_request_that_waits_is_taken_back(void **state)
{
	(void)state;
	hbm_ticket store = submit_never(true, 0), load = submit_never(false, 0);
	assert_int_equal(hbm_cancel(kv.hbm, store), 0);
	assert_int_equal(*hbm_fence(kv.hbm, 4), 1);
	assert_int_equal(hbm_poll(kv.hbm, store), HBM_CANCELLED);
	assert_int_equal(hbm_poll(kv.hbm, load), -EAGAIN);
	assert_int_equal(hbm_cancel(kv.hbm, load), 0);
	assert_int_equal(hbm_poll(kv.hbm, load), HBM_CANCELLED);

	/* Ready after all: nothing comes of it. */
	assert_int_equal(hbm_fence_signal(kv.hbm, 3, 10), 0);
	assert_int_equal(hbm_ping(kv.hbm), 0);
	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 0);
}

static void test_what_is_over_cannot_be_taken_back(void **state)
{
	(void)state;
	hbm_ticket ticket;
	assert_int_equal(hbm_submit_store(kv.hbm, kv.ns, blocks, SLOTS, NULL, NULL, &ticket), 0);
	assert_int_equal(hbm_cancel(kv.hbm, ticket), HBM_NOT_FOUND);
	assert_int_equal(hbm_wait(kv.hbm, ticket, 20000), 0);
	assert_int_equal(kv_lookup(&kv, 1, SLOTS, NULL), SLOTS);
}

/* Also when the session has as many requests under way as it may. */
static void test_taking_back_at_the_limit(void **state)
{
	(void)state;
	hbm_ticket tickets[SLOTS];
	uint32_t most = hbm_info(kv.hbm)->requests_in_flight - 1;
	assert_in_range(most, 1, SLOTS);
	for (uint32_t i = 0; i < most; i++)
		tickets[i] = submit_never(true, i);
	for (uint32_t i = 0; i < most; i++) {
		assert_int_equal(hbm_cancel(kv.hbm, tickets[i]), 0);
		assert_int_equal(hbm_poll(kv.hbm, tickets[i]), HBM_CANCELLED);
	}
}

/* ---- Closing ---- */

static void test_closing_while_requests_wait(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < hbm_info(kv.hbm)->requests_in_flight - 1; i++)
		submit_never(i % 2, i);
	kv_close(&kv);
}

static void test_closing_with_copies_and_commits_under_way(void **state)
{
	(void)state;
	hbm_ticket ticket;
	struct hbm_region *region;
	const struct hbm_region_options options = {.address_space = 32 << 20, .slab = 2 << 20};
	assert_int_equal(hbm_region_create(kv.hbm, &options, &region), 0);
	const struct hbm_range all = {region, 0, 32 << 20};

	for (int i = 0; i < SLOTS; i++)
		assert_int_equal(
			hbm_submit_store(kv.hbm, kv.ns, &blocks[i], 1, NULL, NULL, &ticket), 0);

	assert_int_equal(hbm_submit_commit(kv.hbm, &all, 1, &ticket), 0);
	submit_never(true, 0);
	kv_close(&kv);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_request_that_waits_is_taken_back),
		TEST(test_what_is_over_cannot_be_taken_back),
		TEST(test_taking_back_at_the_limit),
		TEST(test_closing_while_requests_wait),
		TEST(test_closing_with_copies_and_commits_under_way),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
