/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power is cut: the disk has what was flushed, and of what was written since some, torn by
 * sectors, as a seed has it (tests/support/power.h). What was flushed is found, and so is what was
 * acknowledged as durable; whatever is found is byte by byte what was stored; all else is a miss,
 * and its room is free.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/kv.h"
#include "tests/support/power.h"
#include "tests/support/stage.h"

#define BLOCK 65536u
#define SLOTS 64u
#define SOME 24u
#define KEYS 400u
#define ROUNDS 8

static struct kv kv;
static struct power power;
static hbm_result results[SLOTS];
static struct seed seed;
static const char *flush_ms = "20", *copies = "nvme.copies=100%";

static int setup(void **state)
{
	stage_setup(state);
	power_open(&power, &daemon_);

	return 0;
}

static void begin(void)
{
	char path[160], flushes[64];
	const char *const sets[] = {path,
				    "hbmd.io=threads",
				    "device.cache=1MiB",
				    "ddr.size=1MiB",
				    "nvme.size=8MiB",
				    copies,
				    "nvme.catalog_ms=1",
				    flushes,
				    NULL};

	snprintf(flushes, sizeof(flushes), "nvme.catalog_flush_ms=%s", flush_ms);
	snprintf(path, sizeof(path), "nvme.path=%s/nvme", power.dir);
	power_on(&power);
	spawn_start(&daemon_, sets, power.env);
	kv_open(&kv, &daemon_, 0, BLOCK, SLOTS);
}

static void cut(void)
{
	spawn_kill(&daemon_);
	kv_close(&kv);
	unlink(daemon_.socket);
	power_cut(&power, &seed);
}

static struct hbm_wire_status status(void)
{
	struct hbm_wire_status now;

	spawn_status(&daemon_, &now);

	return now;
}

static void sleep_us(uint64_t us)
{
	nanosleep(&(const struct timespec){.tv_nsec = (long)(us * 1000)}, NULL);
}

static void await_flush(void)
{
	for (int i = 0; status().catalog_unflushed > 0; i++) {
		assert_true(i < 10000);
		sleep_us(2000);
	}
}

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void use_randomly(uint64_t for_ns)
{
	uint64_t until = clock_ns() + for_ns;

	while (clock_ns() < until) {
		uint64_t first = 1 + 8 * seed_below(&seed, KEYS / 8),
			 count = 1 + seed_below(&seed, 8);

		switch (seed_below(&seed, 4)) {
		case 0:
			assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, first, count, 0, results),
					 0);
			break;
		case 1:
			assert_int_equal(kv_load(&kv, 0, first, count, results), 0);
			break;
		default:
			assert_int_equal(kv_store(&kv, 0, first, count, 0, results), 0);
			break;
		}
	}
}

/* kv_load() fails the test where a block that it loads is not what was stored. */
static void look_at_all(void)
{
	for (uint64_t first = 1; first < KEYS; first += 8) {
		assert_int_equal(kv_load(&kv, 0, first, 8, results), 0);
		for (uint64_t i = 0; i < 8; i++)
			assert_true(results[i].status == HBM_OK || results[i].status == HBM_MISS);
	}
}

/* ---- the tests ---- */

static void test_what_is_flushed_stays(void **state)
{
	(void)state;
	seed_open(&seed, "test_what_is_flushed_stays");
	for (int round = 0; round < ROUNDS / 2; round++) {
		begin();
		use_randomly(50000000);
		/* What goes to NVMe first is evicted first: this is the newest there. */
		assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 1001, SOME, 0, results), 0);
		assert_int_equal(kv_store(&kv, 0, 1001, SOME, 0, results), 0);
		kv_push_to_nvme(&kv);
		for (uint64_t i = 0; i < SOME; i++)
			assert_int_equal(kv_tier(&kv, 1001 + i), HBM_TIER_NVME);
		await_flush();
		cut();

		begin();
		assert_int_equal(status().catalog_failing, 0);
		assert_int_equal(kv_lookup(&kv, 1001, SOME, NULL), SOME);
		assert_int_equal(kv_load(&kv, 0, 1001, SOME, results), 0);
		for (uint64_t i = 0; i < SOME; i++)
			assert_int_equal(results[i].status, HBM_OK);
		look_at_all();
		assert_true(spawn_balanced(&daemon_));
		cut();
	}

	begin();
	kv_close(&kv);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

