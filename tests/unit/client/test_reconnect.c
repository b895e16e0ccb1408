/* SPDX-License-Identifier: Apache-2.0 */
/* A connection that goes on with the next daemon: what it says, what it sends again and in which
 * order, what it does not, how long it waits, and when it gives up. */
#include "tests/support/fake_stage.h"
#include "tests/support/seed.h"

#include <hbm/hbm.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLAB FAKE_SLAB

static const hbm_key one_key = {{1}};

/* What the next daemon was sent first, and whether it refuses. */
static struct hbm_wire_hello_resume resume;
static unsigned hellos;
static int refuse_hello;

/* The daemon dies when it has read that request for the n-th time, with or without its effect. */
static unsigned die_opcode, die_at;
/* What came after HELLO, in order. */
static uint16_t heard[64];
static uint64_t heard_ids[64];
static unsigned heard_count;
/* How often each key of a test of pins was pinned. */
static unsigned pinned[300];
/* What it said that it has, last. */
static struct hbm_wire_range told[8];
static unsigned told_count;

static bool answer(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode == HBM_WIRE_HELLO) {
		hellos++;
		memcpy(&resume, request,
		       request->size < sizeof(resume) ? request->size : sizeof(resume));
		if (hellos > 1 && refuse_hello)
			return fake_reply(self, request, refuse_hello);
		return false;
	}

	if (request->opcode == HBM_WIRE_RECONCILE) {
		const struct hbm_wire_ranges *ranges = (const void *)request;
		told_count = ranges->count;
		memcpy(told, ranges->ranges, ranges->count * sizeof(told[0]));
		return false;
	}

	if (request->opcode == HBM_WIRE_PIN) {
		const struct hbm_wire_keys *keys = (const void *)request;
		for (uint32_t i = 0; i < keys->count; i++)
			pinned[(keys->keys[i].bytes[8] | keys->keys[i].bytes[9] << 8) % 300]++;
	}

	if (heard_count < 64) {
		heard_ids[heard_count] = request->id;
		heard[heard_count++] = request->opcode;
	}
	if (request->opcode == die_opcode && die_at > 0 && --die_at == 0) {
		shutdown(self->peer, SHUT_RDWR);
		return true;
	}

	return false;
}

static void connect_with(const struct hbm_options *options)
{
	hbm = hbm_close(hbm);
	assert_int_equal(hbm_connect(&hbm, options), 0);
}

static int setup(void **state)
{
	(void)state;
	hellos = heard_count = die_at = 0;
	refuse_hello = 0;
	memset(&resume, 0, sizeof(resume));
	fake_stage_open(8);
	fake.survives = true;
	fake.answer = answer;
	connect_with(&(struct hbm_options){.socket = fake.path, .name = "test"});

	return 0;
}

static void die_on(unsigned opcode, unsigned at)
{
	die_opcode = opcode;
	die_at = at;
}

static int lookup(void)
{
	struct hbm_lookup found;
	return hbm_lookup(hbm, 5, &one_key, 1, &found, NULL);
}

/* ---- The exchange ---- */

static void a_call_waits_and_succeeds(void **state)
{
	(void)state;

	assert_true(hbm_info(hbm)->survives);
	die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(lookup(), 0);

	assert_int_equal(hellos, 2);
	assert_int_equal(resume.hello.header.size, sizeof(resume));
	assert_int_equal(resume.session, 7);
	assert_memory_equal(resume.state, "\4\5\6", 4);
	assert_memory_equal(resume.token, "\7\10\11", 4);
	assert_string_equal(resume.hello.name, "test");
}

static void so_it_does_again_and_again(void **state)
{
	(void)state;

	for (unsigned i = 0; i < 20; i++) {
		die_on(HBM_WIRE_LOOKUP, 1);
		assert_int_equal(lookup(), 0);
	}

	assert_int_equal(hellos, 21);
}

