/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection that goes on tells the next daemon that it has: memory, loans, guest regions and
 * reservations, and what of them was being given back. */
#include "tests/support/reconnect_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void assert_told(const struct hbm_wire_range *ranges, unsigned count)
{
	assert_int_equal(reconnect.told_count, count);
	assert_memory_equal(reconnect.told, ranges, count * sizeof(ranges[0]));
}

static void commits_begin_anew_and_what_was_given_back_is(void **state)
{
	(void)state;
	const struct hbm_range range = {NULL, SLAB, 3 * SLAB};
	struct hbm_range rest = range;

	reconnect_open_region();
	rest.region = reconnect.region;
	reconnect_die_on(HBM_WIRE_COMMIT, 1);
	assert_int_equal(hbm_commit(hbm, &rest, 1), 0);
	assert_told((struct hbm_wire_range[]){{1, 0, 0, 0}, {1, 0, 0, SLAB}, {0, 0, 0, 0}}, 3);
	assert_int_equal(hbm_commit(hbm, &rest, 1), HBM_EXISTS);

	reconnect_die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(reconnect_lookup(), 0);
	assert_told((struct hbm_wire_range[]){{1, 0, 0, 0}, {1, 0, 0, 4 * SLAB}, {0, 0, 0, 0}}, 3);

	reconnect.heard_count = 0;
	reconnect_die_on(HBM_WIRE_DECOMMIT, 1);
	assert_int_equal(hbm_decommit(hbm, &rest, 1), 0);
	assert_told((struct hbm_wire_range[]){{1, 0, 0, 0}, {1, 0, 0, SLAB}, {0, 0, 0, 0}}, 3);
	reconnect_die_on(HBM_WIRE_REGION_DESTROY, 1);
	assert_int_equal(hbm_region_destroy(hbm, reconnect.region), 0);
	assert_told((struct hbm_wire_range[]){{0, 0, 0, 0}}, 1);
	unsigned gave_back = 0;
	for (unsigned i = 0; i < reconnect.heard_count; i++)
		gave_back += reconnect.heard[i] == HBM_WIRE_DECOMMIT ||
			     reconnect.heard[i] == HBM_WIRE_REGION_DESTROY;
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

	if (reconnect_answer(self, request))
		return true;
	return request->opcode == HBM_WIRE_BORROW &&
	       fake_reply_message(self, request, &reply, sizeof(reply), &self->doorbell, 1);
}

static void a_borrow_that_is_being_undone_is(void **state)
{
	(void)state;
	struct hbm_loan *loan;

	fake.answer = answer_borrow;
	reconnect_die_on(HBM_WIRE_RETURN, 1);
	assert_int_equal(hbm_borrow(hbm, 5, 0, 0, &reconnect_key, 1, &loan, NULL), HBM_DEVICE);
	assert_null(loan);
	assert_int_equal(reconnect.hellos, 2);
	assert_int_equal(reconnect.heard_count, 2); /* it is not asked for again, nor returned */
	assert_int_equal(reconnect_lookup(), 0);
}

/* The first daemon answers no lookup; the next one has nothing that was not told. */
static bool answer_untold(struct fake *self, const struct hbm_wire_header *request)
{
	if (reconnect_answer(self, request))
		return true;
	if (request->opcode == HBM_WIRE_LOOKUP)
		return reconnect.hellos == 1;

	bool gives_back =
		request->opcode == HBM_WIRE_DECOMMIT || request->opcode == HBM_WIRE_REGION_DESTROY;

	return gives_back && fake_reply(self, request, HBM_NOT_FOUND);
}

static void give_back(bool destroy)
{
	const struct hbm_range slab = {reconnect.region, 0, SLAB};

	assert_int_equal(destroy ? hbm_region_destroy(hbm, reconnect.region)
				 : hbm_decommit(hbm, &slab, 1),
			 0);
}

/* The next daemon is told what is mapped before the request that has unmapped some is sent. */
static void what_waits_its_turn_may_have_been_given_back(void **state)
{
	(void)state;

	for (unsigned destroy = 0; destroy < 2; destroy++) {
		hbm_ticket tickets[63];

		fake.answer = reconnect_answer;
		reconnect_connect(&(struct hbm_options){.socket = fake.path});
		reconnect_open_region();
		fake.answer = answer_untold;
		reconnect.hellos = 1;
		reconnect_die_on(HBM_WIRE_LOOKUP, 63);
		for (unsigned i = 0; i < 63; i++)
			assert_int_equal(hbm_submit_lookup(hbm, 5, &reconnect_key, 1, NULL, NULL,
							   &tickets[i]),
					 0);
		give_back(destroy);
		assert_int_equal(reconnect.hellos, 2);

		/* Of this daemon: refused as it is. */
		if (!destroy)
			assert_int_equal(hbm_region_destroy(hbm, reconnect.region), HBM_NOT_FOUND);
		for (unsigned i = 0; i < 63; i++)
			assert_int_equal(hbm_wait(hbm, tickets[i], -1), 0);
	}
}

