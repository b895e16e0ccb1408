/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that are killed, and a daemon that stops, in whatever they are in the middle of:
 * storing blocks that are lent as they are, borrowing and returning, sharing, committing, and
 * reserving. The books balance afterwards, nothing is on loan, and nothing is lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#define MIB (1ull << 20)
#define SLAB (2 * MIB)
#define LARGE (2 * SLAB) /* a block, and a slot */
#define BLOCKS 6
#define CLIENTS 3
#define ROUNDS 10

/* ---- A client ---- */

/* It has lost its daemon, or will be killed: what it is refused does not matter. */
static void expect_an_answer(int rc)
{
	if (rc < 0)
		exit(0);
}

static void store_to_lend(struct kv *client, uint64_t slot, uint64_t block)
{
	/* the same slab twice, now and then */
	uint64_t first = slot * LARGE, second = block % 3 == 0 ? first : first + SLAB;
	struct hbm_segment segments[] = {{client->region, first, SLAB},
					 {client->region, second, SLAB}};
	const struct hbm_block store = {
		.key = kv_key(block), .segments = segments, .segment_count = 2, .lend = true};

	expect_an_answer(hbm_store(client->hbm, client->ns, &store, 1, NULL));
}

/* A slot of the region gets the slabs of a loan, and has them when that is returned. */
static void share_a_loan(struct kv *client, struct hbm_loan *loan)
{
	const struct hbm_range slot = {client->region, 0, LARGE};
	const struct hbm_share share = {.loan = loan,
					.target = client->region,
					.bytes = LARGE,
					.flags = HBM_SHARE_READ_ONLY};

	expect_an_answer(hbm_decommit(client->hbm, &slot, 1));
	expect_an_answer(hbm_share(client->hbm, &share, 1));
}

static void borrow_and_return(struct kv *client, uint64_t piece, uint64_t block)
{
	const hbm_key keys[] = {kv_key(block), kv_key(block % BLOCKS + 1)};
	struct hbm_loan *loans[2] = {NULL};
	int rc = hbm_borrow(client->hbm, client->ns, 0, piece, keys, 2, loans, NULL);

	expect_an_answer(rc);
	if (rc == 0 && loans[0] && piece != 0)
		share_a_loan(client, loans[0]);
	for (int i = 0; rc == 0 && i < 2; i++)
		if (loans[i])
			expect_an_answer(hbm_return(client->hbm, &loans[i], 1));
}

static void change_memory(struct kv *client, uint64_t slot)
{
	const struct hbm_range range = {client->region, slot * LARGE, LARGE};
	const struct hbm_reserve_change more = {.bytes = 4 * LARGE}, less = {.bytes = -8 * LARGE};
	const struct hbm_share share = {.source = client->region,
					.target = client->region,
					.source_offset = (1 - slot) * LARGE,
					.target_offset = slot * LARGE,
					.bytes = LARGE};

	expect_an_answer(hbm_reserve(client->hbm, &more, 1, 1));
	expect_an_answer(hbm_decommit(client->hbm, &range, 1));
	expect_an_answer(hbm_share(client->hbm, &share, 1));
	expect_an_answer(hbm_decommit(client->hbm, &range, 1));
	expect_an_answer(hbm_reserve(client->hbm, &less, 1, 0));
	expect_an_answer(hbm_commit(client->hbm, &range, 1));
}

static void be_busy(const struct spawn *spawn, uint64_t number)
{
	static struct kv client;

	kv_open(&client, spawn, 0, LARGE, 2);
	child_tell();

	for (uint64_t n = number;; n++) {
		store_to_lend(&client, n % 2, n % BLOCKS + 1);
		borrow_and_return(&client, n % 3 == 0 ? 0 : SLAB, n % BLOCKS + 1);
		change_memory(&client, n % 2);
		if (n % 4 == number % 4)
			expect_an_answer(
				kv_keys(&client, HBM_WIRE_REMOVE, n % BLOCKS + 1, 1, 0, NULL));
	}
}

/* ---- The tests ---- */

static void start_daemon(void)
{
	static const char *const sets[] = {"device.lend=16MiB", "device.watermark=8MiB", NULL};

	spawn_start(&daemon_, sets, NULL);
}

static void start_clients(struct child clients[CLIENTS])
{
	for (unsigned i = 0; i < CLIENTS; i++)
		child_start(&clients[i], "busy", &daemon_, i);
	for (unsigned i = 0; i < CLIENTS; i++)
		child_await(&clients[i]);
}

/* Without the replicas, which are for the next client. */
static void settle(void)
{
	static struct kv client;

	kv_open(&client, &daemon_, 0, LARGE, 1);
	for (uint64_t block = 1; block <= BLOCKS; block++)
		assert_int_equal(kv_keys(&client, HBM_WIRE_REMOVE, block, 1, 0, NULL), 0);
	kv_close(&client);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

static int setup(void **state)
{
	stage_setup(state);
	start_daemon();

	return 0;
}

static int teardown(void **state)
{
	settle();
	assert_int_equal(spawn_stop(&daemon_), 0);

	return stage_teardown(state);
}

static void test_clients_are_killed(void **state)
{
	(void)state;
	struct child clients[CLIENTS];

	for (int round = 0; round < ROUNDS; round++) {
		start_clients(clients);
		for (unsigned i = 0; i < CLIENTS; i++) {
			poll(NULL, 0, (round * 7 + (int)i * 3) % 20);
			assert_int_equal(child_kill(&clients[i]), 128 + SIGKILL);
		}
		assert_true(spawn_balanced(&daemon_));
	}
}

static void test_the_daemon_stops(void **state)
{
	(void)state;
	struct child clients[CLIENTS];

	for (int round = 0; round < ROUNDS / 2; round++) {
		start_clients(clients);
		poll(NULL, 0, (round * 7) % 20);
		assert_int_equal(spawn_stop(&daemon_), 0);
		for (unsigned i = 0; i < CLIENTS; i++)
			assert_int_equal(child_wait(&clients[i]), 0);
		start_daemon();
	}
}

static const struct child_part parts[] = {{"busy", be_busy}, {NULL, NULL}};

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_clients_are_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_daemon_stops, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
