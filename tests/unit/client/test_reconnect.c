/* SPDX-License-Identifier: Apache-2.0 */
/* A connection that goes on with the next daemon: what it says, what it sends again and in which
 * order, what it does not, how long it waits, and when it gives up. */
#include "tests/support/reconnect_stage.h"
#include "tests/support/seed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- The exchange ---- */

static void a_call_waits_and_succeeds(void **state)
{
	(void)state;

	assert_true(hbm_info(hbm)->survives);
	reconnect_die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(reconnect_lookup(), 0);

	assert_int_equal(reconnect.hellos, 2);
	assert_int_equal(reconnect.resume.hello.header.size, sizeof(reconnect.resume));
	assert_int_equal(reconnect.resume.session, 7);
	assert_memory_equal(reconnect.resume.state, "\4\5\6", 4);
	assert_memory_equal(reconnect.resume.token, "\7\10\11", 4);
	assert_string_equal(reconnect.resume.hello.name, "test");
}

static void so_it_does_again_and_again(void **state)
{
	(void)state;

	for (unsigned i = 0; i < 20; i++) {
		reconnect_die_on(HBM_WIRE_LOOKUP, 1);
		assert_int_equal(reconnect_lookup(), 0);
	}

	assert_int_equal(reconnect.hellos, 21);
}

static void a_daemon_that_ends_between_calls_is_not_noticed(void **state)
{
	(void)state;

	fake_hang_up(&fake);
	assert_int_equal(reconnect_lookup(), 0);
	assert_int_equal(reconnect.hellos, 2);
}

static void where_sessions_do_not_survive_the_connection_ends(void **state)
{
	(void)state;

	reconnect_connect(
		&(struct hbm_options){.socket = fake.path, .reconnect_ms = HBM_RECONNECT_NEVER});
	assert_false(hbm_info(hbm)->survives);
	assert_int_equal(reconnect.resume.hello.header.size, sizeof(struct hbm_wire_hello));
	reconnect_die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(reconnect_lookup(), -ENOTCONN);

	fake.survives = false;
	reconnect_connect(&(struct hbm_options){.socket = fake.path});
	assert_false(hbm_info(hbm)->survives);
	reconnect_die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(reconnect_lookup(), -ENOTCONN);
	fake.survives = true;
}

static void a_daemon_that_has_no_such_session_ends_it(void **state)
{
	(void)state;

	reconnect.refuse_hello = HBM_NOT_FOUND;
	reconnect_die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(reconnect_lookup(), -ENOTCONN);
	assert_int_equal(reconnect.hellos, 2);
}

static bool answer_later(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode == HBM_WIRE_HELLO && reconnect.hellos == 4)
		reconnect.refuse_hello = 0;
	return reconnect_answer(self, request);
}

static void one_that_is_stopping_is_asked_again(void **state)
{
	(void)state;

	reconnect.refuse_hello = HBM_SHUTDOWN;
	fake.answer = answer_later;
	reconnect_die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(reconnect_lookup(), 0);
	assert_int_equal(reconnect.hellos, 5);
}

static void it_waits_until_one_listens_and_no_longer_than_it_may(void **state)
{
	(void)state;
	char away[80];
	hbm_ticket ticket;

	reconnect_connect(&(struct hbm_options){.socket = fake.path, .reconnect_ms = 300});
	snprintf(away, sizeof(away), "%s.away", fake.path);
	assert_int_equal(rename(fake.path, away), 0);
	assert_int_equal(hbm_submit_lookup(hbm, 5, &reconnect_key, 1, NULL, NULL, &ticket), 0);
	fake_hang_up(&fake);

	/* A wait of its own ends, and what it waited for goes on. */
	int rc = hbm_wait(hbm, ticket, 1);
	if (rc != 0) {
		assert_int_equal(rc, -ETIMEDOUT);
		assert_int_equal(hbm_dispatch(hbm, 0), 0);
		assert_int_equal(rename(away, fake.path), 0);

		/* Its descriptor says when there is something to do. */
		while (hbm_poll(hbm, ticket) == -EAGAIN) {
			struct pollfd fd = {.fd = hbm_fd(hbm), .events = POLLIN};
			assert_int_equal(poll(&fd, 1, 10000), 1);
			assert_in_range(hbm_dispatch(hbm, 0), 0, 1);
		}
		assert_int_equal(rename(fake.path, away), 0);
	}

	fake_hang_up(&fake);
	assert_int_equal(reconnect_lookup(), -ENOTCONN);
	assert_int_equal(rename(away, fake.path), 0);
}

