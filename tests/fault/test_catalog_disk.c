/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk fails what the catalog writes and flushes (tests/support/disk.h): the n-th write, for
 * n = 1, 2, ..., and one that hangs. The tier works as ever, what is said to be durable is, and what
 * is found after a kill is byte by byte what was stored. When the disk takes it again, so does the
 * catalog.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/catalog_stage.h"
#include "tests/support/disk.h"

#define COUNT 16u

static const char *const quick[] = {"hbmd.io=threads",
				    "device.cache=4MiB",
				    "ddr.size=4MiB",
				    "nvme.size=8MiB",
				    "nvme.catalog_ms=1",
				    "nvme.catalog_flush_ms=1",
				    NULL};
/* What fails is what a durable block waits for. */
static const char *const patient[] = {"hbmd.io=threads",
				      "device.cache=4MiB",
				      "ddr.size=4MiB",
				      "nvme.size=8MiB",
				      "nvme.catalog_ms=60000",
				      "nvme.catalog_flush_ms=60000",
				      NULL};
static const struct hbm_block durable = {.durable = true}, kept = {.durable = true, .pin = true},
			      on_nvme = {.tier = HBM_TIER_NVME};
static struct disk disk;

static int setup(void **state)
{
	catalog_stage_setup(state);
	disk_open(&disk, &daemon_);

	return 0;
}

static int teardown(void **state)
{
	disk_close(&disk);

	return stage_teardown(state);
}

static void begin(const char *const *sets)
{
	spawn_start(&daemon_, sets, disk.env);
	kv_open(&kv, &daemon_, 0, CATALOG_STAGE_BLOCK, CATALOG_STAGE_SLOTS);
}

static void await_flushed(void)
{
	for (int i = 0; catalog_stage_status().catalog_unflushed > 0 ||
			catalog_stage_status().catalog_failing > 0;
	     i++) {
		assert_true(i < 10000);
		nanosleep(&(const struct timespec){.tv_nsec = 2000000}, NULL);
	}
}

static void expect_stored(const struct hbm_block *as, uint64_t first, int status)
{
	assert_int_equal(kv_store_roots(&kv, 0, first, COUNT, as, results), 0);
	for (uint64_t i = 0; i < COUNT; i++)
		assert_int_equal(results[i].status, status);
}

static uint64_t found(uint64_t first)
{
	uint64_t count = 0;

	assert_int_equal(kv_load(&kv, 0, first, COUNT, results), 0);
	for (uint64_t i = 0; i < COUNT; i++)
		count += results[i].status == HBM_OK;

	return count;
}

/* ---- the n-th call ---- */

/* Whether the fault was there. */
static bool run(enum disk_call call, uint64_t n, int error)
{
	begin(quick);
	catalog_stage_store_on_nvme(1, COUNT);
	await_flushed();
	disk_fail(&disk, DISK_CATALOG, call, n, 2, error);
	catalog_stage_store_on_nvme(101, COUNT);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 5, 1, 0, results), 0);
	await_flushed();
	bool failed = disk_calls(&disk, DISK_CATALOG, call) >= n;
	disk_mend(&disk);
	assert_int_equal(catalog_stage_status().catalog_failures > 0, failed);
	assert_true(spawn_balanced(&daemon_));
	catalog_stage_kill();

	begin(quick);
	assert_int_equal(catalog_stage_status().catalog_restored, COUNT + 4);
	assert_int_equal(found(1), 4);
	assert_int_equal(found(101), COUNT);
	assert_int_equal(catalog_stage_status().checksum_failures, 0);
	catalog_stage_finish();
	unlink(daemon_.nvme);
	unlink(catalog_stage_path);

	return failed;
}

static void test_full_and_room_again(void **state)
{
	uint64_t n = 1;

	(void)state;
	while (run(DISK_WRITE, n, ENOSPC))
		n++;
	assert_true(n > 2);
	print_message("NOTE %llu writes failed\n", (unsigned long long)n - 1);
}

static void test_flushes_fail(void **state)
{
	(void)state;
	assert_true(run(DISK_FLUSH, 1, EIO));
}

/* A miss, or what was stored; and the daemon that cannot write is killed. */
static void test_full_for_good(void **state)
{
	(void)state;
	for (uint64_t n = 1; n < 6; n++) {
		begin(quick);
		catalog_stage_store_on_nvme(1, COUNT);
		await_flushed();
		disk_fail(&disk, DISK_CATALOG, DISK_WRITE, n, UINT64_MAX, ENOSPC);
		catalog_stage_store_on_nvme(101, COUNT);
		assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 5, 1, 0, results), 0);
		catalog_stage_store_on_nvme(201, COUNT);
		while (catalog_stage_status().catalog_failing == 0)
			nanosleep(&(const struct timespec){.tv_nsec = 2000000}, NULL);
		assert_int_equal(found(101), COUNT);
		assert_true(spawn_balanced(&daemon_));
		catalog_stage_kill();

		disk_mend(&disk);
		begin(quick);
		for (uint64_t first = 1; first < 300; first += 100)
			(void)found(first);
		assert_true(spawn_balanced(&daemon_));
		catalog_stage_store_on_nvme(1001, COUNT);
		await_flushed();
		catalog_stage_finish();
		unlink(daemon_.nvme);
		unlink(catalog_stage_path);
	}
}

