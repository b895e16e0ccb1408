/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before and after each message that a client sends, for a save and a drop: it is killed; for a
 * restore: another saves by that name, or drops it. The name stands for what it stood for
 * before or for all of what was saved, never for a mix, and the next save works.
 */
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
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAME "a"
#define STEPS_MAX 1000

static struct pool_rig rig;
static const struct hbm_pool_options usual = {.max_sequences = 4};
static const struct hbm_saved_space space = {.model = "small"};

/* ---- The client ---- */

static uint64_t steps_left; /* 0: nothing is to happen */
static void (*happens)(void);

static void step(void)
{
	if (steps_left && --steps_left == 0)
		happens();
}

/* Instead of the C library's, for the library under test. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	step();
	const ssize_t sent = syscall(SYS_sendmsg, fd, message, flags);

	step();

	return sent;
}

/* Of each number its own. */
static uint64_t tokens_of(uint64_t tag)
{
	return 3 + tag * 7 % 30;
}

static bool is_kept; /* what is saved */

static void save(struct pool_rig *client, uint64_t tag, uint64_t steps)
{
	const struct contents contents = {.kv = &client->kv, .tag = tag};
	const struct hbm_save_options options = {.space = space, .keep = is_kept};
	const struct hbm_save one = {pool_rig_sequence(client), NAME, tag};
	const uint64_t tokens = tokens_of(tag);
	uint64_t saved;

	assert_int_equal(pool_rig_step(client, one.sequence, tokens), 0);
	contents_write(&contents, one.sequence, 0, tokens);
	steps_left = steps;
	assert_int_equal(hbm_sequences_save(client->pool, &one, 1, &options, &saved), 0);
	steps_left = 0;
	assert_int_equal(saved, tokens);
	assert_int_equal(hbm_sequence_close(one.sequence), 0);
}

static void die(void)
{
	raise(SIGKILL);
}

/* Saves with the number as tag, killed at as many steps. */
static void play_save(const struct spawn *spawn, uint64_t number)
{
	happens = die;
	pool_rig_open(&rig, spawn, pool_rig_layouts[number % 3], &usual);
	save(&rig, number, number);
}

static void play_keep(const struct spawn *spawn, uint64_t number)
{
	happens = die;
	is_kept = true;
	pool_rig_open(&rig, spawn, pool_rig_layouts[0], &usual);
	save(&rig, 1, number);
}

/* ---- What the name stands for ---- */

/* The tag of what is restored. All of it is that. */
static uint64_t restored(uint64_t step)
{
	struct hbm_saved found;
	struct hbm_sequence *sequence;

	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		pool_rig_open(&rig, &daemon_, *layout, &usual);
		if (hbm_saved_find(rig.pool, &space, NAME, &found) != 0)
			fail_msg("step %d: %s", (int)step, hbm_pool_error(rig.pool));

		const struct contents contents = {.kv = &rig.kv, .tag = found.committed};

		if (hbm_sequence_restore(rig.pool, &space, NAME, NULL, &sequence) == 0) {
			assert_int_equal(pool_rig_facts(sequence).tokens,
					 tokens_of(found.committed));
			assert_true(
				contents_are(&contents, sequence, 0, tokens_of(found.committed)));
			pool_rig_close(&rig);
			return found.committed;
		}
		pool_rig_close(&rig);
	}
	fail_msg("step %d: not restored", (int)step);

	return 0;
}

static void test_a_name_stands_for_one_save_or_the_other(void **state)
{
	(void)state;
	uint64_t before = 1, step = 1;
	unsigned old = 0, new = 0;
	int status;

	spawn_start(&daemon_, NULL, NULL);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[1], &usual);
	save(&rig, before, 0);
	pool_rig_close(&rig);

	do {
		struct child child;

		child_start(&child, "save", &daemon_, ++step);
		status = child_wait(&child);
		assert_true(status == 0 || status == 128 + SIGKILL);
		/* The daemon may still be at what it has asked for last. */
		spawn_settle(&daemon_);

		const uint64_t now = restored(step);

		assert_true(now == step || (now == before && status != 0));
		old += now == before;
		new += now == step;
		before = now;
		assert_true(spawn_balanced(&daemon_));
	} while (status != 0 && step < STEPS_MAX);

	print_message("%u steps: %u times the save before, %u times the new one\n",
		      (unsigned)step - 1, old, new);
	assert_int_equal(status, 0);
	assert_true(old > 10 && new > 5);
	spawn_settle(&daemon_);
}

/* ---- A reader beside a writer ---- */

static struct pool_rig writer;
static uint64_t last; /* tag that was saved */
static bool happened;

static void save_again(void)
{
	happened = true;
	save(&writer, ++last, 0);
}

