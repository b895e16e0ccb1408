/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pins that operators keep, and what users retain, outlive a daemon that is killed: of blocks in
 * DDR and on NVMe, as often as they were pinned, with their priority and until the same time. What
 * was unpinned, released or is over does not come back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/keeper_rig.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <time.h>

enum { BLOCK = 65536, SOME = 24, CHAIN = 8, PRESS = 16, ROOM = 128 };

static struct kv kv;
static hbm_result results[ROOM];

static const char *const in_ddr[] = {"device.cache=0", "ddr.size=4MiB",        "nvme.path=",
				     "nvme.size=0",    "hbmd.checksum=always", NULL};
static const char *const in_both[] = {"device.cache=0",       "ddr.size=4MiB",
				      "nvme.size=16MiB",      "hbmd.checksum=always",
				      "nvme.catalog_ms=1",    "nvme.catalog_flush_ms=1",
				      "limits.retained=100%", NULL};

static void begin(const char *const *sets)
{
	keeper_start(&daemon_, sets, NULL);
	kv_open(&kv, &daemon_, 0, BLOCK, PRESS);
}

static void kill_and_go_on(void)
{
	kv_close(&kv);
	keeper_kill(&daemon_);
	kv_open(&kv, &daemon_, 0, BLOCK, PRESS);
}

static void end(void)
{
	kv_close(&kv);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

static void store(uint64_t first, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		assert_int_equal(kv_store(&kv, 0, first + i, 1, i > 0 ? first + i - 1 : 0, results),
				 0);
		assert_int_equal(results[0].status, HBM_OK);
	}
}

static void expect(enum hbm_wire_opcode op, uint64_t key, uint32_t flags, int status)
{
	assert_int_equal(kv_keys(&kv, op, key, 1, flags, results), 0);
	assert_int_equal(results[0].status, status);
}

static void retain(unsigned priority, uint64_t for_us, uint64_t key, int status)
{
	const hbm_key keys[] = {kv_key(key)};

	assert_int_equal(hbm_retain(kv.hbm, kv.ns, priority, for_us, keys, 1, results), 0);
	assert_int_equal(results[0].status, status);
}

/* ---- What the tiers have ---- */

struct seen {
	uint64_t pinned, retained;
};

static int see_tier(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;
	struct seen *seen = arg;

	assert_int_equal(bytes, sizeof(*tier));
	seen->pinned += tier->pinned;
	seen->retained += tier->retained;

	return 0;
}

/* Waits until all that came back is as it was. */
static void await_marks(uint64_t pinned, uint64_t retained)
{
	const struct timespec pause = {0, 2000000};
	struct seen seen = {0};

	for (unsigned i = 0; i < 5000; i++) {
		seen = (struct seen){0};
		assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_TIERS, see_tier, &seen), 0);
		if (seen.pinned == pinned * BLOCK && seen.retained == retained * BLOCK)
			return;
		nanosleep(&pause, NULL);
	}
	assert_int_equal(seen.pinned, pinned * BLOCK);
	assert_int_equal(seen.retained, retained * BLOCK);
}

/* Where the catalog has it. */
static void push_to_nvme(void)
{
	struct hbm_wire_status status;

	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_DDR, 0, UINT64_MAX, NULL), 0);
	kv_await_moves(&kv);
	do
		spawn_status(&daemon_, &status);
	while (status.catalog_unflushed > 0);
	assert_int_equal(kv_tier(&kv, CHAIN), HBM_TIER_NVME);
}

/* Several times what DDR holds. */
static void press(uint64_t first)
{
	for (uint64_t i = 0; i < ROOM; i += PRESS)
		assert_int_equal(kv_store(&kv, 0, first + i, PRESS, 0, results), 0);
}

/* ---- pins ---- */

static void test_pins_are_kept(void **state)
{
	(void)state;
	begin(in_ddr);
	store(1, SOME);
	store(101, SOME);
	expect(HBM_WIRE_PIN, CHAIN, HBM_WIRE_KEEP, HBM_OK);
	expect(HBM_WIRE_PIN, CHAIN, HBM_WIRE_KEEP, HBM_OK);
	expect(HBM_WIRE_PIN, 101, HBM_WIRE_KEEP, HBM_OK);
	expect(HBM_WIRE_UNPIN, 101, HBM_WIRE_KEEP, HBM_OK);
	expect(HBM_WIRE_PIN, 102, 0, HBM_OK); /* until its session ends */
	kill_and_go_on();
	await_marks(CHAIN, 0);
	press(1000);
	assert_int_equal(kv_lookup(&kv, 1, SOME, results), CHAIN);
	assert_int_equal(kv_lookup(&kv, 101, SOME, results), 0);
	assert_int_equal(kv_load(&kv, 0, 1, CHAIN, results), 0);
	expect(HBM_WIRE_REMOVE, CHAIN, 0, HBM_DENIED);
	assert_true(spawn_balanced(&daemon_));

	/* twice, over two lives */
	expect(HBM_WIRE_UNPIN, CHAIN, HBM_WIRE_KEEP, HBM_OK);
	kill_and_go_on();
	await_marks(CHAIN, 0);
	expect(HBM_WIRE_UNPIN, CHAIN, HBM_WIRE_KEEP, HBM_OK);
	expect(HBM_WIRE_UNPIN, CHAIN, HBM_WIRE_KEEP, HBM_NOT_FOUND);
	kill_and_go_on();
	await_marks(0, 0);
	expect(HBM_WIRE_REMOVE, CHAIN, 0, HBM_OK);
	end();
}

