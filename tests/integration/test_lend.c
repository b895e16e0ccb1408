/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Borrowed blocks: processes of one user map the same copy of a block read-only, whatever
 * becomes of the block and of each other. What may be lent is bounded, what is on loan stays,
 * and all of it comes back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/device_record.h"
#include "tests/support/hbmctl.h"
#include "tests/support/kv.h"
#include "tests/support/raw.h"
#include "tests/support/raw_board.h"
#include "tests/support/stage.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (1ull << 20)
#define SLAB (2 * MIB)
#define SMALL 65536u    /* 32 of them in a slab */
#define LARGE (4 * MIB) /* two slabs */
#define LEND (8 * MIB)

static const char *const sets[] = {"device.lend=8MiB", NULL};
static unsigned fds;
static struct kv kv;

static void begin(uint64_t block_bytes, uint64_t slots)
{
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, block_bytes, slots);
}

static int setup_small(void **state)
{
	stage_setup(state);
	begin(SMALL, 32);

	return 0;
}

static int setup_large(void **state)
{
	stage_setup(state);
	begin(LARGE, 4);

	return 0;
}

static int setup_watermark(void **state)
{
	static const char *const watermark[] = {"device.lend=8MiB", "device.watermark=8MiB", NULL};

	stage_setup(state);
	spawn_start(&daemon_, watermark, NULL);
	fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, LARGE, 4);

	return 0;
}

static int teardown(void **state)
{
	kv_close(&kv);
	stage_finish(fds);

	return stage_teardown(state);
}

/* ---- What is asked and seen ---- */

static int borrow(struct kv *client, uint64_t piece, uint64_t first, uint64_t count,
		  struct hbm_loan **loans, hbm_result *results)
{
	hbm_key keys[HBM_WIRE_FDS_MAX + 1];

	for (uint64_t i = 0; i < count; i++)
		keys[i] = kv_key(first + i);

	return hbm_borrow(client->hbm, client->ns, 0, piece, keys, count, loans, results);
}

static struct hbm_loan *borrow_one(struct kv *client, uint64_t piece, uint64_t block)
{
	struct hbm_loan *loan = NULL;
	hbm_result result;
	int rc = borrow(client, piece, block, 1, &loan, &result);

	if (rc)
		fail_msg("borrow: %s", hbm_error(client->hbm));
	assert_int_equal(result.status, HBM_OK);
	assert_non_null(loan);

	return loan;
}

static int status_of_borrowing(struct kv *client, uint64_t piece, uint64_t block)
{
	struct hbm_loan *loan = NULL;
	hbm_result result;

	assert_int_equal(borrow(client, piece, block, 1, &loan, &result), 0);
	assert_true((loan != NULL) == (result.status == HBM_OK));
	if (loan)
		assert_int_equal(hbm_return(client->hbm, &loan, 1), 0);

	return result.status;
}

static bool bytes_are(struct kv *client, uint64_t address, uint64_t block)
{
	unsigned char *want = malloc(client->block_bytes), *got = malloc(client->block_bytes);

	assert_true(want && got);
	kv_fill(block, want, client->block_bytes);
	kv_read(client, got, address, client->block_bytes);
	bool same = memcmp(want, got, client->block_bytes) == 0;
	free(got);
	free(want);

	return same;
}

static bool loan_has(struct kv *client, struct hbm_loan *loan, uint64_t block)
{
	uint64_t address = 0;

	assert_int_equal(hbm_loan_map(client->hbm, loan, &address), 0);

	return bytes_are(client, address, block);
}

static void give_back(struct kv *client, struct hbm_loan *loan)
{
	assert_int_equal(hbm_return(client->hbm, &loan, 1), 0);
}

static struct hbm_wire_device device(void)
{
	return device_record(kv.hbm);
}

static void wait_until_nothing_is_on_its_way(void)
{
	for (int i = 0; i < 20000 && device().retiring + device().held > 0; i++)
		poll(NULL, 0, 1);
	assert_int_equal(device().retiring, 0);
	assert_int_equal(device().held, 0);
}

static void wait_for_loans(uint64_t loans)
{
	for (int i = 0; i < 20000 && device().loans != loans; i++)
		poll(NULL, 0, 1);
	assert_int_equal(device().loans, loans);
}

/* ---- One process ---- */

