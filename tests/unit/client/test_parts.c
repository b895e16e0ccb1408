/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are larger than a message: how they are divided, how many parts are in flight, how
 * their answers become one, and what becomes of them when one fails, or the daemon. */
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SLAB FAKE_SLAB
#define MORE HBM_WIRE_MORE

enum {
	KEYS = (HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_keys)) / sizeof(hbm_key),
	BLOCKS = (HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_blocks)) /
		 (sizeof(struct hbm_wire_block) + sizeof(struct hbm_wire_range)),
	HEARD = 64,
	HALF = 32, /* of the requests that the fake lets be in flight */
};

/* The requests that the fake was sent, without those of setting up. */
static struct heard {
	uint16_t opcode, flags;
	uint64_t id;
	uint32_t count;
	uint8_t first; /* of the first key of LOOKUP and TOUCH */
} heard[HEARD];
static unsigned heard_count;
/* The n-th of them, from 0 on, is refused with that, or the fake hangs up. */
static int refuse_at, refuse_with;
static bool survives;

static bool is_an_array(unsigned opcode)
{
	return opcode == HBM_WIRE_LOOKUP || opcode == HBM_WIRE_TOUCH || opcode == HBM_WIRE_STORE ||
	       opcode == HBM_WIRE_LOAD || opcode == HBM_WIRE_PIN;
}

static bool answer(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_keys *keys = (const void *)request;

	if (!is_an_array(request->opcode) && request->opcode != HBM_WIRE_CANCEL)
		return false;
	if (heard_count < HEARD)
		heard[heard_count] = (struct heard){request->opcode, request->flags, request->id,
						    keys->count, keys->keys[0].bytes[0]};
	heard_count++;
	if ((int)heard_count - 1 != refuse_at)
		return false;
	if (refuse_with > 0)
		return fake_reply(self, request, refuse_with);

	shutdown(self->peer, SHUT_RDWR);

	return true;
}

static struct hbm_region *region;
static struct hbm_segment segment;
static struct hbm_block *blocks;
static hbm_key *keys;
static hbm_result *results;

enum { MOST = 40 * KEYS };

static int setup(void **state)
{
	const struct hbm_region_options options = {.address_space = 4 * SLAB, .slab = SLAB};
	(void)state;

	heard_count = 0;
	refuse_at = -1;
	refuse_with = 0;
	fake_stage_open(1);
	fake.survives = survives;
	fake_stage_connect();
	assert_int_equal(hbm_region_create(hbm, &options, &region), 0);
	fake.answer = answer;

	segment = (struct hbm_segment){region, 0, 4096};
	keys = malloc(MOST * sizeof(*keys));
	blocks = calloc(MOST, sizeof(*blocks));
	results = malloc(MOST * sizeof(*results));
	for (size_t i = 0; i < MOST; i++) {
		keys[i] = (hbm_key){{(uint8_t)(1 + i / KEYS), 1}};
		blocks[i] =
			(struct hbm_block){.key = {{1}}, .segments = &segment, .segment_count = 1};
	}
	memset(results, 0xff, MOST * sizeof(*results));

	return 0;
}

static int setup_surviving(void **state)
{
	survives = true;

	return setup(state);
}

static int teardown(void **state)
{
	free(keys);
	free(blocks);
	free(results);
	survives = false;

	return fake_stage_teardown(state);
}

static void expect_results(size_t first, size_t end, int status)
{
	for (size_t i = first; i < end; i++)
		if (results[i].status != status)
			fail_msg("result %zu is %d, expected %d", i, results[i].status, status);
}

/* ---- How they are divided ---- */

