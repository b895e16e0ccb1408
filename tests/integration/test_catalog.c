/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in the NVMe tier is found again: after a stop, after a kill at any moment, and after
 * whatever happened to the catalog meanwhile. What is found is byte by byte what was stored,
 * and the books balance.
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
#include <time.h>
#include <unistd.h>

#include "tests/support/file.h"
#include "tests/support/kv.h"
#include "tests/support/seed.h"
#include "tests/support/stage.h"

#define BLOCK 65536u
#define SLOTS 64u
#define SOME 32u

static struct kv kv;
static hbm_result results[SLOTS];
static char catalog[128];

static const char *const usual[] = {"device.cache=4MiB", "ddr.size=4MiB", "nvme.size=8MiB", NULL};

static int setup(void **state)
{
	stage_setup(state);
	snprintf(catalog, sizeof(catalog), "%s.catalog", daemon_.nvme);

	return 0;
}

static void begin(const char *const *sets)
{
	spawn_start(&daemon_, sets, NULL);
	kv_open(&kv, &daemon_, 0, BLOCK, SLOTS);
}

/* The client goes, and the daemon is stopped as an operator does. */
static void stop(void)
{
	kv_close(&kv);
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_false(file_exists(daemon_.socket));
}

static void stop_and_begin(const char *const *sets)
{
	stop();
	begin(sets);
}

static void kill_daemon(void)
{
	spawn_kill(&daemon_);
	kv_close(&kv);
	unlink(daemon_.socket);
}

static void finish(void)
{
	assert_true(spawn_balanced(&daemon_));
	stop();
}

static struct hbm_wire_status status(void)
{
	struct hbm_wire_status now;

	spawn_status(&daemon_, &now);

	return now;
}

static void sleep_us(uint64_t us)
{
	nanosleep(&(const struct timespec){.tv_sec = (time_t)(us / 1000000),
					   .tv_nsec = (long)(us % 1000000 * 1000)},
		  NULL);
}

static void store(uint64_t first, uint64_t count, uint64_t parent)
{
	assert_int_equal(kv_store(&kv, 0, first, count, parent, results), 0);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(results[i].status, HBM_OK);
}

/* A chain that is in the NVMe tier when this returns. */
static void store_on_nvme(uint64_t first, uint64_t count)
{
	store(first, count, 0);
	kv_push_to_nvme(&kv);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(kv_tier(&kv, first + i), HBM_TIER_NVME);
}

/* Waits until the catalog has so many records. */
static void await_records(uint64_t count)
{
	for (int i = 0; status().catalog_records != count; i++) {
		assert_true(i < 10000);
		sleep_us(2000);
	}
}

static void expect_found(uint64_t first, uint64_t count)
{
	assert_int_equal(kv_lookup(&kv, first, count, NULL), count);
	assert_int_equal(kv_load(&kv, 0, first, count, results), 0);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(results[i].status, HBM_OK);
}

static void expect_nothing(void)
{
	assert_int_equal(status().blocks, 0);
	assert_int_equal(status().catalog_restored, 0);
	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 0);
}

/* ---- a stop ---- */

static void test_stop(void **state)
{
	(void)state;
	begin(usual);
	store_on_nvme(1, SOME);
	stop_and_begin(usual);
	assert_int_equal(status().blocks, SOME);
	assert_int_equal(status().catalog_restored, SOME);
	assert_int_equal(status().catalog_dropped, 0);
	for (uint64_t i = 1; i <= SOME; i++)
		assert_int_equal(kv_tier(&kv, i), HBM_TIER_NVME);
	expect_found(1, SOME);
	assert_int_equal(status().checksum_failures, 0);
	finish();
}

/* What is found again can be what everything is: a parent, stored beside, dropped; and is
 * found once more. */
static void test_life_goes_on(void **state)
{
	(void)state;
	begin(usual);
	store_on_nvme(1, SOME);
	stop_and_begin(usual);
	store(1 + SOME, SOME, SOME);
	assert_int_equal(kv_store(&kv, 0, 1, 1, 0, results), 0);
	assert_int_equal(results[0].status, HBM_EXISTS);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 5, 1, 0, results), 0);
	assert_int_equal(results[0].status, HBM_OK);
	kv_push_to_nvme(&kv);
	stop_and_begin(usual);
	assert_int_equal(status().catalog_restored, 4); /* its descendants went with the fifth */
	expect_found(1, 4);
	assert_int_equal(kv_lookup(&kv, 5, 1, NULL), 0);
	store(5, SOME, 4);
	finish();
}