/* On a soft device this process reads it where it is, once it is mapped. */
static void test_a_loan_in_host_memory(void **state)
{
	(void)state;
	unsigned char want[SMALL];
	struct hbm_loan *loan;
	hbm_result result;
	uint64_t address;

	spawn_needs_soft();
	assert_int_equal(kv_store(&kv, 0, 1, 1, 0, NULL), 0);
	assert_int_equal(borrow(&kv, 0, 1, 1, &loan, &result), 0);
	assert_null(hbm_loan_host(loan));
	assert_int_equal(hbm_loan_map(kv.hbm, loan, &address), 0);
	kv_fill(1, want, SMALL);
	assert_memory_equal(hbm_loan_host(loan), want, SMALL);
	assert_int_equal(hbm_return(kv.hbm, &loan, 1), 0);
}

static void test_blocks_share_a_slab(void **state)
{
	(void)state;
	struct hbm_loan *loans[8];
	hbm_result results[8];
	uint64_t first = 0, address;

	assert_int_equal(kv_store(&kv, 0, 1, 8, 0, NULL), 0);
	assert_int_equal(borrow(&kv, 0, 1, 8, loans, results), 0);
	for (uint64_t i = 0; i < 8; i++) {
		assert_int_equal(results[i].status, HBM_OK);
		assert_int_equal(hbm_loan_bytes(loans[i]), SMALL);
		assert_int_equal(hbm_loan_pieces(loans[i]), 1);
		assert_true(loan_has(&kv, loans[i], 1 + i));
		assert_int_equal(hbm_loan_map(kv.hbm, loans[i], &address), 0);
		first = i == 0 ? address : first;
		assert_true(address - first < SLAB);
	}

	assert_int_equal(device().lent, SLAB);
	assert_int_equal(device().lend, LEND);
	assert_int_equal(device().replicas, 8);
	assert_int_equal(device().loans, 8);
	assert_true(spawn_balanced(&daemon_));

	/* Read-only, as far as it goes. */
	kv.driver->cuCtxSetCurrent(kv.context);
	assert_int_not_equal(kv.driver->cuMemcpyHtoD(first, "abc", 4), CUDA_SUCCESS);

	assert_int_equal(hbm_return(kv.hbm, loans, 8), 0);
	assert_int_equal(device().loans, 0);
	assert_int_equal(device().replicas, 8); /* idle */
	assert_true(spawn_balanced(&daemon_));

	/* Again: nothing is made. */
	struct hbm_loan *again = borrow_one(&kv, 0, 3);
	assert_true(loan_has(&kv, again, 3));
	assert_int_equal(device().replicas, 8);
	give_back(&kv, again);
}

/* Each piece is mapped where the caller wants it, whatever order that is. */
static void test_pieces_are_mapped_anywhere(void **state)
{
	(void)state;
	CUdeviceptr range;
	unsigned char *want = malloc(LARGE), *got = malloc(SLAB);

	assert_true(want && got);
	assert_int_equal(kv_store(&kv, 0, 1, 1, 0, NULL), 0);
	struct hbm_loan *loan = borrow_one(&kv, SLAB, 1);
	assert_int_equal(hbm_loan_pieces(loan), 2);
	assert_int_equal(hbm_loan_bytes(loan), LARGE);
	assert_int_equal(device().lent, LARGE);

	kv.driver->cuCtxSetCurrent(kv.context);
	assert_int_equal(kv.driver->cuMemAddressReserve(&range, 3 * SLAB, 0, 0, 0), CUDA_SUCCESS);
	assert_int_equal(hbm_loan_map_piece(kv.hbm, loan, 0, range + 2 * SLAB), 0);
	assert_int_equal(hbm_loan_map_piece(kv.hbm, loan, 1, range), 0);
	assert_int_equal(hbm_loan_map_piece(kv.hbm, loan, 1, range + SLAB), HBM_EXISTS);
	assert_int_equal(hbm_loan_map_piece(kv.hbm, loan, 2, range + SLAB), HBM_INVALID);

	kv_fill(1, want, LARGE);
	kv_read(&kv, got, range + 2 * SLAB, SLAB);
	assert_memory_equal(got, want, SLAB);
	kv_read(&kv, got, range, SLAB);
	assert_memory_equal(got, want + SLAB, SLAB);
	assert_true(loan_has(&kv, loan, 1)); /* as a whole, too */

	give_back(&kv, loan);
	kv.driver->cuCtxSetCurrent(kv.context);
	assert_int_equal(kv.driver->cuMemAddressFree(range, 3 * SLAB), CUDA_SUCCESS);
	free(got);
	free(want);
}

