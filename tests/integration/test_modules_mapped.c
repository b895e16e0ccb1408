/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules whose slabs are mapped: where a module is whole slabs of a sequence, all that have it
 * at such a position have the same ones, whoever leaves first; what is written is a copy; what
 * does not line up is copied.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/device_record.h"
#include "tests/support/hbmctl.h"
#include "tests/support/module_stage.h"
#include "tests/support/stage.h"

#include <poll.h>
#include <signal.h>

/* ---- Several processes ---- */

static volatile sig_atomic_t told;

static void hear(int signal)
{
	(void)signal;
	told = 1;
}

static void wait_until_told(void)
{
	while (!told)
		poll(NULL, 0, 10);
}

/* Has it, and writes behind it and into it. */
static void have_it(const struct spawn *spawn, uint64_t number)
{
	signal(SIGUSR1, hear);
	pool_rig_open(&module_rig, spawn, cached_rig_layouts[number], &module_pool);
	struct hbm_sequence *sequence = module_stage_mapped(MODULE_AT, MODULE_OWN, MODULE_LENT);

	child_tell();
	wait_until_told();

	/* Whatever has become of the lender. */
	module_stage_expect_mapped(sequence, MODULE_AT, MODULE_OWN);
	module_stage_grow(sequence, MODULE_AT + MODULE_TOKENS + 4, MODULE_OWN);
	module_stage_expect_mapped(sequence, MODULE_AT, MODULE_OWN);
	assert_int_equal(hbm_sequence_truncate(sequence, MODULE_AT + 4), 0);
	module_stage_grow(sequence, MODULE_AT + MODULE_TOKENS, MODULE_OWN);
	module_stage_expect(sequence, MODULE_AT, 4, MODULE_FIRST, MODULE_TAG);
	module_stage_expect(sequence, MODULE_AT + 4, MODULE_TOKENS - 4, MODULE_AT + 4, MODULE_OWN);
	child_tell();
	for (;;)
		poll(NULL, 0, 1000);
}

static void several_processes(uint64_t number)
{
	struct child children[2];

	module_stage_start(NULL, cached_rig_layouts[number]);
	struct hbm_sequence *source = module_stage_sequence(MODULE_SOURCE, MODULE_TAG);
	const uint64_t slabs = module_stage_leased();

	/* What is put lies where it was. */
	assert_int_equal(module_stage_put(source, 1), 0);
	module_stage_await_leased(slabs);
	assert_int_equal(module_stage_lent(), MODULE_LENT);
	module_stage_check(source, 0);
	assert_int_equal(pool_rig_facts(source).shared_bytes, MODULE_LENT * RIG_SLAB);

	/* Each has four slabs of its own: what is in front of the module's, and behind. */
	for (uint64_t i = 0; i < 2; i++) {
		child_start(&children[i], "have_it", &daemon_, number);
		child_await(&children[i]);
		module_stage_await_leased(slabs + 4 * (i + 1));
		assert_int_equal(module_stage_lent(), MODULE_LENT);
		assert_int_equal(device_record(module_rig.hbm).loans, 0);
	}
	hbmctl_expect("verify", 0);
	hbmctl_expect("verify --lent", 0);

	/* The lender writes to its own, and leaves. */
	assert_int_equal(hbm_sequence_truncate(source, MODULE_FIRST + 3), 0);
	module_stage_grow(source, MODULE_SOURCE, MODULE_OWN);
	module_stage_expect(source, 0, MODULE_FIRST + 3, 0, MODULE_TAG);
	module_stage_expect(source, MODULE_FIRST + 3, MODULE_SOURCE - MODULE_FIRST - 3,
			    MODULE_FIRST + 3, MODULE_OWN);
	module_stage_close(source);
	module_stage_await_leased(MODULE_LENT + 8);
	for (uint64_t i = 0; i < 2; i++) {
		kill(children[i].pid, SIGUSR1);
		child_await(&children[i]);
		assert_true(spawn_balanced(&daemon_));
		assert_int_equal(child_kill(&children[i]), 128 + SIGKILL);
	}

	/* Nobody has it, and the next has it again. */
	module_stage_close(module_stage_mapped(MODULE_AT + 4, MODULE_OWN, MODULE_LENT));
	module_stage_await_leased(MODULE_LENT);
	module_stage_drop_all();
	module_stage_finish();
}

