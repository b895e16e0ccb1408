/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets over the socket: order, waiting, polling, dispatching, back-pressure, malformed
 * replies, and death. */
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HELD 64

/* Headers of the requests that answer_hold() left without an answer. */
static struct hbm_wire_header held[HELD];
static unsigned int held_count, held_total;

static int setup(void **state)
{
	(void)state;
	fake_stage_open(0);
	held_count = held_total = 0;
	fake_stage_connect();
	return 0;
}

static bool answer_hold(struct fake *self, const struct hbm_wire_header *request)
{
	(void)self;
	if (request->opcode != HBM_WIRE_TOUCH)
		return false;
	if (held_count < HELD)
		held[held_count++] = *request;
	return true;
}

static hbm_ticket submit_touch(const hbm_key *keys, size_t count, hbm_result *results)
{
	hbm_ticket ticket;
	assert_int_equal(hbm_submit_keys(hbm, HBM_WIRE_TOUCH, 1, 0, keys, count, results, &ticket),
			 0);
	return ticket;
}

static const hbm_key one_key = {{1}};

/* Submits `count` requests of one key each; when it returns, the fake has them all and
 * has answered none. */
static void submit_held(hbm_ticket *tickets, hbm_result *results, unsigned int count)
{
	fake.answer = answer_hold;
	for (unsigned int i = 0; i < count; i++)
		tickets[i] = submit_touch(&one_key, 1, results ? &results[i] : NULL);
	held_total += count;
	fake_await(&fake, HBM_WIRE_TOUCH, held_total);
}

static void reply_held(unsigned int nth, uint8_t status)
{
	union {
		struct hbm_wire_results head;
		char bytes[sizeof(struct hbm_wire_results) + sizeof(struct hbm_wire_result)];
	} reply = {.head = {.count = 1}};
	reply.head.results[0].status = status;
	assert_true(fake_reply_message(&fake, &held[nth], &reply, sizeof(reply.bytes), NULL, 0));
}

/* ---- Order ---- */

static void test_replies_in_another_order(void **state)
{
	(void)state;
	hbm_ticket tickets[3];
	hbm_result results[3];
	memset(results, 0xff, sizeof(results));
	submit_held(tickets, results, 3);
	reply_held(2, HBM_MISS);
	reply_held(0, HBM_EXISTS);
	assert_int_equal(hbm_wait(hbm, tickets[0], -1), HBM_OK);
	assert_int_equal(results[0].status, HBM_EXISTS);
	assert_int_equal(results[1].status, 0xff);
	assert_int_equal(results[2].status, HBM_MISS);
	assert_int_equal(hbm_poll(hbm, tickets[2]), HBM_OK);
	assert_int_equal(hbm_poll(hbm, tickets[2]), -EINVAL);
	assert_int_equal(hbm_poll(hbm, tickets[1]), -EAGAIN);
	reply_held(1, HBM_OK);
	assert_int_equal(hbm_wait(hbm, tickets[1], 10000), HBM_OK);
	assert_int_equal(hbm_wait(hbm, tickets[1], -1), -EINVAL);
}

static void test_waits_that_time_out(void **state)
{
	(void)state;
	hbm_ticket ticket;
	submit_held(&ticket, NULL, 1);
	assert_int_equal(hbm_wait(hbm, ticket, 0), -ETIMEDOUT);
	assert_int_equal(hbm_wait(hbm, ticket, 5), -ETIMEDOUT);
	assert_int_equal(hbm_dispatch(hbm, 0), 0);
	assert_int_equal(hbm_dispatch(hbm, 5), 0);
	reply_held(0, HBM_OK);
	assert_int_equal(hbm_wait(hbm, ticket, -1), HBM_OK);
	assert_int_equal(hbm_wait(hbm, 0, -1), -EINVAL);
}

