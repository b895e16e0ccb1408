/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that use sequences of one daemon at the same time, and make mistakes. Each makes
 * calls at random, of which about half cannot be right: every such call has its status and one
 * line, and changes nothing. One process is killed on the way and another takes its place.
 * Afterwards the daemon has all memory back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/crowd.h"
#include "tests/support/stage.h"

#include <signal.h>
#include <unistd.h>

#define PROCESSES 4u
#define CALLS 150u
#define LOOK 8u /* all bytes are read after so many calls */
#define PATIENCE_S 120u
#define OTHER_NAME "other"

/* What all of a process may have at the same time does not fit. */
static const char *const sets[] = {"device.cache=8MiB", "ddr.size=96MiB", "nvme.size=256MiB", NULL};

/* ---- Calls that are wrong ---- */

static void bad_step(struct crowd_one *one)
{
	struct hbm_sequence *const twice[] = {one->sequence, one->sequence};
	const uint64_t beyond = CROWD_TOKENS + 1 + seed_below(&crowd_seed, CROWD_TOKENS);
	const uint64_t lengths[] = {one->tokens, one->tokens};

	crowd_refused(pool_rig_step(&crowd_rig, one->sequence, beyond), HBM_INVALID, "at most");
	crowd_refused(pool_rig_step(&crowd_rig, one->sequence, one->tokens - 1), HBM_INVALID,
		      "drop");
	crowd_refused(hbm_step(crowd_rig.pool, twice, lengths, 2), HBM_INVALID, "twice");
	crowd_refused(hbm_sequence_truncate(one->sequence, beyond), HBM_INVALID, "truncated");
}

static void bad_open(struct crowd_one *one)
{
	const struct hbm_sequence_options options = {.max = CROWD_TOKENS + 1};
	struct hbm_sequence *out[2 * CROWD_SEQUENCES];

	crowd_refused(hbm_sequence_open(crowd_rig.pool, &options, out), HBM_INVALID, "at most");
	crowd_refused(hbm_sequence_fork(one->sequence, 2 * CROWD_SEQUENCES, out), HBM_LIMIT,
		      "forks");
}

/* Its handle is refused until another sequence has it. */
static void bad_closed(struct crowd_one *one)
{
	struct hbm_sequence *const both[] = {one->sequence, crowd_closed};
	const uint64_t lengths[] = {one->tokens, 1};
	const uint32_t from[] = {1, 0};
	struct hbm_sequence *out;

	if (!crowd_closed)
		return;
	crowd_refused(hbm_sequence_close(crowd_closed), HBM_INVALID, "closed");
	crowd_refused(hbm_sequence_fork(crowd_closed, 1, &out), HBM_INVALID, "closed");
	crowd_refused(hbm_step(crowd_rig.pool, both, lengths, 2), HBM_INVALID, "closed");
	crowd_refused(hbm_sequences_reorder(crowd_rig.pool, both, from, 2), HBM_INVALID, "closed");
	crowd_refused(hbm_sequences_suspend(crowd_rig.pool, both, 2, HBM_TIER_DDR), HBM_INVALID,
		      "closed");
	crowd_refused(hbm_sequence_truncate(crowd_closed, 0), HBM_INVALID, "closed");
}

static void bad_reorder(struct crowd_one *one)
{
	struct hbm_sequence *const twice[] = {one->sequence, one->sequence};

	crowd_refused(hbm_sequences_reorder(crowd_rig.pool, twice, (const uint32_t[]){0, 0}, 2),
		      HBM_INVALID, "twice");
	crowd_refused(hbm_sequences_reorder(crowd_rig.pool, twice, (const uint32_t[]){1}, 1),
		      HBM_INVALID, "become");
}