static void test_a_reader_gets_one_save_or_the_other(void **state)
{
	(void)state;
	unsigned old = 0, new = 0;

	spawn_start(&daemon_, NULL, NULL);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[0], &usual);
	pool_rig_open(&writer, &daemon_, pool_rig_layouts[0], &usual);
	save(&writer, ++last, 0);
	happens = save_again;

	for (uint64_t n = 1; n < STEPS_MAX; n++) {
		const uint64_t before = last;
		struct hbm_sequence *sequence = NULL;

		happened = false;
		steps_left = n;
		int r = hbm_sequence_restore(rig.pool, &space, NAME, NULL, &sequence);

		steps_left = 0;
		if (r)
			fail_msg("step %d: %d, %s", (int)n, r, hbm_pool_error(rig.pool));

		const uint64_t tokens = pool_rig_facts(sequence).tokens;
		const uint64_t tag = tokens == tokens_of(before) ? before : last;
		const struct contents contents = {.kv = &rig.kv, .tag = tag};

		assert_int_equal(tokens, tokens_of(tag));
		assert_true(contents_are(&contents, sequence, 0, tokens));
		assert_int_equal(hbm_sequence_close(sequence), 0);
		if (!happened)
			break;
		old += tag == before;
		new += tag == last;
	}
	print_message("%u times the save before, %u times the new one\n", old, new);
	assert_true(!happened && old > 5 && new > 5);
	pool_rig_close(&writer);
	pool_rig_close(&rig);
	spawn_settle(&daemon_);
}

/* ---- A module that is put again while it is mapped ---- */

static void put_again(void)
{
	const struct hbm_module module = {"s", NAME, ++last};
	const struct contents contents = {.kv = &writer.kv, .tag = last};
	struct hbm_sequence *sequence = pool_rig_sequence(&writer);
	const uint64_t tokens = tokens_of(last);

	happened = true;
	assert_int_equal(pool_rig_step(&writer, sequence, tokens), 0);
	contents_write(&contents, sequence, 0, tokens);
	assert_int_equal(hbm_module_put(sequence, &space, &module, 0, tokens, NULL), 0);
	assert_int_equal(hbm_sequence_close(sequence), 0);
}

static void test_a_module_is_mapped_in_one_version_or_the_other(void **state)
{
	(void)state;
	const struct hbm_module any = {"s", NAME, 0};

	spawn_start(&daemon_, NULL, NULL);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[0], &usual);
	pool_rig_open(&writer, &daemon_, pool_rig_layouts[0], &usual);
	last = 0;
	put_again();
	happens = put_again;

	for (uint64_t n = 1; happened && n < STEPS_MAX; n++) {
		struct hbm_sequence *sequence = pool_rig_sequence(&rig);
		const uint64_t before = last;

		happened = false;
		steps_left = n;
		int r = hbm_module_map(sequence, &space, &any);

		steps_left = 0;
		if (r)
			fail_msg("step %d: %d, %s", (int)n, r, hbm_pool_error(rig.pool));

		const uint64_t tokens = pool_rig_facts(sequence).tokens;
		const uint64_t tag = tokens == tokens_of(before) ? before : last;
		const struct contents contents = {.kv = &rig.kv, .tag = tag};

		assert_int_equal(tokens, tokens_of(tag));
		assert_true(contents_are(&contents, sequence, 0, tokens));
		assert_int_equal(hbm_sequence_close(sequence), 0);
	}
	assert_false(happened);
	pool_rig_close(&writer);
	pool_rig_close(&rig);
	spawn_settle(&daemon_);
}

/* ---- What is dropped ---- */

static void drop_it(void)
{
	happened = true;
	assert_int_equal(hbm_saved_drop(writer.pool, &space, NAME), 0);
}

/* All that was saved, or nothing. */
static void expect_all_or_nothing(int r, struct hbm_sequence *sequence, uint64_t tag)
{
	const struct contents contents = {.kv = &rig.kv, .tag = tag};

	if (r == HBM_NOT_FOUND)
		return;
	if (r)
		fail_msg("%d, %s", r, hbm_pool_error(rig.pool));
	assert_int_equal(pool_rig_facts(sequence).tokens, tokens_of(tag));
	assert_true(contents_are(&contents, sequence, 0, tokens_of(tag)));
	assert_int_equal(hbm_sequence_close(sequence), 0);
}

static int count_block(const void *record, size_t bytes, void *arg)
{
	(void)record;
	(void)bytes;
	++*(unsigned *)arg;

	return 0;
}

static void expect_no_blocks(void)
{
	unsigned count = 0;

	assert_int_equal(hbm_query(rig.hbm, HBM_QUERY_BLOCKS, count_block, &count), 0);
	assert_int_equal(count, 0);
}

/* The pool has had so many, each with 31 tokens of 4 that were expected. */
static void expect_counted(uint64_t sequences)
{
	struct hbm_pool_facts facts;

	hbm_pool_facts(rig.pool, &facts);
	assert_int_equal(facts.totals.closed, sequences);
	assert_int_equal(facts.totals.overruns, sequences);
	assert_int_equal(facts.totals.expected_tokens, 4 * sequences);
	assert_int_equal(facts.totals.actual_tokens, 31 * sequences);
}

