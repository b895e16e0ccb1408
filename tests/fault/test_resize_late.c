/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NVMe tier is resized while the disk hangs, with what a file's size is changed by
 * (tests/support/disk.h). The request ends within nvme.timeout_ms. What was to be added is not, and
 * what was to go is gone; blocks are found, and when the disk answers the tier has other sizes again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "tests/support/catalog_stage.h"
#include "tests/support/disk.h"

#define MIB (1ull << 20)
#define COUNT 16u

static const char *const sets[] = {"device.cache=4MiB",
				   "ddr.size=4MiB",
				   "nvme.size=8MiB",
				   "nvme.copies=0",
				   "nvme.catalog_ms=1",
				   "nvme.timeout_ms=300",
				   NULL};
static struct disk disk;

static int setup(void **state)
{
	catalog_stage_setup(state);
	disk_open(&disk, &daemon_);
	spawn_start(&daemon_, sets, disk.env);
	kv_open(&kv, &daemon_, 0, CATALOG_STAGE_BLOCK, CATALOG_STAGE_SLOTS);
	catalog_stage_store_on_nvme(1, COUNT);

	return 0;
}

static int teardown(void **state)
{
	disk_close(&disk);

	return stage_teardown(state);
}

static int keep_nvme(const void *record, size_t bytes, void *arg)
{
	struct hbm_wire_tier tier = {0};

	memcpy(&tier, record, bytes < sizeof(tier) ? bytes : sizeof(tier));
	if (tier.tier == HBM_TIER_NVME)
		*(struct hbm_wire_tier *)arg = tier;

	return 0;
}

static void expect_size(uint64_t bytes)
{
	struct hbm_wire_tier tier = {0};

	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_TIERS, keep_nvme, &tier), 0);
	assert_int_equal(tier.capacity, bytes);
	assert_int_equal(tier.usable, bytes);
	assert_int_equal(tier.resizing, 0);
	assert_true(spawn_balanced(&daemon_));
	catalog_stage_expect_found(1, COUNT);
}

static int resize(uint64_t bytes)
{
	return hbm_resize(kv.hbm, HBM_TIER_NVME, 0, bytes);
}

static uint64_t file_bytes(void)
{
	struct stat stat_;

	assert_int_equal(stat(daemon_.nvme, &stat_), 0);

	return (uint64_t)stat_.st_size;
}

/* It answers at some time; until then there is no other size. */
static void mend_and_resize(uint64_t bytes)
{
	assert_int_equal(resize(9 * MIB), HBM_IO);
	disk_mend(&disk);
	for (int status = HBM_IO; status == HBM_IO;) {
		status = resize(bytes);
		if (status == HBM_IO)
			nanosleep(&(const struct timespec){.tv_nsec = 2000000}, NULL);
		else
			assert_int_equal(status, 0);
	}
	expect_size(bytes);
}

static void grow_late(enum disk_call call, uint64_t n)
{
	uint64_t before = file_bytes();

	disk_fail(&disk, DISK_DATA, call, n, UINT64_MAX, 0);
	assert_int_equal(resize(16 * MIB), HBM_IO);
	expect_size(8 * MIB);
	mend_and_resize(8 * MIB);
	assert_int_equal(file_bytes(), before);
	assert_int_equal(resize(12 * MIB), 0);
	expect_size(12 * MIB);
	assert_int_equal(file_bytes(), before + 4 * MIB);
	catalog_stage_finish();
}

/* fallocate(2) */
static void test_it_is_not_allocated(void **state)
{
	(void)state;
	grow_late(DISK_SIZE, 1);
}

/* pwrite(2) of the zeros: the second half of what is added, and the label */
static void test_it_is_not_filled(void **state)
{
	(void)state;
	grow_late(DISK_WRITE, 2);
}

/* ftruncate(2): it may come at any moment, so that nothing is to be there any more. */
static void test_it_is_not_cut(void **state)
{
	uint64_t before = file_bytes();

	(void)state;
	disk_fail(&disk, DISK_DATA, DISK_SIZE, 1, UINT64_MAX, 0);
	assert_int_equal(resize(4 * MIB), HBM_IO);
	expect_size(4 * MIB);
	assert_int_equal(file_bytes(), before);
	mend_and_resize(8 * MIB);
	assert_int_equal(file_bytes(), before);
	kv_push_to_nvme(&kv);
	catalog_stage_stop();
	catalog_stage_begin(sets);
	catalog_stage_expect_found(1, COUNT);
	catalog_stage_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_it_is_not_allocated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_it_is_not_filled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_it_is_not_cut, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
