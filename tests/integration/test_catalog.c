/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in the NVMe tier is found again: after a stop, and after a kill at any moment. What is
 * found is byte by byte what was stored, and the books balance.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

#include "tests/support/catalog_stage.h"
#include "tests/support/file.h"
#include "tests/support/seed.h"

/* ---- a stop ---- */

static void test_stop(void **state)
{
	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_stop_and_begin(catalog_stage_usual);
	assert_int_equal(catalog_stage_status().blocks, CATALOG_STAGE_SOME);
	assert_int_equal(catalog_stage_status().catalog_restored, CATALOG_STAGE_SOME);
	assert_int_equal(catalog_stage_status().catalog_dropped, 0);
	for (uint64_t i = 1; i <= CATALOG_STAGE_SOME; i++)
		assert_int_equal(kv_tier(&kv, i), HBM_TIER_NVME);
	catalog_stage_expect_found(1, CATALOG_STAGE_SOME);
	assert_int_equal(catalog_stage_status().checksum_failures, 0);
	catalog_stage_finish();
}

/* What is found again can be what everything is: a parent, stored beside, dropped; and is
 * found once more. */
static void test_life_goes_on(void **state)
{
	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_stop_and_begin(catalog_stage_usual);
	catalog_stage_store(1 + CATALOG_STAGE_SOME, CATALOG_STAGE_SOME, CATALOG_STAGE_SOME);
	assert_int_equal(kv_store(&kv, 0, 1, 1, 0, results), 0);
	assert_int_equal(results[0].status, HBM_EXISTS);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 5, 1, 0, results), 0);
	assert_int_equal(results[0].status, HBM_OK);
	kv_push_to_nvme(&kv);
	catalog_stage_stop_and_begin(catalog_stage_usual);
	assert_int_equal(catalog_stage_status().catalog_restored,
			 4); /* its descendants went with the fifth */
	catalog_stage_expect_found(1, 4);
	assert_int_equal(kv_lookup(&kv, 5, 1, NULL), 0);
	catalog_stage_store(5, CATALOG_STAGE_SOME, 4);
	catalog_stage_finish();
}

/* A block that has gone up has left a copy, which is found. */
static void test_copies(void **state)
{
	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_expect_found(1, CATALOG_STAGE_SOME);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_HBM);
	kv_await_moves(&kv);
	catalog_stage_stop_and_begin(catalog_stage_usual);
	catalog_stage_expect_found(1, CATALOG_STAGE_SOME);
	catalog_stage_finish();
}

/* Its parent was in memory. */
static void test_orphans(void **state)
{
	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store(1, 2, 0);
	hbm_key key = kv_key(2);
	assert_int_equal(hbm_move(kv.hbm, kv.ns, HBM_TIER_NVME, 0, &key, 1, results), 0);
	kv_await_moves(&kv);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_HBM);
	catalog_stage_stop_and_begin(catalog_stage_usual);
	assert_int_equal(kv_lookup(&kv, 1, 2, NULL), 0);
	assert_int_equal(kv_tier(&kv, 2), HBM_TIER_NVME);
	catalog_stage_store(1, 1, 0);
	catalog_stage_expect_found(1, 2);
	catalog_stage_finish();
}

/* Those that were written last are evicted last. */
static void test_order(void **state)
{
	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SLOTS);
	catalog_stage_store_on_nvme(101, CATALOG_STAGE_SLOTS);
	catalog_stage_stop_and_begin(catalog_stage_usual);
	assert_int_equal(catalog_stage_status().catalog_restored, 2 * CATALOG_STAGE_SLOTS);
	for (uint64_t first = 1001; kv_lookup(&kv, 1, 1, NULL) == 1; first += CATALOG_STAGE_SLOTS) {
		assert_true(first < 2000);
		assert_int_equal(kv_lookup(&kv, 101, CATALOG_STAGE_SLOTS, NULL),
				 CATALOG_STAGE_SLOTS);
		catalog_stage_store(first, CATALOG_STAGE_SLOTS, 0);
		kv_await_moves(&kv);
	}

	catalog_stage_finish();
}

static void test_off(void **state)
{
	static const char *const without[] = {"device.cache=4MiB", "ddr.size=4MiB",
					      "nvme.size=8MiB", "nvme.catalog=no", NULL};
	(void)state;
	catalog_stage_begin(without);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_stop_and_begin(without);
	catalog_stage_expect_nothing();
	catalog_stage_finish();
	assert_false(file_exists(catalog_stage_path));
}

/* Nobody could open it again. */
static void test_ephemeral(void **state)
{
	const struct hbm_namespace_options spec = {
		.model = "gone", .block_bytes = CATALOG_STAGE_BLOCK, .ephemeral = true};
	uint32_t ns;

	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_await_records(CATALOG_STAGE_SOME);
	assert_int_equal(hbm_namespace_open(kv.hbm, &spec, &ns), 0);
	uint32_t kept = kv.ns;
	kv.ns = ns;
	catalog_stage_store(1, CATALOG_STAGE_SOME, 0);
	kv_push_to_nvme(&kv);
	kv.ns = kept;
	catalog_stage_store_on_nvme(101, 1);
	catalog_stage_await_records(CATALOG_STAGE_SOME + 1);
	catalog_stage_kill();
	catalog_stage_begin(catalog_stage_usual);
	assert_int_equal(catalog_stage_status().catalog_restored, CATALOG_STAGE_SOME + 1);
	assert_int_equal(catalog_stage_status().catalog_dropped, 0);
	catalog_stage_finish();
}

