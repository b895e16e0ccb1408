/* SPDX-License-Identifier: Apache-2.0 */
/* Modules: tokens that are put by name and mapped at any position, end to end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/contents.h"
#include "tests/support/pool_rig.h"
#include "tests/support/stage.h"

#include <hbm/saved.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct pool_rig rig;
static const struct hbm_pool_options usual = {.max_sequences = 8};
static const struct hbm_saved_space space = {.model = "small"};

static void start(const char *layout)
{
	if (daemon_.pid == 0)
		spawn_start(&daemon_, NULL, NULL);
	pool_rig_open(&rig, &daemon_, layout, &usual);
}

static void finish(void)
{
	pool_rig_close(&rig);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

static struct hbm_sequence *sequence_of(uint64_t tokens, uint64_t tag)
{
	struct hbm_sequence *sequence = pool_rig_sequence(&rig);
	const struct contents contents = {.kv = &rig.kv, .tag = tag};

	assert_int_equal(pool_rig_step(&rig, sequence, tokens), 0);
	contents_write(&contents, sequence, 0, tokens);

	return sequence;
}

/* Tokens [at, at + count) are those from `first` on of what has that tag. */
static void expect_tokens(struct hbm_sequence *sequence, uint64_t at, uint64_t count,
			  uint64_t first, uint64_t tag)
{
	const struct contents contents = {.kv = &rig.kv, .tag = tag, .shift = first - at};

	if (!contents_are(&contents, sequence, at, at + count))
		fail_msg("tokens from %d on are not those from %d of %d", (int)at, (int)first,
			 (int)tag);
}

static int put(struct hbm_sequence *sequence, const char *name, uint64_t version, uint64_t first,
	       uint64_t end)
{
	const struct hbm_module module = {"chat", name, version};

	return hbm_module_put(sequence, &space, &module, first, end, NULL);
}

static int map(struct hbm_sequence *sequence, const char *name, uint64_t version)
{
	const struct hbm_module module = {"chat", name, version};

	return hbm_module_map(sequence, &space, &module);
}

static void expect_line(const char *text)
{
	if (!strstr(hbm_pool_error(rig.pool), text))
		fail_msg("\"%s\" says nothing of \"%s\"", hbm_pool_error(rig.pool), text);
}

static uint64_t uses(const char *name)
{
	const struct hbm_module module = {"chat", name, 0};
	struct hbm_saved found;

	assert_int_equal(hbm_module_find(rig.pool, &space, &module, &found), 0);

	return found.uses;
}

/* ---- Tests ---- */

static void test_modules_are_appended_at_any_position(void **state)
{
	(void)state;
	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		start(*layout);
		struct hbm_sequence *source = sequence_of(30, 1);

		assert_int_equal(put(source, "system", 1, 0, 9), 0);
		assert_int_equal(put(source, "document", 1, 3, 17), 0);
		assert_int_equal(hbm_sequence_close(source), 0);

		struct hbm_sequence *sequence = sequence_of(5, 2);

		assert_int_equal(map(sequence, "document", 0), 0);
		assert_int_equal(map(sequence, "system", 1), 0);
		assert_int_equal(map(sequence, "document", 1), 0);
		expect_tokens(sequence, 0, 5, 0, 2);
		expect_tokens(sequence, 5, 14, 3, 1);
		expect_tokens(sequence, 19, 9, 0, 1);
		expect_tokens(sequence, 28, 14, 3, 1);
		assert_int_equal(uses("document"), 2);
		assert_int_equal(uses("system"), 1);
		finish();
		start(*layout);
		assert_int_equal(hbm_schema_drop(rig.pool, &space, "chat"), 0);
		finish();
	}
}

/* What is written behind a fork's shared tokens is not seen in the other. */
static void test_a_module_behind_a_fork_is_its_own(void **state)
{
	(void)state;
	struct hbm_sequence *fork;

	start(pool_rig_layouts[0]);
	struct hbm_sequence *trunk = sequence_of(30, 1);

	assert_int_equal(put(trunk, "m", 1, 0, 9), 0);
	assert_int_equal(hbm_sequence_fork(trunk, 1, &fork), 0);
	assert_int_equal(hbm_sequence_truncate(fork, 11), 0);
	assert_int_equal(map(fork, "m", 0), 0);
	expect_tokens(trunk, 0, 30, 0, 1);
	expect_tokens(fork, 0, 11, 0, 1);
	expect_tokens(fork, 11, 9, 0, 1);
	finish();
}

