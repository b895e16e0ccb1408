/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in HBM outlives the daemon, as what is in DDR does (test_restart_contents): blocks are
 * hits with the bytes that they had, or misses; what has rotted is a miss; a cache of another size
 * has what fits it; and nothing of a device stays behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/device_record.h"
#include "tests/support/keeper_rig.h"
#include "tests/support/kept_memory.h"
#include "tests/support/restart_rig.h"
#include "tests/support/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SOME = 24, LIVES = 12 };

#define MIB (1ull << 20)
#define HBM                                                                                        \
	"soft.memory=64MiB", "device.memory=48MiB", "device.headroom=2MiB", "ddr.size=8MiB",       \
		"nvme.path=", "nvme.size=0"

static struct seed seed;

static const char *const in_hbm[] = {HBM, "device.cache=8MiB", NULL};

/* One card for all daemons, and for the client. */
static char card[128];

static int setup(void **state)
{
	static char word[160];
	int r = stage_setup(state);

	snprintf(card, sizeof(card), "%s.card", daemon_.dir);
	snprintf(word, sizeof(word), "card=%s", card);

	return r != 0 || mkdir(card, 0755) != 0 || setenv("HBM_SOFT", word, 1) != 0;
}

/* Nothing is left of it when the daemon has ended, and of the keeper. */
static int teardown(void **state)
{
	int r = stage_teardown(state);

	unsetenv("HBM_SOFT");

	return rmdir(card) != 0 || r != 0;
}

static uint64_t free_bytes(void)
{
	size_t free, total;

	assert_int_equal(restart_kv.driver->cuCtxSetCurrent(restart_kv.context), 0);
	assert_int_equal(restart_kv.driver->cuMemGetInfo(&free, &total), 0);

	return free;
}

/* The tier and the memory for regions are what the daemon owns, and once all of that is there, no
 * more of the device is in use. */
static void expect_nothing_more(uint64_t tier)
{
	struct hbm_wire_device device;

	for (unsigned i = 0; i < 5000; i++) {
		device = device_record(restart_kv.hbm);
		if (device.ready + device.leased == device.regions &&
		    free_bytes() == device.total - device.memory)
			break;
		restart_pause_ms(2);
	}

	assert_int_equal(device.ready + device.leased, device.regions);
	assert_int_equal(device.memory - device.regions, tier);
	assert_int_equal(free_bytes(), device.total - device.memory);
}

static void expect_in_hbm(uint64_t first, uint64_t count)
{
	for (uint64_t key = first; key < first + count; key++)
		assert_int_equal(kv_tier(&restart_kv, key), HBM_TIER_HBM);
}

/* ---- one kill ---- */

static void test_blocks_are_hits(void **state)
{
	(void)state;
	spawn_needs_soft();
	restart_begin(in_hbm);
	unsigned stored = keeper_stored(&daemon_);

	expect_nothing_more(10 * MIB);
	restart_store(1, SOME);
	for (unsigned round = 0; round < 2; round++) {
		restart_kill();
		assert_int_equal(restart_status().hbm_restored, SOME + round);
		assert_int_equal(restart_status().hbm_dropped + restart_status().hbm_unsummed, 0);
		assert_int_equal(restart_status().ddr_restored, 0);
		expect_in_hbm(1, SOME + round);
		assert_int_equal(restart_find_all(1, SOME + round), SOME + round);
		assert_int_equal(restart_status().checksum_failures, 0);
		assert_int_equal(keeper_stored(&daemon_), stored);
		expect_nothing_more(10 * MIB);

		/* life goes on: a child stored below */
		assert_int_equal(kv_store(&restart_kv, 0, SOME + 1 + round, 1, SOME + round,
					  restart_results),
				 0);
		assert_int_equal(restart_results[0].status, HBM_OK);
	}

	assert_int_equal(kv_keys(&restart_kv, HBM_WIRE_REMOVE, SOME / 2, 1, 0, restart_results), 0);
	restart_kill();
	assert_int_equal(restart_find_all(1, SOME + 2), SOME / 2 - 1);
	assert_int_equal(spawn_log_lines(&daemon_, "cannot be kept"), 0);
	restart_end();
}