/* ---- What is sent again ---- */

static void unanswered_requests_are_sent_again_in_their_order(void **state)
{
	(void)state;
	hbm_ticket tickets[12];

	/* All of them come before the first is answered. */
	assert_int_equal(hbm_cork(hbm), 0);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(
			hbm_submit_lookup(hbm, 5, &reconnect_key, 1, NULL, NULL, &tickets[i]), 0);
	reconnect_die_on(HBM_WIRE_LOOKUP, 6);
	assert_int_equal(hbm_uncork(hbm), 0);
	for (unsigned i = 12; i-- > 0;)
		assert_int_equal(hbm_wait(hbm, tickets[i], -1), 0);

	/* Five were answered; the others came once more, whatever was read of them before. */
	assert_in_range(reconnect.heard_count, 6 + 7, 12 + 7);
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(reconnect.heard_ids[reconnect.heard_count - 7 + i],
				 tickets[5 + i]);
}

static void corked_requests_are_sent_once(void **state)
{
	(void)state;
	hbm_ticket tickets[3];

	assert_int_equal(hbm_cork(hbm), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(
			hbm_submit_lookup(hbm, 5, &reconnect_key, 1, NULL, NULL, &tickets[i]), 0);
	fake_hang_up(&fake);
	assert_int_equal(hbm_uncork(hbm), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(hbm_wait(hbm, tickets[i], -1), 0);
	assert_int_equal(reconnect.heard_count, 3);
}

static void namespaces_are_opened_again(void **state)
{
	(void)state;
	uint32_t ns;
	const struct hbm_namespace_options options = {
		.model = "m", .salt = "secret", .block_bytes = 65536};

	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
	reconnect.heard_count = 0;
	reconnect_die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(reconnect_lookup(), 0);
	assert_int_equal(reconnect.heard_count, 3);
	assert_int_equal(reconnect.heard[1], HBM_WIRE_NAMESPACE_OPEN);
	assert_int_equal(reconnect.heard[2], HBM_WIRE_LOOKUP);

	/* Not one that was closed. */
	assert_int_equal(hbm_namespace_close(hbm, ns), 0);
	reconnect.heard_count = 0;
	reconnect_die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(reconnect_lookup(), 0);
	assert_int_equal(reconnect.heard_count, 2);
}

/* How often it was pinned is not known: not what pins of a session are, which are made again. */
static void pins_that_are_kept_are_not_sent_again(void **state)
{
	(void)state;

	reconnect_die_on(HBM_WIRE_PIN, 1);
	assert_int_equal(hbm_keys(hbm, HBM_WIRE_PIN, 5, HBM_WIRE_KEEP, &reconnect_key, 1, NULL),
			 HBM_SHUTDOWN);
	reconnect_die_on(HBM_WIRE_UNPIN, 1);
	assert_int_equal(hbm_keys(hbm, HBM_WIRE_UNPIN, 5, HBM_WIRE_KEEP, &reconnect_key, 1, NULL),
			 HBM_SHUTDOWN);
	assert_int_equal(reconnect.heard_count, 2);

	reconnect_die_on(HBM_WIRE_PIN, 1);
	assert_int_equal(hbm_keys(hbm, HBM_WIRE_PIN, 5, 0, &reconnect_key, 1, NULL), 0);
	assert_int_equal(reconnect.heard_count, 4);
}

/* ---- Pins ---- */

enum { KEYS = 300 };

/* How often each was pinned. */
static unsigned pinned[KEYS];

static bool answer_pins(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode == HBM_WIRE_PIN) {
		const struct hbm_wire_keys *keys = (const void *)request;
		for (uint32_t i = 0; i < keys->count; i++)
			pinned[(keys->keys[i].bytes[8] | keys->keys[i].bytes[9] << 8) % KEYS]++;
	}

	return reconnect_answer(self, request);
}

/* Pins at random, beside a count for each key: those are pinned again, as often. */
static void pins_are_renewed(void **state)
{
	(void)state;
	static unsigned counts[KEYS];
	struct seed seed;
	uint32_t ns;
	const struct hbm_namespace_options options = {.model = "m", .block_bytes = 65536};

	seed_open(&seed, "pins");
	fake.answer = answer_pins;
	memset(counts, 0, sizeof(counts));
	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 100; i++) {
			unsigned nth = (unsigned)seed_below(&seed, KEYS);
			/* Many have the same hash. */
			const hbm_key key = {{(uint8_t)(1 + nth % 3), 0, 0, 0, 0, 0, 0, 0,
					      (uint8_t)nth, (uint8_t)(nth >> 8)}};
			bool pin = counts[nth] == 0 || seed_below(&seed, 2) == 0;

			assert_int_equal(hbm_keys(hbm, pin ? HBM_WIRE_PIN : HBM_WIRE_UNPIN, ns, 0,
						  &key, 1, NULL),
					 0);
			counts[nth] += pin ? 1 : -1u;
		}

		memset(pinned, 0, sizeof(pinned));
		reconnect_die_on(HBM_WIRE_LOOKUP, 1);
		assert_int_equal(reconnect_lookup(), 0);
		assert_memory_equal(pinned, counts, sizeof(counts));
	}

	/* A namespace that is closed has none. */
	assert_int_equal(hbm_namespace_close(hbm, ns), 0);
	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
	memset(pinned, 0, sizeof(pinned));
	memset(counts, 0, sizeof(counts));
	reconnect_die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(reconnect_lookup(), 0);
	assert_memory_equal(pinned, counts, sizeof(counts));
}