static void test_what_is_dropped_is_not_restored_by_half(void **state)
{
	(void)state;
	const struct hbm_sequence_options few = {.expected = 4};
	unsigned restored_all = 0, nothing = 0;

	spawn_start(&daemon_, NULL, NULL);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[0], &usual);
	pool_rig_open(&writer, &daemon_, pool_rig_layouts[0], &usual);
	happens = drop_it;
	happened = true;

	for (uint64_t n = 1; happened && n < STEPS_MAX; n++) {
		struct hbm_sequence *sequence = NULL;

		save(&writer, 4, 0); /* 31 tokens */
		happened = false;
		steps_left = n;
		int r = hbm_sequence_restore(rig.pool, &space, NAME, &few, &sequence);

		steps_left = 0;
		restored_all += r == 0;
		nothing += r != 0;
		expect_all_or_nothing(r, sequence, 4);
		expect_counted(restored_all);
		if (happened)
			expect_no_blocks();
	}
	print_message("%u times all, %u times nothing\n", restored_all, nothing);
	assert_true(!happened && restored_all > 5 && nothing > 5);
	pool_rig_close(&writer);
	pool_rig_close(&rig);
	spawn_settle(&daemon_);
}

static void play_drop(const struct spawn *spawn, uint64_t number)
{
	happens = die;
	pool_rig_open(&rig, spawn, pool_rig_layouts[0], &usual);
	steps_left = number;
	assert_int_equal(hbm_saved_drop(rig.pool, &space, NAME), 0);
	steps_left = 0;
}

static void test_a_drop_that_was_cut_off_leaves_all_or_nothing(void **state)
{
	(void)state;
	uint64_t step = 0;
	int status;

	spawn_start(&daemon_, NULL, NULL);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[0], &usual);
	do {
		struct hbm_sequence *sequence = NULL;
		struct child child;

		save(&rig, 4, 0);
		child_start(&child, "drop", &daemon_, ++step);
		status = child_wait(&child);
		assert_true(status == 0 || status == 128 + SIGKILL);

		int r = hbm_sequence_restore(rig.pool, &space, NAME, NULL, &sequence);

		assert_true(status != 0 || r == HBM_NOT_FOUND);
		expect_all_or_nothing(r, sequence, 4);
		r = hbm_saved_drop(rig.pool, &space, NAME);
		assert_true(r == 0 || r == HBM_NOT_FOUND);
		expect_no_blocks();
	} while (status != 0 && step < STEPS_MAX);
	assert_int_equal(status, 0);
	pool_rig_close(&rig);
	spawn_settle(&daemon_);
}

/* ---- What is kept ---- */

static int add_pins(const void *record, size_t bytes, void *arg)
{
	(void)bytes;
	*(uint64_t *)arg += ((const struct hbm_wire_block_info *)record)->pins;

	return 0;
}

static uint64_t pins_now(void)
{
	uint64_t pins = 0;

	assert_int_equal(hbm_query(rig.hbm, HBM_QUERY_BLOCKS, add_pins, &pins), 0);

	return pins;
}

/* A pin that is kept has a manifest by which it is found again. */
static void test_nothing_is_kept_that_has_no_name(void **state)
{
	(void)state;
	uint64_t step = 0, kept = 0;
	int status;

	spawn_start(&daemon_, NULL, NULL);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[0], &usual);
	do {
		struct child child;

		child_start(&child, "keep", &daemon_, ++step);
		status = child_wait(&child);
		assert_true(status == 0 || status == 128 + SIGKILL);
		spawn_settle(&daemon_);

		kept += pins_now() > 0;
		int r = hbm_saved_drop(rig.pool, &space, NAME);

		assert_true(r == 0 || r == HBM_NOT_FOUND);
		assert_int_equal(pins_now(), 0);
	} while (status != 0 && step < STEPS_MAX);
	assert_int_equal(status, 0);
	assert_true(kept > 3 && kept < step);
	pool_rig_close(&rig);
	spawn_settle(&daemon_);
}

static const struct child_part parts[] = {
	{"save", play_save}, {"keep", play_keep}, {"drop", play_drop}, {NULL, NULL}};

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_name_stands_for_one_save_or_the_other,
						stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_a_reader_gets_one_save_or_the_other,
						stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_a_module_is_mapped_in_one_version_or_the_other,
						stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_what_is_dropped_is_not_restored_by_half,
						stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_a_drop_that_was_cut_off_leaves_all_or_nothing,
						stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_kept_that_has_no_name, stage_setup,
						stage_teardown),
	};

	child_main(argc, argv, parts);

	return cmocka_run_group_tests(tests, NULL, NULL);
}