static void test_dispatch_counts_each_end_once(void **state)
{
	(void)state;
	hbm_ticket tickets[4];
	struct pollfd poll_fd = {.fd = hbm_fd(hbm), .events = POLLIN};
	submit_held(tickets, NULL, 4);
	assert_int_equal(poll(&poll_fd, 1, 0), 0);
	reply_held(0, HBM_OK);
	reply_held(1, HBM_OK);
	assert_int_equal(poll(&poll_fd, 1, 0), 1);
	assert_int_equal(hbm_dispatch(hbm, -1), 2);
	assert_int_equal(hbm_dispatch(hbm, 0), 0);
	reply_held(2, HBM_OK);
	reply_held(3, HBM_OK);

	/* The one that is waited for has been seen; the other has not. */
	assert_int_equal(hbm_wait(hbm, tickets[3], -1), HBM_OK);
	assert_int_equal(hbm_dispatch(hbm, -1), 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(hbm_poll(hbm, tickets[i]), HBM_OK);
}

static void test_refusals_have_an_error_line(void **state)
{
	(void)state;
	hbm_ticket ticket;
	submit_held(&ticket, NULL, 1);
	assert_true(fake_reply(&fake, &held[0], HBM_NO_SPACE));
	assert_int_equal(hbm_wait(hbm, ticket, -1), HBM_NO_SPACE);
	assert_string_equal(hbm_error(hbm),
			    "the daemon refused TOUCH: not enough memory in the pool");
	fake.answer = NULL;
	assert_int_equal(hbm_ping(hbm), 0);
}

/* ---- Back-pressure ---- */

/* Like a daemon at its limit of one request in flight: it reads the next only when its
 * answer is in the socket. Its answers are as long as the requests, so that it blocks
 * when the client does not read. */
static bool answer_at_length(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_keys *keys = (const void *)request;

	if (request->opcode != HBM_WIRE_TOUCH)
		return false;

	size_t size =
		sizeof(struct hbm_wire_results) + keys->count * sizeof(struct hbm_wire_result);
	struct hbm_wire_results *reply = calloc(1, size);
	reply->count = reply->done = keys->count;
	fake_reply_message(self, request, reply, size, NULL, 0);
	free(reply);

	return true;
}

static void test_submits_without_end_do_not_deadlock(void **state)
{
	(void)state;
	enum { KEYS = 8000, REQUESTS = 200 };
	hbm_key *keys = malloc(KEYS * sizeof(*keys));
	memset(keys, 1, KEYS * sizeof(*keys));
	hbm_ticket tickets[REQUESTS];
	fake.answer = answer_at_length;
	for (int i = 0; i < REQUESTS; i++)
		tickets[i] = submit_touch(keys, KEYS, NULL);

	/* Replies that were handled while submitting are reported, though the socket has
	 * nothing more of them. */
	int ended = 0;
	while (ended < REQUESTS) {
		int n = hbm_dispatch(hbm, -1);
		assert_true(n > 0);
		ended += n;
	}

	assert_int_equal(ended, REQUESTS);
	for (int i = 0; i < REQUESTS; i++)
		assert_int_equal(hbm_poll(hbm, tickets[i]), HBM_OK);
	free(keys);
}

/* One place is kept for a CANCEL, so a submit beyond the others waits for an answer. */
static void test_a_place_is_kept_for_cancelling(void **state)
{
	(void)state;
	hbm_ticket tickets[HELD];
	const unsigned int most = hbm_info(hbm)->requests_in_flight - 1;
	submit_held(tickets, NULL, most);
	assert_int_equal(hbm_cancel(hbm, tickets[3]), 0);
	reply_held(0, HBM_OK);
	tickets[most] = submit_touch(&one_key, 1, NULL);
	assert_int_equal(hbm_poll(hbm, tickets[0]), HBM_OK);
	fake_await(&fake, HBM_WIRE_TOUCH, most + 1);
	for (unsigned int i = 1; i <= most; i++)
		reply_held(i, HBM_OK);
	for (unsigned int i = 1; i <= most; i++)
		assert_int_equal(hbm_wait(hbm, tickets[i], -1), HBM_OK);
}

static void test_any_number_outstanding(void **state)
{
	(void)state;
	enum { REQUESTS = 5000 };
	hbm_ticket *tickets = malloc(REQUESTS * sizeof(*tickets));
	hbm_result *results = malloc(REQUESTS * sizeof(*results));
	memset(results, 0xff, REQUESTS * sizeof(*results));
	for (int i = 0; i < REQUESTS; i++)
		tickets[i] = submit_touch(&one_key, 1, &results[i]);
	for (int i = REQUESTS - 1; i >= 0; i--) {
		assert_int_equal(hbm_wait(hbm, tickets[i], -1), HBM_OK);
		assert_int_equal(results[i].status, HBM_OK);
	}

	free(results);
	free(tickets);
}

/* ---- Cancelling ---- */

/* The request that is cancelled is answered first. hbm_close() cancels all: a flag says
 * so. */
static bool answer_cancel(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_cancel *cancel = (const void *)request;
	if (request->opcode != HBM_WIRE_CANCEL)
		return answer_hold(self, request);

	for (unsigned int i = 0; cancel->flags == 0 && i < held_count; i++)
		if (held[i].id == cancel->target)
			fake_reply(self, &held[i], HBM_CANCELLED);

	return false;
}

static void test_cancel(void **state)
{
	(void)state;
	hbm_ticket tickets[2];
	submit_held(tickets, NULL, 2);
	fake.answer = answer_cancel;
	assert_int_equal(hbm_cancel(hbm, tickets[1]), 0);
	assert_int_equal(hbm_poll(hbm, tickets[0]), -EAGAIN);

	/* It has ended, and is asked about no more. */
	assert_int_equal(hbm_cancel(hbm, tickets[1]), HBM_NOT_FOUND);
	assert_int_equal(fake.seen[HBM_WIRE_CANCEL], 1);
	assert_string_equal(hbm_error(hbm), "TOUCH has started or ended: it cannot be cancelled");
	assert_int_equal(hbm_poll(hbm, tickets[1]), HBM_CANCELLED);
	assert_int_equal(hbm_cancel(hbm, tickets[1]), -EINVAL);
	reply_held(0, HBM_OK);
	assert_int_equal(hbm_wait(hbm, tickets[0], -1), HBM_OK);
}

static bool answer_too_late(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_CANCEL)
		return answer_hold(self, request);
	fake_reply(self, request, HBM_NOT_FOUND);
	return true;
}

