/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences that are suspended to DDR or NVMe and resumed, end to end: alone and in groups,
 * refused, and gone with their client. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/stage.h"
#include "tests/support/suspend_stage.h"

#include <signal.h>
#include <unistd.h>

/* ---- One sequence ---- */

static void suspend_and_resume(enum hbm_tier tier)
{
	struct hbm_sequence *a = suspend_filled(37, 1000), *b = suspend_filled(9, 5000);
	const struct hbm_sequence_facts before = pool_rig_facts(a);
	const uint64_t others = pool_rig_facts(b).mapped_bytes, bytes = before.mapped_bytes;

	suspend_out(a, tier);
	const struct hbm_sequence_facts facts = pool_rig_facts(a);

	assert_int_equal(facts.state, HBM_SEQUENCE_SUSPENDED);
	assert_int_equal(facts.tier, tier);
	assert_int_equal(facts.suspended_bytes, bytes);
	assert_int_equal(facts.mapped_bytes, 0);
	assert_int_equal(facts.tokens, 37);
	assert_int_equal(pool_rig_leased(&suspend_rig), others);
	assert_int_equal(suspend_blocks(), bytes / RIG_SLAB);
	assert_true(spawn_balanced(&daemon_));

	suspend_scribble();
	suspend_in(a);
	const struct hbm_sequence_facts after = pool_rig_facts(a);

	assert_int_equal(after.state, HBM_SEQUENCE_OPEN);
	assert_int_equal(after.tier, HBM_TIER_NONE);
	assert_int_equal(after.suspended_bytes, 0);
	assert_int_equal(after.address, before.address);
	assert_int_equal(after.slot, before.slot);
	assert_int_equal(after.mapped_bytes, bytes);
	assert_int_equal(suspend_blocks(), 0);
	suspend_expect(a, 0, 37, 1000);
	suspend_grow(a, 37, 50, 1000);
	suspend_expect(a, 0, 50, 1000);
	suspend_expect(b, 0, 9, 5000);
	assert_true(spawn_balanced(&daemon_));
}

static void test_suspend_and_resume(void **state)
{
	(void)state;
	for (const char *const *layout = pool_rig_layouts; *layout; layout++)
		for (int tier = HBM_TIER_DDR; tier <= HBM_TIER_NVME; tier++) {
			suspend_start(*layout);
			suspend_and_resume(tier);
			pool_rig_close(&suspend_rig);
			spawn_settle(&daemon_);
		}
	stage_finish(suspend_fds);
}

/* Memory that was in use is free for others: the device has too little for both. */
static void test_what_is_suspended_makes_room(void **state)
{
	(void)state;
	suspend_start(pool_rig_layouts[1]);
	struct hbm_sequence *all[8];
	size_t count = 0;

	while (count < 8) {
		all[count] = pool_rig_sequence(&suspend_rig);
		if (pool_rig_step(&suspend_rig, all[count], RIG_MAX) != 0)
			break;
		for (uint64_t i = 0; i < RIG_MAX; i++)
			pool_rig_write(&suspend_rig, all[count], i, 1000 * count + i);
		count++;
	}
	assert_in_range(count, 2, 7);
	suspend_out(all[0], HBM_TIER_NVME);
	suspend_grow(all[count], 0, RIG_MAX, 9000);
	suspend_refused(hbm_sequences_resume(suspend_rig.pool, all, 1), HBM_NO_SPACE, "memory");
	assert_int_equal(pool_rig_facts(all[0]).state, HBM_SEQUENCE_SUSPENDED);
	assert_int_equal(pool_rig_facts(all[0]).mapped_bytes, 0);
	assert_int_equal(hbm_sequence_close(all[1]), 0);
	suspend_in(all[0]);
	suspend_expect(all[0], 0, RIG_MAX, 0);
	suspend_expect(all[count], 0, RIG_MAX, 9000);
	suspend_finish();
}

