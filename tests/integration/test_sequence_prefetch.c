/* SPDX-License-Identifier: Apache-2.0 */
/* Suspended sequences that come up from NVMe to DDR by a deadline, end to end. A disk that
 * answers only so many reads shows which were made first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/stage.h"
#include "tests/support/suspend_stage.h"

#include <stdio.h>
#include <unistd.h>

#define TOKENS 30u
#define FAR (600ull * 1000000) /* us */

static uint64_t slabs(void)
{
	struct hbm_layout_use use;

	assert_int_equal(hbm_layout_use(suspend_rig.layout, TOKENS, &use), 0);

	return use.slabs;
}

static int look_at_tier(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;

	assert_int_equal(bytes, sizeof(*tier));
	if (tier->tier == HBM_TIER_DDR)
		*(struct hbm_wire_tier *)arg = *tier;

	return 0;
}

static uint64_t placed_in_ddr(void)
{
	struct hbm_wire_tier tier = {0};

	assert_int_equal(hbm_query(suspend_rig.hbm, HBM_QUERY_TIERS, look_at_tier, &tier), 0);

	return tier.placed;
}

static void gate(char *path, size_t size)
{
	snprintf(path, size, "%s.hang", daemon_.nvme);
}

static void answer(void)
{
	char path[160];

	gate(path, sizeof(path));
	assert_int_equal(unlink(path), 0);
}

/* A disk that moves one block at a time, and that answers no more than `reads` reads while the
 * gate is closed. */
static void start(uint64_t reads)
{
	char fault[64], path[160];

	snprintf(fault, sizeof(fault), "nvme.fail=read:%llu+:hang", (unsigned long long)reads + 1);
	const char *const sets[] = {"device.cache=8MiB",
				    "ddr.size=128MiB",
				    "nvme.size=256MiB",
				    "limits.moves=2",
				    fault,
				    NULL};

	spawn_start(&daemon_, sets, NULL);
	suspend_fds = spawn_fds(&daemon_);
	gate(path, sizeof(path));
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	fclose(file);
	suspend_start(pool_rig_layouts[0]);
}

static void prefetch(struct hbm_sequence *sequence, uint64_t deadline_us)
{
	if (hbm_sequences_prefetch(suspend_rig.pool, &sequence, 1, HBM_TIER_DDR, deadline_us) != 0)
		fail_msg("%s", hbm_pool_error(suspend_rig.pool));
	assert_int_equal(pool_rig_facts(sequence).tier, HBM_TIER_DDR);
}

/* The disk reads one block of what is asked for first, and then all of the second before
 * more of the first. */
static void second_is_first(uint64_t first_us, uint64_t second_us)
{
	struct hbm_layout *layout;
	struct hbm_layout_use use;

	assert_int_equal(hbm_layout_parse(&layout, pool_rig_layouts[0], NULL, 0), 0);
	assert_int_equal(hbm_layout_use(layout, TOKENS, &use), 0);
	hbm_layout_free(layout);
	start(use.slabs + 1);

	struct hbm_sequence *a = suspend_filled(TOKENS, 1000), *b = suspend_filled(TOKENS, 5000);

	suspend_out(a, HBM_TIER_NVME);
	suspend_out(b, HBM_TIER_NVME);
	suspend_scribble();
	assert_int_equal(placed_in_ddr(), 0);
	prefetch(a, first_us);
	prefetch(b, second_us);
	while (placed_in_ddr() < (slabs() + 1) * RIG_SLAB)
		usleep(1000);

	/* Nothing of it is on the disk any more. */
	suspend_in(b);
	suspend_expect(b, 0, TOKENS, 5000);
	answer();
	suspend_in(a);
	suspend_expect(a, 0, TOKENS, 1000);
	assert_true(spawn_balanced(&daemon_));
	suspend_finish();
}

static void test_the_nearer_deadline_is_up_first(void **state)
{
	(void)state;
	second_is_first(FAR, FAR / 2);
}

static void test_one_that_is_late_delays_none(void **state)
{
	(void)state;
	second_is_first(1, FAR);
}

/* Without a deadline they move in the order they were asked for. */
static void test_without_a_deadline(void **state)
{
	(void)state;
	suspend_start(pool_rig_layouts[0]);
	struct hbm_sequence *a = suspend_filled(TOKENS, 1000), *b;

	assert_int_equal(hbm_sequence_fork(a, 1, &b), 0);
	assert_int_equal(hbm_sequences_suspend(suspend_rig.pool, (struct hbm_sequence *[]){a, b}, 2,
					       HBM_TIER_NVME),
			 0);
	const uint64_t blocks = suspend_blocks();

	prefetch(a, 0);
	prefetch(b, 0);
	while (placed_in_ddr() < blocks * RIG_SLAB)
		usleep(1000);
	assert_int_equal(hbm_sequences_prefetch(suspend_rig.pool, &b, 1, HBM_TIER_NVME, FAR), 0);
	assert_int_equal(pool_rig_facts(b).tier, HBM_TIER_NVME);
	assert_int_equal(hbm_sequence_close(b), 0);
	suspend_in(a);
	suspend_expect(a, 0, TOKENS, 1000);
	assert_int_equal(suspend_blocks(), 0);
	suspend_finish();
}