/* From each tier that a block can be in. */
static void test_a_replica_is_made_from_anywhere(void **state)
{
	(void)state;

	assert_int_equal(kv_store(&kv, 0, 1, 2, 0, NULL), 0);
	kv_push_to_nvme(&kv);
	struct hbm_loan *loan = borrow_one(&kv, 0, 2);
	assert_true(loan_has(&kv, loan, 2));

	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL), 0);
	kv_await_moves(&kv);
	struct hbm_loan *other = borrow_one(&kv, 0, 1);
	assert_true(loan_has(&kv, other, 1));
	assert_true(loan_has(&kv, loan, 2));
	give_back(&kv, loan);
	give_back(&kv, other);
}

static void test_a_borrower_keeps_a_block_that_is_removed(void **state)
{
	(void)state;

	assert_int_equal(kv_store(&kv, 0, 1, 1, 0, NULL), 0);
	struct hbm_loan *loan = borrow_one(&kv, 0, 1);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 1, 1, 0, NULL), 0);
	assert_int_equal(status_of_borrowing(&kv, 0, 1), HBM_MISS);
	assert_true(loan_has(&kv, loan, 1));
	assert_true(spawn_balanced(&daemon_));

	/* Other bytes under the same key, beside the old ones. */
	kv_put(&kv, 0, 7);
	struct hbm_segment segment = {kv.region, 0, SMALL};
	struct hbm_block block = {.key = kv_key(1), .segments = &segment, .segment_count = 1};
	assert_int_equal(hbm_store(kv.hbm, kv.ns, &block, 1, NULL), 0);
	struct hbm_loan *fresh = borrow_one(&kv, 0, 1);
	assert_true(loan_has(&kv, fresh, 7));
	assert_true(loan_has(&kv, loan, 1));

	give_back(&kv, loan);
	assert_true(loan_has(&kv, fresh, 7));
	give_back(&kv, fresh);
	assert_true(spawn_balanced(&daemon_));
}

/* What is on loan stays, what is idle goes, oldest first. */
static void test_the_bound(void **state)
{
	(void)state;
	struct hbm_loan *loans[2];

	assert_int_equal(kv_store(&kv, 0, 1, 4, 0, NULL), 0);
	loans[0] = borrow_one(&kv, SLAB, 1);
	loans[1] = borrow_one(&kv, SLAB, 2);
	assert_int_equal(device().lent, LEND);
	assert_int_equal(status_of_borrowing(&kv, SLAB, 3), HBM_NO_SPACE);
	assert_int_equal(status_of_borrowing(&kv, 0, 3), HBM_NO_SPACE);
	assert_int_equal(device().lent, LEND);
	assert_int_equal(device().replicas, 2);
	assert_true(loan_has(&kv, loans[0], 1));
	assert_true(loan_has(&kv, loans[1], 2));
	assert_true(spawn_balanced(&daemon_));

	give_back(&kv, loans[0]);
	struct hbm_loan *third = borrow_one(&kv, SLAB, 3);
	assert_true(loan_has(&kv, third, 3));
	assert_true(loan_has(&kv, loans[1], 2));
	assert_int_equal(device().replicas, 2);
	wait_until_nothing_is_on_its_way();
	give_back(&kv, third);
	give_back(&kv, loans[1]);
	assert_true(spawn_balanced(&daemon_));
}

/* Two blocks, whose replicas are all that may be lent, and idle. */
static struct hbm_wire_device lend_all(void)
{
	assert_int_equal(kv_store(&kv, 0, 1, 2, 0, NULL), 0);
	give_back(&kv, borrow_one(&kv, SLAB, 1));
	give_back(&kv, borrow_one(&kv, SLAB, 2));
	wait_until_nothing_is_on_its_way();
	assert_int_equal(device().lent, LEND);

	return device();
}

/* Idle replicas are in no region's way. */
static void test_regions_come_first(void **state)
{
	(void)state;

	struct hbm_wire_device before = lend_all();
	const struct hbm_region_options options = {
		.address_space = before.ready + before.uncreated + LEND, .slab = SLAB};
	struct hbm_region *region;
	assert_int_equal(hbm_region_create(kv.hbm, &options, &region), 0);
	const struct hbm_range all = {region, 0, hbm_region_bytes(region)};
	assert_int_equal(hbm_commit(kv.hbm, &all, 1), 0);
	assert_int_equal(device().lent, 0);
	assert_int_equal(status_of_borrowing(&kv, SLAB, 1), HBM_NO_SPACE);
	assert_int_equal(hbm_region_destroy(kv.hbm, region), 0);
	assert_int_equal(status_of_borrowing(&kv, SLAB, 1), HBM_OK);
}