/* What is given back behind a share of it is there still for the next daemon. */
static void a_share_does_not_lose_its_source(void **state)
{
	(void)state;

	for (unsigned destroy = 0; destroy < 2; destroy++) {
		const struct hbm_region_options options = {.address_space = SLAB, .slab = SLAB};
		struct hbm_region *target;
		hbm_ticket ticket;

		reconnect_open_region();
		assert_int_equal(hbm_region_create(hbm, &options, &target), 0);
		const struct hbm_share share = {reconnect.region, target, .bytes = SLAB};
		reconnect.heard_count = 0;
		reconnect_die_on(HBM_WIRE_SHARE, 1);
		assert_int_equal(hbm_submit_share(hbm, &share, 1, &ticket), 0);
		give_back(destroy);
		assert_int_equal(hbm_wait(hbm, ticket, -1), 0);

		uint32_t first = 2 * destroy + 1; /* of the regions of this turn */
		unsigned at = destroy ? 2 : 0;    /* behind those of the one before */
		assert_int_equal(reconnect.told_count, at + 4);
		assert_memory_equal(reconnect.told + at,
				    ((struct hbm_wire_range[]){{first, 0, 0, 0},
							       {first, 0, 0, SLAB},
							       {first + 1, 0, 0, 0},
							       {0, 0, 0, 0}}),
				    4 * sizeof(reconnect.told[0]));
		assert_int_equal(reconnect.heard_count, 3);
		assert_int_equal(reconnect.heard[1], HBM_WIRE_SHARE);

		/* The targets are mapped. */
		if (!destroy) {
			assert_int_equal(hbm_region_destroy(hbm, reconnect.region), 0);
			reconnect_die_on(HBM_WIRE_LOOKUP, 1);
			assert_int_equal(reconnect_lookup(), 0);
			assert_told((struct hbm_wire_range[]){{first + 1, 0, 0, 0},
							      {first + 1, 0, 0, SLAB},
							      {0, 0, 0, 0}},
				    3);
		}
	}
}

/* Which guest region the next daemon does not have, and how many were told. */
#define GUESTS 40u
static unsigned lost_guest, guests_told;

static bool answer_guests(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_ranges *ranges = (const void *)request;
	struct hbm_wire_region_create_reply reply = {
		.region = GUESTS + reconnect.heard_count, .address_space = 4096, .slab = 4096};

	if (reconnect_answer(self, request))
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
	reconnect_open_region();
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(hbm_region_import(hbm, &options, &regions[i]), 0);
	lost_guest = GUESTS + reconnect.heard_count - 1;
	reconnect_die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(reconnect_lookup(), 0);
	assert_int_equal(guests_told, 3);
	assert_int_equal(reconnect.hellos, 2);
	for (unsigned i = 0; i < 3; i++)
		(void)hbm_region_destroy(hbm, regions[i]);
	fake.answer = reconnect_answer;
}

/* What was reserved is told as it was answered, and what was not is asked again. */
static void reservations_are_told(void **state)
{
	(void)state;
	const struct hbm_reserve_change more = {.device = 1, .bytes = 8 << 20},
					less = {.device = 1, .bytes = -(3 << 20)},
					all = {.device = 1, .bytes = INT64_MIN};

	assert_int_equal(hbm_reserve(hbm, &more, 1, 0), 0);
	reconnect.heard_count = 0;
	reconnect_die_on(HBM_WIRE_RESERVE, 1);
	assert_int_equal(hbm_reserve(hbm, &less, 1, 0), 0);
	assert_told((struct hbm_wire_range[]){{HBM_WIRE_RESERVED, 0, 0, 0},
					      {HBM_WIRE_RESERVED, 0, 1, 8 << 20},
					      {0, 0, 0, 0}},
		    3);
	assert_int_equal(reconnect.heard_count, 2);

	reconnect_die_on(HBM_WIRE_RESERVE, 1);
	assert_int_equal(hbm_reserve(hbm, &all, 1, 0), 0);
	assert_int_equal(reconnect.told[1].bytes, 5 << 20);
	reconnect_die_on(HBM_WIRE_LOOKUP, 1);
	assert_int_equal(reconnect_lookup(), 0);
	assert_int_equal(reconnect.told[1].bytes, 0);
}

#define STAGE(test) cmocka_unit_test_setup_teardown(test, reconnect_setup, fake_stage_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STAGE(commits_begin_anew_and_what_was_given_back_is),
		STAGE(a_borrow_that_is_being_undone_is),
		STAGE(what_waits_its_turn_may_have_been_given_back),
		STAGE(a_share_does_not_lose_its_source),
		STAGE(guest_regions_are_told),
		STAGE(reservations_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