/* Only those who know the salt find the blocks. */
static void test_salt(void **state)
{
	struct hbm_namespace_options spec = {
		.model = "m", .layout = "l", .salt = "secret", .block_bytes = CATALOG_STAGE_BLOCK};
	uint32_t ns;

	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	assert_int_equal(hbm_namespace_open(kv.hbm, &spec, &kv.ns), 0);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_stop_and_begin(catalog_stage_usual);
	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 0);
	spec.salt = "guess";
	assert_int_equal(hbm_namespace_open(kv.hbm, &spec, &ns), 0);
	kv.ns = ns;
	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 0);
	spec.salt = "secret";
	assert_int_equal(hbm_namespace_open(kv.hbm, &spec, &ns), 0);
	kv.ns = ns;
	catalog_stage_expect_found(1, CATALOG_STAGE_SOME);
	catalog_stage_finish();
}

/* What a salt protects is not to be on NVMe any longer. */
static void test_salted_no(void **state)
{
	static const char *const memory[] = {"device.cache=4MiB", "ddr.size=4MiB", "nvme.size=8MiB",
					     "nvme.salted=no", NULL};
	struct hbm_namespace_options spec = {
		.model = "m", .layout = "l", .salt = "secret", .block_bytes = CATALOG_STAGE_BLOCK};

	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	assert_int_equal(hbm_namespace_open(kv.hbm, &spec, &kv.ns), 0);
	catalog_stage_store_on_nvme(101, CATALOG_STAGE_SOME);
	catalog_stage_stop_and_begin(memory);
	assert_int_equal(catalog_stage_status().catalog_restored, CATALOG_STAGE_SOME);
	assert_int_equal(catalog_stage_status().catalog_dropped, CATALOG_STAGE_SOME);
	catalog_stage_expect_found(1, CATALOG_STAGE_SOME);
	assert_int_equal(hbm_namespace_open(kv.hbm, &spec, &kv.ns), 0);
	assert_int_equal(kv_lookup(&kv, 101, 1, NULL), 0);
	catalog_stage_finish();
}

/* ---- a kill ---- */

static void test_kill(void **state)
{
	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_await_records(CATALOG_STAGE_SOME);
	catalog_stage_kill();
	catalog_stage_begin(catalog_stage_usual);
	assert_int_equal(catalog_stage_status().catalog_restored, CATALOG_STAGE_SOME);
	catalog_stage_expect_found(1, CATALOG_STAGE_SOME);
	catalog_stage_finish();
}

/* What a client does until its daemon is gone. */
static void use_randomly(struct seed *seed, uint64_t until_ns)
{
	struct timespec now;
	int r = 0;

	do {
		uint64_t first = 1 + 8 * seed_below(seed, 40), count = 1 + seed_below(seed, 8);

		switch (seed_below(seed, 4)) {
		case 0:
			r = kv_keys(&kv, HBM_WIRE_REMOVE, first, count, 0, results);
			break;
		case 1:
			r = kv_load(&kv, 0, first, count, results);
			break;
		default:
			r = kv_store(&kv, 0, first, count, 0, results);
			break;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (r == 0 && (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec < until_ns);
}

static uint64_t clock_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Killed at any moment: while it writes data, a transaction, while it recovers. */
static void test_kills(void **state)
{
	static const char *const small[] = {"device.cache=1MiB",        "ddr.size=1MiB",
					    "nvme.size=8MiB",           "nvme.catalog_ms=1",
					    "nvme.catalog_flush_ms=20", NULL};
	struct seed seed;
	uint64_t restored = 0;

	(void)state;
	seed_open(&seed, "test_kills");
	for (int round = 0; round < 12; round++) {
		catalog_stage_begin(small);
		restored += catalog_stage_status().catalog_restored;
		if (round % 3 == 2) {
			catalog_stage_look_at_all();
			assert_true(spawn_balanced(&daemon_));
		}
		use_randomly(&seed, clock_ns() + seed_below(&seed, 300000000));
		catalog_stage_kill();
	}

	assert_true(restored > 0);
	catalog_stage_begin(small);
	catalog_stage_look_at_all();
	catalog_stage_finish();
}

/* Without checksums the records are believed after a clean stop only. */
static void test_without_checksums(void **state)
{
	static const char *const unchecked[] = {"device.cache=4MiB", "ddr.size=4MiB",
						"nvme.size=8MiB", "hbmd.checksum=off", NULL};
	(void)state;
	catalog_stage_begin(unchecked);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_stop_and_begin(unchecked);
	catalog_stage_expect_found(1, CATALOG_STAGE_SOME);
	kv_push_to_nvme(&kv);
	catalog_stage_await_records(CATALOG_STAGE_SOME);
	catalog_stage_kill();
	catalog_stage_begin(unchecked);
	catalog_stage_expect_nothing();
	assert_int_equal(catalog_stage_status().catalog_dropped, CATALOG_STAGE_SOME);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_stop_and_begin(catalog_stage_usual);
	catalog_stage_expect_found(1, CATALOG_STAGE_SOME);
	catalog_stage_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stop, catalog_stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_life_goes_on, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_copies, catalog_stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_orphans, catalog_stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_order, catalog_stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_off, catalog_stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_ephemeral, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_salt, catalog_stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_salted_no, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_kill, catalog_stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_kills, catalog_stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_without_checksums, catalog_stage_setup,
						stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