/* A slid one, one without tokens, and one with slabs from a longer sequence before. */
static void test_only_what_is_used_is_stored(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 8, .warm_bytes = 64ull << 20};

	suspend_start_with(pool_rig_layouts[0], &options);
	struct hbm_sequence *a = suspend_filled(RIG_MAX, 0);

	assert_int_equal(hbm_sequence_close(a), 0);
	a = pool_rig_sequence(&suspend_rig);
	assert_true(pool_rig_facts(a).mapped_bytes > 0);
	suspend_out(a, HBM_TIER_DDR);
	assert_int_equal(suspend_blocks(), 0);
	assert_int_equal(pool_rig_leased(&suspend_rig), 0);
	suspend_in(a);
	suspend_grow(a, 0, 40, 3000);
	assert_int_equal(hbm_sequence_slide(a, 30), 0);
	const uint64_t mapped = pool_rig_facts(a).mapped_bytes;

	suspend_out(a, HBM_TIER_DDR);
	assert_int_equal(suspend_blocks(), mapped / RIG_SLAB);
	suspend_in(a);
	assert_int_equal(pool_rig_facts(a).mapped_bytes, mapped);
	suspend_expect(a, 30, 40, 3000);
	suspend_finish();
}

/* ---- Groups ---- */

static void test_what_forks_share_is_stored_once(void **state)
{
	(void)state;
	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		suspend_start(*layout);
		struct hbm_sequence *all[4] = {suspend_filled(37, 0)};

		assert_int_equal(hbm_sequence_fork(all[0], 3, all + 1), 0);
		for (uint64_t i = 0; i < 3; i++)
			suspend_grow(all[i], 37, 45, 1000 * i);
		const uint64_t leased = pool_rig_leased(&suspend_rig);

		/* The last one has not been mapped. */
		assert_int_equal(hbm_sequences_suspend(suspend_rig.pool, all, 4, HBM_TIER_NVME), 0);
		assert_int_equal(pool_rig_leased(&suspend_rig), 0);
		assert_int_equal(suspend_blocks(), leased / RIG_SLAB);
		suspend_scribble();
		assert_int_equal(hbm_sequences_resume(suspend_rig.pool, all, 4), 0);
		assert_int_equal(pool_rig_leased(&suspend_rig), leased);
		assert_int_equal(suspend_blocks(), 0);
		for (uint64_t i = 0; i < 3; i++)
			suspend_expect(all[i], 37, 45, 1000 * i);
		for (size_t i = 0; i < 4; i++)
			suspend_expect(all[i], 0, 37, 0);

		/* They are copied again before they are written. */
		assert_int_equal(hbm_sequence_truncate(all[0], 20), 0);
		suspend_grow(all[0], 20, 30, 4000);
		for (size_t i = 1; i < 4; i++)
			suspend_expect(all[i], 0, 37, 0);
		suspend_expect(all[0], 0, 20, 0);
		suspend_expect(all[0], 20, 30, 4000);
		assert_true(spawn_balanced(&daemon_));
		pool_rig_close(&suspend_rig);
		spawn_settle(&daemon_);
	}
	stage_finish(suspend_fds);
}

/* One at a time: each gets slabs of its own. */
static void test_forks_that_go_and_come_alone(void **state)
{
	(void)state;
	suspend_start(pool_rig_layouts[0]);
	struct hbm_sequence *all[3] = {suspend_filled(37, 0)};

	assert_int_equal(hbm_sequence_fork(all[0], 2, all + 1), 0);
	suspend_out(all[0], HBM_TIER_DDR);
	for (size_t i = 1; i < 3; i++)
		suspend_grow(all[i], 37, 40, 1000 * i);
	suspend_expect(all[1], 0, 37, 0);
	suspend_in(all[0]);
	suspend_expect(all[0], 0, 37, 0);
	suspend_grow(all[0], 37, 60, 500);
	suspend_expect(all[1], 37, 40, 1000);

	/* A group of which one comes back alone, and the other is closed. */
	assert_int_equal(hbm_sequences_suspend(suspend_rig.pool, all + 1, 2, HBM_TIER_NVME), 0);
	suspend_in(all[1]);
	suspend_expect(all[1], 0, 37, 0);
	assert_true(suspend_blocks() > 0);
	assert_int_equal(hbm_sequence_close(all[2]), 0);
	assert_int_equal(suspend_blocks(), 0);
	suspend_grow(all[1], 40, 50, 1000);
	suspend_expect(all[0], 0, 37, 0);
	suspend_finish();
}