static void test_cancel_too_late(void **state)
{
	(void)state;
	hbm_ticket ticket;
	submit_held(&ticket, NULL, 1);
	fake.answer = answer_too_late;
	assert_int_equal(hbm_cancel(hbm, ticket), HBM_NOT_FOUND);
	reply_held(0, HBM_OK);
	assert_int_equal(hbm_wait(hbm, ticket, -1), HBM_OK);
}

/* ---- Death ---- */

static void test_death_ends_every_ticket(void **state)
{
	(void)state;
	hbm_ticket tickets[3];
	submit_held(tickets, NULL, 3);
	reply_held(1, HBM_OK);
	fake_hang_up(&fake);

	/* What was answered before counts. */
	assert_int_equal(hbm_wait(hbm, tickets[0], -1), -ENOTCONN);
	assert_int_equal(hbm_wait(hbm, tickets[1], -1), HBM_OK);
	assert_int_equal(hbm_poll(hbm, tickets[2]), -ENOTCONN);
	hbm_ticket ticket;
	assert_int_equal(hbm_submit_keys(hbm, HBM_WIRE_TOUCH, 1, 0, &one_key, 1, NULL, &ticket),
			 -ENOTCONN);
	assert_int_equal(hbm_ping(hbm), -ENOTCONN);
	assert_int_equal(hbm_dispatch(hbm, -1), -ENOTCONN);
	assert_string_not_equal(hbm_error(hbm), "");
	struct pollfd poll_fd = {.fd = hbm_fd(hbm), .events = POLLIN};
	assert_int_equal(poll(&poll_fd, 1, 0), 1);
}