static void bad_keep(struct crowd_one *one)
{
	const uint64_t beyond[] = {0, one->tokens};

	crowd_refused(hbm_sequence_keep(one->sequence, HBM_AXIS_TOKENS, beyond, 0), HBM_INVALID,
		      "kept");
	crowd_refused(hbm_sequence_keep(one->sequence, HBM_AXIS_LAYERS, beyond, 0), HBM_INVALID,
		      "kept");
	crowd_refused(hbm_sequence_keep(one->sequence, HBM_AXIS_TOKENS, beyond, 2), HBM_INVALID,
		      "token");
	crowd_refused(hbm_sequence_keep(one->sequence, (enum hbm_axis)9, beyond, 1), HBM_INVALID,
		      "axis");
}

/* Two drafts, neither below the other. */
static void bad_path(struct crowd_one *one)
{
	uint64_t places[2];

	crowd_refused(hbm_sequence_accept(one->sequence, (const int32_t[]){0}, 1), HBM_INVALID,
		      "tree");
	crowd_refused(hbm_sequence_prune(one->sequence, 0), HBM_INVALID, "tree");
	crowd_refused(hbm_sequence_draft(one->sequence, (const int32_t[]){7}, 1, places),
		      HBM_INVALID, one->tokens < CROWD_TOKENS ? "tree" : "drafts");
	if (one->tokens + 2 > CROWD_TOKENS ||
	    !crowd_is_done(hbm_sequence_draft(one->sequence, (const int32_t[]){-1, -1}, 2, places)))
		return;

	crowd_remember();
	crowd_refused(hbm_sequence_accept(one->sequence, (const int32_t[]){0, 2}, 2), HBM_INVALID,
		      "tree");
	crowd_refused(hbm_sequence_accept(one->sequence, (const int32_t[]){0, 1}, 2), HBM_INVALID,
		      "below");
	crowd_refused(hbm_sequence_keep(one->sequence, HBM_AXIS_TOKENS, (const uint64_t[]){0}, 1),
		      HBM_INVALID, "drafts");
	assert_int_equal(hbm_sequence_accept(one->sequence, NULL, 0), 0);
}

/* Looking what a name stands for takes memory, which there may not be. */
static void bad_restore(const char *name, int status, const char *text)
{
	struct hbm_sequence *out;
	int r = hbm_sequence_restore(crowd_rig.pool, &crowd_space, name, NULL, &out);

	if (r == HBM_NO_SPACE)
		crowd_refused_for_memory(r, r, hbm_pool_error(crowd_rig.pool), "memory");
	else
		crowd_refused_for_memory(r, status, hbm_pool_error(crowd_rig.pool), text);
}

static void bad_name(struct crowd_one *one)
{
	struct hbm_region *region;

	(void)one;
	bad_restore("nobody's", HBM_NOT_FOUND, "nobody's");
	bad_restore(OTHER_NAME, HBM_INVALID, "layers");

	int r = hbm_region_attach(crowd_rig.hbm, HBM_OWN_UID, "nothing", 0, &region);
	crowd_refused_for_memory(r, HBM_NOT_FOUND, hbm_error(crowd_rig.hbm), "nothing");
}

static void bad_resume(struct crowd_one *one)
{
	struct hbm_sequence *const twice[] = {one->sequence, one->sequence};
	struct crowd_one *out = crowd_find(crowd_is_suspended);

	crowd_refused(hbm_sequences_resume(crowd_rig.pool, twice, 1), HBM_INVALID, "not suspended");
	crowd_refused(hbm_sequences_suspend(crowd_rig.pool, twice, 2, HBM_TIER_DDR), HBM_INVALID,
		      "twice");
	crowd_refused(hbm_sequences_suspend(crowd_rig.pool, twice, 1, HBM_TIER_HBM), HBM_INVALID,
		      "tier");
	if (!out)
		return;
	crowd_refused(hbm_sequences_suspend(crowd_rig.pool, &out->sequence, 1, HBM_TIER_DDR),
		      HBM_INVALID, "suspended");
	crowd_refused(pool_rig_step(&crowd_rig, out->sequence, out->tokens), HBM_INVALID,
		      "suspended");
	if (!crowd_is_done(hbm_sequences_resume(crowd_rig.pool, &out->sequence, 1)))
		return;
	out->suspended = false;
	crowd_remember();
	crowd_refused(hbm_sequences_resume(crowd_rig.pool, &out->sequence, 1), HBM_INVALID,
		      "not suspended");
}