static void keys_go_in_as_few_messages_as_possible(void **state)
{
	struct hbm_lookup found;
	(void)state;

	assert_int_equal(hbm_lookup(hbm, 5, keys, KEYS, &found, results), 0);
	assert_int_equal(heard_count, 1);
	assert_int_equal(found.resident, KEYS);

	heard_count = 0;
	assert_int_equal(hbm_lookup(hbm, 5, keys, 2 * KEYS + 1, &found, results), 0);
	assert_int_equal(heard_count, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(heard[i].count, i < 2 ? KEYS : 1);
		assert_int_equal(heard[i].first, 1 + i);
		assert_int_equal(heard[i].flags, 0);
	}
	expect_results(0, 2 * KEYS + 1, HBM_OK);
	assert_int_equal(results[2 * KEYS + 1].status, 0xff);
	assert_int_equal(found.resident, 2 * KEYS + 1);
	assert_int_equal(found.load_ns, 3000);
}

static void blocks_stay_whole(void **state)
{
	enum { SEGMENTS = 160, MANY = 64 };
	static struct hbm_segment scattered[SEGMENTS];
	(void)state;

	for (size_t i = 0; i < SEGMENTS; i++)
		scattered[i] = (struct hbm_segment){region, i * 8192, 512};
	for (size_t i = 0; i < MANY; i++) {
		blocks[i].segments = scattered;
		blocks[i].segment_count = SEGMENTS;
	}
	assert_int_equal(hbm_store(hbm, 5, blocks, MANY, results), 0);
	assert_int_equal(heard_count, 2);
	assert_int_equal(heard[0].count + heard[1].count, MANY);
	assert_int_equal(heard[0].count, (HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_blocks)) /
						 (sizeof(struct hbm_wire_block) +
						  SEGMENTS * sizeof(struct hbm_wire_range)));
	expect_results(0, MANY, HBM_OK);
}

/* Parts that have fences are one request to the daemon. */
static void all_but_the_last_say_that_more_follow(void **state)
{
	const struct hbm_sync syncs[] = {{HBM_WIRE_NO_FENCE, HBM_WIRE_NO_FENCE, 0, 0, 0},
					 {3, HBM_WIRE_NO_FENCE, 0, 0, 0},
					 {HBM_WIRE_NO_FENCE, 4, 0, 1, 0},
					 {HBM_WIRE_NO_FENCE, HBM_WIRE_NO_FENCE, 0, 0, 5}};
	(void)state;

	for (size_t i = 0; i < 4; i++) {
		hbm_ticket ticket;

		heard_count = 0;
		assert_int_equal(hbm_submit_load(hbm, 5, blocks, 2 * BLOCKS + 7, &syncs[i], results,
						 &ticket),
				 0);
		assert_int_equal(hbm_wait(hbm, ticket, -1), 0);
		assert_int_equal(heard_count, 3);
		assert_int_equal(heard[0].flags, i > 0 ? MORE : 0);
		assert_int_equal(heard[1].flags, i > 0 ? MORE : 0);
		assert_int_equal(heard[2].flags, 0);
		assert_int_equal(heard[1].count, BLOCKS);
		assert_int_equal(heard[2].count, 7);
	}

	heard_count = 0;
	hbm_ticket ticket;
	assert_int_equal(hbm_submit_load(hbm, 5, blocks, BLOCKS, &syncs[2], NULL, &ticket), 0);
	assert_int_equal(hbm_wait(hbm, ticket, -1), 0);
	assert_int_equal(heard_count, 1);
	assert_int_equal(heard[0].flags, 0);
}

static void nothing_is_sent_of_a_call_that_is_refused_here(void **state)
{
	(void)state;
	hbm_key good = keys[KEYS + 1];

	keys[KEYS + 1] = (hbm_key){{0}};
	assert_int_equal(hbm_lookup(hbm, 5, keys, KEYS + 2, NULL, NULL), HBM_INVALID);
	keys[KEYS + 1] = good;

	blocks[2 * BLOCKS].segment_count = 0;
	assert_int_equal(hbm_store(hbm, 5, blocks, 2 * BLOCKS + 1, NULL), HBM_INVALID);
	blocks[2 * BLOCKS].segment_count = HBM_WIRE_MESSAGE_MAX;
	assert_int_equal(hbm_store(hbm, 5, blocks, 2 * BLOCKS + 1, NULL), HBM_LIMIT);
	assert_string_equal(hbm_error(hbm),
			    "block 4094: 131072 segments: a message has room for 5457");

	assert_int_equal(heard_count, 0);
	assert_int_equal(hbm_dispatch(hbm, 0), 0);
	assert_int_equal(hbm_lookup(hbm, 5, keys, 1, NULL, NULL), 0);
}