static void test_of_blocks_on_nvme_too(void **state)
{
	(void)state;
	begin(in_both);
	store(1, SOME);
	push_to_nvme();
	expect(HBM_WIRE_PIN, CHAIN, HBM_WIRE_KEEP, HBM_OK);
	retain(2, 0, SOME, HBM_OK);
	await_marks(CHAIN, SOME - CHAIN); /* what is pinned is in no order */
	store(101, CHAIN);
	retain(1, 0, 100 + CHAIN, HBM_OK);
	await_marks(CHAIN, SOME);
	kill_and_go_on();
	await_marks(CHAIN, SOME);
	assert_int_equal(kv_tier(&kv, CHAIN), HBM_TIER_NVME);
	assert_int_equal(kv_lookup(&kv, 1, SOME, results), SOME);
	assert_int_equal(kv_lookup(&kv, 101, CHAIN, results), CHAIN);
	assert_int_equal(kv_load(&kv, 0, 101, CHAIN, results), 0);
	end();
}

/* ---- what is retained ---- */

static void test_what_is_retained_goes_last(void **state)
{
	(void)state;
	begin(in_ddr);
	store(1, CHAIN);
	store(101, CHAIN);
	store(201, CHAIN);
	retain(2, 0, CHAIN, HBM_OK);
	retain(3, 1, 101, HBM_OK); /* for a microsecond */
	retain(1, 0, 201, HBM_OK);
	retain(0, 0, 201, HBM_OK);
	kill_and_go_on();
	await_marks(0, CHAIN);
	press(1000);
	assert_int_equal(kv_lookup(&kv, 1, CHAIN, results), CHAIN);
	assert_int_equal(kv_load(&kv, 0, 1, CHAIN, results), 0);
	assert_int_equal(kv_lookup(&kv, 101, 1, results) + kv_lookup(&kv, 201, 1, results), 0);

	/* as before: a chain is released from its tail, by its user */
	retain(0, 0, 1, HBM_DENIED);
	retain(0, 0, CHAIN, HBM_OK);
	kill_and_go_on();
	await_marks(0, CHAIN - 1);
	for (uint64_t key = CHAIN - 1; key > 0; key--)
		retain(0, 0, key, HBM_OK);
	kill_and_go_on();
	await_marks(0, 0);
	end();
}

/* A block that does not come back takes its marks with it: one that is stored again has none. */
static void test_without_their_blocks_they_go(void **state)
{
	static const char *const late[] = {"device.cache=0",          "ddr.size=4MiB",
					   "nvme.size=16MiB",         "hbmd.checksum=nvme",
					   "hbmd.checksum_idle_ms=0", "nvme.catalog_ms=1",
					   "nvme.catalog_flush_ms=1", NULL};
	(void)state;
	begin(late);
	store(1, CHAIN);
	expect(HBM_WIRE_PIN, CHAIN, HBM_WIRE_KEEP, HBM_OK);
	retain(2, 0, CHAIN, HBM_OK);
	kill_and_go_on();
	assert_int_equal(kv_lookup(&kv, 1, CHAIN, results), 0);
	kill_and_go_on(); /* what is let go of is so by now */
	store(1, CHAIN);
	expect(HBM_WIRE_UNPIN, CHAIN, HBM_WIRE_KEEP, HBM_NOT_FOUND);
	push_to_nvme();
	kill_and_go_on();
	assert_int_equal(kv_lookup(&kv, 1, CHAIN, results), CHAIN);
	await_marks(0, 0);
	expect(HBM_WIRE_UNPIN, CHAIN, HBM_WIRE_KEEP, HBM_NOT_FOUND);
	end();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_pins_are_kept),
		TEST(test_of_blocks_on_nvme_too),
		TEST(test_what_is_retained_goes_last),
		TEST(test_without_their_blocks_they_go),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