static void test_a_newer_version_takes_the_place(void **state)
{
	(void)state;
	start(pool_rig_layouts[0]);
	struct hbm_sequence *a = sequence_of(9, 1), *b = sequence_of(9, 2),
			    *sequence = pool_rig_sequence(&rig);

	assert_int_equal(put(a, "m", 4, 0, 9), 0);
	assert_int_equal(put(b, "m", 4, 0, 9), HBM_EXISTS);
	expect_line("there is version 4");
	assert_int_equal(put(b, "m", 3, 0, 9), HBM_EXISTS);
	assert_int_equal(map(sequence, "m", 0), 0);
	expect_tokens(sequence, 0, 9, 0, 1);
	assert_int_equal(put(b, "m", 5, 0, 8), 0);
	assert_int_equal(map(sequence, "m", 4), HBM_NOT_FOUND);
	expect_line("there is version 5");
	assert_int_equal(map(sequence, "m", 5), 0);
	expect_tokens(sequence, 9, 8, 0, 2);
	assert_int_equal(pool_rig_facts(sequence).tokens, 17);
	finish();
}

static void test_a_schema_is_dropped_with_all_its_modules(void **state)
{
	(void)state;
	const struct hbm_module other = {"code", "m", 1}, module = {"chat", "m", 0};

	start(pool_rig_layouts[0]);
	struct hbm_sequence *source = sequence_of(9, 1), *sequence = pool_rig_sequence(&rig);

	assert_int_equal(put(source, "m", 1, 0, 9), 0);
	assert_int_equal(put(source, "n", 1, 0, 9), 0);
	assert_int_equal(hbm_module_put(source, &space, &other, 2, 9, NULL), 0);
	assert_int_equal(hbm_schema_drop(rig.pool, &space, "chat"), 0);
	assert_int_equal(map(sequence, "m", 0), HBM_NOT_FOUND);
	assert_int_equal(map(sequence, "n", 0), HBM_NOT_FOUND);
	assert_int_equal(hbm_module_map(sequence, &space, &other), 0);
	expect_tokens(sequence, 0, 7, 2, 1);

	assert_int_equal(put(source, "m", 1, 0, 9), 0);
	assert_int_equal(hbm_module_drop(rig.pool, &space, &module), 0);
	assert_int_equal(map(sequence, "m", 0), HBM_NOT_FOUND);
	assert_int_equal(pool_rig_facts(sequence).tokens, 7);
	finish();
}

static void test_bad_input_is_refused(void **state)
{
	(void)state;
	const struct hbm_module unnamed = {"", "m", 1};

	start(pool_rig_layouts[0]);
	struct hbm_sequence *source = sequence_of(40, 1), *sequence = sequence_of(30, 2);

	assert_int_equal(put(source, "m", 0, 0, 9), HBM_INVALID);
	assert_int_equal(put(source, "m", 1, 9, 9), HBM_INVALID);
	assert_int_equal(put(source, "m", 1, 0, 41), HBM_INVALID);
	expect_line("tokens 0 to 41 of a sequence with 0 to 40");
	assert_int_equal(put(source, "", 1, 0, 9), HBM_INVALID);
	assert_int_equal(put(NULL, "m", 1, 0, 9), HBM_INVALID);
	assert_int_equal(hbm_module_put(source, &space, &unnamed, 0, 9, NULL), HBM_INVALID);
	assert_int_equal(map(sequence, "m", 0), HBM_NOT_FOUND);

	/* More than the sequence may have. */
	assert_int_equal(put(source, "m", 1, 0, 40), 0);
	assert_int_equal(map(sequence, "m", 0), HBM_INVALID);
	assert_int_equal(pool_rig_facts(sequence).tokens, 30);
	expect_tokens(sequence, 0, 30, 0, 2);
	assert_int_equal(uses("m"), 0);
	assert_int_equal(hbm_sequence_close(sequence), 0);
	assert_int_equal(map(sequence, "m", 0), HBM_INVALID);
	finish();
}