/* ---- In flight ---- */

static uint64_t kept[HALF];
static uint32_t kept_counts[HALF];
static unsigned kept_count, most;
static int excess;

/* Answers when as many wait as may be in flight, or the last has come. */
static bool answer_together(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_keys *message = (const void *)request;
	struct hbm_wire_header one = *request;

	if (request->opcode != HBM_WIRE_TOUCH)
		return false;

	kept[kept_count] = request->id;
	kept_counts[kept_count++] = message->count;
	most = kept_count > most ? kept_count : most;
	if (kept_count < HALF && message->count == KEYS)
		return true;
	if (kept_count == HALF) /* no other comes before there is an answer */
		excess += poll(&(struct pollfd){.fd = self->peer, .events = POLLIN}, 1, 20);

	while (kept_count > 0) {
		struct {
			struct hbm_wire_results head;
			struct hbm_wire_result results[KEYS];
		} *reply = calloc(1, sizeof(*reply));

		one.id = kept[--kept_count];
		reply->head.count = reply->head.done = kept_counts[kept_count];
		assert_true(fake_reply_message(self, &one, reply,
					       sizeof(reply->head) + kept_counts[kept_count] * 4,
					       NULL, 0));
		free(reply);
	}

	return true;
}

static void parts_are_half_of_what_is_in_flight(void **state)
{
	hbm_ticket ticket;
	(void)state;

	most = kept_count = 0;
	excess = 0;
	fake.answer = answer_together;
	assert_int_equal(
		hbm_submit_keys(hbm, HBM_WIRE_TOUCH, 5, 0, keys, MOST - 1, results, &ticket), 0);
	assert_int_equal(hbm_dispatch(hbm, -1), 1); /* one ticket, whatever it consists of */
	assert_int_equal(hbm_dispatch(hbm, 0), 0);
	assert_int_equal(hbm_poll(hbm, ticket), 0);
	assert_int_equal(hbm_poll(hbm, ticket), -EINVAL);
	assert_int_equal(most, HALF);
	assert_int_equal(excess, 0);
	expect_results(0, MOST - 1, HBM_OK);
}

static void corked_parts_are_sent_like_others(void **state)
{
	hbm_ticket ticket, small;
	(void)state;

	assert_int_equal(hbm_cork(hbm), 0);
	assert_int_equal(hbm_submit_lookup(hbm, 5, keys, 1, NULL, results, &small), 0);
	assert_int_equal(hbm_submit_lookup(hbm, 5, keys, 3 * KEYS + 1, NULL, results + 1, &ticket),
			 0);
	assert_int_equal(hbm_uncork(hbm), 0);
	assert_int_equal(hbm_wait(hbm, ticket, -1), 0);
	assert_int_equal(hbm_wait(hbm, small, -1), 0);
	assert_int_equal(heard_count, 5);
	for (unsigned i = 1; i < 5; i++)
		assert_int_equal(heard[i].first, i);
	expect_results(0, 3 * KEYS + 2, HBM_OK);
}

/* ---- Answers ---- */

/* The second part has a miss at its fifth key. */
static bool answer_miss(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_keys *message = (const void *)request;
	struct {
		struct hbm_wire_results head;
		struct hbm_wire_result results[KEYS];
	} * reply;

	if (request->opcode != HBM_WIRE_LOOKUP || message->keys[0].bytes[0] != 2)
		return false;

	reply = calloc(1, sizeof(*reply));
	reply->head.count = message->count;
	reply->head.done = 4;
	reply->head.load_ns = 70;
	reply->results[4].status = HBM_MISS;
	fake_reply_message(self, request, reply, sizeof(reply->head) + message->count * 4, NULL, 0);
	free(reply);

	return true;
}