static void test_processes_have_one_module(void **state)
{
	(void)state;
	for (uint64_t i = 0; cached_rig_layouts[i]; i++)
		several_processes(i);
}

/* ---- Positions ---- */

static uint64_t slabs_at(uint64_t at)
{
	const uint64_t first = (at + CACHED_BLOCK - 1) / CACHED_BLOCK;

	return ((at + MODULE_TOKENS) / CACHED_BLOCK - first) * CACHED_SLABS;
}

/* Where nobody has had it in front of the same slabs, it is copied, and lent from then on. */
static void test_who_is_first_at_a_position_lends(void **state)
{
	(void)state;
	for (uint64_t i = 0; cached_rig_layouts[i]; i++) {
		module_stage_start(NULL, cached_rig_layouts[i]);
		module_stage_close(module_stage_source());
		module_stage_await_leased(MODULE_LENT);
		for (uint64_t at = 0; at < 4; at++) {
			struct hbm_sequence *first = module_stage_mapped(
				at, MODULE_OWN, at == MODULE_AT ? slabs_at(at) : 0);
			struct hbm_sequence *second =
				module_stage_mapped(at, MODULE_OTHER, slabs_at(at));

			assert_int_equal(pool_rig_facts(first).shared_bytes,
					 slabs_at(at) * RIG_SLAB);
			module_stage_mapped(at + 8, MODULE_OTHER, slabs_at(at));

			/* The first goes on, on a copy of what it has lent. */
			assert_int_equal(hbm_sequence_truncate(first, at + 5), 0);
			module_stage_grow(first, at + MODULE_TOKENS, MODULE_OWN);
			module_stage_expect(first, at, 5, MODULE_FIRST, MODULE_TAG);
			module_stage_expect(first, at + 5, MODULE_TOKENS - 5, at + 5, MODULE_OWN);
			module_stage_expect_mapped(second, at, MODULE_OTHER);
			pool_rig_close(&module_rig);
			module_stage_start(NULL, cached_rig_layouts[i]);
		}
		module_stage_drop_all();
		module_stage_finish();
	}
}

/* Several modules behind each other, each in front of slabs of its own. */
static void test_modules_behind_each_other(void **state)
{
	(void)state;
	for (uint64_t i = 0; cached_rig_layouts[i]; i++) {
		module_stage_start(NULL, cached_rig_layouts[i]);
		struct hbm_sequence *sequences[2];

		module_stage_close(module_stage_source());
		for (unsigned k = 0; k < 2; k++) {
			sequences[k] = module_stage_sequence(MODULE_AT, MODULE_OWN + k);
			for (unsigned n = 0; n < 3; n++)
				assert_int_equal(module_stage_map(sequences[k]), 0);
		}
		for (unsigned k = 0; k < 2; k++) {
			module_stage_expect(sequences[k], 0, MODULE_AT, 0, MODULE_OWN + k);
			for (unsigned n = 0; n < 3; n++)
				module_stage_expect(sequences[k], MODULE_AT + n * MODULE_TOKENS,
						    MODULE_TOKENS, MODULE_FIRST, MODULE_TAG);
		}
		module_stage_check(sequences[1], slabs_at(MODULE_AT) +
							 slabs_at(MODULE_AT + MODULE_TOKENS) +
							 slabs_at(MODULE_AT + 2 * MODULE_TOKENS));
		module_stage_finish();
	}
}