/* More is pinned than may be: nothing is stored, and all go on. */
static void test_a_group_that_is_refused_goes_on(void **state)
{
	(void)state;
	suspend_start(pool_rig_layouts[1]);
	struct hbm_sequence *all[2] = {suspend_filled(RIG_MAX, 0), suspend_filled(RIG_MAX, 5000)};

	suspend_refused(hbm_sequences_suspend(suspend_rig.pool, all, 2, HBM_TIER_DDR), HBM_LIMIT,
			"stored");
	assert_int_equal(suspend_blocks(), 0);
	for (uint64_t i = 0; i < 2; i++) {
		assert_int_equal(pool_rig_facts(all[i]).state, HBM_SEQUENCE_OPEN);
		assert_int_equal(pool_rig_facts(all[i]).suspended_bytes, 0);
		assert_int_equal(pool_rig_step(&suspend_rig, all[i], RIG_MAX), 0);
		suspend_expect(all[i], 0, RIG_MAX, 5000 * i);
	}
	suspend_out(all[0], HBM_TIER_DDR);
	suspend_in(all[0]);
	suspend_expect(all[0], 0, RIG_MAX, 0);
	assert_true(spawn_balanced(&daemon_));
	suspend_finish();
}

/* ---- Promised memory ---- */

static uint64_t promised(void)
{
	struct hbm_device_memory memory;

	assert_int_equal(hbm_device_memory(suspend_rig.hbm, 0, &memory), 0);

	return memory.promised;
}

static void test_nothing_is_promised_to_what_is_suspended(void **state)
{
	(void)state;
	const struct hbm_sequence_options options = {.expected = 60};
	struct hbm_sequence *a, *rest;

	suspend_start(pool_rig_layouts[0]);
	assert_int_equal(hbm_sequence_open(suspend_rig.pool, &options, &a), 0);
	suspend_grow(a, 0, 20, 0);
	const uint64_t before = promised();

	assert_true(before > 0);
	suspend_out(a, HBM_TIER_NVME);
	assert_int_equal(promised(), 0);
	suspend_in(a);
	assert_int_equal(promised(), before);
	suspend_out(a, HBM_TIER_NVME);
	assert_int_equal(hbm_sequence_close(a), 0);
	assert_int_equal(promised(), 0);

	/* Others have the memory: nothing stays promised to one that stays suspended. */
	assert_int_equal(hbm_sequence_open(suspend_rig.pool, &options, &a), 0);
	suspend_grow(a, 0, 2, 0);
	suspend_out(a, HBM_TIER_NVME);
	for (uint64_t n = 1; n <= 8; n++) {
		if (hbm_sequence_open(suspend_rig.pool, NULL, &rest) != 0)
			break;
		for (uint64_t i = 1; i <= RIG_MAX && pool_rig_step(&suspend_rig, rest, i) == 0; i++)
			;
	}
	suspend_refused(hbm_sequences_resume(suspend_rig.pool, &a, 1), HBM_NO_SPACE, "memory");
	assert_int_equal(pool_rig_facts(a).state, HBM_SEQUENCE_SUSPENDED);
	assert_int_equal(promised(), 0);
	suspend_finish();
}

/* ---- What is refused ---- */

