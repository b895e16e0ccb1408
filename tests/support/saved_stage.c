/* SPDX-License-Identifier: Apache-2.0 */
/* saved_stage: see saved_stage.h. */
#include "tests/support/saved_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/stage.h"

#include <string.h>

struct pool_rig saved_rig;
const struct hbm_saved_space saved_space = {.model = "small", .salt = "salt", .weights = 3};
const struct hbm_save_options saved_plain = {
	.space = {.model = "small", .salt = "salt", .weights = 3}};

static const struct hbm_pool_options stage_usual = {.max_sequences = 8};

void saved_stage_start(const char *layout)
{
	if (daemon_.pid == 0)
		spawn_start(&daemon_, NULL, NULL);
	pool_rig_open(&saved_rig, &daemon_, layout, &stage_usual);
}

void saved_stage_again(const char *layout)
{
	pool_rig_close(&saved_rig);
	saved_stage_start(layout);
}

void saved_stage_finish(void)
{
	pool_rig_close(&saved_rig);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

void saved_stage_expect_done(int r)
{
	if (r)
		fail_msg("%d, %s", r, hbm_pool_error(saved_rig.pool));
}

void saved_stage_expect_line(const char *text)
{
	if (!strstr(hbm_pool_error(saved_rig.pool), text))
		fail_msg("\"%s\" says nothing of \"%s\"", hbm_pool_error(saved_rig.pool), text);
}

struct hbm_sequence *saved_stage_sequence(uint64_t tokens, uint64_t tag)
{
	struct hbm_sequence *sequence = pool_rig_sequence(&saved_rig);
	const struct contents contents = {.kv = &saved_rig.kv, .tag = tag};

	assert_int_equal(pool_rig_step(&saved_rig, sequence, tokens), 0);
	contents_write(&contents, sequence, 0, tokens);

	return sequence;
}

void saved_stage_save(struct hbm_sequence *sequence, const char *name, uint64_t committed)
{
	const struct hbm_save one = {sequence, name, committed};
	uint64_t saved = 0;
	int r = hbm_sequences_save(saved_rig.pool, &one, 1, &saved_plain, &saved);

	if (r)
		fail_msg("hbm_sequences_save(): %d, %s", r, hbm_pool_error(saved_rig.pool));
	assert_int_equal(saved, pool_rig_facts(sequence).tokens);
}

struct hbm_sequence *saved_stage_restore(const char *name)
{
	struct hbm_sequence *sequence = NULL;
	int r = hbm_sequence_restore(saved_rig.pool, &saved_space, name, NULL, &sequence);

	if (r)
		fail_msg("hbm_sequence_restore(): %d, %s", r, hbm_pool_error(saved_rig.pool));

	return sequence;
}

void saved_stage_expect(struct hbm_sequence *sequence, uint64_t first, uint64_t tokens,
			uint64_t tag)
{
	const struct contents contents = {.kv = &saved_rig.kv, .tag = tag};

	assert_int_equal(pool_rig_facts(sequence).first, first);
	assert_int_equal(pool_rig_facts(sequence).tokens, tokens);
	assert_true(contents_are(&contents, sequence, first, tokens));
}

static int stage_count_block(const void *record, size_t bytes, void *arg)
{
	(void)record;
	(void)bytes;
	++*(uint64_t *)arg;

	return 0;
}

uint64_t saved_stage_blocks(void)
{
	uint64_t count = 0;

	assert_int_equal(hbm_query(saved_rig.hbm, HBM_QUERY_BLOCKS, stage_count_block, &count), 0);

	return count;
}