/* The client goes while most of it waits. */
static void test_close_while_they_wait(void **state)
{
	(void)state;
	start(1);
	struct hbm_sequence *a = suspend_filled(TOKENS, 0), *b = suspend_filled(TOKENS, 0);

	suspend_out(a, HBM_TIER_NVME);
	suspend_out(b, HBM_TIER_NVME);
	prefetch(a, FAR);
	prefetch(b, 1);
	while (placed_in_ddr() < RIG_SLAB)
		usleep(1000);
	assert_int_equal(hbm_sequence_close(a), 0);
	answer();
	suspend_finish();
}

/* Half of DDR may be pinned: one of two, which is then in DDR. */
static void one_of(struct hbm_sequence *first, struct hbm_sequence *second, size_t chosen)
{
	struct hbm_sequence *both[] = {first, second};

	suspend_refused(hbm_sequences_prefetch(suspend_rig.pool, both, 2, HBM_TIER_DDR, FAR),
			HBM_LIMIT, "not moved");
	assert_int_equal(pool_rig_facts(both[chosen]).tier, HBM_TIER_DDR);
	assert_int_equal(pool_rig_facts(both[1 - chosen]).tier, HBM_TIER_NVME);
	assert_int_equal(
		hbm_sequences_prefetch(suspend_rig.pool, &both[chosen], 1, HBM_TIER_NVME, FAR), 0);
}

/* The highest priority as it is now is up first, of these the next use, whatever their order in the
 * call; and of equals, as they are in it. */
static void test_the_highest_priority_is_up_first(void **state)
{
	(void)state;
	suspend_start(pool_rig_layouts[1]);
	struct hbm_sequence *a = suspend_filled(RIG_MAX, 1000), *b = suspend_filled(RIG_MAX, 5000);

	suspend_out(a, HBM_TIER_NVME);
	suspend_out(b, HBM_TIER_NVME);
	one_of(a, b, 0);
	one_of(b, a, 0);
	assert_int_equal(hbm_sequence_set_priority(b, 1, 9), 0);
	one_of(a, b, 1);
	assert_int_equal(hbm_sequence_set_priority(a, 1, 8), 0);
	one_of(b, a, 1);
	suspend_in(b);
	suspend_in(a);
	suspend_expect(a, 0, RIG_MAX, 1000);
	suspend_expect(b, 0, RIG_MAX, 5000);
	suspend_finish();
}

static void test_what_is_refused(void **state)
{
	(void)state;
	suspend_start(pool_rig_layouts[1]);
	struct hbm_sequence *a = suspend_filled(RIG_MAX, 1000), *b = suspend_filled(RIG_MAX, 5000);
	struct hbm_sequence *both[] = {a, b}, *none = NULL;

	suspend_refused(hbm_sequences_prefetch(suspend_rig.pool, &a, 1, HBM_TIER_DDR, 0),
			HBM_INVALID, "not suspended");
	suspend_refused(hbm_sequences_prefetch(suspend_rig.pool, &none, 1, HBM_TIER_DDR, 0),
			HBM_INVALID, "NULL");
	suspend_out(a, HBM_TIER_NVME);
	suspend_out(b, HBM_TIER_NVME);
	suspend_refused(hbm_sequences_prefetch(suspend_rig.pool, both, 2, HBM_TIER_HBM, 0),
			HBM_INVALID, "tier");
	/* Half of DDR may be pinned: one of them. */
	suspend_refused(hbm_sequences_prefetch(suspend_rig.pool, both, 2, HBM_TIER_DDR, FAR),
			HBM_LIMIT, "not moved");
	assert_int_equal(pool_rig_facts(a).tier, HBM_TIER_DDR);
	assert_int_equal(pool_rig_facts(b).tier, HBM_TIER_NVME);
	assert_true(spawn_balanced(&daemon_));
	suspend_in(b);
	suspend_in(a);
	suspend_expect(a, 0, RIG_MAX, 1000);
	suspend_expect(b, 0, RIG_MAX, 5000);
	suspend_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_the_nearer_deadline_is_up_first),
		TEST(test_one_that_is_late_delays_none),
		TEST(test_without_a_deadline),
		TEST(test_close_while_they_wait),
		TEST(test_the_highest_priority_is_up_first),
		TEST(test_what_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
