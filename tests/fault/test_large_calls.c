/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The n-th call of libhbm to the allocator or to the network fails, for n = 1, 2, ..., in calls
 * that are sent as several requests, and in those by way of the bounce buffer: the client sees an
 * error or the end of its connection, never wrong bytes or a ticket that does not end, and leaks
 * nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/fault.h"
#include "tests/support/kv.h"
#include "tests/support/leaks.h"
#include "tests/support/stage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	BLOCK = 64,
	MANY = 4200, /* three messages */
	LARGE = 1 << 20,
	FEW = 12, /* more than the slots hold */
	STEPS_MAX = 1000,
	PAST_ROW = 2,
};

enum { CLEAN, NOTICED, WRONG, LEAKED, REACHED = 16 };

static int outcome;

static bool worked(int rc)
{
	if (rc != 0 && outcome == CLEAN)
		outcome = NOTICED;

	return rc == 0;
}

static void expect(bool right)
{
	if (!right)
		outcome = WRONG;
}

static unsigned char byte_of(size_t block, size_t i)
{
	return (unsigned char)(block * 31 + i * 7 + 1);
}

/* ---- Several requests ---- */

static void play_parts(struct hbm *hbm, struct hbm_region *region)
{
	const struct hbm_namespace_options options = {.model = "parts", .block_bytes = BLOCK};
	const struct hbm_sync sync = {HBM_WIRE_NO_FENCE, 3, 0, 1, 4};
	static struct hbm_block blocks[MANY]; /* the test's own calls are to find memory */
	static struct hbm_segment segments[MANY];
	static hbm_result results[MANY];
	hbm_ticket ticket;
	uint32_t ns;

	for (size_t i = 0; i < MANY; i++) {
		segments[i] = (struct hbm_segment){region, i * BLOCK, BLOCK};
		blocks[i] = (struct hbm_block){
			.key = kv_key(1 + i), .segments = &segments[i], .segment_count = 1};
	}

	bool goes_on = worked(hbm_namespace_open(hbm, &options, &ns));
	for (int load = 0; goes_on && load < 2; load++) {
		goes_on = worked((load ? hbm_submit_load : hbm_submit_store)(
				  hbm, ns, blocks, MANY, &sync, results, &ticket)) &&
			  worked(hbm_wait(hbm, ticket, 20000));
		for (size_t i = 0; goes_on && i < MANY; i++)
			expect(results[i].status == HBM_OK || results[i].status == HBM_EXISTS);
		expect(!goes_on || *hbm_fence(hbm, 3) == 1);
	}
}

/* ---- Memory that is in no region ---- */

static void play_indirect(struct hbm *hbm)
{
	const struct hbm_namespace_options options = {.model = "indirect", .block_bytes = LARGE};
	static unsigned char memory[FEW * LARGE];
	struct hbm_segment segments[FEW];
	struct hbm_block blocks[FEW];
	hbm_result results[FEW];
	uint32_t ns;

	for (size_t b = 0; b < FEW; b++) {
		for (size_t i = 0; i < LARGE; i++)
			memory[b * LARGE + i] = byte_of(b, i);
		segments[b] = (struct hbm_segment){NULL, HBM_ADDRESS(memory + b * LARGE), LARGE};
		blocks[b] = (struct hbm_block){
			.key = kv_key(1 + b), .segments = &segments[b], .segment_count = 1};
	}

	if (worked(hbm_namespace_open(hbm, &options, &ns)) &&
	    worked(hbm_store_from(hbm, ns, blocks, FEW, results))) {
		memset(memory, 0, (size_t)FEW * LARGE);
		bool loaded = worked(hbm_load_to(hbm, ns, blocks, FEW, results));
		for (size_t b = 0; loaded && b < FEW; b++)
			for (size_t i = 0; i < LARGE; i += 4093)
				expect(results[b].status == HBM_OK &&
				       memory[b * LARGE + i] == byte_of(b, i));
	}
}

/* ---- The client ---- */

static uint64_t pack(unsigned kinds, int error, unsigned n)
{
	return (uint64_t)kinds << 48 | (uint64_t)error << 32 | n;
}

static void play(const struct spawn *spawn, uint64_t number)
{
	static struct fault_page page;
	const struct hbm_options options = {.socket = spawn->socket, .answer_ms = 20000};
	const struct hbm_region_options space = {.device = HBM_DEVICE_HOST,
						 .address_space = 2 << 20};
	struct hbm_region *region;
	struct hbm *hbm = NULL;
	struct leaks leaks;

	leaks_begin(&leaks);
	if (hbm_connect(&hbm, &options) != 0 || hbm_region_create(hbm, &space, &region) != 0 ||
	    hbm_commit(hbm, &(struct hbm_range){region, 0, 2 << 20}, 1) != 0)
		exit(WRONG);

	fault_use(&page);
	fault_arm(&page, (unsigned)(number >> 48), (int)(number >> 32 & 0xffff),
		  number & 0xffffffff, 1);
	play_parts(hbm, region);
	play_indirect(hbm);
	int reached = fault_disarm(&page) > 0 ? REACHED : 0;
	hbm_close(hbm);
	exit(reached + (leaks_end(&leaks) > 0 ? LEAKED : outcome));
}

/* How many of the calls that failed the client noticed. */
static unsigned fail_each(unsigned kinds, int error)
{
	unsigned n = 1, past = 0, noticed = 0;

	for (; past < PAST_ROW && n < STEPS_MAX; n++) {
		struct child child;

		child_start(&child, "play", &daemon_, pack(kinds, error, n));
		int status = child_wait(&child);
		if ((status & ~REACHED) > NOTICED)
			fail_msg("%s in call %u: the client ended with %d", strerror(error), n,
				 status);
		past = status & REACHED ? 0 : past + 1;
		noticed += (status & ~REACHED) != CLEAN;
	}

	print_message("%s: about %u calls, %u of which failed noticed\n", strerror(error),
		      n - PAST_ROW, noticed);
	assert_int_equal(past, PAST_ROW);

	return noticed;
}

static unsigned start(void)
{
	static const char *const sets[] = {"ddr.regions=64MiB", NULL};

	spawn_needs_soft();
	spawn_start(&daemon_, sets, NULL);

	return spawn_fds(&daemon_);
}

static void test_memory(void **state)
{
	(void)state;
	unsigned fds = start();

	assert_in_range(fail_each(FAULT_MEMORY, ENOMEM), 5, STEPS_MAX);
	stage_finish(fds);
}

static void test_sending(void **state)
{
	(void)state;
	unsigned fds = start();

	assert_in_range(fail_each(FAULT_SEND, ENOBUFS), 5, STEPS_MAX);
	stage_finish(fds);
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"play", play}, {NULL, NULL}};

	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_memory, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_sending, stage_setup, stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