/* Nor in that of a reservation, which takes no more of them than it needs. */
static void test_reservations_come_first(void **state)
{
	(void)state;

	struct hbm_wire_device before = lend_all();
	uint64_t used = before.leased - before.lent; /* by the same session */
	const struct hbm_reserve_change more = {
		.bytes = (int64_t)(used + before.ready + before.uncreated + LARGE)};
	assert_int_equal(hbm_reserve(kv.hbm, &more, 1, 60000), 0);
	assert_int_equal(device().lent, LEND - LARGE);
	assert_int_equal(
		hbm_reserve(kv.hbm, &(struct hbm_reserve_change){.bytes = -more.bytes}, 1, 0), 0);
	assert_int_equal(status_of_borrowing(&kv, SLAB, 2), HBM_OK);
}

/* A reservation that waits for no other client waits for what is idle; and not for what is on
 * loan. */
static void test_a_reservation_that_does_not_wait(void **state)
{
	(void)state;

	struct hbm_wire_device before = lend_all();
	uint64_t used = before.leased - before.lent;
	const struct hbm_reserve_change all = {
		.bytes = (int64_t)(used + before.ready + before.uncreated + LEND)};
	const struct hbm_reserve_change none = {.bytes = -all.bytes};
	assert_int_equal(hbm_reserve(kv.hbm, &all, 1, 0), 0);
	assert_int_equal(device().lent, 0);
	assert_int_equal(hbm_reserve(kv.hbm, &none, 1, 0), 0);

	lend_all();
	struct hbm_loan *loan = borrow_one(&kv, SLAB, 1);
	assert_int_equal(hbm_reserve(kv.hbm, &all, 1, 0), HBM_NO_SPACE);
	assert_non_null(strstr(hbm_error(kv.hbm), "bytes for regions are free and not promised"));
	assert_int_equal(device().promised, 0);
	assert_true(loan_has(&kv, loan, 1));
	give_back(&kv, loan);
	assert_int_equal(hbm_reserve(kv.hbm, &all, 1, 0), 0);
	assert_int_equal(hbm_reserve(kv.hbm, &none, 1, 0), 0);
}

/* When the device is short, idle replicas go, as many as it takes, and nobody is told. */
static void test_what_is_idle_goes_before_pressure(void **state)
{
	(void)state;

	struct hbm_wire_device before = lend_all();
	int listener = raw_greet(&daemon_);
	struct raw_board board;
	raw_board_open(listener, 1, &board);

	const struct hbm_region_options options = {
		.address_space = before.ready + before.uncreated - LARGE, .slab = SLAB};
	struct hbm_region *region;
	assert_int_equal(hbm_region_create(kv.hbm, &options, &region), 0);
	const struct hbm_range all = {region, 0, hbm_region_bytes(region)};
	assert_int_equal(hbm_commit(kv.hbm, &all, 1), 0);
	for (int i = 0; i < 20000 && device().lent != LEND - LARGE; i++)
		poll(NULL, 0, 1);
	wait_until_nothing_is_on_its_way();
	assert_int_equal(device().lent, LEND - LARGE);
	assert_false(raw_board_has_heard(listener));

	raw_board_leave(&board);
	close(listener);
	assert_int_equal(hbm_region_destroy(kv.hbm, region), 0);
}

/* ---- Refusals ---- */

static void test_refusals(void **state)
{
	(void)state;
	struct hbm_loan *loans[HBM_WIRE_FDS_MAX + 1];
	hbm_key keys[HBM_WIRE_FDS_MAX + 1];

	for (uint64_t i = 0; i <= HBM_WIRE_FDS_MAX; i++)
		keys[i] = kv_key(i + 1);
	assert_int_equal(hbm_borrow(kv.hbm, 99, 0, 0, keys, 1, loans, NULL), HBM_NOT_FOUND);
	assert_int_equal(hbm_borrow(kv.hbm, kv.ns, 9, 0, keys, 1, loans, NULL), HBM_INVALID);
	assert_int_equal(hbm_borrow(kv.hbm, kv.ns, 0, 3, keys, 1, loans, NULL), HBM_INVALID);
	assert_int_equal(hbm_borrow(kv.hbm, kv.ns, 0, 8 * MIB, keys, 1, loans, NULL), HBM_INVALID);
	assert_int_equal(hbm_borrow(kv.hbm, kv.ns, 0, SLAB, keys, 127, loans, NULL), HBM_LIMIT);
	assert_int_equal(hbm_borrow(kv.hbm, kv.ns, 0, 0, keys, 254, loans, NULL), HBM_LIMIT);
	assert_int_equal(hbm_borrow(kv.hbm, kv.ns, 0, 0, keys, 0, loans, NULL), HBM_INVALID);
	assert_int_equal(status_of_borrowing(&kv, 0, 1), HBM_MISS);

	assert_int_equal(kv_store(&kv, 0, 1, 1, 0, NULL), 0);
	struct hbm_loan *loan = borrow_one(&kv, 0, 1);
	struct hbm_loan *twice[] = {loan, loan};
	assert_int_equal(hbm_return(kv.hbm, twice, 2), HBM_INVALID);
	assert_int_equal(device().loans, 1);
	assert_true(loan_has(&kv, loan, 1));
	give_back(&kv, loan);
}