static void test_death_found_by_dispatch(void **state)
{
	(void)state;
	hbm_ticket ticket;
	submit_held(&ticket, NULL, 1);
	fake_hang_up(&fake);
	assert_int_equal(hbm_dispatch(hbm, -1), -ENOTCONN);
	assert_int_equal(hbm_poll(hbm, ticket), -ENOTCONN);
}

static void test_death_found_by_submit(void **state)
{
	(void)state;
	hbm_ticket ticket, other;
	submit_held(&ticket, NULL, 1);
	reply_held(0, HBM_OK);
	fake_hang_up(&fake);
	assert_int_equal(hbm_submit_keys(hbm, HBM_WIRE_TOUCH, 1, 0, &one_key, 1, NULL, &other),
			 -ENOTCONN);
	assert_int_equal(hbm_poll(hbm, ticket), HBM_OK);
}

/* Answers the first request, waits for the second, and closes without reading it. */
static bool answer_and_die(struct fake *self, const struct hbm_wire_header *request)
{
	answer_hold(self, request);
	reply_held(0, HBM_OK);
	struct pollfd poll_fd = {.fd = self->peer, .events = POLLIN};
	poll(&poll_fd, 1, -1);
	close(self->peer);
	self->peer = -1;

	return true;
}

/* The kernel then says "connection reset" before it hands out what had been answered. */
static void test_death_with_requests_unread(void **state)
{
	(void)state;
	fake.answer = answer_and_die;
	hbm_ticket first = submit_touch(&one_key, 1, NULL),
		   second = submit_touch(&one_key, 1, NULL);
	fake_await(&fake, HBM_WIRE_TOUCH, 1);
	assert_int_equal(hbm_wait(hbm, first, -1), HBM_OK);
	assert_int_equal(hbm_wait(hbm, second, -1), -ENOTCONN);
}

/* ---- Malformed replies ---- */

enum wrong {
	COUNT_TOO_LOW,
	COUNT_TOO_HIGH,
	DONE_TOO_HIGH,
	TOO_SHORT,
	TOO_LONG,
	BARE_OK,
	MORE_SET,
	STATUS_WITH_BODY,
	NO_SUCH_ID,
	ID_OF_NOTHING,
	ANOTHER_OPCODE,
	AN_FD,
	SIZE_TOO_HIGH,
	TWICE,
	WRONGS
};

static void send_wrong(enum wrong wrong)
{
	union {
		struct hbm_wire_results head;
		char bytes[sizeof(struct hbm_wire_results) + 4 * sizeof(struct hbm_wire_result)];
	} reply = {
		.head = {.header = {0, HBM_WIRE_TOUCH, HBM_WIRE_REPLY, held[0].id, HBM_OK, 0},
			 .count = 1},
	};
	size_t size = sizeof(reply.head) + sizeof(struct hbm_wire_result);
	struct hbm_wire_header *header = &reply.head.header;

	if (wrong == COUNT_TOO_LOW)
		reply.head.count = 0;
	else if (wrong == COUNT_TOO_HIGH)
		reply.head.count = 0x40000001; /* times 4 it is 4 again in 32 bits */
	else if (wrong == DONE_TOO_HIGH)
		reply.head.done = 2;
	else if (wrong == TOO_SHORT)
		size -= 4;
	else if (wrong == TOO_LONG)
		size += 4;
	else if (wrong == BARE_OK)
		size = sizeof(*header);
	else if (wrong == MORE_SET)
		header->flags |= HBM_WIRE_MORE;
	else if (wrong == STATUS_WITH_BODY)
		header->status = HBM_IO;
	else if (wrong == NO_SUCH_ID)
		header->id += 1ull << 32;
	else if (wrong == ID_OF_NOTHING)
		header->id = UINT64_MAX;
	else if (wrong == ANOTHER_OPCODE)
		header->opcode = HBM_WIRE_PIN;

	header->size = (uint32_t)size + (wrong == SIZE_TOO_HIGH);
	assert_true(fake_send(&fake, &reply, size, &fake.doorbell, wrong == AN_FD));
	if (wrong == TWICE)
		assert_true(fake_send(&fake, &reply, size, NULL, 0));
}