/* ---- Uses ---- */

/* Maps it so often, and is killed. */
static void map_and_die(const struct spawn *spawn, uint64_t times)
{
	pool_rig_open(&rig, spawn, pool_rig_layouts[0], &usual);
	struct hbm_sequence *sequence = pool_rig_sequence(&rig);

	for (uint64_t i = 0; i < times; i++)
		assert_int_equal(map(sequence, "m", 0), 0);
	kill(getpid(), SIGKILL);
}

static int add_uses(const char *name, const struct hbm_saved *saved, void *arg)
{
	uint64_t *sum = arg;

	(void)name;
	*sum += saved->uses;

	return 0;
}

/* Of all processes, those that are gone too, and of this version. */
static void test_uses_are_those_of_the_host(void **state)
{
	(void)state;
	struct child child;
	uint64_t sum = 0;

	start(pool_rig_layouts[0]);
	struct hbm_sequence *source = sequence_of(9, 1), *sequence = pool_rig_sequence(&rig);

	assert_int_equal(put(source, "m", 1, 0, 9), 0);
	assert_int_equal(put(source, "n", 1, 0, 9), 0);
	assert_int_equal(uses("m"), 0);
	assert_int_equal(map(sequence, "m", 0), 0);
	assert_int_equal(map(sequence, "n", 0), 0);
	for (uint64_t i = 1; i <= 2; i++) {
		child_start(&child, "map_and_die", &daemon_, 2);
		assert_int_equal(child_wait(&child), 128 + SIGKILL);
		assert_int_equal(uses("m"), 1 + 2 * i);
	}
	assert_int_equal(uses("n"), 1);
	assert_int_equal(hbm_saved_list(rig.pool, &space, "chat", add_uses, &sum), 0);
	assert_int_equal(sum, 6);

	/* What is not mapped is no use. */
	assert_int_equal(map(sequence, "m", 7), HBM_NOT_FOUND);
	assert_int_equal(uses("m"), 5);
	assert_int_equal(put(source, "m", 2, 0, 8), 0);
	assert_int_equal(uses("m"), 0);
	assert_int_equal(map(sequence, "m", 0), 0);
	assert_int_equal(uses("m"), 1);
	finish();
}

static int any_block(const void *record, size_t bytes, void *arg)
{
	(void)record;
	(void)bytes;
	(void)arg;

	return 1;
}

/* All of it or nothing, and what is left is dropped. */
static void test_what_is_evicted_is_not_mapped(void **state)
{
	(void)state;
	static const char *const two_tiers[] = {"nvme.path=", "nvme.size=0", NULL};

	spawn_start(&daemon_, two_tiers, NULL);
	start(pool_rig_layouts[0]);
	struct hbm_sequence *source = sequence_of(30, 1), *sequence = sequence_of(3, 2);

	assert_int_equal(put(source, "m", 1, 0, 30), 0);
	assert_int_equal(hbm_evict(rig.hbm, HBM_TIER_HBM, 0, 64 << 20, NULL), 0);
	kv_await_moves(&rig.kv);
	assert_int_equal(hbm_evict(rig.hbm, HBM_TIER_DDR, 0, 1, NULL), 0);
	assert_int_equal(map(sequence, "m", 0), HBM_NOT_FOUND);
	expect_line("the module \"m\" of \"chat\" was evicted");
	assert_int_equal(hbm_query(rig.hbm, HBM_QUERY_BLOCKS, any_block, NULL), 0);
	assert_int_equal(pool_rig_facts(sequence).tokens, 3);
	expect_tokens(sequence, 0, 3, 0, 2);
	finish();
}

static const struct child_part parts[] = {{"map_and_die", map_and_die}, {NULL, NULL}};

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		TEST(test_modules_are_appended_at_any_position),
		TEST(test_a_module_behind_a_fork_is_its_own),
		TEST(test_a_newer_version_takes_the_place),
		TEST(test_a_schema_is_dropped_with_all_its_modules),
		TEST(test_bad_input_is_refused),
		TEST(test_uses_are_those_of_the_host),
		TEST(test_what_is_evicted_is_not_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
