/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of the NVMe file or its catalog while no daemon ran: bits that are others, another
 * version, another file, less room. What does not fit is not found, and its room is free.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/catalog_stage.h"
#include "tests/support/file.h"

static void poke(const char *path, off_t at, const char *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_int_equal(pwrite(fd, bytes, size, at), size);
	close(fd);
}

/* A byte of a block: it is a miss, counted, and stored again. */
static void test_bit_rot(void **state)
{
	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, 1);
	catalog_stage_stop();
	poke(daemon_.nvme, (1 << 20) + 4096 + 17, "rot", 3);
	catalog_stage_begin(catalog_stage_usual);
	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 1);
	assert_int_equal(kv_load(&kv, 0, 1, 1, results), 0);
	assert_int_equal(results[0].status, HBM_MISS);
	assert_int_equal(catalog_stage_status().checksum_failures, 1);
	catalog_stage_store(1, 1, 0);
	kv_push_to_nvme(&kv);
	catalog_stage_stop_and_begin(catalog_stage_usual);
	catalog_stage_expect_found(1, 1);
	catalog_stage_finish();
}

static void sql(const char *text)
{
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(catalog_stage_path, &db), SQLITE_OK);
	if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s", sqlite3_errmsg(db));
	sqlite3_close(db);
}

static void test_unknown_version(void **state)
{
	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_stop();
	sql("PRAGMA user_version = 77");
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_expect_nothing();
	assert_true(spawn_logged(&daemon_, "has a version that this hbmd does not know"));
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_stop_and_begin(catalog_stage_usual);
	catalog_stage_expect_found(1, CATALOG_STAGE_SOME);
	catalog_stage_finish();
}

/* The file of the tier is another one. */
static void test_other_file(void **state)
{
	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_stop();
	assert_int_equal(unlink(daemon_.nvme), 0);
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_expect_nothing();
	assert_true(spawn_logged(&daemon_, "is of another NVMe file"));
	catalog_stage_finish();
}

static void test_not_ours(void **state)
{
	static const char text[] = "a file of somebody, with more in it than the head of a "
				   "database has: 0123456789012345678901234567890123456789";
	(void)state;
	file_write(catalog_stage_path, text);
	catalog_stage_begin(catalog_stage_usual);
	assert_true(spawn_logged(&daemon_, "not a catalog of hbmd"));
	assert_int_equal(catalog_stage_status().catalog_failing, 1);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_expect_found(1, CATALOG_STAGE_SOME);
	catalog_stage_finish();

	char kept[sizeof(text)] = "";
	int fd = open(catalog_stage_path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, kept, sizeof(kept)), sizeof(text) - 1);
	close(fd);
	assert_string_equal(kept, text);
}

static void test_truncated(void **state)
{
	struct stat st;

	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SLOTS);
	catalog_stage_stop();
	assert_int_equal(stat(catalog_stage_path, &st), 0);
	assert_int_equal(truncate(catalog_stage_path, st.st_size / 2), 0);
	catalog_stage_begin(catalog_stage_usual);
	assert_true(spawn_logged(&daemon_, "is damaged"));
	catalog_stage_expect_nothing();
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_stop_and_begin(catalog_stage_usual);
	catalog_stage_expect_found(1, CATALOG_STAGE_SOME);
	catalog_stage_finish();
}

/* One record of many: the others are found, and its room is free. */
static void test_damaged_record(void **state)
{
	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_stop();
	sql("UPDATE blocks SET record = zeroblob(80) WHERE unit = (SELECT max(unit) FROM blocks)");
	catalog_stage_begin(catalog_stage_usual);
	assert_int_equal(catalog_stage_status().catalog_restored, CATALOG_STAGE_SOME - 1);
	assert_int_equal(catalog_stage_status().catalog_dropped, 1);
	assert_int_equal(catalog_stage_status().blocks, CATALOG_STAGE_SOME - 1);
	assert_true(spawn_balanced(&daemon_));
	catalog_stage_stop_and_begin(catalog_stage_usual);
	assert_int_equal(catalog_stage_status().catalog_dropped, 0);
	catalog_stage_finish();
}