/* Where it fails as the daemon starts there may be no catalog; all else is as ever. */
static void test_as_it_starts(void **state)
{
	(void)state;
	for (uint64_t n = 1; n < 8; n++) {
		disk_fail(&disk, DISK_CATALOG, DISK_WRITE, n, UINT64_MAX, ENOSPC);
		begin(quick);
		catalog_stage_store_on_nvme(1, COUNT);
		assert_int_equal(found(1), COUNT);
		assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 1, 1, 0, results), 0);
		assert_true(spawn_balanced(&daemon_));
		catalog_stage_kill();
		disk_mend(&disk);
	}

	begin(quick);
	catalog_stage_store_on_nvme(1001, COUNT);
	await_flushed();
	catalog_stage_finish();
}

/* ---- what waits for it ---- */

static void test_durable_and_the_catalog_fails(void **state)
{
	(void)state;
	begin(patient);
	disk_fail(&disk, DISK_CATALOG, DISK_WRITE, 1, UINT64_MAX, ENOSPC);
	expect_stored(&durable, 1, HBM_IO);
	assert_int_equal(catalog_stage_status().durable_blocks, 0);
	disk_mend(&disk);
	expect_stored(&durable, 1, HBM_EXISTS);
	disk_fail(&disk, DISK_CATALOG, DISK_FLUSH, 1, UINT64_MAX, EIO);
	expect_stored(&durable, 101, HBM_IO);
	disk_mend(&disk);
	expect_stored(&durable, 101, HBM_EXISTS);
	assert_int_equal(catalog_stage_status().durable_blocks, 2 * COUNT);
	catalog_stage_kill();
	begin(patient);
	assert_int_equal(found(1), COUNT);
	assert_int_equal(found(101), COUNT);
	catalog_stage_finish();
}

/* What was in the tier by then is written again, unless it is pinned: that is not believed any more.
 * What was known to be flushed is, and so is what comes later. */
static void test_durable_and_the_data_fails(void **state)
{
	const struct hbm_block pinned = {.tier = HBM_TIER_NVME, .pin = true};

	(void)state;
	begin(patient);
	expect_stored(&durable, 401, HBM_OK);
	expect_stored(&on_nvme, 201, HBM_OK);
	expect_stored(&pinned, 301, HBM_OK);
	disk_fail(&disk, DISK_DATA, DISK_FLUSH, 1, UINT64_MAX, EIO);
	expect_stored(&durable, 1, HBM_IO);
	disk_mend(&disk);
	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 0);
	expect_stored(&durable, 1, HBM_OK);
	expect_stored(&durable, 201, HBM_IO);
	assert_int_equal(kv_lookup(&kv, 201, 1, NULL), 0);
	expect_stored(&kept, 201, HBM_OK);
	expect_stored(&durable, 301, HBM_IO);
	expect_stored(&durable, 301, HBM_IO);
	assert_int_equal(found(301), COUNT);
	for (unsigned i = 0; i < 2; i++) {
		expect_stored(&durable, 1, HBM_EXISTS);
		expect_stored(&durable, 201, HBM_EXISTS);
		expect_stored(&durable, 401, HBM_EXISTS);
	}
	expect_stored(&on_nvme, 501, HBM_OK);
	expect_stored(&durable, 501, HBM_EXISTS);
	catalog_stage_kill();
	begin(patient);
	for (uint64_t first = 1; first < 600; first += 100)
		assert_int_equal(found(first), first == 101 ? 0 : COUNT);
	catalog_stage_finish();
}

/* The hung flush has yet to end. */
static void await_durable(uint64_t first)
{
	for (int i = 0;; i++) {
		bool all = true;

		assert_true(i < 1000);
		assert_int_equal(kv_store_roots(&kv, 0, first, COUNT, &durable, results), 0);
		for (uint64_t k = 0; k < COUNT; k++)
			all = all && results[k].status == HBM_EXISTS;
		if (all)
			break;
		nanosleep(&(const struct timespec){.tv_nsec = 2000000}, NULL);
	}
}

static void test_durable_and_the_disk_hangs(void **state)
{
	static const char *const hurried[] = {"hbmd.io=threads",
					      "device.cache=4MiB",
					      "ddr.size=4MiB",
					      "nvme.size=8MiB",
					      "nvme.timeout_ms=2000",
					      "nvme.catalog_ms=60000",
					      "nvme.catalog_flush_ms=60000",
					      NULL};
	(void)state;
	for (enum disk_file file = DISK_DATA; file < DISK_FILES; file++) {
		uint64_t first = 1 + 100ull * file;

		begin(hurried);
		disk_fail(&disk, file, DISK_FLUSH, 1, 1, 0);
		expect_stored(&durable, first, HBM_IO);
		expect_stored(&durable, 301, HBM_IO); /* at once */
		catalog_stage_store(501, COUNT, 0);
		assert_int_equal(found(501), COUNT);
		assert_true(spawn_balanced(&daemon_));
		disk_mend(&disk);
		await_durable(first);
		catalog_stage_kill();
		begin(hurried);
		assert_int_equal(found(first), COUNT);
		catalog_stage_finish();
		unlink(daemon_.nvme);
		unlink(catalog_stage_path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_full_and_room_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flushes_fail, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_for_good, setup, teardown),
		cmocka_unit_test_setup_teardown(test_as_it_starts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_durable_and_the_catalog_fails, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_durable_and_the_data_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_durable_and_the_disk_hangs, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