/* A block that has gone up has left a copy, which is found. */
static void test_copies(void **state)
{
	(void)state;
	begin(usual);
	store_on_nvme(1, SOME);
	expect_found(1, SOME);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_HBM);
	kv_await_moves(&kv);
	stop_and_begin(usual);
	expect_found(1, SOME);
	finish();
}

/* Its parent was in memory. */
static void test_orphans(void **state)
{
	(void)state;
	begin(usual);
	store(1, 2, 0);
	hbm_key key = kv_key(2);
	assert_int_equal(hbm_move(kv.hbm, kv.ns, HBM_TIER_NVME, 0, &key, 1, results), 0);
	kv_await_moves(&kv);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_HBM);
	stop_and_begin(usual);
	assert_int_equal(kv_lookup(&kv, 1, 2, NULL), 0);
	assert_int_equal(kv_tier(&kv, 2), HBM_TIER_NVME);
	store(1, 1, 0);
	expect_found(1, 2);
	finish();
}

/* Those that were written last are evicted last. */
static void test_order(void **state)
{
	(void)state;
	begin(usual);
	store_on_nvme(1, SLOTS);
	store_on_nvme(101, SLOTS);
	stop_and_begin(usual);
	assert_int_equal(status().catalog_restored, 2 * SLOTS);
	for (uint64_t first = 1001; kv_lookup(&kv, 1, 1, NULL) == 1; first += SLOTS) {
		assert_true(first < 2000);
		assert_int_equal(kv_lookup(&kv, 101, SLOTS, NULL), SLOTS);
		store(first, SLOTS, 0);
		kv_await_moves(&kv);
	}

	finish();
}

static void test_off(void **state)
{
	static const char *const without[] = {"device.cache=4MiB", "ddr.size=4MiB",
					      "nvme.size=8MiB", "nvme.catalog=no", NULL};
	(void)state;
	begin(without);
	store_on_nvme(1, SOME);
	stop_and_begin(without);
	expect_nothing();
	finish();
	assert_false(file_exists(catalog));
}

/* Nobody could open it again. */
static void test_ephemeral(void **state)
{
	const struct hbm_namespace_options spec = {
		.model = "gone", .block_bytes = BLOCK, .ephemeral = true};
	uint32_t ns;

	(void)state;
	begin(usual);
	store_on_nvme(1, SOME);
	await_records(SOME);
	assert_int_equal(hbm_namespace_open(kv.hbm, &spec, &ns), 0);
	uint32_t kept = kv.ns;
	kv.ns = ns;
	store(1, SOME, 0);
	kv_push_to_nvme(&kv);
	kv.ns = kept;
	store_on_nvme(101, 1);
	await_records(SOME + 1);
	kill_daemon();
	begin(usual);
	assert_int_equal(status().catalog_restored, SOME + 1);
	assert_int_equal(status().catalog_dropped, 0);
	finish();
}

/* Only those who know the salt find the blocks. */
static void test_salt(void **state)
{
	struct hbm_namespace_options spec = {
		.model = "m", .layout = "l", .salt = "secret", .block_bytes = BLOCK};
	uint32_t ns;

	(void)state;
	begin(usual);
	assert_int_equal(hbm_namespace_open(kv.hbm, &spec, &kv.ns), 0);
	store_on_nvme(1, SOME);
	stop_and_begin(usual);
	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 0);
	spec.salt = "guess";
	assert_int_equal(hbm_namespace_open(kv.hbm, &spec, &ns), 0);
	kv.ns = ns;
	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 0);
	spec.salt = "secret";
	assert_int_equal(hbm_namespace_open(kv.hbm, &spec, &ns), 0);
	kv.ns = ns;
	expect_found(1, SOME);
	finish();
}

/* ---- a kill ---- */

