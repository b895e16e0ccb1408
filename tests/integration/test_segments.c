/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory that a STORE or a LOAD names, as the daemon checks it. The library refuses
 * most of what is wrong here before it is sent, so these are messages of a raw client,
 * with a region on each of two devices. What is refused changes nothing and holds
 * nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/raw.h"
#include "tests/support/stage.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK 65536u
#define SLAB (2ull << 20)
#define SPACE (2 * SLAB) /* of each region; its first slab is committed */
#define MAX 4u           /* blocks and segments of a message */

static unsigned fds;
static int client;
static uint32_t ns, region[2];

static int setup(void **state)
{
	client = -1;
	return stage_setup(state);
}

/* In the test itself, which is skipped where there are no soft devices. */
static void begin(void)
{
	static const char *const sets[] = {"soft.devices=2", "device.slab=2MiB",
					   "limits.block_segments=3", NULL};

	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	client = raw_greet(&daemon_);
	ns = raw_namespace(client, BLOCK);
	for (uint32_t i = 0; i < 2; i++)
		region[i] = raw_region(client, i, SPACE, SLAB);
}

static void destroy_region(uint32_t number)
{
	const struct hbm_wire_region_destroy destroy = {
		.header = {.size = sizeof(destroy), .opcode = HBM_WIRE_REGION_DESTROY, .id = 1},
		.region = number,
	};
	assert_int_equal(raw_ask(client, &destroy, sizeof(destroy)), HBM_OK);
}

/* Nothing is left in use: the regions go, and their memory is free at once. */
static int teardown(void **state)
{
	if (client >= 0) {
		for (uint32_t i = 0; i < 2; i++)
			destroy_region(region[i]);
		close(client);
		stage_finish(fds);
	}

	return stage_teardown(state);
}

/* ---- A message ---- */

struct message {
	uint32_t count;
	uint32_t segments_of[MAX];
	struct hbm_wire_range segments[MAX];
};

static uint64_t next_key;

/* Of keys that no message named before; a LOAD names the block that is there. */
static int ask_blocks(enum hbm_wire_opcode opcode, const struct message *message,
		      struct hbm_wire_results *reply, size_t reply_size)
{
	_Alignas(8) char
		bytes[sizeof(struct hbm_wire_blocks) +
		      MAX * (sizeof(struct hbm_wire_block) + sizeof(struct hbm_wire_range))] = {0};
	struct hbm_wire_blocks *head = (void *)bytes;
	*head = (struct hbm_wire_blocks){
		.header = {.opcode = (uint16_t)opcode, .id = 1},
		.ns = ns,
		.count = message->count,
		.ready_slot = HBM_WIRE_NO_FENCE,
		.fence_slot = HBM_WIRE_NO_FENCE,
	};
	char *at = bytes + sizeof(*head);

	for (uint32_t i = 0; i < message->count; i++) {
		struct hbm_wire_block block = {.segments = message->segments_of[i]};
		uint64_t key = opcode == HBM_WIRE_LOAD ? 1 : ++next_key;
		memcpy(&block.key, &key, sizeof(key));
		memcpy(at, &block, sizeof(block));
		at += sizeof(block);
		head->segments += block.segments;
	}

	memcpy(at, message->segments, head->segments * sizeof(struct hbm_wire_range));
	at += head->segments * sizeof(struct hbm_wire_range);
	head->header.size = (uint32_t)(at - bytes);

	assert_true(raw_send(client, bytes, head->header.size, 0));
	assert_in_range(recv(client, reply, reply_size, 0), sizeof(reply->header), reply_size);
	assert_int_equal(reply->header.opcode, opcode);

	return reply->header.status;
}

union reply {
	struct hbm_wire_results results;
	struct hbm_wire_refusal refusal;
	char bytes[256];
};

static void expect_refused(enum hbm_wire_opcode opcode, const struct message *message, int status,
			   const char *reason)
{
	union reply reply = {0};

	assert_int_equal(ask_blocks(opcode, message, &reply.results, sizeof(reply)), status);
	assert_int_equal(reply.refusal.header.size, sizeof(reply.refusal));
	if (!strstr(reply.refusal.reason, reason))
		fail_msg("\"%s\" without \"%s\"", reply.refusal.reason, reason);
}

static void expect_done(enum hbm_wire_opcode opcode, const struct message *message)
{
	union reply reply = {0};

	assert_int_equal(ask_blocks(opcode, message, &reply.results, sizeof(reply)), HBM_OK);
	assert_int_equal(reply.results.count, message->count);
	assert_int_equal(reply.results.done, message->count);
}

/* Refused in a STORE and in a LOAD alike. No block came of the STORE, and none that was
 * there went. */
static void expect_both_refused(const struct message *message, int status, const char *reason)
{
	struct hbm_wire_status before, after;

	spawn_status(&daemon_, &before);
	expect_refused(HBM_WIRE_STORE, message, status, reason);
	expect_refused(HBM_WIRE_LOAD, message, status, reason);
	spawn_status(&daemon_, &after);
	assert_int_equal(after.blocks, before.blocks);
	assert_int_equal(after.stored_blocks, before.stored_blocks);
	assert_int_equal(after.loaded_blocks, before.loaded_blocks);
}