/* ---- Stores and loads ---- */

static hbm_ticket submit(bool load, const struct hbm_sync *sync, hbm_result *result)
{
	const struct hbm_segment segment = {reconnect.region, 0, 65536};
	const struct hbm_block block = {
		.key = reconnect_key, .segments = &segment, .segment_count = 1};
	hbm_ticket ticket;

	assert_int_equal((load ? hbm_submit_load : hbm_submit_store)(hbm, 5, &block, 1, sync,
								     result, &ticket),
			 0);

	return ticket;
}

static void what_has_set_its_fence_is_over(void **state)
{
	(void)state;
	const struct hbm_sync sync = {.ready_slot = HBM_WIRE_NO_FENCE,
				      .fence_slot = 3,
				      .fence_value = 10,
				      .failed_slot = 4};
	const struct hbm_sync blind = {
		.ready_slot = HBM_WIRE_NO_FENCE, .fence_slot = 3, .fence_value = 10};

	reconnect_open_region();
	for (unsigned load = 0; load < 2; load++) {
		unsigned opcode = load ? HBM_WIRE_LOAD : HBM_WIRE_STORE;
		hbm_result result = {.status = 99};

		/* Before: it is sent again. */
		fake.fence_page[3] = 9;
		reconnect.heard_count = 0;
		reconnect_die_on(opcode, 1);
		assert_int_equal(hbm_wait(hbm, submit(load, &sync, &result), -1), 0);
		assert_int_equal(reconnect.heard_count, 2);
		assert_int_equal(result.status, HBM_OK);

		/* After: it is not; no block has failed. */
		fake.fence_page[3] = 10;
		reconnect.heard_count = 0;
		reconnect_die_on(opcode, 1);
		assert_int_equal(hbm_wait(hbm, submit(load, &sync, &result), -1), 0);
		assert_int_equal(reconnect.heard_count, 1);
		assert_int_equal(result.status, HBM_OK);

		/* Or one has; or it is not known. */
		fake.fence_page[4] = 1;
		reconnect_die_on(opcode, 1);
		assert_int_equal(hbm_wait(hbm, submit(load, &sync, &result), -1), 0);
		assert_int_equal(result.status, load ? HBM_MISS : HBM_SHUTDOWN);
		fake.fence_page[4] = 0;

		reconnect_die_on(opcode, 1);
		assert_int_equal(hbm_wait(hbm, submit(load, &blind, &result), -1), 0);
		assert_int_equal(result.status, load ? HBM_MISS : HBM_SHUTDOWN);
	}
}