/* A record that names another's extent, with a check that is right: a copy of it. */
static void test_same_extent(void **state)
{
	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_stop();
	sql("INSERT INTO blocks SELECT unit + 3, stamp, record FROM blocks");
	catalog_stage_begin(catalog_stage_usual);
	assert_int_equal(catalog_stage_status().catalog_restored, CATALOG_STAGE_SOME);
	assert_int_equal(catalog_stage_status().catalog_dropped, CATALOG_STAGE_SOME);
	catalog_stage_expect_found(1, CATALOG_STAGE_SOME);
	catalog_stage_finish();
}

/* The tier is smaller: what no longer fits is dropped, the oldest first. */
static void test_smaller_tier(void **state)
{
	static const char *const smaller[] = {"device.cache=4MiB", "ddr.size=4MiB",
					      "nvme.size=3MiB", "nvme.copies=0", NULL};
	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SLOTS);
	catalog_stage_stop_and_begin(smaller);
	struct hbm_wire_status now = catalog_stage_status();
	assert_true(now.catalog_restored > 0);
	assert_int_equal(now.catalog_restored + now.catalog_dropped, CATALOG_STAGE_SLOTS);
	assert_true(now.catalog_restored * CATALOG_STAGE_BLOCK <= 3 << 20);
	assert_int_equal(now.blocks, now.catalog_restored);
	catalog_stage_look_at_all();
	catalog_stage_finish();
}

/* Limits that are lower: fewer blocks, none so large. */
static void test_lower_limits(void **state)
{
	static const char *const fewer[] = {"device.cache=4MiB", "ddr.size=4MiB", "nvme.size=8MiB",
					    "limits.blocks=8", NULL};
	static const char *const none[] = {"device.cache=4MiB", "ddr.size=4MiB", "nvme.size=8MiB",
					   "limits.block_bytes=32KiB", NULL};
	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, CATALOG_STAGE_SOME);
	catalog_stage_stop_and_begin(fewer);
	assert_int_equal(catalog_stage_status().catalog_restored, 8);
	assert_int_equal(catalog_stage_status().catalog_dropped, CATALOG_STAGE_SOME - 8);
	catalog_stage_stop();
	spawn_start(&daemon_, none, NULL);
	assert_int_equal(catalog_stage_status().catalog_restored, 0);
	assert_int_equal(catalog_stage_status().catalog_dropped, 8);
	assert_int_equal(catalog_stage_status().namespaces, 0);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* The catalog's disk is full, as it were: the tier serves, and the catalog catches up. */
static void test_cannot_be_written(void **state)
{
	char log[160];

	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store_on_nvme(1, 1);
	catalog_stage_await_records(1);
	catalog_stage_stop();
	/* A database whose pages are as many as it may have. */
	snprintf(log, sizeof(log), "%s-wal", catalog_stage_path);
	assert_int_equal(mkdir(log, 0700), 0);
	catalog_stage_begin(catalog_stage_usual);
	assert_int_equal(catalog_stage_status().catalog_failing, 1);
	catalog_stage_store_on_nvme(101, CATALOG_STAGE_SOME);
	catalog_stage_expect_found(101, CATALOG_STAGE_SOME);
	catalog_stage_stop();
	assert_int_equal(rmdir(log), 0);
	catalog_stage_begin(catalog_stage_usual);
	assert_int_equal(catalog_stage_status().catalog_failing, 0);
	catalog_stage_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bit_rot, catalog_stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_unknown_version, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_other_file, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_not_ours, catalog_stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_truncated, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_damaged_record, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_same_extent, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_smaller_tier, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_lower_limits, catalog_stage_setup,
						stage_teardown),
		cmocka_unit_test_setup_teardown(test_cannot_be_written, catalog_stage_setup,
						stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