static void test_nothing_is_lent_by_default(void **state)
{
	stage_setup(state);
	spawn_start(&daemon_, NULL, NULL);
	fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, SMALL, 4);

	struct hbm_loan *loan;
	assert_int_equal(kv_store(&kv, 0, 1, 1, 0, NULL), 0);
	assert_int_equal(borrow(&kv, 0, 1, 1, &loan, NULL), HBM_UNSUPPORTED);
	assert_non_null(strstr(hbm_error(kv.hbm), "device.lend is 0: nothing is lent"));
	teardown(state);
}

/* ---- Several processes ---- */

/* Borrows blocks 1 and 2, tells when it has compared them, and keeps them until it is
 * killed, or (number) asked for nothing more. */
static void borrow_and_hold(const struct spawn *spawn, uint64_t number)
{
	static struct kv client;

	kv_open(&client, spawn, 0, LARGE, 1);
	struct hbm_loan *loan = borrow_one(&client, SLAB, 1);
	if (!loan_has(&client, loan, 1))
		abort();
	child_tell();
	while (number == 0)
		poll(NULL, 0, 1000);

	hbm_close(client.hbm); /* and nothing else: it lives on without a session */
	child_tell();
	for (;;)
		poll(NULL, 0, 1000);
}

static void test_two_processes_have_one_copy(void **state)
{
	(void)state;
	struct child children[2];

	assert_int_equal(kv_store(&kv, 0, 1, 2, 0, NULL), 0);
	struct hbm_loan *loan = borrow_one(&kv, SLAB, 1);
	for (int i = 0; i < 2; i++) {
		child_start(&children[i], "hold", &daemon_, 0);
		child_await(&children[i]);
	}

	assert_int_equal(device().loans, 3);
	assert_int_equal(device().replicas, 1);
	assert_int_equal(device().lent, LARGE);
	assert_true(spawn_balanced(&daemon_));

	/* One dies: the others have what they had. */
	assert_int_equal(child_kill(&children[0]), 128 + SIGKILL);
	wait_for_loans(2);
	assert_true(loan_has(&kv, loan, 1));
	give_back(&kv, loan);
	assert_int_equal(child_kill(&children[1]), 128 + SIGKILL);
	wait_for_loans(0);
	assert_int_equal(device().replicas, 1); /* for the next */
	assert_true(spawn_balanced(&daemon_));

	assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 1, 1, 0, NULL), 0);
	assert_int_equal(device().replicas, 0);
	wait_until_nothing_is_on_its_way();
}

/* A client that leaves takes along what nobody else has had; with one that is killed it stays
 * for the next. */
static void test_who_leaves_and_lives(void **state)
{
	(void)state;
	struct child child;

	assert_int_equal(kv_store(&kv, 0, 1, 2, 0, NULL), 0);
	child_start(&child, "hold", &daemon_, 1);
	child_await(&child);
	child_await(&child);
	wait_for_loans(0);
	assert_int_equal(device().replicas, 0);
	wait_until_nothing_is_on_its_way();
	assert_int_equal(child_kill(&child), 128 + SIGKILL);
	assert_true(spawn_balanced(&daemon_));
}

/* ---- Without a copy ---- */

static int share(uint64_t slot, uint64_t block)
{
	struct hbm_segment segment = {kv.region, slot * LARGE, LARGE};
	const struct hbm_block blocks = {
		.key = kv_key(block), .segments = &segment, .segment_count = 1, .lend = true};
	hbm_result result;

	kv_put(&kv, slot, block);
	assert_int_equal(hbm_store(kv.hbm, kv.ns, &blocks, 1, &result), 0);

	return result.status;
}