static void reconnect(void)
{
	hbm = hbm_close(hbm);
	held_count = 0;
	fake.answer = NULL;
	fake_stage_connect();
}

static void test_malformed_replies(void **state)
{
	(void)state;
	for (enum wrong wrong = 0; wrong < WRONGS; wrong++) {
		hbm_ticket tickets[2];

		fake.answer = answer_hold;
		submit_held(tickets, NULL, 2);
		send_wrong(wrong);
		int first = hbm_wait(hbm, tickets[0], -1), second = hbm_wait(hbm, tickets[1], 5000);
		if (first != (wrong == TWICE ? HBM_OK : -EPROTO) || second != -EPROTO)
			fail_msg("malformed reply %d: the tickets ended %d and %d", (int)wrong,
				 first, second);

		assert_int_equal(hbm_ping(hbm), -ENOTCONN);
		reconnect();
	}
}

static void test_random_bytes(void **state)
{
	(void)state;
	unsigned int seed = 77;
	print_message("seed %u\n", seed);

	for (int round = 0; round < 200; round++) {
		hbm_ticket ticket;

		submit_held(&ticket, NULL, 1);
		unsigned char noise[300];
		size_t size = 1 + (size_t)rand_r(&seed) % sizeof(noise);
		for (size_t i = 0; i < size; i++)
			noise[i] = (unsigned char)rand_r(&seed);

		/* Half of the time the noise begins like an answer. */
		struct hbm_wire_header header = {
			(uint32_t)size, HBM_WIRE_TOUCH, HBM_WIRE_REPLY, held[0].id, 0, 0};
		if (round % 2 && size >= sizeof(header))
			memcpy(noise, &header, sizeof(header));

		fake_send(&fake, noise, size, NULL, 0);
		assert_int_equal(hbm_wait(hbm, ticket, -1), -EPROTO);
		reconnect();
	}
}

/* ---- Descriptors that nobody asked for, or that do not fit ---- */

/* An empty message is the end; what it brought with it is closed, as the leak check sees. */
static void test_an_empty_message_with_fds(void **state)
{
	(void)state;
	hbm_ticket ticket;
	submit_held(&ticket, NULL, 1);
	assert_true(fake_send(&fake, "", 0, (int[]){fake.doorbell, fake.doorbell}, 2));
	assert_int_equal(hbm_wait(hbm, ticket, -1), -ENOTCONN);
}

static void test_no_room_for_fds(void **state)
{
	(void)state;
	hbm_ticket ticket;
	submit_held(&ticket, NULL, 1);
	struct hbm_wire_header header = {
		sizeof(header), HBM_WIRE_TOUCH, HBM_WIRE_REPLY, held[0].id, 0, 0};
	int fds[8];
	for (size_t i = 0; i < 8; i++)
		fds[i] = fake.doorbell;
	struct rlimit old, few;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	int next = dup(0);
	close(next);
	few = old;
	few.rlim_cur = (rlim_t)next + 3; /* room for three of the eight */
	assert_true(fake_send(&fake, &header, sizeof(header), fds, 8));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	int rc = hbm_wait(hbm, ticket, -1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(rc, -EMFILE);
	assert_int_equal(hbm_ping(hbm), -ENOTCONN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_replies_in_another_order, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_waits_that_time_out, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_dispatch_counts_each_end_once, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_refusals_have_an_error_line, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_submits_without_end_do_not_deadlock, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_a_place_is_kept_for_cancelling, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_cancel_too_late, setup, fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_any_number_outstanding, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_death_ends_every_ticket, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_death_found_by_dispatch, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_death_found_by_submit, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_death_with_requests_unread, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_malformed_replies, setup, fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_random_bytes, setup, fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_an_empty_message_with_fds, setup,
						fake_stage_teardown),
		cmocka_unit_test_setup_teardown(test_no_room_for_fds, setup, fake_stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
