/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NVMe tier becomes smaller, so that durable blocks move within it, and the disk does not take
 * the records of their new places, or not the flush before these (tests/support/disk.h). Then the
 * daemon is killed: the blocks are found where they were.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/catalog_stage.h"
#include "tests/support/disk.h"

#define COUNT 16u
#define BELOW 64u /* blocks that lie below those that move */
#define MIB (1ull << 20)

static const char *const sets[] = {"hbmd.io=threads",
				   "device.cache=4MiB",
				   "ddr.size=4MiB",
				   "nvme.size=8MiB",
				   "nvme.copies=0",
				   "nvme.timeout_ms=2000",
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

static void begin(bool wiped)
{
	const struct hbm_namespace_options options = {
		.model = "w", .block_bytes = CATALOG_STAGE_BLOCK, .wipe_on_free = true};

	spawn_start(&daemon_, sets, disk.env);
	kv_open(&kv, &daemon_, 0, CATALOG_STAGE_BLOCK, CATALOG_STAGE_SLOTS);
	if (wiped)
		assert_int_equal(hbm_namespace_open(kv.hbm, &options, &kv.ns), 0);
}

static void store(const struct hbm_block *as, uint64_t first, uint64_t count)
{
	assert_int_equal(kv_store_roots(&kv, 0, first, count, as, results), 0);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(results[i].status, HBM_OK);
}

static void await(bool (*is_so)(void))
{
	while (!is_so())
		nanosleep(&(const struct timespec){.tv_nsec = 2000000}, NULL);
}

static void *shrink(void *arg)
{
	struct hbm *hbm = arg;

	(void)hbm_resize(hbm, HBM_TIER_NVME, 0, 3 * MIB);

	return NULL;
}

static bool all_have_moved(void)
{
	return catalog_stage_status().catalog_unflushed >= COUNT;
}

static bool flush_has_failed(void)
{
	return catalog_stage_status().catalog_failures > 0;
}

static bool all_is_flushed(void)
{
	return catalog_stage_status().catalog_unflushed == 0;
}

/* Durable blocks that lie above what goes on being there, and nothing unflushed. */
static void store_above(void)
{
	store(&on_nvme, 501, BELOW);
	store(&kept, 101, COUNT);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 501, BELOW, 0, results), 0);
	store(&kept, 201, 1);
	assert_true(all_is_flushed());
}

/* Sums up where those blocks lie in NVMe. */
static int add_offset(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_block_info *block = record;

	assert_int_equal(bytes, sizeof(*block));
	for (uint64_t i = 0; i < COUNT; i++) {
		hbm_key key = kv_key(101 + i);

		if (memcmp(&block->key, &key, sizeof(key)) == 0 && block->place == HBM_TIER_NVME)
			*(uint64_t *)arg += block->offset;
	}

	return 0;
}

static uint64_t offsets(void)
{
	uint64_t sum = 0;

	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_BLOCKS, add_offset, &sum), 0);

	return sum;
}

static void expect_all(void)
{
	assert_int_equal(kv_load(&kv, 0, 101, COUNT, results), 0);
	for (uint64_t i = 0; i < COUNT; i++)
		assert_int_equal(results[i].status, HBM_OK);
}

/* While they move the tier gets its size back, and their old places would be others'. */
static void check(bool wiped, enum disk_file file, int error)
{
	pthread_t thread;

	begin(wiped);
	store_above();
	disk_fail(&disk, file, DISK_FLUSH, 1, UINT64_MAX, error);
	struct hbm *hbm = spawn_connect(&daemon_);
	assert_int_equal(pthread_create(&thread, NULL, shrink, hbm), 0);
	await(all_have_moved);
	if (error != 0)
		await(flush_has_failed);
	(void)hbm_resize(kv.hbm, HBM_TIER_NVME, 0, 8 * MIB);
	assert_int_equal(pthread_join(thread, NULL), 0);
	hbm_close(hbm);
	for (uint64_t first = 1001; first < 1001 + 5 * COUNT; first += COUNT)
		assert_int_equal(kv_store_roots(&kv, 0, first, COUNT, &on_nvme, results), 0);
	expect_all();
	assert_true(spawn_balanced(&daemon_));
	catalog_stage_kill();
	disk_mend(&disk);

	begin(wiped);
	expect_all();
	catalog_stage_finish();
	unlink(daemon_.nvme);
	unlink(catalog_stage_path);
}