static void test_what_is_refused(void **state)
{
	(void)state;
	suspend_start(pool_rig_layouts[0]);
	struct hbm_sequence *a = suspend_filled(20, 0), *closed = suspend_filled(1, 0), *forks[1];
	struct hbm_sequence *pair[] = {a, a}, *none[] = {NULL}, *gone[] = {closed};
	const uint64_t length = 21;
	const uint32_t from[] = {0};

	assert_int_equal(hbm_sequence_close(closed), 0);
	suspend_refused(hbm_sequences_suspend(suspend_rig.pool, &a, 1, HBM_TIER_NONE), HBM_INVALID,
			"tier 0");
	suspend_refused(hbm_sequences_suspend(suspend_rig.pool, &a, 1, HBM_TIER_HBM), HBM_INVALID,
			"tier");
	suspend_refused(hbm_sequences_suspend(suspend_rig.pool, &a, 1, HBM_TIERS), HBM_INVALID,
			"tier");
	suspend_refused(hbm_sequences_suspend(suspend_rig.pool, pair, 2, HBM_TIER_DDR), HBM_INVALID,
			"twice");
	suspend_refused(hbm_sequences_suspend(suspend_rig.pool, none, 1, HBM_TIER_DDR), HBM_INVALID,
			"NULL");
	suspend_refused(hbm_sequences_suspend(suspend_rig.pool, gone, 1, HBM_TIER_DDR), HBM_INVALID,
			"closed");
	suspend_refused(hbm_sequences_resume(suspend_rig.pool, &a, 1), HBM_INVALID,
			"not suspended");
	suspend_refused(hbm_sequences_resume(suspend_rig.pool, gone, 1), HBM_INVALID, "closed");
	assert_int_equal(pool_rig_facts(a).state, HBM_SEQUENCE_OPEN);

	suspend_out(a, HBM_TIER_DDR);
	suspend_refused(hbm_sequences_suspend(suspend_rig.pool, &a, 1, HBM_TIER_DDR), HBM_INVALID,
			"suspended");
	suspend_refused(hbm_step(suspend_rig.pool, &a, &length, 1), HBM_INVALID, "suspended");
	suspend_refused(hbm_sequence_fork(a, 1, forks), HBM_INVALID, "suspended");
	suspend_refused(hbm_sequence_truncate(a, 1), HBM_INVALID, "suspended");
	suspend_refused(hbm_sequence_slide(a, 1), HBM_INVALID, "suspended");
	suspend_refused(hbm_sequences_reorder(suspend_rig.pool, &a, from, 1), HBM_INVALID,
			"suspended");
	suspend_refused(hbm_sequences_resume(suspend_rig.pool, pair, 2), HBM_INVALID, "twice");
	assert_int_equal(pool_rig_facts(a).state, HBM_SEQUENCE_SUSPENDED);
	suspend_in(a);
	suspend_refused(hbm_sequences_resume(suspend_rig.pool, &a, 1), HBM_INVALID,
			"not suspended");
	suspend_expect(a, 0, 20, 0);
	suspend_finish();
}

static void test_close_drops_what_is_suspended(void **state)
{
	(void)state;
	suspend_start(pool_rig_layouts[0]);
	struct hbm_sequence *a = suspend_filled(20, 0), *b = suspend_filled(30, 100);

	suspend_out(a, HBM_TIER_DDR);
	suspend_out(b, HBM_TIER_NVME);
	assert_int_equal(hbm_sequence_close(a), 0);
	struct hbm_layout_use use;

	hbm_layout_use(suspend_rig.layout, 30, &use);
	assert_int_equal(suspend_blocks(), use.slabs);
	assert_true(spawn_balanced(&daemon_));
	suspend_finish(); /* the other goes with its pool */
}

/* ---- Killed ---- */

static void park(const struct spawn *spawn, uint64_t number)
{
	const struct hbm_pool_options options = {.max_sequences = 8};

	pool_rig_open(&suspend_rig, spawn, pool_rig_layouts[0], &options);
	suspend_out(suspend_filled(RIG_MAX, 0), (enum hbm_tier)number);
	child_tell();
	pause();
}

static const struct child_part parts[] = {{"park", park}, {NULL, NULL}};

static void test_what_a_killed_client_had_suspended_goes(void **state)
{
	(void)state;
	struct child child;

	suspend_start(pool_rig_layouts[0]);
	for (uint64_t tier = HBM_TIER_DDR; tier <= HBM_TIER_NVME; tier++) {
		child_start(&child, "park", &daemon_, tier);
		child_await(&child);
		assert_true(suspend_blocks() > 0);
		assert_int_equal(child_kill(&child), 128 + SIGKILL);
		while (suspend_blocks() > 0)
			usleep(1000);
		spawn_settle(&daemon_);
		assert_true(spawn_balanced(&daemon_));
	}
	suspend_finish();
}

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_suspend_and_resume),
		TEST(test_what_is_suspended_makes_room),
		TEST(test_only_what_is_used_is_stored),
		TEST(test_what_forks_share_is_stored_once),
		TEST(test_forks_that_go_and_come_alone),
		TEST(test_a_group_that_is_refused_goes_on),
		TEST(test_nothing_is_promised_to_what_is_suspended),
		TEST(test_what_is_refused),
		TEST(test_close_drops_what_is_suspended),
		TEST(test_what_a_killed_client_had_suspended_goes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
