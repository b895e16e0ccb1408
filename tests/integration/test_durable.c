/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that are stored as durable: they are in the catalog when their store ends, whatever the
 * catalog's own times are; they stay in NVMe; and where nothing can be durable the store says so.
 * That they survive a power cut is test_power_cut.c's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <time.h>

#include "tests/support/catalog_stage.h"

#define COUNT 16u

/* Nothing is committed or flushed but what somebody waits for. */
static const char *const patient[] = {"device.cache=4MiB",
				      "ddr.size=4MiB",
				      "nvme.size=8MiB",
				      "nvme.catalog_ms=60000",
				      "nvme.catalog_flush_ms=60000",
				      NULL};
static const struct hbm_block durable = {.durable = true};

static void store_durable(uint64_t first, int status)
{
	assert_int_equal(kv_store_roots(&kv, 0, first, COUNT, &durable, results), 0);
	for (uint64_t i = 0; i < COUNT; i++) {
		assert_int_equal(results[i].status, status);
		assert_int_equal(results[i].tier, HBM_TIER_NVME);
		assert_int_equal(kv_tier(&kv, first + i), HBM_TIER_NVME);
	}
}

static void expect_all(uint64_t first)
{
	assert_int_equal(kv_load(&kv, 0, first, COUNT, results), 0);
	for (uint64_t i = 0; i < COUNT; i++)
		assert_int_equal(results[i].status, HBM_OK);
}

static void expect_on_nvme(uint64_t first)
{
	kv_await_moves(&kv);
	for (uint64_t i = 0; i < COUNT; i++)
		assert_int_equal(kv_tier(&kv, first + i), HBM_TIER_NVME);
}

/* ---- they are there ---- */

static void test_they_are_there_at_once(void **state)
{
	(void)state;
	catalog_stage_begin(patient);
	store_durable(1, HBM_OK);
	assert_int_equal(catalog_stage_status().durable_blocks, COUNT);
	assert_int_equal(catalog_stage_status().catalog_unflushed, 0);
	catalog_stage_kill();
	catalog_stage_begin(patient);
	assert_int_equal(catalog_stage_status().catalog_restored, COUNT);
	expect_all(1);
	catalog_stage_finish();
}

/* As a chain, and beside those that are not: these have to wait. */
static void test_others_wait(void **state)
{
	(void)state;
	catalog_stage_begin(patient);
	catalog_stage_store_on_nvme(101, COUNT);
	assert_int_equal(catalog_stage_status().durable_blocks, 0);
	assert_int_equal(catalog_stage_status().catalog_records, 0);
	catalog_stage_kill();
	catalog_stage_begin(patient);
	catalog_stage_expect_nothing();
	catalog_stage_finish();
}

/* Wherever it is: in HBM, on NVMe and not in the catalog, or durable already. */
static void test_what_exists_becomes_durable(void **state)
{
	(void)state;
	catalog_stage_begin(patient);
	catalog_stage_store_on_nvme(101, COUNT);
	catalog_stage_store(1, COUNT, 0);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_HBM);
	store_durable(1, HBM_EXISTS);
	store_durable(101, HBM_EXISTS);
	store_durable(101, HBM_EXISTS);
	assert_int_equal(catalog_stage_status().durable_blocks, 3 * COUNT);
	catalog_stage_kill();
	catalog_stage_begin(patient);
	assert_int_equal(catalog_stage_status().catalog_restored, 2 * COUNT);
	expect_all(1);
	expect_all(101);
	expect_on_nvme(1);
	expect_on_nvme(101);
	catalog_stage_finish();
}

/* What were copies are blocks after a restart, and newer: more than the tier takes. */
static void test_they_come_first(void **state)
{
	static const char *const quick[] = {"device.cache=4MiB", "ddr.size=4MiB", "nvme.size=8MiB",
					    "nvme.catalog_ms=1", NULL};
	const struct hbm_block pinned = {.durable = true, .pin = true},
			       on_nvme = {.tier = HBM_TIER_NVME};

	(void)state;
	catalog_stage_begin(quick);
	assert_int_equal(kv_store_roots(&kv, 0, 1, COUNT, &pinned, results), 0);
	catalog_stage_store_on_nvme(101, 64);
	assert_int_equal(kv_load(&kv, 0, 101, 64, results), 0);
	kv_await_moves(&kv);
	for (uint64_t first = 201; first < 400; first += 100)
		assert_int_equal(kv_store_roots(&kv, 0, first, 64, &on_nvme, results), 0);
	for (int i = 0; catalog_stage_status().catalog_records < 140; i++) {
		assert_true(i < 1000);
		nanosleep(&(const struct timespec){.tv_nsec = 2000000}, NULL);
	}
	catalog_stage_kill();
	catalog_stage_begin(quick);
	assert_true(catalog_stage_status().catalog_dropped > 0);
	expect_all(1);
	catalog_stage_finish();
}

/* ---- they stay ---- */