/* What is on its way cannot be used. */
static void bad_switch(struct crowd_one *one)
{
	const struct hbm_switch_options options = {
		.out = &one->sequence, .out_count = 1, .tier = HBM_TIER_DDR};
	struct hbm_switch *change;
	struct hbm_sequence *fork;

	if (!crowd_is_done(hbm_submit_switch(crowd_rig.pool, &options, &change)))
		return;

	crowd_remember();
	crowd_refused(hbm_sequences_suspend(crowd_rig.pool, options.out, 1, HBM_TIER_NVME),
		      HBM_INVALID, "being suspended");
	crowd_refused(hbm_sequences_resume(crowd_rig.pool, options.out, 1), HBM_INVALID,
		      "being suspended");
	crowd_refused(hbm_sequence_close(one->sequence), HBM_INVALID, "being suspended");
	crowd_refused(hbm_sequence_fork(one->sequence, 1, &fork), HBM_INVALID, "being suspended");
	if (seed_below(&crowd_seed, 2))
		assert_in_range(hbm_switch_cancel(change), 0, HBM_NOT_FOUND);

	int r = hbm_switch_wait(change, -1);
	one->suspended = r != HBM_CANCELLED && crowd_is_done(r);
}

/* ---- A process ---- */

static void (*const bad[])(struct crowd_one *one) = {
	bad_step, bad_open, bad_closed, bad_reorder, bad_keep,
	bad_path, bad_name, bad_resume, bad_switch,
};

static void call(void)
{
	struct crowd_one *one = crowd_find(crowd_has_tokens);

	if (!one || seed_below(&crowd_seed, 2)) {
		crowd_call();
		return;
	}

	crowd_remember();
	bad[seed_below(&crowd_seed, sizeof(bad) / sizeof(bad[0]))](one);
}

static void work(const struct spawn *spawn, uint64_t number)
{
	alarm(PATIENCE_S);
	crowd_open(spawn, number);
	for (unsigned i = 1; i <= CALLS; i++) {
		call();
		if (i % LOOK == 0)
			crowd_check();
		child_tell();
	}
	crowd_check();
	assert_in_range(crowd_refusals, CALLS / 4, UINT32_MAX);
	pool_rig_close(&crowd_rig);
}

/* ---- All of them ---- */

static void start(struct child *child, unsigned place)
{
	child_start(child, "work", &daemon_,
		    seed_below(&crowd_seed, UINT32_MAX) * PROCESSES + place);
}

static void test_mistakes_change_nothing(void **state)
{
	(void)state;
	struct child children[PROCESSES];

	alarm(PATIENCE_S);
	seed_open(&crowd_seed, "test_sequence_crowd");
	spawn_start(&daemon_, sets, NULL);
	const unsigned fds = spawn_fds(&daemon_);
	crowd_open_other(&daemon_, OTHER_NAME);

	for (unsigned i = 0; i < PROCESSES; i++)
		start(&children[i], i);

	const unsigned victim = (unsigned)seed_below(&crowd_seed, PROCESSES);
	for (uint64_t calls = 1 + seed_below(&crowd_seed, CALLS - 1); calls > 0; calls--)
		child_await(&children[victim]);
	assert_int_equal(child_kill(&children[victim]), 128 + SIGKILL);
	start(&children[victim], victim);

	for (unsigned i = 0; i < PROCESSES; i++)
		assert_int_equal(child_wait(&children[i]), 0);
	assert_int_equal(pool_rig_leased(&crowd_rig), 0);
	pool_rig_close(&crowd_rig);
	stage_finish(fds);
	alarm(0);
}

static const struct child_part parts[] = {{"work", work}, {NULL, NULL}};

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_mistakes_change_nothing, stage_setup,
						stage_teardown),
	};

	child_main(argc, argv, parts);

	return cmocka_run_group_tests(tests, NULL, NULL);
}
