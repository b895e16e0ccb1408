/* SPDX-License-Identifier: Apache-2.0 */
/* Pools that suspend idle sequences by themselves where device memory becomes scarce, end to end:
 * which, in which order, how many, and never one that is in use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/stage.h"
#include "tests/support/suspend_stage.h"
#include "tests/support/system_calls.h"

#include <string.h>
#include <unistd.h>

#define IDLE 6u
#define LOW (40ull << 20)
#define HIGH (90ull << 20)

/* The last one is in use. */
static struct hbm_sequence *all[IDLE + 1];

static enum hbm_sequence_state state_of(size_t i)
{
	return pool_rig_facts(all[i]).state;
}

static uint64_t suspended(void)
{
	struct hbm_pool_facts facts;

	hbm_pool_facts(suspend_rig.pool, &facts);

	return facts.totals.suspended;
}

static void start(bool thread, uint64_t low, uint64_t high, enum hbm_tier tier)
{
	const struct hbm_pool_options options = {.max_sequences = 16,
						 .map_ahead_thread = thread,
						 .watermark_low = low,
						 .watermark_high = high,
						 .watermark_tier = tier};

	suspend_start_with(pool_rig_layouts[0], &options);
}

static uint64_t tokens_of(size_t i)
{
	return 50 + 2 * i;
}

/* Idle ones, with priorities and next uses that repeat. */
static void open_idle(void)
{
	for (size_t i = 0; i < IDLE; i++) {
		const struct hbm_sequence_options options = {.priority = (int32_t)(i / 2 % 2)};

		assert_int_equal(hbm_sequence_open(suspend_rig.pool, &options, &all[i]), 0);
		suspend_grow(all[i], 0, tokens_of(i), 1000 * i);
		assert_int_equal(hbm_sequence_idle(all[i], true, i % 2), 0);
	}
}

static uint64_t in_use; /* tokens of the last one */

/* The one in use takes what is left, but for less than the low watermark. */
static void open_in_use(uint64_t low)
{
	all[IDLE] = pool_rig_sequence(&suspend_rig);
	for (in_use = 1; in_use < RIG_MAX; in_use++) {
		suspend_grow(all[IDLE], in_use - 1, in_use, 7000);
		if (suspend_memory() < low)
			return;
	}
	fail_msg("%llu bytes are free", (unsigned long long)suspend_memory());
}

static void check_contents(void)
{
	for (size_t i = 0; i < IDLE; i++) {
		/* What was resumed before has taken memory that others may have to leave. */
		assert_int_equal(hbm_sequence_idle(all[i], false, 0), 0);
		if (state_of(i) == HBM_SEQUENCE_SUSPENDED)
			suspend_in(all[i]);
		assert_int_equal(state_of(i), HBM_SEQUENCE_OPEN);
		suspend_expect(all[i], 0, tokens_of(i), 1000 * i);
		assert_int_equal(hbm_sequence_close(all[i]), 0);
	}
	suspend_expect(all[IDLE], 0, in_use, 7000);
}

/* ---- Which ---- */

/* By priority, then next use, then slot. */
static const size_t order[IDLE] = {5, 1, 4, 0, 3, 2};

/* Takes it on until nothing is under way. Steps of the one in use are as ever. */
static void rest(void)
{
	bool in_flight = true;

	while (in_flight) {
		assert_int_equal(hbm_pool_map_ahead(suspend_rig.pool), 0);
		assert_int_equal(pool_rig_step(&suspend_rig, all[IDLE], in_use), 0);
		in_flight = false;
		for (size_t i = 0; i < IDLE; i++)
			in_flight |= state_of(i) == HBM_SEQUENCE_SUSPENDING;
	}
}