static void the_leading_run_ends_at_the_first_miss(void **state)
{
	struct hbm_lookup found;
	(void)state;

	fake.answer = answer_miss;
	assert_int_equal(hbm_lookup(hbm, 5, keys, 3 * KEYS, &found, results), 0);
	assert_int_equal(found.resident, KEYS + 4);
	assert_int_equal(found.load_ns, 1070);
	assert_int_equal(results[KEYS + 4].status, HBM_MISS);
	expect_results(KEYS + 5, 3 * KEYS, HBM_OK);
}

static void a_part_that_is_refused_is_the_status_and_the_others_stay_true(void **state)
{
	struct hbm_lookup found = {77, 77};
	(void)state;

	refuse_at = 1;
	refuse_with = HBM_DEVICE;
	assert_int_equal(hbm_lookup(hbm, 5, keys, 3 * KEYS, &found, results), HBM_DEVICE);
	assert_int_equal(found.resident, 77);
	expect_results(0, KEYS, HBM_OK);
	expect_results(KEYS, 2 * KEYS, HBM_DEVICE);
	expect_results(2 * KEYS, 3 * KEYS, HBM_OK);
}

static void a_connection_that_ends_takes_all_with_it(void **state)
{
	(void)state;

	refuse_at = 1;
	assert_int_equal(hbm_lookup(hbm, 5, keys, 40 * KEYS, NULL, results), -ENOTCONN);
	expect_results(KEYS, 40 * KEYS, HBM_SHUTDOWN);
	assert_int_equal(hbm_lookup(hbm, 5, keys, 3 * KEYS, NULL, results), -ENOTCONN);
}

/* ---- Cancelling ---- */

static bool answer_cancel(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_cancel *cancel = (const void *)request;
	struct hbm_wire_header one = {.opcode = HBM_WIRE_STORE};

	answer(self, request);
	if (request->opcode == HBM_WIRE_STORE)
		return heard_count == 1 ? fake_reply(self, request, HBM_DEVICE) : true;
	if (request->opcode != HBM_WIRE_CANCEL)
		return false;
	if (cancel->target == 0)
		return false;
	assert_int_equal(cancel->target, heard[1].id);
	for (unsigned i = 1; i < 3; i++) {
		one.id = heard[i].id;
		fake_reply(self, &one, HBM_CANCELLED);
	}

	return fake_reply(self, request, HBM_OK);
}

/* The first that still waits stands for all of them. */
static void a_cancel_is_for_all(void **state)
{
	const struct hbm_sync sync = {3, HBM_WIRE_NO_FENCE, 1, 0, 0};
	hbm_ticket ticket;
	(void)state;

	fake.answer = answer_cancel;
	assert_int_equal(hbm_submit_store(hbm, 5, blocks, 2 * BLOCKS + 1, &sync, results, &ticket),
			 0);
	fake_await(&fake, HBM_WIRE_STORE, 3);
	assert_int_equal(hbm_dispatch(hbm, 0), 0);
	assert_int_equal(hbm_cancel(hbm, ticket), 0);
	assert_int_equal(hbm_wait(hbm, ticket, 0), HBM_DEVICE);
	expect_results(0, BLOCKS, HBM_DEVICE);
	expect_results(BLOCKS, 2 * BLOCKS + 1, HBM_CANCELLED);
}

/* ---- The next daemon ---- */

static void what_was_answered_of_one_with_fences_is_sent_again(void **state)
{
	const struct hbm_sync sync = {HBM_WIRE_NO_FENCE, 4, 0, 8, 5};
	hbm_ticket ticket;
	(void)state;

	assert_true(hbm_info(hbm)->survives);
	refuse_at = 2;
	assert_int_equal(hbm_submit_load(hbm, 5, blocks, 2 * BLOCKS + 1, &sync, results, &ticket),
			 0);
	assert_int_equal(hbm_wait(hbm, ticket, -1), 0);
	assert_int_equal(heard_count, 6);
	for (unsigned i = 3; i < 6; i++) {
		assert_int_equal(heard[i].id, heard[i - 3].id);
		assert_int_equal(heard[i].flags, i < 5 ? MORE : 0);
	}
	expect_results(0, 2 * BLOCKS + 1, HBM_OK);
}