/* Of another order the blocks are other ones. */
static void test_another_order_has_slabs_of_its_own(void **state)
{
	(void)state;
	static const char *const orders[] = {
		"layers=2 heads=4 dim=16384 bytes=4 order=token max=64",
		"layers=2 heads=4 dim=16384 bytes=4 order=layer max=64",
		"layers=2 heads=4 dim=16384 bytes=4 order=block page=4 max=64"};
	static const uint64_t slabs[] = {MODULE_LENT, 4, MODULE_LENT};

	for (size_t i = 0; i < 3; i++) {
		module_stage_start(NULL, orders[i]);
		if (i == 0)
			module_stage_close(module_stage_source());
		/* In layer order a slab has module_pool tokens of each of four buffers. */
		module_stage_mapped(MODULE_AT, MODULE_OWN, i == 0 ? slabs[i] : 0);
		module_stage_mapped(MODULE_AT, MODULE_OTHER, slabs[i]);
		if (i < 2)
			pool_rig_close(&module_rig);
	}
	module_stage_finish();
}

/* Layers with a window give up what is in front of it. */
static void test_layers_with_windows(void **state)
{
	(void)state;
	module_stage_start(NULL,
			   "layers=2 order=token max=64 layer=0 heads=4 dim=16384 bytes=4 window=8 "
			   "layer=1 heads=4 dim=16384 bytes=4");
	struct hbm_sequence *source = module_stage_sequence(MODULE_SOURCE, MODULE_TAG);

	assert_int_equal(module_stage_put(source, 1), 0);
	/* Eight tokens are whole slabs of all four buffers: [8, 16). */
	assert_int_equal(module_stage_lent(), 4);
	module_stage_close(source);
	struct hbm_sequence *sequence = module_stage_mapped(MODULE_AT + 4, MODULE_OWN, 4);

	for (uint64_t end = 24; end <= 40; end += 4) {
		module_stage_grow(sequence, end, MODULE_OWN);
		assert_true(spawn_balanced(&daemon_));
	}
	module_stage_check(sequence, 2);
	module_stage_expect(sequence, 0, MODULE_AT + 4, 0, MODULE_OWN);
	module_stage_expect(sequence, MODULE_AT + 4, MODULE_TOKENS, MODULE_FIRST, MODULE_TAG);
	module_stage_expect(sequence, MODULE_AT + 4 + MODULE_TOKENS,
			    40 - MODULE_AT - 4 - MODULE_TOKENS, MODULE_AT + 4 + MODULE_TOKENS,
			    MODULE_OWN);
	module_stage_finish();
}

/* ---- What else is done with it ---- */

static struct hbm_sequence *source, *one, *other;

static void on_all_layouts(void (*play)(void))
{
	for (uint64_t i = 0; cached_rig_layouts[i]; i++) {
		module_stage_start(NULL, cached_rig_layouts[i]);
		source = module_stage_source();
		one = module_stage_mapped(MODULE_AT, MODULE_OWN, MODULE_LENT);
		other = module_stage_mapped(MODULE_AT + 4, MODULE_OTHER, MODULE_LENT);
		play();
		assert_true(spawn_balanced(&daemon_));
		assert_int_equal(hbm_schema_drop(module_rig.pool, &module_space, "chat"), 0);
		pool_rig_close(&module_rig);
	}
	module_stage_end();
}

static void expect_others(void)
{
	module_stage_expect(source, 0, MODULE_SOURCE, 0, MODULE_TAG);
	module_stage_expect_mapped(other, MODULE_AT + 4, MODULE_OTHER);
}

static void play_write(void)
{
	assert_int_equal(hbm_sequence_truncate(one, MODULE_AT + 7), 0);
	module_stage_grow(one, 30, MODULE_OWN);
	module_stage_check(one, CACHED_SLABS);
	module_stage_expect(one, 0, MODULE_AT, 0, MODULE_OWN);
	module_stage_expect(one, MODULE_AT, 7, MODULE_FIRST, MODULE_TAG);
	module_stage_expect(one, MODULE_AT + 7, 30 - MODULE_AT - 7, MODULE_AT + 7, MODULE_OWN);
	expect_others();
	assert_int_equal(hbm_sequence_slide(one, 8), 0);
	module_stage_check(one, 0);
	expect_others();
}

static void test_what_is_written_is_a_copy(void **state)
{
	(void)state;
	on_all_layouts(play_write);
}

