/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/catalog_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/file.h"

char catalog_stage_path[128];

const char *const catalog_stage_usual[] = {"device.cache=4MiB", "ddr.size=4MiB", "nvme.size=8MiB",
					   NULL};

int catalog_stage_setup(void **state)
{
	stage_setup(state);
	snprintf(catalog_stage_path, sizeof(catalog_stage_path), "%s.catalog", daemon_.nvme);

	return 0;
}

void catalog_stage_begin(const char *const *sets)
{
	spawn_start(&daemon_, sets, NULL);
	kv_open(&kv, &daemon_, 0, CATALOG_STAGE_BLOCK, CATALOG_STAGE_SLOTS);
}

/* The client goes, and the daemon is stopped as an operator does. */
void catalog_stage_stop(void)
{
	kv_close(&kv);
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_false(file_exists(daemon_.socket));
}

void catalog_stage_stop_and_begin(const char *const *sets)
{
	catalog_stage_stop();
	catalog_stage_begin(sets);
}

void catalog_stage_kill(void)
{
	spawn_kill(&daemon_);
	kv_close(&kv);
	unlink(daemon_.socket);
}

void catalog_stage_finish(void)
{
	assert_true(spawn_balanced(&daemon_));
	catalog_stage_stop();
}

struct hbm_wire_status catalog_stage_status(void)
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

void catalog_stage_store(uint64_t first, uint64_t count, uint64_t parent)
{
	assert_int_equal(kv_store(&kv, 0, first, count, parent, results), 0);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(results[i].status, HBM_OK);
}

/* A chain that is in the NVMe tier when this returns. */
void catalog_stage_store_on_nvme(uint64_t first, uint64_t count)
{
	catalog_stage_store(first, count, 0);
	kv_push_to_nvme(&kv);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(kv_tier(&kv, first + i), HBM_TIER_NVME);
}

/* Waits until the catalog has so many records. */
void catalog_stage_await_records(uint64_t count)
{
	for (int i = 0; catalog_stage_status().catalog_records != count; i++) {
		assert_true(i < 10000);
		sleep_us(2000);
	}
}

void catalog_stage_expect_found(uint64_t first, uint64_t count)
{
	assert_int_equal(kv_lookup(&kv, first, count, NULL), count);
	assert_int_equal(kv_load(&kv, 0, first, count, results), 0);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(results[i].status, HBM_OK);
}

void catalog_stage_expect_nothing(void)
{
	assert_int_equal(catalog_stage_status().blocks, 0);
	assert_int_equal(catalog_stage_status().catalog_restored, 0);
	assert_int_equal(kv_lookup(&kv, 1, 1, NULL), 0);
}

/* kv_load() fails the test where a block that it loads is not what was stored. */
void catalog_stage_look_at_all(void)
{
	for (uint64_t first = 1; first <= 41 * 8; first += 8) {
		assert_int_equal(kv_load(&kv, 0, first, 8, results), 0);
		for (uint64_t i = 0; i < 8; i++)
			assert_true(results[i].status == HBM_OK || results[i].status == HBM_MISS);
	}
}