/* One after the other, and no more than it takes. */
static void test_the_order(void **state)
{
	(void)state;
	uint64_t free, gone = 0;

	start(false, LOW, HIGH, HBM_TIER_NVME);
	open_idle();
	assert_int_equal(hbm_pool_map_ahead(suspend_rig.pool), 0);
	assert_int_equal(suspended(), 0);
	open_in_use(LOW);

	free = suspend_memory();
	while (free < HIGH) {
		uint64_t bytes = pool_rig_facts(all[order[gone]]).mapped_bytes;

		while (suspended() == gone) {
			assert_int_equal(hbm_pool_map_ahead(suspend_rig.pool), 0);
			for (size_t i = gone + 1; suspended() == gone && i < IDLE; i++)
				assert_int_equal(state_of(order[i]), HBM_SEQUENCE_OPEN);
		}
		assert_int_equal(state_of(order[gone]), HBM_SEQUENCE_SUSPENDED);
		assert_int_equal(pool_rig_facts(all[order[gone]]).tier, HBM_TIER_NVME);
		free += bytes;
		gone++;
	}
	assert_in_range(gone, 2, IDLE - 1);
	rest();
	assert_int_equal(suspended(), gone);
	assert_int_equal(suspend_memory(), free);

	/* Above the low watermark again, and below the high one: no more go. */
	while (suspend_memory() >= HIGH)
		suspend_grow(all[IDLE], in_use, in_use + 1, 7000), in_use++;
	assert_true(suspend_memory() > LOW);
	rest();
	assert_int_equal(suspended(), gone);
	assert_int_equal(state_of(IDLE), HBM_SEQUENCE_OPEN);
	assert_true(spawn_balanced(&daemon_));
	check_contents();
	suspend_finish();
}

/* They are demoted and promoted while they are open: the last to go is the first, and the first
 * stays. */
static void test_priorities_that_change(void **state)
{
	(void)state;
	struct hbm_sequence *first, *last;
	struct hbm_wire_sequence shown;

	start(false, LOW, HIGH, HBM_TIER_NVME);
	open_idle();
	first = all[order[0]], last = all[order[IDLE - 1]];
	assert_int_equal(hbm_sequence_set_priority(last, -7, 1), 0);
	assert_int_equal(hbm_sequence_set_priority(first, 9, 2), 0);
	shown = pool_rig_shown(&suspend_rig, pool_rig_facts(last).number);
	assert_int_equal(shown.priority, -7);
	assert_int_equal(shown.next_use, 1);
	assert_int_equal(pool_rig_facts(first).priority, 9);
	assert_int_equal(pool_rig_facts(first).next_use, 2);

	open_in_use(LOW);
	while (suspended() == 0)
		assert_int_equal(hbm_pool_map_ahead(suspend_rig.pool), 0);
	assert_int_equal(state_of(order[IDLE - 1]), HBM_SEQUENCE_SUSPENDED);
	rest();
	assert_true(suspended() > 1);
	assert_int_equal(state_of(order[0]), HBM_SEQUENCE_OPEN);

	/* One that has gone stays away, and has what it is given. */
	assert_int_equal(hbm_sequence_set_priority(last, 10, 3), 0);
	assert_int_equal(pool_rig_facts(last).priority, 10);
	assert_int_equal(pool_rig_facts(last).state, HBM_SEQUENCE_SUSPENDED);
	check_contents();
	assert_int_equal(hbm_sequence_set_priority(last, 0, 0), HBM_INVALID);
	assert_int_equal(hbm_sequence_set_priority(NULL, 0, 0), HBM_INVALID);
	suspend_finish();
}

/* Nothing is due: it is a look at memory that is shared. */
static void test_a_look_makes_no_call(void **state)
{
	(void)state;
	start(false, LOW / 4, 0, HBM_TIER_NONE);
	open_idle();
	open_in_use(LOW);
	assert_true(suspend_memory() >= LOW / 4);
	assert_int_equal(hbm_pool_map_ahead(suspend_rig.pool), 0);
	if (system_calls_begin()) {
		int r = hbm_pool_map_ahead(suspend_rig.pool);

		assert_int_equal(system_calls_end(), 0);
		assert_int_equal(r, 0);
	}
	assert_int_equal(suspended(), 0);
	suspend_finish();
}