static void use_in_every_way(void)
{
	hbm_key keys[COUNT];

	expect_all(1);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_TOUCH, 1, COUNT, 0, results), 0);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_PREFETCH, 1, COUNT, 0, results), 0);
	for (uint64_t i = 0; i < COUNT; i++)
		assert_int_equal(results[i].status, HBM_OK);
	for (uint64_t i = 0; i < COUNT; i++)
		keys[i] = kv_key(1 + i);
	for (enum hbm_tier tier = HBM_TIER_HBM; tier <= HBM_TIER_NVME; tier++) {
		assert_int_equal(hbm_move(kv.hbm, kv.ns, tier, 0, keys, COUNT, results), 0);
		for (uint64_t i = 0; i < COUNT; i++)
			assert_int_equal(results[i].status,
					 tier == HBM_TIER_NVME ? HBM_OK : HBM_DENIED);
	}
}

static void test_they_stay(void **state)
{
	(void)state;
	catalog_stage_begin(patient);
	store_durable(1, HBM_OK);
	use_in_every_way();
	expect_on_nvme(1);
	catalog_stage_kill();
	catalog_stage_begin(patient);
	use_in_every_way();
	expect_on_nvme(1);
	expect_all(1);
	catalog_stage_finish();
}

/* They go as others do: evicted by what comes after them, or removed. */
static void test_they_go_as_others_do(void **state)
{
	(void)state;
	catalog_stage_begin(patient);
	store_durable(1, HBM_OK);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 1, 1, 0, results), 0);
	assert_int_equal(results[0].status, HBM_OK);
	for (uint64_t first = 1001; kv_lookup(&kv, 2, 1, NULL) == 1; first += COUNT) {
		assert_true(first < 3000);
		store_durable(first, HBM_OK);
	}

	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 0);
	catalog_stage_finish();
}

static int count_durable(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_block_info *block = record;

	assert_int_equal(bytes, sizeof(*block));
	*(uint64_t *)arg += block->durable;

	return 0;
}

static void test_they_are_shown(void **state)
{
	uint64_t count = 0;

	(void)state;
	catalog_stage_begin(patient);
	store_durable(1, HBM_OK);
	catalog_stage_store(101, COUNT, 0);
	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_BLOCKS, count_durable, &count), 0);
	assert_int_equal(count, COUNT);
	catalog_stage_finish();
}

/* ---- they are refused ---- */

static void expect_refused(int status, const char *why)
{
	uint64_t blocks = catalog_stage_status().blocks;

	assert_int_equal(kv_store_roots(&kv, 0, 501, COUNT, &durable, results), status);
	if (!strstr(hbm_error(kv.hbm), why))
		fail_msg("\"%s\" says nothing of \"%s\"", hbm_error(kv.hbm), why);
	assert_int_equal(catalog_stage_status().blocks, blocks);
	assert_int_equal(kv_lookup(&kv, 501, 1, NULL), 0);
}

static void test_where_nothing_can_be(void **state)
{
	static const struct {
		const char *const sets[4];
		const char *why;
	} cases[] = {
		{{"nvme.size=8MiB", "nvme.catalog=no", NULL}, "without a catalog"},
		{{"nvme.size=8MiB", "hbmd.checksum=off", NULL}, "without checksums"},
		{{"nvme.path=", "nvme.size=0", NULL}, "without an NVMe tier"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		catalog_stage_begin(cases[i].sets);
		catalog_stage_store(1, COUNT, 0);
		expect_refused(HBM_UNSUPPORTED, cases[i].why);
		assert_int_equal(kv_store_roots(&kv, 0, 1, COUNT, &durable, results),
				 HBM_UNSUPPORTED);
		catalog_stage_finish();
	}
}

static void test_of_which_nothing_can_be(void **state)
{
	const struct hbm_namespace_options memory = {
		.model = "m", .block_bytes = CATALOG_STAGE_BLOCK, .memory_only = true};
	const struct hbm_namespace_options gone = {
		.model = "g", .block_bytes = CATALOG_STAGE_BLOCK, .ephemeral = true};
	const struct hbm_block in_ddr = {.durable = true, .tier = HBM_TIER_DDR};
	const struct hbm_block on_nvme = {.durable = true, .tier = HBM_TIER_NVME, .pin = true};

	(void)state;
	catalog_stage_begin(patient);
	assert_int_equal(kv_store_roots(&kv, 0, 1, COUNT, &in_ddr, results), HBM_INVALID);
	assert_non_null(strstr(hbm_error(kv.hbm), "durable is on NVMe, not in ddr"));
	assert_int_equal(catalog_stage_status().blocks, 0);
	assert_int_equal(kv_store_roots(&kv, 0, 1, COUNT, &on_nvme, results), 0);
	for (uint64_t i = 0; i < COUNT; i++)
		assert_int_equal(results[i].status, HBM_OK);
	assert_int_equal(catalog_stage_status().catalog_unflushed, 0);

	assert_int_equal(hbm_namespace_open(kv.hbm, &memory, &kv.ns), 0);
	expect_refused(HBM_INVALID, "stay in memory");
	assert_int_equal(hbm_namespace_open(kv.hbm, &gone, &kv.ns), 0);
	expect_refused(HBM_INVALID, "ephemeral");
	catalog_stage_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_they_are_there_at_once, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_others_wait, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_what_exists_becomes_durable,
						catalog_stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_they_come_first, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_they_stay, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_they_go_as_others_do, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_they_are_shown, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_where_nothing_can_be, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_of_which_nothing_can_be, catalog_stage_setup,
						stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