static void store_the_first(void)
{
	const struct message one = {1, {1}, {{region[0], 0, 0, BLOCK}}};
	next_key = 0;
	expect_done(HBM_WIRE_STORE, &one);
}

/* ---- Tests ---- */

static void test_segments_that_are_exactly_a_block(void **state)
{
	(void)state;
	begin();
	const struct message pieces = {1,
				       {3},
				       {{region[1], 0, 0, BLOCK - 4096},
					{region[1], 0, SLAB - 4088, 4088},
					{region[1], 0, 8, 8}}};
	const struct message two = {2,
				    {1, 2},
				    {{region[0], 0, SLAB - BLOCK, BLOCK},
				     {region[0], 0, 0, 8},
				     {region[0], 0, 8, BLOCK - 8}}};

	store_the_first();
	expect_done(HBM_WIRE_STORE, &pieces);
	expect_done(HBM_WIRE_STORE, &two);
	expect_done(HBM_WIRE_LOAD, &pieces);
	expect_done(HBM_WIRE_LOAD, &two);
}

static void test_segments_that_are_not_a_blocks_bytes(void **state)
{
	(void)state;
	begin();
	const struct message less = {1, {1}, {{region[0], 0, 0, BLOCK - 8}}};
	const struct message more = {1, {1}, {{region[0], 0, 0, BLOCK + 8}}};
	const struct message less_in_pieces = {
		1, {2}, {{region[0], 0, 0, BLOCK / 2}, {region[0], 0, 0, BLOCK / 2 - 8}}};
	const struct message second_less = {
		2, {1, 1}, {{region[0], 0, 0, BLOCK}, {region[0], 0, 0, BLOCK - 8}}};
	const struct message right_in_all = {
		2, {1, 1}, {{region[0], 0, 0, BLOCK + 8}, {region[0], 0, 0, BLOCK - 8}}};
	const struct message overflow = {
		1, {2}, {{region[0], 0, 0, UINT64_MAX}, {region[0], 0, 0, BLOCK + 1}}};

	store_the_first();
	expect_both_refused(&less, HBM_INVALID, "block 0: segments of 65528 bytes");
	expect_both_refused(&more, HBM_INVALID, "block 0: segments of 65544 bytes");
	expect_both_refused(&less_in_pieces, HBM_INVALID, "block 0: segments of 65528 bytes");
	expect_both_refused(&second_less, HBM_INVALID, "block 1: segments of 65528 bytes");
	expect_both_refused(&right_in_all, HBM_INVALID, "block 0: segments of 65544 bytes");
	expect_both_refused(&overflow, HBM_INVALID, "block 0: its segments' bytes overflow");
}

static void test_more_segments_than_a_block_may_have(void **state)
{
	(void)state;
	begin();
	const struct message four = {1,
				     {4},
				     {{region[0], 0, 0, 1},
				      {region[0], 0, 1, 1},
				      {region[0], 0, 2, 1},
				      {region[0], 0, 3, BLOCK - 3}}};

	store_the_first();
	expect_both_refused(&four, HBM_LIMIT,
			    "block 0: limits.block_segments = 3: 4 were asked for");
}

static void test_segments_on_two_devices(void **state)
{
	(void)state;
	begin();
	const struct message halves = {
		1, {2}, {{region[0], 0, 0, BLOCK / 2}, {region[1], 0, 0, BLOCK / 2}}};
	const struct message blocks = {
		2, {1, 1}, {{region[1], 0, 0, BLOCK}, {region[0], 0, 0, BLOCK}}};

	store_the_first();
	expect_both_refused(&halves, HBM_INVALID, "segment 1: on another device");
	expect_both_refused(&blocks, HBM_INVALID, "segment 1: on another device");
}

static void test_segments_that_are_not_memory_of_the_client(void **state)
{
	(void)state;
	begin();
	const struct message no_region = {1, {1}, {{region[1] + 1, 0, 0, BLOCK}}};
	const struct message no_region_after = {
		2, {1, 1}, {{region[0], 0, 0, BLOCK}, {region[1] + 1, 0, 0, BLOCK}}};
	const struct message uncommitted = {1, {1}, {{region[0], 0, SLAB, BLOCK}}};
	const struct message partly = {1, {1}, {{region[0], 0, SLAB - BLOCK + 8, BLOCK}}};
	const struct message outside = {1, {1}, {{region[0], 0, SPACE - BLOCK + 8, BLOCK}}};
	const struct message far_outside = {1, {1}, {{region[0], 0, UINT64_MAX - 7, BLOCK}}};

	store_the_first();
	expect_both_refused(&no_region, HBM_NOT_FOUND, "segment 0: no region");
	expect_both_refused(&no_region_after, HBM_NOT_FOUND, "segment 1: no region");
	expect_both_refused(&uncommitted, HBM_NOT_FOUND, "not committed");
	expect_both_refused(&partly, HBM_NOT_FOUND, "not committed");
	expect_both_refused(&outside, HBM_INVALID, "outside");
	expect_both_refused(&far_outside, HBM_INVALID, "outside");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_segments_that_are_exactly_a_block),
		TEST(test_segments_that_are_not_a_blocks_bytes),
		TEST(test_more_segments_than_a_block_may_have),
		TEST(test_segments_on_two_devices),
		TEST(test_segments_that_are_not_memory_of_the_client),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