static void test_kill(void **state)
{
	(void)state;
	begin(usual);
	store_on_nvme(1, SOME);
	await_records(SOME);
	kill_daemon();
	begin(usual);
	assert_int_equal(status().catalog_restored, SOME);
	expect_found(1, SOME);
	finish();
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

/* kv_load() fails the test where a block that it loads is not what was stored. */
static void look_at_all(void)
{
	for (uint64_t first = 1; first <= 41 * 8; first += 8) {
		assert_int_equal(kv_load(&kv, 0, first, 8, results), 0);
		for (uint64_t i = 0; i < 8; i++)
			assert_true(results[i].status == HBM_OK || results[i].status == HBM_MISS);
	}
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
		begin(small);
		restored += status().catalog_restored;
		if (round % 3 == 2) {
			look_at_all();
			assert_true(spawn_balanced(&daemon_));
		}
		use_randomly(&seed, clock_ns() + seed_below(&seed, 300000000));
		kill_daemon();
	}

	assert_true(restored > 0);
	begin(small);
	look_at_all();
	finish();
}

/* Without checksums the records are believed after a clean stop only. */
static void test_without_checksums(void **state)
{
	static const char *const unchecked[] = {"device.cache=4MiB", "ddr.size=4MiB",
						"nvme.size=8MiB", "hbmd.checksum=off", NULL};
	(void)state;
	begin(unchecked);
	store_on_nvme(1, SOME);
	stop_and_begin(unchecked);
	expect_found(1, SOME);
	kv_push_to_nvme(&kv);
	await_records(SOME);
	kill_daemon();
	begin(unchecked);
	expect_nothing();
	assert_int_equal(status().catalog_dropped, SOME);
	store_on_nvme(1, SOME);
	stop_and_begin(usual);
	expect_found(1, SOME);
	finish();
}

/* ---- what is on the disk is another ---- */

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
	begin(usual);
	store_on_nvme(1, 1);
	stop();
	poke(daemon_.nvme, (1 << 20) + 4096 + 17, "rot", 3);
	begin(usual);
	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 1);
	assert_int_equal(kv_load(&kv, 0, 1, 1, results), 0);
	assert_int_equal(results[0].status, HBM_MISS);
	assert_int_equal(status().checksum_failures, 1);
	store(1, 1, 0);
	kv_push_to_nvme(&kv);
	stop_and_begin(usual);
	expect_found(1, 1);
	finish();
}

static void sql(const char *text)
{
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(catalog, &db), SQLITE_OK);
	if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s", sqlite3_errmsg(db));
	sqlite3_close(db);
}

static void test_unknown_version(void **state)
{
	(void)state;
	begin(usual);
	store_on_nvme(1, SOME);
	stop();
	sql("PRAGMA user_version = 77");
	begin(usual);
	expect_nothing();
	assert_true(spawn_logged(&daemon_, "has a version that this hbmd does not know"));
	store_on_nvme(1, SOME);
	stop_and_begin(usual);
	expect_found(1, SOME);
	finish();
}

/* The file of the tier is another one. */
static void test_other_file(void **state)
{
	(void)state;
	begin(usual);
	store_on_nvme(1, SOME);
	stop();
	assert_int_equal(unlink(daemon_.nvme), 0);
	begin(usual);
	expect_nothing();
	assert_true(spawn_logged(&daemon_, "is of another NVMe file"));
	finish();
}

static void test_not_ours(void **state)
{
	static const char text[] = "a file of somebody, with more in it than the head of a "
				   "database has: 0123456789012345678901234567890123456789";
	(void)state;
	file_write(catalog, text);
	begin(usual);
	assert_true(spawn_logged(&daemon_, "not a catalog of hbmd"));
	assert_int_equal(status().catalog_failing, 1);
	store_on_nvme(1, SOME);
	expect_found(1, SOME);
	finish();

	char kept[sizeof(text)] = "";
	int fd = open(catalog, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, kept, sizeof(kept)), sizeof(text) - 1);
	close(fd);
	assert_string_equal(kept, text);
}

