/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of requests that wait: a session has its share of it and no more, whatever it
 * asks for; another session goes on meanwhile; and what waits can be cancelled. The
 * timeout of ready fences is a minute here: a test that waits for that is ended by its
 * alarm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv.h"
#include "tests/support/raw.h"
#include "tests/support/stage.h"

#include <string.h>
#include <unistd.h>

#define BLOCK 4096u
#define SLOTS 256u
#define REQUESTS 40
#define SLAB (2u << 20)
#define RANGES 16
#define ALARM_S 50 /* less than the daemon waits for a fence */

static unsigned fds;
static struct kv kv, greedy;
static struct hbm_block blocks[SLOTS];
static struct hbm_segment segments[SLOTS];
static hbm_ticket tickets[REQUESTS];
static const struct hbm_sync never = {
	.ready_slot = 3, .ready_value = 10, .fence_slot = HBM_WIRE_NO_FENCE};

static int setup_with(void **state, const char *const *sets)
{
	alarm(ALARM_S);
	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, BLOCK, SLOTS);
	kv_open(&greedy, &daemon_, 0, BLOCK, SLOTS);
	kv_blocks(&greedy, 0, 1000, SLOTS, 0, blocks, segments);

	return 0;
}

static int setup(void **state)
{
	static const char *const sets[] = {"limits.ready_ms=60000", "limits.request_bytes=256KiB",
					   NULL};
	return setup_with(state, sets);
}

static int setup_total(void **state)
{
	static const char *const sets[] = {"limits.ready_ms=60000", "limits.request_bytes=256KiB",
					   "limits.request_bytes_total=256KiB", NULL};
	return setup_with(state, sets);
}

static int teardown(void **state)
{
	if (greedy.hbm)
		kv_close(&greedy);
	kv_close(&kv);
	stage_finish(fds);
	alarm(0);
	return stage_teardown(state);
}

struct wanted {
	const char *name;
	struct hbm_wire_limit record;
};

static int keep_limit(const void *record, size_t bytes, void *arg)
{
	struct wanted *wanted = arg;
	const struct hbm_wire_limit *limit = record;

	assert_int_equal(bytes, sizeof(*limit));
	if (strcmp(limit->name, wanted->name) == 0)
		wanted->record = *limit;

	return 0;
}

static struct hbm_wire_limit limit_of(const char *name)
{
	struct wanted wanted = {.name = name};

	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_LIMITS, keep_limit, &wanted), 0);
	assert_string_equal(wanted.record.name, name);

	return wanted.record;
}

static void store_never(int from, int to)
{
	for (int i = from; i < to; i++)
		assert_int_equal(hbm_submit_store(greedy.hbm, greedy.ns, blocks, SLOTS, &never,
						  NULL, &tickets[i]),
				 0);
}

static void assert_the_other_goes_on(void)
{
	assert_int_equal(kv_store(&kv, 0, 1, SLOTS, 0, NULL), 0);
	assert_int_equal(kv_load(&kv, 0, 1, SLOTS, NULL), 0);
}

/* Large stores whose data is never ready cost the daemon their messages, and no more. */
static void test_a_session_that_asks_for_too_much(void **state)
{
	(void)state;
	store_never(0, REQUESTS);
	assert_the_other_goes_on();

	while (limit_of("limits.requests_in_flight").highest < REQUESTS)
		; /* until they have been read */
	struct hbm_wire_limit bytes = limit_of("limits.request_bytes");
	assert_int_equal(bytes.limit, 256 << 10);
	assert_in_range(bytes.highest, bytes.limit, 1 << 20); /* 40 messages; 40 whole: 6 MiB */
	assert_int_equal(bytes.balanced, 1);
	assert_in_range(limit_of("limits.requests_in_flight").highest, REQUESTS, REQUESTS + 1);

	/* The last first: it has not been handed to anybody yet. */
	for (int i = REQUESTS; i-- > 0;) {
		assert_int_equal(hbm_cancel(greedy.hbm, tickets[i]), 0);
		assert_int_equal(hbm_poll(greedy.hbm, tickets[i]), HBM_CANCELLED);
	}

	assert_in_range(limit_of("limits.request_bytes").used, 1, 4096); /* that query */
	assert_true(spawn_balanced(&daemon_));
}

static void test_what_waits_for_memory_is_done_in_the_end(void **state)
{
	(void)state;
	store_never(0, REQUESTS);
	for (uint64_t i = 0; i < SLOTS; i++)
		kv_put(&greedy, i, 1000 + i);
	assert_int_equal(hbm_fence_signal(greedy.hbm, never.ready_slot, never.ready_value), 0);
	for (int i = 0; i < REQUESTS; i++)
		assert_int_equal(hbm_wait(greedy.hbm, tickets[i], 20000), 0);
	assert_int_equal(kv_load(&kv, 0, 1000, SLOTS, NULL), 0);
	assert_true(spawn_balanced(&daemon_));
}