/* As for an upgrade. */
static void test_a_new_daemon_takes_over(void **state)
{
	(void)state;
	spawn_needs_soft();
	restart_begin(in_hbm);
	restart_store(1, SOME);
	restart_disconnect();
	keeper_renew(&daemon_);
	restart_connect();
	assert_int_equal(restart_status().hbm_restored, SOME);
	expect_in_hbm(1, SOME);
	assert_int_equal(restart_find_all(1, SOME), SOME);
	restart_end();
}

/* Chains go through both tiers. */
static void test_chains_through_hbm_and_ddr(void **state)
{
	(void)state;
	spawn_needs_soft();
	restart_begin(in_hbm);
	restart_store(1, SOME);
	assert_int_equal(hbm_evict(restart_kv.hbm, HBM_TIER_HBM, 0, SOME / 2 * RESTART_BLOCK, NULL),
			 0);
	kv_await_moves(&restart_kv);
	restart_store(SOME + 1, SOME / 2);
	restart_kill();
	assert_int_equal(restart_status().hbm_restored, SOME);
	assert_int_equal(restart_status().ddr_restored, SOME / 2);
	assert_int_equal(kv_lookup(&restart_kv, 1, SOME, restart_results), SOME);
	assert_int_equal(restart_find_all(1, SOME + SOME / 2), SOME + SOME / 2);
	restart_end();
}

static void test_without_a_checksum_it_is_a_miss(void **state)
{
	static const char *const late[] = {HBM, "device.cache=8MiB", "hbmd.checksum=nvme",
					   "hbmd.checksum_idle_ms=0", NULL};
	(void)state;
	spawn_needs_soft();
	restart_begin(late);
	restart_store(1, SOME);
	restart_kill();
	assert_int_equal(restart_status().hbm_unsummed, SOME);
	assert_int_equal(kv_lookup(&restart_kv, 1, SOME, restart_results), 0);
	restart_end();
}

static void test_checksums_come_by_themselves(void **state)
{
	static const char *const soon[] = {HBM, "device.cache=8MiB", "hbmd.checksum=nvme",
					   "hbmd.checksum_idle_ms=1", NULL};
	(void)state;
	spawn_needs_soft();

	restart_begin(soon);
	restart_expect_checksums(SOME);
	expect_in_hbm(1, SOME);
	restart_end();
}

/* ---- what has rotted ---- */

static void test_a_bit_of_a_block(void **state)
{
	(void)state;
	spawn_needs_soft();
	unsigned char bytes[RESTART_BLOCK];

	restart_begin(in_hbm);
	restart_store(1, SOME);
	kv_fill(SOME / 2, bytes, sizeof(bytes));
	struct spawn view = keeper_view(&daemon_);
	kept_memory_flip(&view, "hbm-soft-device-", bytes, 64, RESTART_BLOCK - 1);
	restart_kill();
	restart_expect_rotten(SOME / 2, SOME);
	restart_end();
}

/* ---- another size ---- */

/* A program that is hbmd with what the file says at the time. */
static void write_program(char *program, size_t size)
{
	snprintf(program, size, "%s/hbmd", daemon_.dir);
	FILE *file = fopen(program, "we");
	assert_non_null(file);
	fprintf(file,
		"#!/bin/bash\nset -- \"$0\" \"$@\"\n"
		"[ \"$2\" = --keeper ] || set -- \"$@\" --set \"device.cache=$(cat "
		"\"$0.cache\")\"\n"
		"exec -a \"$1\" '%s' \"${@:2}\"\n",
		spawn_path("hbmd"));
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(program, 0755), 0);
}