static void test_at_any_moment(void **state)
{
	uint64_t restored = 0, torn = 0;

	(void)state;
	seed_open(&seed, "test_at_any_moment");
	for (int round = 0; round < ROUNDS; round++) {
		begin();
		restored += status().catalog_restored;
		look_at_all();
		torn += status().checksum_failures;
		assert_true(spawn_balanced(&daemon_));
		use_randomly(1 + seed_below(&seed, 200000000));
		cut();
	}

	assert_true(restored > 0);
	print_message("NOTE %llu blocks found again, %llu of them torn\n",
		      (unsigned long long)restored, (unsigned long long)torn);
	begin();
	look_at_all();
	assert_true(spawn_balanced(&daemon_));
	kv_close(&kv);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* ---- what is durable ---- */

#define DURABLE 2001u
#define DURABLE_MOST 40u /* pinned, so that nothing evicts them: less than half of the tier */

/* Stores some that were not there, and some that were: all are durable when this returns. */
static uint64_t store_durable(uint64_t there)
{
	const struct hbm_block as = {.durable = true, .pin = true};
	uint64_t again = there < 4 ? there : seed_below(&seed, 4);
	uint64_t count = again + 1 + seed_below(&seed, 8);

	if (there - again + count > DURABLE_MOST)
		return there;

	assert_int_equal(kv_store_roots(&kv, 0, DURABLE + there - again, count, &as, results), 0);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(results[i].status, i < again ? HBM_EXISTS : HBM_OK);

	return there - again + count;
}

static void expect_durable(uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		assert_int_equal(kv_load(&kv, 0, DURABLE + i, 1, results), 0);
		if (results[0].status != HBM_OK)
			fail_msg("block %llu of %llu that were durable: %d", (unsigned long long)i,
				 (unsigned long long)count, results[0].status);
	}
}

/* Nothing but durable blocks makes the daemon flush anything. The power goes as soon as the last
 * of them was acknowledged, or a while after. */
static void test_what_is_durable_stays(void **state)
{
	(void)state;
	seed_open(&seed, "test_what_is_durable_stays");
	flush_ms = "60000";
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t count = 0;

		begin();
		for (uint64_t i = seed_below(&seed, 6); i > 0; i--) {
			use_randomly(1 + seed_below(&seed, 20000000));
			count = store_durable(count);
		}
		if (seed_below(&seed, 2) == 0)
			use_randomly(1 + seed_below(&seed, 20000000));
		cut();

		begin();
		expect_durable(count);
		look_at_all();
		assert_true(spawn_balanced(&daemon_));
		if (count > 0)
			assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, DURABLE, count, 0, results),
					 0);
		kv_close(&kv);
		assert_int_equal(spawn_stop(&daemon_), 0);
	}

	flush_ms = "20";
}

/* ---- what moves ---- */

#define BELOW 80u

static void *shrink(void *arg)
{
	(void)hbm_resize(arg, HBM_TIER_NVME, 0, 2u << 20);

	return NULL;
}

/* Blocks that are durable lie where the tier is about to end. Some have moved when it gets its size
 * back, and others are stored where they were. */
static void test_what_is_durable_stays_as_the_tier_shrinks(void **state)
{
	const struct hbm_block on_nvme = {.tier = HBM_TIER_NVME},
			       kept = {.durable = true, .pin = true};

	(void)state;
	seed_open(&seed, "test_what_is_durable_stays_as_the_tier_shrinks");
	flush_ms = "60000";
	copies = "nvme.copies=0";
	for (int round = 0; round < ROUNDS / 2; round++) {
		pthread_t thread;

		begin();
		struct hbm *hbm = spawn_connect(&daemon_);
		for (uint64_t i = 0; i < BELOW; i += 8)
			assert_int_equal(kv_store_roots(&kv, 0, 1 + i, 8, &on_nvme, results), 0);
		assert_int_equal(kv_store_roots(&kv, 0, DURABLE, SOME, &kept, results), 0);
		for (uint64_t i = 0; i < BELOW; i += 8)
			assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 1 + i, 8, 0, results), 0);
		assert_int_equal(pthread_create(&thread, NULL, shrink, hbm), 0);
		sleep_us(seed_below(&seed, 20000));
		(void)hbm_resize(kv.hbm, HBM_TIER_NVME, 0, 8u << 20);
		for (uint64_t i = 0; i < BELOW; i += 8)
			assert_int_equal(kv_store_roots(&kv, 0, 1 + i, 8, &on_nvme, results), 0);
		cut();
		assert_int_equal(pthread_join(thread, NULL), 0);
		hbm_close(hbm);

		begin();
		expect_durable(SOME);
		assert_true(spawn_balanced(&daemon_));
		assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, DURABLE, SOME, 0, results), 0);
		kv_close(&kv);
		assert_int_equal(spawn_stop(&daemon_), 0);
	}

	flush_ms = "20";
	copies = "nvme.copies=100%";
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_flushed_stays, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_at_any_moment, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_what_is_durable_stays, setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_what_is_durable_stays_as_the_tier_shrinks,
						setup, stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