static void play_fork(void)
{
	struct hbm_sequence *forks[2], *beams[2];
	const uint32_t from[] = {0, 0};

	assert_int_equal(hbm_sequence_fork(one, 2, forks), 0);
	for (unsigned i = 0; i < 2; i++)
		module_stage_grow(forks[i], 24, 20 + i);
	module_stage_close(one);
	for (unsigned i = 0; i < 2; i++) {
		module_stage_check(forks[i], MODULE_LENT);
		module_stage_expect_mapped(forks[i], MODULE_AT, MODULE_OWN);
		module_stage_expect(forks[i], MODULE_AT + MODULE_TOKENS,
				    24 - MODULE_AT - MODULE_TOKENS, MODULE_AT + MODULE_TOKENS,
				    20 + i);
	}
	beams[0] = forks[0];
	beams[1] = pool_rig_sequence(&module_rig);
	assert_int_equal(hbm_sequences_reorder(module_rig.pool, beams, from, 2), 0);
	module_stage_check(beams[1], MODULE_LENT);
	module_stage_expect_mapped(beams[1], MODULE_AT, MODULE_OWN);

	/* A module behind what a fork shares. */
	assert_int_equal(module_stage_map(forks[1]), 0);
	module_stage_expect_mapped(forks[1], MODULE_AT, MODULE_OWN);
	module_stage_expect(forks[1], 24, MODULE_TOKENS, MODULE_FIRST, MODULE_TAG);
	expect_others();
}

static void test_forks_and_beams(void **state)
{
	(void)state;
	on_all_layouts(play_fork);
}

static void play_suspend(void)
{
	const uint64_t before = module_stage_leased();

	for (int tier = HBM_TIER_DDR; tier <= HBM_TIER_NVME; tier++) {
		struct hbm_sequence *both[] = {one, source};

		assert_int_equal(
			hbm_sequences_suspend(module_rig.pool, both, 2, (enum hbm_tier)tier), 0);
		assert_int_equal(pool_rig_facts(one).mapped_bytes, 0);
		assert_true(spawn_balanced(&daemon_));
		assert_int_equal(hbm_sequences_resume(module_rig.pool, both, 2), 0);
		module_stage_check(one, MODULE_LENT);
		module_stage_check(source, MODULE_LENT);
		module_stage_await_leased(before);
		module_stage_expect_mapped(one, MODULE_AT, MODULE_OWN);
		expect_others();
	}

	/* Of what is not there any more it has a copy. */
	assert_int_equal(hbm_sequences_suspend(module_rig.pool, &one, 1, HBM_TIER_DDR), 0);
	assert_int_equal(hbm_schema_drop(module_rig.pool, &module_space, "chat"), 0);
	assert_int_equal(hbm_sequences_resume(module_rig.pool, &one, 1), 0);
	module_stage_check(one, 0);
	module_stage_expect_mapped(one, MODULE_AT, MODULE_OWN);
	expect_others();
}

static void test_suspended_and_resumed(void **state)
{
	(void)state;
	on_all_layouts(play_suspend);
}

static void play_keep(void)
{
	static const uint64_t tokens[] = {0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 15};
	const struct hbm_save_options options = {.space = module_space};
	const struct hbm_save save = {other, "other", 0};
	uint64_t saved;

	assert_int_equal(hbm_sequence_keep(one, HBM_AXIS_TOKENS, tokens, 11), 0);
	module_stage_check(one, CACHED_SLABS);
	module_stage_expect(one, 0, MODULE_AT, 0, MODULE_OWN);
	module_stage_expect(one, MODULE_AT, 8 - MODULE_AT, MODULE_FIRST, MODULE_TAG);
	module_stage_expect(one, 8, 1, MODULE_FIRST + 9 - MODULE_AT, MODULE_TAG);
	module_stage_expect(one, 9, 1, MODULE_FIRST + 12 - MODULE_AT, MODULE_TAG);
	module_stage_expect(one, 10, 1, MODULE_FIRST + 15 - MODULE_AT, MODULE_TAG);

	/* What has kept a part of its heads has no slabs of the pool's layout. */
	assert_int_equal(hbm_sequences_save(module_rig.pool, &save, 1, &options, &saved), 0);
	assert_int_equal(saved, MODULE_AT + 4 + MODULE_TOKENS);
	assert_int_equal(hbm_sequence_restore(module_rig.pool, &module_space, "other", NULL, &one),
			 0);
	module_stage_check(one, 0);
	module_stage_expect_mapped(one, MODULE_AT + 4, MODULE_OTHER);
	expect_others();
	hbm_saved_drop(module_rig.pool, &module_space, "other");
}