static void test_closing_while_requests_wait_for_memory(void **state)
{
	(void)state;
	store_never(0, REQUESTS);
	kv_close(&greedy);
	assert_the_other_goes_on();
	assert_in_range(limit_of("limits.request_bytes").used, 1, 4096);
	assert_true(spawn_balanced(&daemon_));
}

/* One session has all the memory there is for requests; another is served, with its share
 * or one request at a time. */
static void test_all_memory_is_used(void **state)
{
	(void)state;
	store_never(0, 16);
	struct hbm_wire_limit bytes;
	do
		bytes = limit_of("limits.request_bytes_total");
	while (bytes.used < bytes.limit); /* until they have been read */
	assert_int_equal(bytes.limit, 256 << 10);
	assert_true(bytes.used <= 1 << 20);
	assert_the_other_goes_on();

	hbm_ticket loads[16];
	kv_blocks(&kv, 0, 1, SLOTS, 0, blocks, segments);
	for (int i = 0; i < 16; i++)
		assert_int_equal(
			hbm_submit_load(kv.hbm, kv.ns, blocks, SLOTS, NULL, NULL, &loads[i]), 0);
	for (int i = 0; i < 16; i++)
		assert_int_equal(hbm_wait(kv.hbm, loads[i], 20000), 0);

	assert_int_equal(hbm_fence_signal(greedy.hbm, never.ready_slot, never.ready_value), 0);
	for (int i = 0; i < 16; i++)
		assert_int_equal(hbm_wait(greedy.hbm, tickets[i], 20000), 0);
	assert_true(spawn_balanced(&daemon_));
}

/* A request that works on many ranges has more memory than its message. The decommit waits
 * for the store, which has a slab in use. */
static void test_the_memory_of_ranges_counts(void **state)
{
	struct {
		struct hbm_wire_ranges head;
		struct hbm_wire_range ranges[RANGES];
	} ranges = {.head = {.header = RAW_HEADER(COMMIT, sizeof(ranges)), .count = RANGES}};
	const struct hbm_wire_header ping = RAW_HEADER(PING, sizeof(ping));
	int client = raw_greet(&daemon_);

	(void)state;
	uint32_t region = raw_region(client, 0, (RANGES + 1) * SLAB, SLAB);
	struct raw_blocks store = raw_store(raw_namespace(client, BLOCK), 1, region, BLOCK);
	store.head.ready_slot = 1;
	store.head.ready_value = 1;
	for (uint64_t i = 0; i < RANGES; i++)
		ranges.ranges[i] = (struct hbm_wire_range){
			.region = region, .offset = (i + 1) * SLAB, .bytes = SLAB};
	assert_int_equal(raw_ask(client, &ranges, sizeof(ranges)), HBM_OK);

	assert_true(raw_send(client, &store, sizeof(store), 0));
	uint64_t before = limit_of("limits.request_bytes_total").used;
	ranges.head.header.opcode = HBM_WIRE_DECOMMIT;
	ranges.ranges[0].offset = 0;
	ranges.ranges[0].region = region;
	assert_true(raw_send(client, &ranges, sizeof(ranges), 0));
	assert_int_equal(raw_ask(client, &ping, sizeof(ping)), HBM_OK);
	assert_true(limit_of("limits.request_bytes_total").used - before > RANGES * 128);

	/* Its process lives, so that only itself gives the region back. */
	const struct hbm_wire_cancel cancel = {.header = RAW_HEADER(CANCEL, sizeof(cancel)),
					       .flags = HBM_WIRE_ALL};
	const struct hbm_wire_region_destroy destroy = {
		.header = RAW_HEADER(REGION_DESTROY, sizeof(destroy)),
		.region = store.segment.region};
	struct hbm_wire_header reply;
	assert_true(raw_send(client, &cancel, sizeof(cancel), 0));
	for (int i = 0; i < 3; i++)
		assert_true(raw_receive(client, &reply));
	assert_int_equal(raw_ask(client, &destroy, sizeof(destroy)), HBM_OK);
	close(client);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_session_that_asks_for_too_much),
		TEST(test_what_waits_for_memory_is_done_in_the_end),
		TEST(test_closing_while_requests_wait_for_memory),
		TEST(test_the_memory_of_ranges_counts),
		cmocka_unit_test_setup_teardown(test_all_memory_is_used, setup_total, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