static void one_whose_fence_is_set_is_over(void **state)
{
	const struct hbm_sync sync = {HBM_WIRE_NO_FENCE, 4, 0, 8, 5};
	hbm_ticket ticket;
	(void)state;

	refuse_at = 2;
	fake.fence_page[4] = 8;
	fake.fence_page[5] = 1;
	assert_int_equal(hbm_submit_load(hbm, 5, blocks, 2 * BLOCKS + 1, &sync, results, &ticket),
			 0);
	assert_int_equal(hbm_wait(hbm, ticket, -1), 0);
	assert_int_equal(heard_count, 3);
	expect_results(0, 2 * BLOCKS, HBM_OK); /* they were answered */
	expect_results(2 * BLOCKS, 2 * BLOCKS + 1, HBM_MISS);
}

static void of_one_without_fences_only_what_was_not_answered(void **state)
{
	(void)state;

	refuse_at = 2;
	assert_int_equal(hbm_load(hbm, 5, blocks, 2 * BLOCKS + 1, results), 0);
	assert_int_equal(heard_count, 4);
	assert_int_equal(heard[3].id, heard[2].id);
	expect_results(0, 2 * BLOCKS + 1, HBM_OK);
}

/* What a part has pinned is noted once, though it is stored again. */
static void pins_are_noted_once(void **state)
{
	const struct hbm_namespace_options options = {.model = "m", .block_bytes = 4096};
	const struct hbm_sync sync = {HBM_WIRE_NO_FENCE, 4, 0, 8, 5};
	hbm_ticket ticket;
	uint32_t ns, pins = 0;
	(void)state;

	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
	for (size_t i = 0; i < 2; i++) {
		blocks[i].pin = true;
		blocks[i].key = (hbm_key){{9, (uint8_t)i}};
	}
	refuse_at = 2;
	assert_int_equal(hbm_submit_store(hbm, ns, blocks, 2 * BLOCKS + 1, &sync, results, &ticket),
			 0);
	assert_int_equal(hbm_wait(hbm, ticket, -1), 0);
	for (unsigned i = 0; i < heard_count; i++)
		if (heard[i].opcode == HBM_WIRE_PIN)
			pins += heard[i].count;
	assert_int_equal(pins, 2);

	/* and are so for the daemon after it */
	heard_count = pins = 0;
	fake_hang_up(&fake);
	assert_int_equal(hbm_lookup(hbm, ns, keys, 1, NULL, NULL), 0);
	for (unsigned i = 0; i < heard_count; i++)
		if (heard[i].opcode == HBM_WIRE_PIN)
			pins += heard[i].count;
	assert_int_equal(pins, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define SURVIVES(name) cmocka_unit_test_setup_teardown(name, setup_surviving, teardown)
	const struct CMUnitTest tests[] = {
		TEST(keys_go_in_as_few_messages_as_possible),
		TEST(blocks_stay_whole),
		TEST(all_but_the_last_say_that_more_follow),
		TEST(nothing_is_sent_of_a_call_that_is_refused_here),
		TEST(parts_are_half_of_what_is_in_flight),
		TEST(corked_parts_are_sent_like_others),
		TEST(the_leading_run_ends_at_the_first_miss),
		TEST(a_part_that_is_refused_is_the_status_and_the_others_stay_true),
		TEST(a_connection_that_ends_takes_all_with_it),
		TEST(a_cancel_is_for_all),
		SURVIVES(what_was_answered_of_one_with_fences_is_sent_again),
		SURVIVES(one_whose_fence_is_set_is_over),
		SURVIVES(of_one_without_fences_only_what_was_not_answered),
		SURVIVES(pins_are_noted_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