static void set_cache(const char *program, const char *bytes)
{
	char path[256];

	snprintf(path, sizeof(path), "%s.cache", program);
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	fprintf(file, "%s\n", bytes);
	assert_int_equal(fclose(file), 0);
}

/* What is in the part that is left comes back; what is not is the device's again. */
static void test_another_size(void **state)
{
	static const char *const sets[] = {HBM, NULL};
	char program[192], soft[4096];
	(void)state;
	spawn_needs_soft();

	write_program(program, sizeof(program));
	snprintf(soft, sizeof(soft), "HBM_SOFT_DRIVER=%s", spawn_path("libhbmsoft.so"));
	set_cache(program, "8MiB");
	daemon_.program = program;
	keeper_start(&daemon_, sets, (const char *[]){soft, NULL});
	restart_connect();
	expect_nothing_more(10 * MIB);
	restart_store(1, 96); /* 6 MiB of 10, with headroom */

	set_cache(program, "16MiB");
	restart_kill();
	assert_int_equal(restart_status().hbm_restored, 96);
	expect_nothing_more(18 * MIB);
	assert_int_equal(restart_find_all(1, 96), 96);

	set_cache(program, "2MiB");
	restart_kill();
	assert_int_equal(restart_status().hbm_restored, 64); /* of 4 MiB */
	assert_int_equal(restart_status().hbm_dropped, 32);
	expect_nothing_more(4 * MIB);
	assert_true(spawn_logged(&daemon_, "it had another size"));
	kv_await_moves(&restart_kv);
	assert_int_equal(restart_find_all(1, 96), 64); /* half of them have gone down */

	set_cache(program, "0");
	restart_kill();
	assert_int_equal(restart_status().hbm_restored, 0);
	expect_nothing_more(0);
	restart_find_all(1, 96);
	set_cache(program, "8MiB");
	restart_kill();
	assert_int_equal(restart_status().hbm_restored, 0);
	expect_nothing_more(10 * MIB);
	restart_end();
}

/* Resized while it serves: what is made then is kept, and what is given back is not. */
static void test_resized(void **state)
{
	(void)state;
	spawn_needs_soft();
	restart_begin(in_hbm);
	expect_nothing_more(10 * MIB);
	assert_int_equal(hbm_resize(restart_kv.hbm, HBM_TIER_HBM, 0, 2 * MIB), 0);
	expect_nothing_more(4 * MIB);
	restart_store(1, SOME);
	restart_kill();
	assert_int_equal(restart_status().hbm_restored, SOME);
	expect_nothing_more(10 * MIB); /* as it is configured */
	assert_int_equal(restart_find_all(1, SOME), SOME);
	restart_end();
}

/* What a killed daemon had not overwritten yet may be anywhere. */
static void test_what_is_wiped_does_not_outlive_it(void **state)
{
	(void)state;
	spawn_needs_soft();
	restart_begin(in_hbm);
	expect_nothing_more(10 * MIB);
	restart_store(1, SOME);
	restart_store_wiped(1);
	restart_kill();
	assert_int_equal(restart_status().hbm_restored, 0);
	assert_int_equal(restart_find_all(1, SOME), 0);
	expect_nothing_more(10 * MIB);
	restart_store(1, SOME);
	assert_int_equal(restart_find_all(1, SOME), SOME);
	restart_end();
}

/* Not when nothing of it was left. */
static void test_what_was_wiped_costs_nothing(void **state)
{
	(void)state;
	spawn_needs_soft();
	restart_begin(in_hbm);
	expect_nothing_more(10 * MIB);
	restart_store(1, SOME);
	restart_remove_wiped(restart_store_wiped(SOME / 2));
	restart_await_wiped(1);
	restart_kill();
	assert_int_equal(restart_status().hbm_restored, SOME);
	assert_int_equal(restart_find_all(1, SOME), SOME);
	expect_nothing_more(10 * MIB);
	restart_end();
}

/* ---- what is lent ---- */