/* ---- What it is for ---- */

/* Memory for a new one is free before it is asked for; without the watermark it is refused. */
static void open_another(bool with)
{
	start(false, with ? LOW : 0, HIGH, HBM_TIER_NONE);
	open_idle();
	open_in_use(LOW / 2);
	rest();
	struct hbm_sequence *other = pool_rig_sequence(&suspend_rig);
	const uint64_t before = suspended();

	assert_int_equal(before > 0, with);
	assert_int_equal(pool_rig_step(&suspend_rig, other, RIG_MAX), with ? 0 : HBM_NO_SPACE);
	assert_int_equal(suspended(), before);
	if (with) {
		for (uint64_t i = 0; i < RIG_MAX; i++)
			pool_rig_write(&suspend_rig, other, i, 9000 + i);
		suspend_expect(other, 0, RIG_MAX, 9000);
		assert_int_equal(pool_rig_facts(all[order[0]]).tier, HBM_TIER_DDR);
	}
	assert_int_equal(hbm_sequence_close(other), 0);
	check_contents();
	pool_rig_close(&suspend_rig);
	spawn_settle(&daemon_);
}

static void test_a_new_one_need_not_wait(void **state)
{
	(void)state;
	open_another(false);
	open_another(true);
	stage_finish(suspend_fds);
}

static void await_memory(uint64_t bytes)
{
	while (suspend_memory() < bytes)
		usleep(1000);
}

/* The pool's thread does it, and no call. Those in use are never touched. */
static void test_the_thread(void **state)
{
	(void)state;
	struct hbm_sequence *used[3];

	start(true, LOW, HIGH, HBM_TIER_NVME);
	open_idle();
	await_memory(HIGH);
	for (size_t i = 0; i < 3; i++) {
		await_memory(LOW);
		used[i] = suspend_filled(RIG_MAX, 5000 * i);
		for (size_t k = 0; k <= i; k++) {
			const uint64_t length = RIG_MAX;

			assert_int_equal(hbm_step(suspend_rig.pool, &used[k], &length, 1), 0);
		}
	}
	await_memory(LOW);
	assert_in_range(suspended(), 3, IDLE);
	assert_string_equal(hbm_pool_error(suspend_rig.pool), "");
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(pool_rig_facts(used[i]).state, HBM_SEQUENCE_OPEN);
		suspend_expect(used[i], 0, RIG_MAX, 5000 * i);
		assert_int_equal(hbm_sequence_close(used[i]), 0);
	}
	all[IDLE] = pool_rig_sequence(&suspend_rig);
	in_use = 0;
	check_contents();
	suspend_finish();
}

/* ---- What is wanted back ---- */

static void send_one_out(size_t i)
{
	suspend_hold();
	while (state_of(i) == HBM_SEQUENCE_OPEN)
		assert_int_equal(hbm_pool_map_ahead(suspend_rig.pool), 0);
	assert_int_equal(state_of(i), HBM_SEQUENCE_SUSPENDING);
	suspend_let_go();
}

