/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process generates with its KV in a sequence, saves it and is killed. Another one restores
 * it, in whatever order of the layout, and goes on: the tokens, and all that they were chosen
 * from, are those of one process that was never disturbed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/model/model_layout.h"
#include "tests/model/model_rig.h"
#include "tests/support/child.h"
#include "tests/support/stage.h"

#include <hbm/saved.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PROMPT = 300, BEFORE = 20, AFTER = 30, PAGE = 16, MAX = 480 };

static const struct hbm_saved_space space = {.model = "model"};
static struct model_run run, other;

/* ---- A process ---- */

static struct hbm *hbm;
static struct hbm_pool *pool;
static struct hbm_sequence *sequence;
static int32_t pages[MAX / PAGE];

static void serve(const struct spawn *spawn, enum hbm_layout_order order)
{
	struct hbm_layout *layout =
		model_layout_new(order, MODEL_BF16, MAX, order == HBM_ORDER_BLOCK ? PAGE : 0);
	const struct hbm_pool_options options = {.layout = layout, .max_sequences = 1};

	model_rig_setup(NULL);
	hbm = spawn_connect(spawn);
	assert_int_equal(hbm_pool_open(hbm, &options, &pool), 0);
	hbm_layout_free(layout);
	for (int32_t i = 0; i < MAX / PAGE; i++)
		pages[i] = i;
}

static void leave(void)
{
	hbm_pool_close(pool);
	hbm_close(hbm);
}

static void generate(uint32_t more)
{
	const struct hbm_layout *layout = hbm_pool_layout(pool);
	const bool in_pages = hbm_layout_options(layout)->order == HBM_ORDER_BLOCK;
	const uint64_t length = run.count + more - 1;
	struct hbm_sequence_facts facts;

	assert_int_equal(hbm_step(pool, &sequence, &length, 1), 0);
	assert_int_equal(hbm_sequence_facts(sequence, &facts), 0);

	const struct model_kv kv = model_layout_kv(
		layout, MODEL_BF16, model_kv_memory(facts.address), in_pages ? pages : NULL);

	model_run_go(&run, model, &kv, more);
	assert_int_equal(run.cached, length);
}

/* ---- Its run, in a file ---- */

static const char *file_of(const struct spawn *spawn)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/run", spawn->dir);

	return path;
}

static void write_run(const struct spawn *spawn)
{
	FILE *file = fopen(file_of(spawn), "w");

	assert_non_null(file);
	assert_int_equal(fwrite(&run, sizeof(run), 1, file), 1);
	assert_int_equal(fclose(file), 0);
}

static void read_run(const struct spawn *spawn)
{
	FILE *file = fopen(file_of(spawn), "r");

	assert_non_null(file);
	assert_int_equal(fread(&run, sizeof(run), 1, file), 1);
	fclose(file);
}

/* ---- The two processes ---- */

static void play_first(const struct spawn *spawn, uint64_t number)
{
	const struct hbm_save_options options = {.space = space};
	uint64_t saved;

	serve(spawn, (enum hbm_layout_order)(number / HBM_LAYOUT_ORDERS));
	model_run_prompt(&run, 31, PROMPT);
	assert_int_equal(hbm_sequence_open(pool, NULL, &sequence), 0);
	generate(BEFORE);

	const struct hbm_save save = {sequence, "run", run.tokens[run.cached]};

	assert_int_equal(hbm_sequences_save(pool, &save, 1, &options, &saved), 0);
	assert_int_equal(saved, run.cached);
	write_run(spawn);
	child_tell();
	pause();
}

static void play_second(const struct spawn *spawn, uint64_t number)
{
	struct hbm_saved found;

	serve(spawn, (enum hbm_layout_order)(number % HBM_LAYOUT_ORDERS));
	read_run(spawn);
	assert_int_equal(hbm_saved_find(pool, &space, "run", &found), 0);
	assert_int_equal(found.committed, run.tokens[run.cached]);
	assert_int_equal(found.present, run.cached);
	assert_int_equal(hbm_sequence_restore(pool, &space, "run", NULL, &sequence), 0);
	generate(AFTER);
	write_run(spawn);
	leave();
}

static void test_a_killed_process_is_gone_on_with(void **state)
{
	(void)state;
	const struct model_kv plain = model_rig_plain(MODEL_BF16, room[0]);

	spawn_needs_soft();
	spawn_start(&daemon_, NULL, NULL);
	model_run_prompt(&other, 31, PROMPT);
	model_run_go(&other, model, &plain, BEFORE + AFTER);

	for (uint64_t n = 0; n < HBM_LAYOUT_ORDERS * HBM_LAYOUT_ORDERS; n++) {
		struct child child;

		child_start(&child, "first", &daemon_, n);
		child_await(&child);
		assert_int_equal(child_kill(&child), 128 + SIGKILL);
		child_start(&child, "second", &daemon_, n);
		assert_int_equal(child_wait(&child), 0);
		read_run(&daemon_);
		unlink(file_of(&daemon_));
		model_rig_same(&run, &other);
	}
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

static const struct child_part parts[] = {
	{"first", play_first}, {"second", play_second}, {NULL, NULL}};

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_killed_process_is_gone_on_with, stage_setup,
						stage_teardown),
	};

	child_main(argc, argv, parts);

	return cmocka_run_group_tests(tests, model_rig_setup, model_rig_teardown);
}
