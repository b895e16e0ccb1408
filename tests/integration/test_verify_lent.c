/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbmctl verify --lent: what is lent is read again. Who has borrowed a block, or lends its own
 * memory as one, can write to it: that is found, dropped and counted, and the next one has the
 * right bytes. What is intact stays, and what comes and goes meanwhile is no harm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/hbmctl.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1ull << 20)
#define SLAB (2 * MIB)
#define SMALL 65536u /* 32 of them in a slab */
#define LARGE (2 * SLAB)
#define CLIENTS 3
#define ROUNDS 6

static const char *const sets[] = {"device.lend=32MiB", "hbmd.checksum_idle_ms=0", NULL};
static unsigned fds;
static struct kv kv;

static void begin(const char *const *settings, uint64_t block_bytes)
{
	spawn_start(&daemon_, settings, NULL);
	fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, block_bytes, 8);
}

static int setup_small(void **state)
{
	stage_setup(state);
	begin(sets, SMALL);

	return 0;
}

static int setup_large(void **state)
{
	stage_setup(state);
	begin(sets, LARGE);

	return 0;
}

static int setup_without_checksums(void **state)
{
	static const char *const off[] = {"device.lend=32MiB", "hbmd.checksum=off", NULL};

	stage_setup(state);
	begin(off, SMALL);

	return 0;
}

static int teardown(void **state)
{
	kv_close(&kv);
	stage_finish(fds);

	return stage_teardown(state);
}

/* ---- What is asked and seen ---- */

static struct hbm_loan *borrow(uint64_t piece, uint64_t block)
{
	const hbm_key key = kv_key(block);
	struct hbm_loan *loan = NULL;
	hbm_result result;

	assert_int_equal(hbm_borrow(kv.hbm, kv.ns, 0, piece, &key, 1, &loan, &result), 0);
	assert_int_equal(result.status, HBM_OK);

	return loan;
}

static void give_back(struct hbm_loan *loan)
{
	assert_int_equal(hbm_return(kv.hbm, &loan, 1), 0);
}

static uint64_t address_of(struct hbm_loan *loan)
{
	uint64_t address = 0;

	assert_int_equal(hbm_loan_map(kv.hbm, loan, &address), 0);

	return address;
}

static bool loan_has(struct hbm_loan *loan, uint64_t block)
{
	char *want = malloc(kv.block_bytes), *got = malloc(kv.block_bytes);

	assert_true(want && got);
	kv_fill(block, want, kv.block_bytes);
	kv_read(&kv, got, address_of(loan), kv.block_bytes);
	bool same = memcmp(want, got, kv.block_bytes) == 0;
	free(got);
	free(want);

	return same;
}

/* What only a hostile borrower does: its mapping is read-only by its own choice. */
static void write_through(struct hbm_loan *loan)
{
	uint64_t address = address_of(loan), slab = address / SLAB * SLAB;
	const CUmemAccessDesc access = {.location = {CU_MEM_LOCATION_TYPE_DEVICE, kv.handle},
					.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};

	kv.driver->cuCtxSetCurrent(kv.context);
	assert_int_equal(kv.driver->cuMemSetAccess(slab, SLAB, &access, 1), CUDA_SUCCESS);
	kv_write(&kv, address + kv.block_bytes / 4, "other", 6);
}

/* What --lent says of the only device. */
static void expect(int status, uint64_t checked, uint64_t mismatches, uint64_t unchecked)
{
	hbmctl_expect("--json verify --lent", status);
	json_t *document = json_loads(hbmctl_output, JSON_DISABLE_EOF_CHECK, NULL);
	assert_non_null(document);
	const json_t *lent = json_array_get(hbmctl_array(document, "lent"), 0);

	assert_int_equal(json_array_size(hbmctl_array(document, "lent")), 1);
	assert_true(json_is_true(hbmctl_member(document, "balanced")));
	assert_int_equal(hbmctl_count(lent, "checked"), checked);
	assert_int_equal(hbmctl_count(lent, "bytes"), checked * kv.block_bytes);
	assert_int_equal(hbmctl_count(lent, "mismatches"), mismatches);
	assert_int_equal(hbmctl_count(lent, "unchecked"), unchecked);
	json_decref(document);
}

static void expect_metric(uint64_t mismatches)
{
	char line[64];

	snprintf(line, sizeof(line), "\nhbmd_lent_mismatches_total %llu\n",
		 (unsigned long long)mismatches);
	hbmctl_expect("metrics", 0);
	hbmctl_expect_text("metrics", line);
}

static void await_log(const char *text)
{
	for (int i = 0; i < 20000 && !spawn_logged(&daemon_, text); i++)
		poll(NULL, 0, 1);
	assert_true(spawn_logged(&daemon_, text));
}

/* ---- The tests ---- */

static void test_what_is_intact_stays(void **state)
{
	(void)state;
	struct hbm_loan *loans[6];

	expect(0, 0, 0, 0);
	assert_int_equal(kv_store(&kv, 0, 1, 6, 0, NULL), 0);
	for (uint64_t i = 0; i < 6; i++)
		loans[i] = borrow(0, 1 + i);
	give_back(loans[0]);
	give_back(loans[1]);

	expect(0, 6, 0, 0);
	expect(0, 6, 0, 0);
	for (uint64_t i = 2; i < 6; i++) {
		assert_true(loan_has(loans[i], 1 + i));
		give_back(loans[i]);
	}

	hbmctl_expect("verify --lent", 0);
	hbmctl_expect_text("verify --lent", "MISMATCHES");
	hbmctl_expect("verify", 0);
	assert_null(strstr(hbmctl_output, "MISMATCHES"));
	assert_true(spawn_balanced(&daemon_));
}