static void test_the_flush_hangs(void **state)
{
	(void)state;
	check(false, DISK_DATA, 0);
}

static void test_the_flush_fails(void **state)
{
	(void)state;
	check(false, DISK_DATA, EIO);
}

static void test_the_catalog_fails(void **state)
{
	(void)state;
	check(false, DISK_CATALOG, EIO);
}

static void test_what_is_wiped(void **state)
{
	(void)state;
	check(true, DISK_DATA, 0);
}

/* Once a flush of the data has failed, later ones prove nothing of what was written before: what has
 * moved by then is found where it was, although the disk takes everything again. */
static void test_a_failed_flush_is_not_forgotten(void **state)
{
	pthread_t thread;

	(void)state;
	begin(false);
	store_above();
	uint64_t before = offsets();
	disk_fail(&disk, DISK_DATA, DISK_FLUSH, 1, UINT64_MAX, EIO);
	struct hbm *hbm = spawn_connect(&daemon_);
	assert_int_equal(pthread_create(&thread, NULL, shrink, hbm), 0);
	await(all_have_moved);
	await(flush_has_failed);
	(void)hbm_resize(kv.hbm, HBM_TIER_NVME, 0, 8 * MIB);
	assert_int_equal(pthread_join(thread, NULL), 0);
	hbm_close(hbm);
	disk_mend(&disk);
	uint64_t moved = offsets();
	assert_int_not_equal(moved, before);
	store(&durable, 301, COUNT);
	assert_int_equal(catalog_stage_status().catalog_failing, 0);
	assert_true(spawn_balanced(&daemon_));
	catalog_stage_kill();
	begin(false);
	assert_int_not_equal(offsets(), moved);
	expect_all();
	catalog_stage_finish();
}

/* A size that the catalog cannot follow is refused in the end, and the tier has its old one: where
 * flushes fail, and where they hang, nvme.timeout_ms later. */
static void test_it_ends(void **state)
{
	static const struct {
		enum disk_file file;
		int error;
	} faults[] = {{DISK_CATALOG, EIO}, {DISK_DATA, EIO}, {DISK_DATA, 0}};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		begin(false);
		store_above();
		disk_fail(&disk, faults[i].file, DISK_FLUSH, 1, UINT64_MAX, faults[i].error);
		assert_int_equal(hbm_resize(kv.hbm, HBM_TIER_NVME, 0, 3 * MIB), HBM_IO);
		assert_true(spawn_logged(&daemon_, "the tier has 8 MiB again"));
		expect_all();
		disk_mend(&disk);
		assert_true(spawn_balanced(&daemon_));
		catalog_stage_kill();
		spawn_forget_log(&daemon_);
		begin(false);
		expect_all();
		catalog_stage_finish();
		unlink(daemon_.nvme);
		unlink(catalog_stage_path);
	}
}

static uint64_t file_bytes(void)
{
	struct stat st;

	assert_int_equal(stat(daemon_.nvme, &st), 0);

	return (uint64_t)st.st_size;
}

/* Where nothing moves but the file is to be cut it keeps its length. */
static void test_the_file_is_not_cut(void **state)
{
	struct hbm_wire_status now;

	(void)state;
	begin(false);
	uint64_t bytes = file_bytes();
	disk_fail(&disk, DISK_CATALOG, DISK_FLUSH, 1, UINT64_MAX, EIO);
	assert_int_equal(hbm_resize(kv.hbm, HBM_TIER_NVME, 0, 3 * MIB), 0);
	assert_true(spawn_logged(&daemon_, "the file keeps its"));
	assert_int_equal(file_bytes(), bytes);
	disk_mend(&disk);
	do
		spawn_status(&daemon_, &now);
	while (now.catalog_failing);
	assert_int_equal(hbm_resize(kv.hbm, HBM_TIER_NVME, 0, 2 * MIB), 0);
	assert_in_range(file_bytes(), 0, bytes - 4 * MIB);
	catalog_stage_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_flush_hangs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_flush_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_catalog_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_wiped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_failed_flush_is_not_forgotten, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_it_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_file_is_not_cut, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