static void test_truncated(void **state)
{
	struct stat st;

	(void)state;
	begin(usual);
	store_on_nvme(1, SLOTS);
	stop();
	assert_int_equal(stat(catalog, &st), 0);
	assert_int_equal(truncate(catalog, st.st_size / 2), 0);
	begin(usual);
	assert_true(spawn_logged(&daemon_, "is damaged"));
	expect_nothing();
	store_on_nvme(1, SOME);
	stop_and_begin(usual);
	expect_found(1, SOME);
	finish();
}

/* One record of many: the others are found, and its room is free. */
static void test_damaged_record(void **state)
{
	(void)state;
	begin(usual);
	store_on_nvme(1, SOME);
	stop();
	sql("UPDATE blocks SET record = zeroblob(80) WHERE unit = (SELECT max(unit) FROM blocks)");
	begin(usual);
	assert_int_equal(status().catalog_restored, SOME - 1);
	assert_int_equal(status().catalog_dropped, 1);
	assert_int_equal(status().blocks, SOME - 1);
	assert_true(spawn_balanced(&daemon_));
	stop_and_begin(usual);
	assert_int_equal(status().catalog_dropped, 0);
	finish();
}

/* A record that names another's extent, with a check that is right: a copy of it. */
static void test_same_extent(void **state)
{
	(void)state;
	begin(usual);
	store_on_nvme(1, SOME);
	stop();
	sql("INSERT INTO blocks SELECT unit + 3, stamp, record FROM blocks");
	begin(usual);
	assert_int_equal(status().catalog_restored, SOME);
	assert_int_equal(status().catalog_dropped, SOME);
	expect_found(1, SOME);
	finish();
}

/* The tier is smaller: what no longer fits is dropped, the oldest first. */
static void test_smaller_tier(void **state)
{
	static const char *const smaller[] = {"device.cache=4MiB", "ddr.size=4MiB",
					      "nvme.size=3MiB", "nvme.copies=0", NULL};
	(void)state;
	begin(usual);
	store_on_nvme(1, SLOTS);
	stop_and_begin(smaller);
	struct hbm_wire_status now = status();
	assert_true(now.catalog_restored > 0);
	assert_int_equal(now.catalog_restored + now.catalog_dropped, SLOTS);
	assert_true(now.catalog_restored * BLOCK <= 3 << 20);
	assert_int_equal(now.blocks, now.catalog_restored);
	look_at_all();
	finish();
}

/* Limits that are lower: fewer blocks, none so large. */
static void test_lower_limits(void **state)
{
	static const char *const fewer[] = {"device.cache=4MiB", "ddr.size=4MiB", "nvme.size=8MiB",
					    "limits.blocks=8", NULL};
	static const char *const none[] = {"device.cache=4MiB", "ddr.size=4MiB", "nvme.size=8MiB",
					   "limits.block_bytes=32KiB", NULL};
	(void)state;
	begin(usual);
	store_on_nvme(1, SOME);
	stop_and_begin(fewer);
	assert_int_equal(status().catalog_restored, 8);
	assert_int_equal(status().catalog_dropped, SOME - 8);
	stop();
	spawn_start(&daemon_, none, NULL);
	assert_int_equal(status().catalog_restored, 0);
	assert_int_equal(status().catalog_dropped, 8);
	assert_int_equal(status().namespaces, 0);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* The catalog's disk is full, as it were: the tier serves, and the catalog catches up. */
static void test_cannot_be_written(void **state)
{
	char log[160];

	(void)state;
	begin(usual);
	store_on_nvme(1, 1);
	await_records(1);
	stop();
	/* A database whose pages are as many as it may have. */
	snprintf(log, sizeof(log), "%s-wal", catalog);
	assert_int_equal(mkdir(log, 0700), 0);
	begin(usual);
	assert_int_equal(status().catalog_failing, 1);
	store_on_nvme(101, SOME);
	expect_found(101, SOME);
	stop();
	assert_int_equal(rmdir(log), 0);
	begin(usual);
	assert_int_equal(status().catalog_failing, 0);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stop, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_life_goes_on, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_copies, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_orphans, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_order, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_off, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_ephemeral, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_salt, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_kill, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_kills, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_without_checksums, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_bit_rot, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_unknown_version, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_other_file, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_not_ours, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_truncated, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_damaged_record, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_same_extent, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_smaller_tier, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_lower_limits, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_cannot_be_written, setup, stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