static void test_what_was_written_is_found(void **state)
{
	(void)state;
	struct hbm_loan *loans[3];

	assert_int_equal(kv_store(&kv, 0, 1, 3, 0, NULL), 0);
	for (uint64_t i = 0; i < 3; i++)
		loans[i] = borrow(0, 1 + i);
	write_through(loans[1]);
	assert_false(loan_has(loans[1], 2));

	expect(1, 3, 1, 0);
	await_log("checksum mismatch in a lent copy of a block of namespace");
	expect_metric(1);

	/* The next one has the right bytes, the others stay. */
	expect(0, 2, 0, 0);
	struct hbm_loan *fresh = borrow(0, 2);
	assert_true(loan_has(fresh, 2));
	assert_true(loan_has(loans[0], 1));
	assert_true(loan_has(loans[2], 3));
	expect(0, 3, 0, 0);
	assert_int_equal(kv_load(&kv, 4, 1, 3, NULL), 0);

	give_back(fresh);
	for (int i = 0; i < 3; i++)
		give_back(loans[i]);
	expect_metric(1);
}

/* An idle one goes at once, and its slabs with it. */
static void test_what_was_written_and_returned(void **state)
{
	(void)state;

	assert_int_equal(kv_store(&kv, 0, 1, 1, 0, NULL), 0);
	kv_push_to_nvme(&kv);
	struct hbm_loan *loan = borrow(SLAB, 1);
	write_through(loan);
	give_back(loan);

	expect(1, 1, 1, 0);
	expect(0, 0, 0, 0);
	loan = borrow(SLAB, 1);
	assert_true(loan_has(loan, 1));
	give_back(loan);
	expect(0, 1, 0, 0);
}

/* Memory of a client's own region, which it writes to although it lends it. */
static void test_a_lender_that_writes(void **state)
{
	(void)state;
	struct hbm_segment segments[] = {{kv.region, 0, LARGE}, {kv.region, LARGE, LARGE}};

	for (uint64_t i = 0; i < 2; i++) {
		const struct hbm_block block = {.key = kv_key(1 + i),
						.segments = &segments[i],
						.segment_count = 1,
						.lend = true};
		kv_put(&kv, i, 1 + i);
		assert_int_equal(hbm_store(kv.hbm, kv.ns, &block, 1, NULL), 0);
	}

	expect(0, 2, 0, 0);
	kv_put(&kv, 0, 7);
	expect(1, 2, 1, 0);
	struct hbm_loan *loans[] = {borrow(SLAB, 1), borrow(SLAB, 2)};
	assert_true(loan_has(loans[0], 1));
	assert_true(loan_has(loans[1], 2));
	expect(0, 2, 0, 0);
	give_back(loans[0]);
	give_back(loans[1]);
	assert_int_equal(kv_load(&kv, 2, 1, 2, NULL), 0);
}

static void test_without_checksums(void **state)
{
	(void)state;

	assert_int_equal(kv_store(&kv, 0, 1, 2, 0, NULL), 0);
	struct hbm_loan *loan = borrow(0, 1);
	write_through(loan);
	expect(0, 0, 0, 1);
	expect_metric(0);
	give_back(loan);
}

/* ---- Clients that come and go meanwhile ---- */

static void borrow_and_write(const struct spawn *spawn, uint64_t number)
{
	kv_open(&kv, spawn, 0, LARGE, 4);
	child_tell();

	for (uint64_t n = number;; n++) {
		const hbm_key keys[] = {kv_key(n % 4 + 1), kv_key((n + 1) % 4 + 1)};
		struct hbm_loan *loans[2] = {NULL};

		if (hbm_borrow(kv.hbm, kv.ns, 0, n % 3 ? SLAB : 0, keys, 2, loans, NULL) < 0)
			exit(0);
		if (loans[0] && number == 0 && n % 3)
			write_through(loans[0]);
		for (int i = 0; i < 2; i++)
			if (loans[i] && hbm_return(kv.hbm, &loans[i], 1) < 0)
				exit(0);
	}
}

static void test_clients_are_killed_meanwhile(void **state)
{
	(void)state;
	struct child clients[CLIENTS];

	assert_int_equal(kv_store(&kv, 0, 1, 4, 0, NULL), 0);
	for (int round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < CLIENTS; i++)
			child_start(&clients[i], "write", &daemon_, i);
		for (unsigned i = 0; i < CLIENTS; i++)
			child_await(&clients[i]);

		for (unsigned i = 0; i < CLIENTS; i++) {
			assert_in_range(hbmctl_run("verify --lent"), 0, 1);
			hbmctl_expect_text("verify --lent", "MISMATCHES");
			assert_int_equal(child_kill(&clients[i]), 128 + SIGKILL);
		}
	}

	/* Whatever was written: it is dropped, and then there is nothing else. */
	kv_close(&kv);
	spawn_settle(&daemon_);
	kv_open(&kv, &daemon_, 0, LARGE, 4);
	assert_in_range(hbmctl_run("verify --lent"), 0, 1);
	hbmctl_expect("verify --lent", 0);
	for (uint64_t block = 1; block <= 4; block++) {
		struct hbm_loan *loan = borrow(SLAB, block);
		assert_true(loan_has(loan, block));
		give_back(loan);
	}
}

static const struct child_part parts[] = {{"write", borrow_and_write}, {NULL, NULL}};

#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_intact_stays, setup_small),
		TEST(test_what_was_written_is_found, setup_small),
		TEST(test_what_was_written_and_returned, setup_large),
		TEST(test_a_lender_that_writes, setup_large),
		TEST(test_without_checksums, setup_without_checksums),
		TEST(test_clients_are_killed_meanwhile, setup_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