/* A call on one that is on its way out brings it back, and it is not taken again. */
static void test_one_that_is_used_comes_back(void **state)
{
	(void)state;
	spawn_needs_soft();
	suspend_start_held();
	start(false, 150ull << 20, 0, HBM_TIER_DDR);
	struct hbm_sequence *a = suspend_filled(50, 1000), *b = suspend_filled(RIG_MAX, 0);
	const uint64_t length = 51;

	all[0] = a;
	assert_int_equal(hbm_sequence_idle(a, true, 0), 0);
	send_one_out(0);
	assert_int_equal(hbm_sequence_idle(a, false, 3), 0);
	suspend_join();
	assert_int_equal(state_of(0), HBM_SEQUENCE_OPEN);
	assert_int_equal(pool_rig_shown(&suspend_rig, pool_rig_facts(a).number).next_use, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(hbm_pool_map_ahead(suspend_rig.pool), 0);
	assert_int_equal(state_of(0), HBM_SEQUENCE_OPEN);
	suspend_expect(a, 0, 50, 1000);

	assert_int_equal(hbm_sequence_idle(a, true, 0), 0);
	send_one_out(0);
	assert_int_equal(hbm_step(suspend_rig.pool, &a, &length, 1), 0);
	suspend_join();
	pool_rig_write(&suspend_rig, a, 50, 1050);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(hbm_pool_map_ahead(suspend_rig.pool), 0);
	assert_int_equal(state_of(0), HBM_SEQUENCE_OPEN);
	suspend_expect(a, 0, 51, 1000);

	assert_int_equal(hbm_sequence_idle(a, true, 0), 0);
	send_one_out(0);
	assert_int_equal(hbm_sequences_resume(suspend_rig.pool, &a, 1), 0);
	suspend_join();
	assert_int_equal(state_of(0), HBM_SEQUENCE_OPEN);
	suspend_expect(a, 0, 51, 1000);

	assert_int_equal(hbm_sequence_idle(a, true, 0), 0);
	send_one_out(0);
	assert_int_equal(hbm_sequence_close(a), 0);
	suspend_join();
	assert_int_equal(suspended(), 0);
	assert_int_equal(suspend_blocks(), 0);

	/* And a pool is closed meanwhile. */
	all[0] = b;
	assert_int_equal(hbm_sequence_idle(b, true, 0), 0);
	send_one_out(0);
	pool_rig_close(&suspend_rig);
	suspend_join();
	stage_finish(suspend_fds);
}

/* Where there is no room for them they stay, and no call says so. */
static void test_a_tier_that_is_full(void **state)
{
	(void)state;
	spawn_start(&daemon_, (const char *[]){"device.cache=8MiB", "ddr.size=16MiB", NULL}, NULL);
	suspend_fds = spawn_fds(&daemon_);
	start(false, LOW, HIGH, HBM_TIER_DDR);
	open_idle();
	open_in_use(LOW);
	for (unsigned i = 0; i < 10; i++)
		rest();
	assert_int_equal(suspended(), 0);
	for (size_t i = 0; i < IDLE; i++)
		assert_int_equal(state_of(i), HBM_SEQUENCE_OPEN);
	assert_int_equal(suspend_blocks(), 0);
	check_contents();
	suspend_finish();
}

/* ---- What is refused ---- */

static void refused(struct hbm_pool_options options, const char *text)
{
	struct hbm_pool *pool;

	options.layout = suspend_rig.layout;
	options.max_sequences = 1;
	assert_int_equal(hbm_pool_open(suspend_rig.hbm, &options, &pool), HBM_INVALID);
	if (!strstr(hbm_error(suspend_rig.hbm), text))
		fail_msg("%s", hbm_error(suspend_rig.hbm));
}

static void test_what_is_refused(void **state)
{
	(void)state;
	start(false, 0, 0, HBM_TIER_NONE);
	refused((struct hbm_pool_options){.watermark_low = 2, .watermark_high = 1},
		"less than watermark_low");
	refused((struct hbm_pool_options){.watermark_low = 2, .watermark_tier = HBM_TIER_HBM},
		"tier");
	refused((struct hbm_pool_options){.watermark_low = 2, .watermark_tier = HBM_TIERS}, "tier");
	suspend_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_the_order),
		TEST(test_priorities_that_change),
		TEST(test_a_look_makes_no_call),
		TEST(test_a_new_one_need_not_wait),
		TEST(test_the_thread),
		TEST(test_one_that_is_used_comes_back),
		TEST(test_a_tier_that_is_full),
		TEST(test_what_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