static void test_kept_saved_and_restored(void **state)
{
	(void)state;
	on_all_layouts(play_keep);
}

/* ---- Versions, and what is dropped ---- */

static void play_version(void)
{
	struct hbm_sequence *newer = module_stage_sequence(MODULE_SOURCE, 9);

	assert_int_equal(module_stage_put(newer, 2), 0);
	module_stage_expect_mapped(one, MODULE_AT, MODULE_OWN);
	struct hbm_sequence *late = module_stage_sequence(MODULE_AT, 8);

	assert_int_equal(module_stage_map(late), 0);
	module_stage_check(late, MODULE_LENT);
	module_stage_expect(late, MODULE_AT, MODULE_TOKENS, MODULE_FIRST, 9);
	module_stage_check(one, MODULE_LENT);
	module_stage_expect_mapped(one, MODULE_AT, MODULE_OWN);
	expect_others();

	/* Of the old one nothing is lent to anyone any more, once it has gone from those. */
	assert_int_equal(device_record(module_rig.hbm).lent, 2 * MODULE_LENT * RIG_SLAB);
	module_stage_close(one);
	module_stage_close(other);
	module_stage_close(source);
	module_stage_close(newer);
	module_stage_close(late);
	module_stage_await_leased(MODULE_LENT);
	assert_int_equal(module_stage_lent(), MODULE_LENT);
	module_stage_drop_all();
}

static void test_a_newer_version_has_slabs_of_its_own(void **state)
{
	(void)state;
	on_all_layouts(play_version);
}

static void play_drop(bool schema)
{
	const struct hbm_module module = {"chat", "m", 0};
	struct hbm_sequence *late = pool_rig_sequence(&module_rig);

	/* At two other positions, too. */
	module_stage_close(module_stage_mapped(1, MODULE_OWN, 0));
	module_stage_close(module_stage_mapped(3, MODULE_OWN, 0));
	assert_int_equal(schema ? hbm_schema_drop(module_rig.pool, &module_space, "chat")
				: hbm_module_drop(module_rig.pool, &module_space, &module),
			 0);
	assert_int_equal(module_stage_map(late), HBM_NOT_FOUND);
	assert_int_equal(pool_rig_facts(late).tokens, 0);
	module_stage_check(one, MODULE_LENT);
	module_stage_expect_mapped(one, MODULE_AT, MODULE_OWN);
	expect_others();
	module_stage_close(one);
	expect_others();
	module_stage_close(other);
	module_stage_close(source);
	module_stage_await_leased(0);
	assert_int_equal(module_stage_lent(), 0);
}

static void play_drop_schema(void)
{
	play_drop(true);
}

static void play_drop_module(void)
{
	play_drop(false);
}

static void test_dropped_while_it_is_mapped(void **state)
{
	(void)state;
	on_all_layouts(play_drop_schema);
	on_all_layouts(play_drop_module);
}

static const struct child_part parts[] = {{"have_it", have_it}, {NULL, NULL}};

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		TEST(test_processes_have_one_module),
		TEST(test_who_is_first_at_a_position_lends),
		TEST(test_modules_behind_each_other),
		TEST(test_another_order_has_slabs_of_its_own),
		TEST(test_layers_with_windows),
		TEST(test_what_is_written_is_a_copy),
		TEST(test_forks_and_beams),
		TEST(test_suspended_and_resumed),
		TEST(test_kept_saved_and_restored),
		TEST(test_a_newer_version_has_slabs_of_its_own),
		TEST(test_dropped_while_it_is_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
