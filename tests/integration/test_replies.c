/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the replies to a raw client say that the library does not hand on: how many blocks
 * of a request were done, and what became of one that was cancelled.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/raw.h"
#include "tests/support/stage.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK 65536u
#define SLAB (2ull << 20)
#define COUNT 4u

static int client;
static uint32_t ns, region;

static void begin(const char *const *sets)
{
	spawn_start(&daemon_, sets, NULL);
	client = raw_greet(&daemon_);
	ns = raw_namespace(client, BLOCK);
	region = raw_region(client, 0, SLAB, SLAB);
}

static int setup(void **state)
{
	stage_setup(state);
	begin(NULL);
	return 0;
}

static int teardown(void **state)
{
	close(client);
	return stage_teardown(state);
}

static struct raw_blocks store_of(uint8_t key, uint64_t id)
{
	struct raw_blocks store = raw_store(ns, key, region, BLOCK);

	store.head.header.id = id;
	return store;
}

struct results {
	struct hbm_wire_results head;
	struct hbm_wire_result result[COUNT];
};

/* Blocks 1 and 3 of four are there. `done` and every result say so. */
static void expect_two_of_four(enum hbm_wire_opcode opcode)
{
	struct {
		struct hbm_wire_keys head;
		struct hbm_wire_key keys[COUNT];
	} message = {
		.head = {.header = RAW_HEADER(LOOKUP, sizeof(message)), .ns = ns, .count = COUNT}};
	struct results reply;

	message.head.header.opcode = (uint16_t)opcode;
	for (uint8_t i = 0; i < COUNT; i++)
		message.keys[i].bytes[0] = (uint8_t)(1 + i);
	raw_call(client, &message, &reply, sizeof(reply));

	assert_int_equal(reply.head.count, COUNT);
	assert_int_equal(reply.head.done, opcode == HBM_WIRE_LOOKUP ? 1 : 2);
	for (uint32_t i = 0; i < COUNT; i++) {
		assert_int_equal(reply.result[i].status, i % 2 == 0 ? HBM_OK : HBM_MISS);
		assert_int_equal(reply.result[i].tier, i % 2 == 0 ? HBM_TIER_HBM : HBM_TIER_NONE);
	}
}

static void test_how_many_were_done(void **state)
{
	(void)state;
	static const enum hbm_wire_opcode opcodes[] = {HBM_WIRE_LOOKUP,   HBM_WIRE_TOUCH,
						       HBM_WIRE_PIN,      HBM_WIRE_UNPIN,
						       HBM_WIRE_PREFETCH, HBM_WIRE_REMOVE};

	for (uint8_t key = 1; key <= 3; key += 2) {
		struct raw_blocks store = store_of(key, 1);
		assert_int_equal(raw_ask(client, &store, sizeof(store)), HBM_OK);
	}

	for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++)
		expect_two_of_four(opcodes[i]);
}

/* Not before all of it is stored: here the daemon finds both messages when it looks. */
static void test_a_block_is_found_when_it_is_complete(void **state)
{
	(void)state;
	struct raw_keys lookup = {
		.head = {.header = RAW_HEADER(LOOKUP, sizeof(lookup)), .ns = ns, .count = 1},
		.key.bytes[0] = 1};
	struct raw_blocks store = store_of(1, 77);
	struct results reply;

	assert_int_equal(kill(daemon_.pid, SIGSTOP), 0);
	assert_true(raw_send(client, &store, sizeof(store), 0));
	assert_true(raw_send(client, &lookup, sizeof(lookup), 0));
	assert_int_equal(kill(daemon_.pid, SIGCONT), 0);

	for (int i = 0; i < 2; i++) {
		assert_in_range(recv(client, &reply, sizeof(reply), 0), sizeof(reply.head),
				sizeof(reply));
		bool found = reply.head.header.opcode == HBM_WIRE_STORE;
		assert_int_equal(reply.head.done, found);
		assert_int_equal(reply.result[0].status, found ? HBM_OK : HBM_MISS);
	}
}

/* A block whose copy fails is not done, and not there. */
static void test_a_store_that_fails(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.cache=0", "soft.fail=cuMemcpyDtoHAsync:1:999",
					   NULL};
	struct results reply;

	close(client);
	assert_int_equal(spawn_stop(&daemon_), 0);
	begin(sets);
	for (int failed = 1; failed >= 0; failed--) {
		struct raw_blocks store = store_of(1, 1);
		raw_call(client, &store, &reply, sizeof(reply.head) + sizeof(reply.result[0]));
		assert_int_equal(reply.result[0].status, failed ? HBM_DEVICE : HBM_OK);
		assert_int_equal(reply.head.done, !failed);
	}
}

/* One request by its id, and all there are, which may be none. */
static void test_requests_that_are_cancelled(void **state)
{
	(void)state;
	struct hbm_wire_cancel cancel = {.header = RAW_HEADER(CANCEL, sizeof(cancel)),
					 .target = 77};
	struct raw_blocks store = store_of(1, 77);
	struct hbm_wire_refusal reply;

	store.head.ready_slot = 0;
	store.head.ready_value = 1; /* nobody sets it */
	for (int all = 0; all < 2; all++) {
		assert_true(raw_send(client, &store, sizeof(store), 0));
		cancel.target = all ? 0 : 77;
		cancel.flags = all ? HBM_WIRE_ALL : 0;
		assert_true(raw_send(client, &cancel, sizeof(cancel), 0));

		for (int i = 0; i < 2; i++) {
			assert_in_range(recv(client, &reply, sizeof(reply), 0),
					sizeof(reply.header), sizeof(reply));
			if (reply.header.id != 77) {
				assert_int_equal(reply.header.status, HBM_OK);
				continue;
			}

			assert_int_equal(reply.header.status, HBM_CANCELLED);
			assert_string_equal(reply.reason,
					    "cancelled before its ready fence was reached");
		}
	}

	assert_int_equal(raw_ask(client, &cancel, sizeof(cancel)), HBM_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_how_many_were_done),
		TEST(test_a_block_is_found_when_it_is_complete),
		TEST(test_a_store_that_fails),
		TEST(test_requests_that_are_cancelled),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