static void a_daemon_that_ends_between_calls_is_not_noticed(void **state)
{
	(void)state;

	fake_hang_up(&fake);
	assert_int_equal(lookup(), 0);
	assert_int_equal(hellos, 2);
}

static void where_sessions_do_not_survive_the_connection_ends(void **state)
{
	(void)state;

	connect_with(
		&(struct hbm_options){.socket = fake.path, .reconnect_ms = HBM_RECONNECT_NEVER});
	assert_false(hbm_info(hbm)->survives);
	assert_int_equal(resume.hello.header.size, sizeof(struct hbm_wire_hello));
	die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(lookup(), -ENOTCONN);

	fake.survives = false;
	connect_with(&(struct hbm_options){.socket = fake.path});
	assert_false(hbm_info(hbm)->survives);
	die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(lookup(), -ENOTCONN);
	fake.survives = true;
}

static void a_daemon_that_has_no_such_session_ends_it(void **state)
{
	(void)state;

	refuse_hello = HBM_NOT_FOUND;
	die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(lookup(), -ENOTCONN);
	assert_int_equal(hellos, 2);
}

static bool answer_later(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode == HBM_WIRE_HELLO && hellos == 4)
		refuse_hello = 0;
	return answer(self, request);
}

static void one_that_is_stopping_is_asked_again(void **state)
{
	(void)state;

	refuse_hello = HBM_SHUTDOWN;
	fake.answer = answer_later;
	die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(lookup(), 0);
	assert_int_equal(hellos, 5);
}

static void it_waits_until_one_listens_and_no_longer_than_it_may(void **state)
{
	(void)state;
	char away[80];
	hbm_ticket ticket;

	connect_with(&(struct hbm_options){.socket = fake.path, .reconnect_ms = 300});
	snprintf(away, sizeof(away), "%s.away", fake.path);
	assert_int_equal(rename(fake.path, away), 0);
	assert_int_equal(hbm_submit_lookup(hbm, 5, &one_key, 1, NULL, NULL, &ticket), 0);
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
	assert_int_equal(lookup(), -ENOTCONN);
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
		assert_int_equal(hbm_submit_lookup(hbm, 5, &one_key, 1, NULL, NULL, &tickets[i]),
				 0);
	die_on(HBM_WIRE_LOOKUP, 6);
	assert_int_equal(hbm_uncork(hbm), 0);
	for (unsigned i = 12; i-- > 0;)
		assert_int_equal(hbm_wait(hbm, tickets[i], -1), 0);

	/* Five were answered; the others came once more, whatever was read of them before. */
	assert_in_range(heard_count, 6 + 7, 12 + 7);
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(heard_ids[heard_count - 7 + i], tickets[5 + i]);
}