/* The slabs of a region are what is lent, and stay so when the region has given them back. */
static void test_a_region_lends_its_slabs(void **state)
{
	(void)state;
	struct child child;
	uint64_t leased = device().leased;

	assert_int_equal(share(1, 5), HBM_OK);
	assert_int_equal(device().replicas, 1);
	assert_int_equal(device().lent, LARGE);
	assert_int_equal(device().leased, leased);

	struct hbm_loan *loan = borrow_one(&kv, SLAB, 5);
	assert_int_equal(device().leased, leased);
	assert_true(loan_has(&kv, loan, 5));
	assert_true(spawn_balanced(&daemon_));

	const struct hbm_range range = {kv.region, LARGE, LARGE};
	assert_int_equal(hbm_decommit(kv.hbm, &range, 1), 0);
	assert_int_equal(device().leased, leased);
	assert_true(loan_has(&kv, loan, 5));
	assert_int_equal(share(0, 1), HBM_OK);
	child_start(&child, "hold", &daemon_, 0);
	child_await(&child);
	assert_true(spawn_balanced(&daemon_));

	give_back(&kv, loan);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 5, 1, 0, NULL), 0);
	wait_until_nothing_is_on_its_way();
	assert_int_equal(device().leased, leased); /* less that, and the child has as much */
	assert_int_equal(child_kill(&child), 128 + SIGKILL);
	wait_for_loans(0);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 1, 1, 0, NULL), 0);
	assert_true(spawn_balanced(&daemon_));
}

/* What is no whole slab, or has no room, is stored and not lent. */
static void test_what_cannot_be_lent_is_stored(void **state)
{
	(void)state;
	struct hbm_segment halves[] = {
		{kv.region, 0, SLAB / 2}, {kv.region, SLAB, SLAB}, {kv.region, 2 * SLAB, SLAB / 2}};
	const struct hbm_block block = {
		.key = kv_key(9), .segments = halves, .segment_count = 3, .lend = true};

	assert_int_equal(hbm_store(kv.hbm, kv.ns, &block, 1, NULL), 0);
	assert_int_equal(device().replicas, 0);

	assert_int_equal(share(0, 1), HBM_OK);
	assert_int_equal(share(1, 2), HBM_OK);
	assert_int_equal(device().lent, LEND);
	struct hbm_loan *loans[] = {borrow_one(&kv, SLAB, 1), borrow_one(&kv, SLAB, 2)};
	assert_int_equal(share(2, 3), HBM_OK);
	assert_int_equal(device().lent, LEND);
	assert_int_equal(kv_lookup(&kv, 3, 1, NULL), 1);
	assert_int_equal(share(2, 3), HBM_EXISTS);
	assert_true(loan_has(&kv, loans[0], 1));
	assert_true(loan_has(&kv, loans[1], 2));
	assert_int_equal(hbm_return(kv.hbm, loans, 2), 0);
}

static const struct child_part parts[] = {{"hold", borrow_and_hold}, {NULL, NULL}};

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_loan_in_host_memory, setup_small, teardown),
		cmocka_unit_test_setup_teardown(test_blocks_share_a_slab, setup_small, teardown),
		cmocka_unit_test_setup_teardown(test_pieces_are_mapped_anywhere, setup_large,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_replica_is_made_from_anywhere, setup_small,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_borrower_keeps_a_block_that_is_removed,
						setup_small, teardown),
		cmocka_unit_test_setup_teardown(test_the_bound, setup_large, teardown),
		cmocka_unit_test_setup_teardown(test_regions_come_first, setup_large, teardown),
		cmocka_unit_test_setup_teardown(test_reservations_come_first, setup_large,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_reservation_that_does_not_wait, setup_large,
						teardown),
		cmocka_unit_test_setup_teardown(test_what_is_idle_goes_before_pressure,
						setup_watermark, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup_large, teardown),
		cmocka_unit_test(test_nothing_is_lent_by_default),
		cmocka_unit_test_setup_teardown(test_two_processes_have_one_copy, setup_large,
						teardown),
		cmocka_unit_test_setup_teardown(test_who_leaves_and_lives, setup_large, teardown),
		cmocka_unit_test_setup_teardown(test_a_region_lends_its_slabs, setup_large,
						teardown),
		cmocka_unit_test_setup_teardown(test_what_cannot_be_lent_is_stored, setup_large,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