static struct hbm_loan *borrow(struct kv *kv, uint64_t block, uint64_t *address)
{
	const hbm_key key = kv_key(block);
	struct hbm_loan *loan = NULL;
	hbm_result result;

	assert_int_equal(hbm_borrow(kv->hbm, kv->ns, 0, 2 * MIB, &key, 1, &loan, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	assert_int_equal(hbm_loan_map(kv->hbm, loan, address), 0);

	return loan;
}

static void expect_bytes(struct kv *kv, uint64_t block, uint64_t address)
{
	static unsigned char wanted[2 * MIB], seen[2 * MIB];

	kv_fill(block, wanted, sizeof(wanted));
	kv_read(kv, seen, address, sizeof(seen));
	assert_memory_equal(seen, wanted, sizeof(seen));
}

/* Who has mapped a copy keeps it, and its charge; nobody else gets that one. */
static void test_what_is_lent_is_copied_anew(void **state)
{
	static const char *const sets[] = {HBM, "device.cache=8MiB", "device.lend=8MiB", NULL};
	struct kv one, other;
	uint64_t old, new;

	(void)state;
	spawn_needs_soft();
	keeper_start(&daemon_, sets, NULL);
	kv_open(&one, &daemon_, 0, 2 * MIB, 1);
	assert_int_equal(kv_store(&one, 0, 7, 1, 0, NULL), 0);
	struct hbm_loan *loan = borrow(&one, 7, &old);
	keeper_kill(&daemon_);

	kv_open(&other, &daemon_, 0, 2 * MIB, 1);
	assert_int_equal(kv_tier(&other, 7), HBM_TIER_HBM);
	uint64_t leased = device_record(other.hbm).leased;
	assert_int_equal(leased, 2 * 2 * MIB);
	assert_int_equal(device_record(other.hbm).held, 2 * MIB); /* the copy of before */
	assert_int_equal(device_record(other.hbm).replicas, 0);
	struct hbm_loan *next = borrow(&other, 7, &new);
	assert_int_equal(device_record(other.hbm).replicas, 1);
	assert_int_equal(device_record(other.hbm).leased, leased + 2 * MIB);
	expect_bytes(&other, 7, new);
	expect_bytes(&one, 7, old);
	assert_int_equal(restart_status().checksum_failures, 0);

	assert_int_equal(hbm_return(other.hbm, &next, 1), 0);
	assert_int_equal(hbm_return(one.hbm, &loan, 1), 0);
	kv_close(&other);
	kv_close(&one);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* ---- kills at any moment ---- */

static void test_nothing_is_lost(void **state)
{
	static const char *const sets[] = {HBM, "device.cache=3MiB", NULL};
	(void)state;
	spawn_needs_soft();
	restart_evicts_hbm = true;
	restart_at_random(&seed, sets, RESTART_LOSES_NOTHING, LIVES);
}

static void test_only_what_is_new_is_lost(void **state)
{
	static const char *const sets[] = {HBM, "device.cache=8MiB", "hbmd.checksum=nvme",
					   "hbmd.checksum_idle_ms=1", NULL};
	(void)state;
	spawn_needs_soft();
	restart_evicts_hbm = false;
	restart_at_random(&seed, sets, RESTART_LOSES_NEW, LIVES);
}

int main(void)
{
	seed_open(&seed, "restart_hbm");
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_blocks_are_hits),
		TEST(test_a_new_daemon_takes_over),
		TEST(test_chains_through_hbm_and_ddr),
		TEST(test_without_a_checksum_it_is_a_miss),
		TEST(test_checksums_come_by_themselves),
		TEST(test_a_bit_of_a_block),
		TEST(test_another_size),
		TEST(test_resized),
		TEST(test_what_is_wiped_does_not_outlive_it),
		TEST(test_what_was_wiped_costs_nothing),
		TEST(test_what_is_lent_is_copied_anew),
		TEST(test_nothing_is_lost),
		TEST(test_only_what_is_new_is_lost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