static void corked_requests_are_sent_once(void **state)
{
	(void)state;
	hbm_ticket tickets[3];

	assert_int_equal(hbm_cork(hbm), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(hbm_submit_lookup(hbm, 5, &one_key, 1, NULL, NULL, &tickets[i]),
				 0);
	fake_hang_up(&fake);
	assert_int_equal(hbm_uncork(hbm), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(hbm_wait(hbm, tickets[i], -1), 0);
	assert_int_equal(heard_count, 3);
}

static void namespaces_are_opened_again(void **state)
{
	(void)state;
	uint32_t ns;
	const struct hbm_namespace_options options = {
		.model = "m", .salt = "secret", .block_bytes = 65536};

	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
	heard_count = 0;
	die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(lookup(), 0);
	assert_int_equal(heard_count, 3);
	assert_int_equal(heard[1], HBM_WIRE_NAMESPACE_OPEN);
	assert_int_equal(heard[2], HBM_WIRE_LOOKUP);

	/* Not one that was closed. */
	assert_int_equal(hbm_namespace_close(hbm, ns), 0);
	heard_count = 0;
	die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(lookup(), 0);
	assert_int_equal(heard_count, 2);
}

/* How often it was pinned is not known: not what pins of a session are, which are made again. */
static void pins_that_are_kept_are_not_sent_again(void **state)
{
	(void)state;

	die_on(HBM_WIRE_PIN, 1);
	assert_int_equal(hbm_keys(hbm, HBM_WIRE_PIN, 5, HBM_WIRE_KEEP, &one_key, 1, NULL),
			 HBM_SHUTDOWN);
	die_on(HBM_WIRE_UNPIN, 1);
	assert_int_equal(hbm_keys(hbm, HBM_WIRE_UNPIN, 5, HBM_WIRE_KEEP, &one_key, 1, NULL),
			 HBM_SHUTDOWN);
	assert_int_equal(heard_count, 2);

	die_on(HBM_WIRE_PIN, 1);
	assert_int_equal(hbm_keys(hbm, HBM_WIRE_PIN, 5, 0, &one_key, 1, NULL), 0);
	assert_int_equal(heard_count, 4);
}

/* ---- Pins ---- */

/* Pins at random, beside a count for each key: those are pinned again, as often. */
static void pins_are_renewed(void **state)
{
	(void)state;
	enum { KEYS = 300 };
	static unsigned counts[KEYS];
	struct seed seed;
	uint32_t ns;
	const struct hbm_namespace_options options = {.model = "m", .block_bytes = 65536};

	seed_open(&seed, "pins");
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
		die_on(HBM_WIRE_LOOKUP, 1);
		assert_int_equal(lookup(), 0);
		assert_memory_equal(pinned, counts, sizeof(counts));
	}

	/* A namespace that is closed has none. */
	assert_int_equal(hbm_namespace_close(hbm, ns), 0);
	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
	memset(pinned, 0, sizeof(pinned));
	memset(counts, 0, sizeof(counts));
	die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(lookup(), 0);
	assert_memory_equal(pinned, counts, sizeof(counts));
}

/* ---- Stores and loads ---- */

static struct hbm_region *region;

static void open_region(void)
{
	const struct hbm_region_options options = {.address_space = 4 * SLAB, .slab = SLAB};

	assert_int_equal(hbm_region_create(hbm, &options, &region), 0);
	assert_int_equal(hbm_commit(hbm, &(struct hbm_range){region, 0, SLAB}, 1), 0);
}

static hbm_ticket submit(bool load, const struct hbm_sync *sync, hbm_result *result)
{
	const struct hbm_segment segment = {region, 0, 65536};
	const struct hbm_block block = {.key = one_key, .segments = &segment, .segment_count = 1};
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

	open_region();
	for (unsigned load = 0; load < 2; load++) {
		unsigned opcode = load ? HBM_WIRE_LOAD : HBM_WIRE_STORE;
		hbm_result result = {.status = 99};

		/* Before: it is sent again. */
		fake.fence_page[3] = 9;
		heard_count = 0;
		die_on(opcode, 1);
		assert_int_equal(hbm_wait(hbm, submit(load, &sync, &result), -1), 0);
		assert_int_equal(heard_count, 2);
		assert_int_equal(result.status, HBM_OK);

		/* After: it is not; no block has failed. */
		fake.fence_page[3] = 10;
		heard_count = 0;
		die_on(opcode, 1);
		assert_int_equal(hbm_wait(hbm, submit(load, &sync, &result), -1), 0);
		assert_int_equal(heard_count, 1);
		assert_int_equal(result.status, HBM_OK);

		/* Or one has; or it is not known. */
		fake.fence_page[4] = 1;
		die_on(opcode, 1);
		assert_int_equal(hbm_wait(hbm, submit(load, &sync, &result), -1), 0);
		assert_int_equal(result.status, load ? HBM_MISS : HBM_SHUTDOWN);
		fake.fence_page[4] = 0;

		die_on(opcode, 1);
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

	if (answer(self, request))
		return true;
	return request->opcode == HBM_WIRE_STORE &&
	       fake_reply_message(self, request, &reply, offsetof(typeof(reply), results) + 4, NULL,
				  0);
}

static void a_block_that_was_stored_already_is_stored(void **state)
{
	(void)state;
	hbm_result result;

	open_region();
	fake.answer = answer_exists;
	assert_int_equal(hbm_wait(hbm, submit(false, NULL, &result), -1), 0);
	assert_int_equal(result.status, HBM_EXISTS);
	die_on(HBM_WIRE_STORE, 1);
	assert_int_equal(hbm_wait(hbm, submit(false, NULL, &result), -1), 0);
	assert_int_equal(result.status, HBM_OK);
}

/* ---- Memory ---- */

static void assert_told(const struct hbm_wire_range *ranges, unsigned count)
{
	assert_int_equal(told_count, count);
	assert_memory_equal(told, ranges, count * sizeof(ranges[0]));
}

static void commits_begin_anew_and_what_was_given_back_is(void **state)
{
	(void)state;
	const struct hbm_range range = {NULL, SLAB, 3 * SLAB};
	struct hbm_range rest = range;

	open_region();
	rest.region = region;
	die_on(HBM_WIRE_COMMIT, 1);
	assert_int_equal(hbm_commit(hbm, &rest, 1), 0);
	assert_told((struct hbm_wire_range[]){{1, 0, 0, 0}, {1, 0, 0, SLAB}, {0, 0, 0, 0}}, 3);
	assert_int_equal(hbm_commit(hbm, &rest, 1), HBM_EXISTS);

	die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(lookup(), 0);
	assert_told((struct hbm_wire_range[]){{1, 0, 0, 0}, {1, 0, 0, 4 * SLAB}, {0, 0, 0, 0}}, 3);

	heard_count = 0;
	die_on(HBM_WIRE_DECOMMIT, 1);
	assert_int_equal(hbm_decommit(hbm, &rest, 1), 0);
	assert_told((struct hbm_wire_range[]){{1, 0, 0, 0}, {1, 0, 0, SLAB}, {0, 0, 0, 0}}, 3);
	die_on(HBM_WIRE_REGION_DESTROY, 1);
	assert_int_equal(hbm_region_destroy(hbm, region), 0);
	assert_told((struct hbm_wire_range[]){{0, 0, 0, 0}}, 1);
	unsigned gave_back = 0;
	for (unsigned i = 0; i < heard_count; i++)
		gave_back += heard[i] == HBM_WIRE_DECOMMIT || heard[i] == HBM_WIRE_REGION_DESTROY;
	assert_int_equal(gave_back, 2);
}

/* A loan whose slab is none that this process could import. */
static bool answer_borrow(struct fake *self, const struct hbm_wire_header *request)
{
	struct {
		struct hbm_wire_borrowed head;
		struct hbm_wire_loan loan;
		struct hbm_wire_piece piece;
		struct hbm_wire_slab slab;
	} reply = {
		.head = {.count = 1, .pieces = 1, .slabs = 1},
		.loan = {.loan = 1, .pieces = 1},
		.piece = {.bytes = 65536},
		.slab = {.slab = 1, .bytes = SLAB, .sent = 1},
	};

	if (answer(self, request))
		return true;
	return request->opcode == HBM_WIRE_BORROW &&
	       fake_reply_message(self, request, &reply, sizeof(reply), &self->doorbell, 1);
}

static void a_borrow_that_is_being_undone_is(void **state)
{
	(void)state;
	struct hbm_loan *loan;

	fake.answer = answer_borrow;
	die_on(HBM_WIRE_RETURN, 1);
	assert_int_equal(hbm_borrow(hbm, 5, 0, 0, &one_key, 1, &loan, NULL), HBM_DEVICE);
	assert_null(loan);
	assert_int_equal(hellos, 2);
	assert_int_equal(heard_count, 2); /* it is not asked for again, nor returned */
	assert_int_equal(lookup(), 0);
}

/* The first daemon answers no lookup; the next one has nothing that was not told. */
static bool answer_untold(struct fake *self, const struct hbm_wire_header *request)
{
	if (answer(self, request))
		return true;
	if (request->opcode == HBM_WIRE_LOOKUP)
		return hellos == 1;

	bool gives_back =
		request->opcode == HBM_WIRE_DECOMMIT || request->opcode == HBM_WIRE_REGION_DESTROY;

	return gives_back && fake_reply(self, request, HBM_NOT_FOUND);
}

/* The next daemon is told what is mapped before the request that has unmapped some is sent. */
static void what_waits_its_turn_may_have_been_given_back(void **state)
{
	(void)state;

	for (unsigned destroy = 0; destroy < 2; destroy++) {
		hbm_ticket tickets[63];

		fake.answer = answer;
		connect_with(&(struct hbm_options){.socket = fake.path});
		open_region();
		fake.answer = answer_untold;
		hellos = 1;
		die_on(HBM_WIRE_LOOKUP, 63);
		for (unsigned i = 0; i < 63; i++)
			assert_int_equal(
				hbm_submit_lookup(hbm, 5, &one_key, 1, NULL, NULL, &tickets[i]), 0);
		if (destroy)
			assert_int_equal(hbm_region_destroy(hbm, region), 0);
		else
			assert_int_equal(hbm_decommit(hbm, &(struct hbm_range){region, 0, SLAB}, 1),
					 0);
		assert_int_equal(hellos, 2);

		/* Of this daemon: refused as it is. */
		if (!destroy)
			assert_int_equal(hbm_region_destroy(hbm, region), HBM_NOT_FOUND);
		for (unsigned i = 0; i < 63; i++)
			assert_int_equal(hbm_wait(hbm, tickets[i], -1), 0);
	}
}

/* A store that was not sent before finds a block of another. */
static void a_late_store_is_none_that_was_done(void **state)
{
	(void)state;
	hbm_result result;

	open_region();
	fake_hang_up(&fake);
	fake.answer = answer_exists;
	assert_int_equal(hbm_wait(hbm, submit(false, NULL, &result), -1), 0);
	assert_int_equal(hellos, 2);
	assert_int_equal(result.status, HBM_EXISTS);
}

/* What is given back behind a share of it is there still for the next daemon. */
static void a_share_does_not_lose_its_source(void **state)
{
	(void)state;

	for (unsigned destroy = 0; destroy < 2; destroy++) {
		const struct hbm_region_options options = {.address_space = SLAB, .slab = SLAB};
		struct hbm_region *target;
		hbm_ticket ticket;

		open_region();
		assert_int_equal(hbm_region_create(hbm, &options, &target), 0);
		const struct hbm_share share = {region, target, .bytes = SLAB};
		heard_count = 0;
		die_on(HBM_WIRE_SHARE, 1);
		assert_int_equal(hbm_submit_share(hbm, &share, 1, &ticket), 0);
		if (destroy)
			assert_int_equal(hbm_region_destroy(hbm, region), 0);
		else
			assert_int_equal(hbm_decommit(hbm, &(struct hbm_range){region, 0, SLAB}, 1),
					 0);
		assert_int_equal(hbm_wait(hbm, ticket, -1), 0);

		uint32_t first = 2 * destroy + 1; /* of the regions of this turn */
		unsigned at = destroy ? 2 : 0;    /* behind those of the one before */
		assert_int_equal(told_count, at + 4);
		assert_memory_equal(told + at,
				    ((struct hbm_wire_range[]){{first, 0, 0, 0},
							       {first, 0, 0, SLAB},
							       {first + 1, 0, 0, 0},
							       {0, 0, 0, 0}}),
				    4 * sizeof(told[0]));
		assert_int_equal(heard_count, 3);
		assert_int_equal(heard[1], HBM_WIRE_SHARE);

		/* The targets are mapped. */
		if (!destroy) {
			assert_int_equal(hbm_region_destroy(hbm, region), 0);
			die_on(HBM_WIRE_LOOKUP, 1);
			assert_int_equal(lookup(), 0);
			assert_told((struct hbm_wire_range[]){{first + 1, 0, 0, 0},
							      {first + 1, 0, 0, SLAB},
							      {0, 0, 0, 0}},
				    3);
		}
	}
}

/* To be back takes it longer than it may be silent. */
static bool answer_slowly(struct fake *self, const struct hbm_wire_header *request)
{
	if (answer(self, request))
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

	connect_with(&(struct hbm_options){.socket = fake.path, .answer_ms = 500});
	fake.answer = answer_slowly;
	die_on(HBM_WIRE_NAMESPACE_CLOSE, 1);
	assert_int_equal(hbm_namespace_close(hbm, 5), 0);
	assert_int_equal(lookup(), 0);
}

/* Which guest region the next daemon does not have, and how many were told. */
#define GUESTS 40u
static unsigned lost_guest, guests_told;

static bool answer_guests(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_ranges *ranges = (const void *)request;
	struct hbm_wire_region_create_reply reply = {
		.region = GUESTS + heard_count, .address_space = 4096, .slab = 4096};

	if (answer(self, request))
		return true;
	if (request->opcode == HBM_WIRE_REGION_IMPORT)
		return fake_reply_message(self, request, &reply, sizeof(reply), NULL, 0);
	if (request->opcode != HBM_WIRE_RECONCILE || ranges->ranges[0].region < GUESTS)
		return false;

	guests_told++;
	assert_int_equal(ranges->count, 1);
	return ranges->ranges[0].region == lost_guest ? fake_reply(self, request, HBM_NOT_FOUND)
						      : false;
}

/* Each in a message of its own, as one may be lost. */
static void guest_regions_are_told(void **state)
{
	(void)state;
	const unsigned char handle[64] = {1};
	const struct hbm_import_options options = {.fd = -1, .ipc_handle = handle, .bytes = 4096};
	struct hbm_region *regions[3];

	fake.answer = answer_guests;
	guests_told = 0;
	open_region();
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(hbm_region_import(hbm, &options, &regions[i]), 0);
	lost_guest = GUESTS + heard_count - 1;
	die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(lookup(), 0);
	assert_int_equal(guests_told, 3);
	assert_int_equal(hellos, 2);
	for (unsigned i = 0; i < 3; i++)
		(void)hbm_region_destroy(hbm, regions[i]);
	fake.answer = answer;
}

/* What was reserved is told as it was answered, and what was not is asked again. */
static void reservations_are_told(void **state)
{
	(void)state;
	const struct hbm_reserve_change more = {.device = 1, .bytes = 8 << 20},
					less = {.device = 1, .bytes = -(3 << 20)},
					all = {.device = 1, .bytes = INT64_MIN};

	assert_int_equal(hbm_reserve(hbm, &more, 1, 0), 0);
	heard_count = 0;
	die_on(HBM_WIRE_RESERVE, 1);
	assert_int_equal(hbm_reserve(hbm, &less, 1, 0), 0);
	assert_told((struct hbm_wire_range[]){{HBM_WIRE_RESERVED, 0, 0, 0},
					      {HBM_WIRE_RESERVED, 0, 1, 8 << 20},
					      {0, 0, 0, 0}},
		    3);
	assert_int_equal(heard_count, 2);

	die_on(HBM_WIRE_RESERVE, 1);
	assert_int_equal(hbm_reserve(hbm, &all, 1, 0), 0);
	assert_int_equal(told[1].bytes, 5 << 20);
	die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(lookup(), 0);
	assert_int_equal(told[1].bytes, 0);
}

#define STAGE(test) cmocka_unit_test_setup_teardown(test, setup, fake_stage_teardown)

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
		STAGE(commits_begin_anew_and_what_was_given_back_is),
		STAGE(a_borrow_that_is_being_undone_is),
		STAGE(what_waits_its_turn_may_have_been_given_back),
		STAGE(a_late_store_is_none_that_was_done),
		STAGE(a_share_does_not_lose_its_source),
		STAGE(the_time_without_a_daemon_is_not_that_of_an_answer),
		STAGE(guest_regions_are_told),
		STAGE(reservations_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