static bool answer_exists(struct fake *self, const struct hbm_wire_header *request)
{
	struct {
		struct hbm_wire_results head;
		struct hbm_wire_result results[1];
	} reply = {.head = {.count = 1}, .results = {{.status = HBM_EXISTS}}};

	if (reconnect_answer(self, request))
		return true;
	return request->opcode == HBM_WIRE_STORE &&
	       fake_reply_message(self, request, &reply, offsetof(typeof(reply), results) + 4, NULL,
				  0);
}

static void a_block_that_was_stored_already_is_stored(void **state)
{
	(void)state;
	hbm_result result;

	reconnect_open_region();
	fake.answer = answer_exists;
	assert_int_equal(hbm_wait(hbm, submit(false, NULL, &result), -1), 0);
	assert_int_equal(result.status, HBM_EXISTS);
	reconnect_die_on(HBM_WIRE_STORE, 1);
	assert_int_equal(hbm_wait(hbm, submit(false, NULL, &result), -1), 0);
	assert_int_equal(result.status, HBM_OK);
}

/* A store that was not sent before finds a block of another. */
static void a_late_store_is_none_that_was_done(void **state)
{
	(void)state;
	hbm_result result;

	reconnect_open_region();
	fake_hang_up(&fake);
	fake.answer = answer_exists;
	assert_int_equal(hbm_wait(hbm, submit(false, NULL, &result), -1), 0);
	assert_int_equal(reconnect.hellos, 2);
	assert_int_equal(result.status, HBM_EXISTS);
}

/* ---- Time ---- */

/* To be back takes it longer than it may be silent. */
static bool answer_slowly(struct fake *self, const struct hbm_wire_header *request)
{
	if (reconnect_answer(self, request))
		return true;
	if (request->opcode == HBM_WIRE_RECONCILE)
		usleep(600000);
	if (request->opcode == HBM_WIRE_NAMESPACE_CLOSE)
		usleep(50000);

	return false;
}

static void the_time_without_a_daemon_is_not_that_of_an_answer(void **state)
{
	(void)state;

	reconnect_connect(&(struct hbm_options){.socket = fake.path, .answer_ms = 500});
	fake.answer = answer_slowly;
	reconnect_die_on(HBM_WIRE_NAMESPACE_CLOSE, 1);
	assert_int_equal(hbm_namespace_close(hbm, 5), 0);
	assert_int_equal(reconnect_lookup(), 0);
}

#define STAGE(test) cmocka_unit_test_setup_teardown(test, reconnect_setup, fake_stage_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STAGE(a_call_waits_and_succeeds),
		STAGE(so_it_does_again_and_again),
		STAGE(a_daemon_that_ends_between_calls_is_not_noticed),
		STAGE(where_sessions_do_not_survive_the_connection_ends),
		STAGE(a_daemon_that_has_no_such_session_ends_it),
		STAGE(one_that_is_stopping_is_asked_again),
		STAGE(it_waits_until_one_listens_and_no_longer_than_it_may),
		STAGE(unanswered_requests_are_sent_again_in_their_order),
		STAGE(corked_requests_are_sent_once),
		STAGE(namespaces_are_opened_again),
		STAGE(pins_that_are_kept_are_not_sent_again),
		STAGE(pins_are_renewed),
		STAGE(what_has_set_its_fence_is_over),
		STAGE(a_block_that_was_stored_already_is_stored),
		STAGE(a_late_store_is_none_that_was_done),
		STAGE(the_time_without_a_daemon_is_not_that_of_an_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
