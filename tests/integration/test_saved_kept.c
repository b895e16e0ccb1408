/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences that have kept some of their tokens, layers and heads are saved and restored, and
 * modules are taken from them and appended to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kept.h"
#include "tests/support/saved_stage.h"
#include "tests/support/stage.h"

#include <stdlib.h>

static const char *const layouts[] = {
	"layers=4 heads=3 dim=9000 bytes=4 order=token max=64",
	"layers=4 heads=3 dim=18000 bytes=4 order=layer max=64",
	"layers=4 heads=3 dim=4096 bytes=2 order=block page=8 page_form=hnd max=64",
	"layers=4 heads=3 dim=4096 bytes=2 order=block page=8 max=64",
	/* The first layers of its groups change places. */
	"layers=4 order=token max=64 layer=0,3 heads=3 dim=9000 bytes=4 layer=1,2 heads=3 dim=7000 "
	"bytes=2 window=16",
	"layers=4 order=token max=64 layer=0,3 heads=3 dim=9000 bytes=4 layer=1 state=3000 "
	"layer=2 state=2600000",
	NULL,
};
static const uint64_t some_layers[] = {1, 2, 3}, some_heads[] = {0, 2};

/* Every third of them. */
static struct kept kept_some(uint64_t tokens)
{
	struct kept kept = kept_open(&saved_rig);
	uint64_t set[RIG_MAX];
	size_t count = 0;

	assert_int_equal(pool_rig_step(&saved_rig, kept.sequence, tokens), 0);
	for (uint64_t i = 0; i < tokens; i++)
		kept_write(&saved_rig, &kept, 100 + i);
	for (uint64_t i = 0; i < tokens; i += 3)
		set[count++] = i;
	assert_int_equal(kept_keep(&kept, HBM_AXIS_TOKENS, set, count), 0);
	saved_stage_expect_done(kept_keep(&kept, HBM_AXIS_LAYERS, some_layers, 3));
	saved_stage_expect_done(kept_keep(&kept, HBM_AXIS_HEADS, some_heads, 2));

	return kept;
}

/* Freed by the caller. */
static char *layout_of(struct hbm_sequence *sequence)
{
	const struct hbm_layout *layout = hbm_sequence_layout(sequence);
	const size_t size = hbm_layout_print(layout, NULL, 0) + 1;
	char *text = malloc(size);

	assert_non_null(text);
	hbm_layout_print(layout, text, size);

	return text;
}

static void test_what_was_kept_is_restored(void **state)
{
	(void)state;
	struct hbm_sequence *none;

	for (const char *const *layout = layouts; *layout; layout++) {
		saved_stage_start(*layout);
		struct kept kept = kept_some(48);
		char *text = layout_of(kept.sequence);

		/* One that has kept nothing, and one that has, in either order. */
		saved_stage_save(saved_stage_sequence(31, 7), "all", 0);
		saved_stage_save(kept.sequence, "kept", 0);
		saved_stage_again(*layout);
		saved_stage_expect(saved_stage_restore("all"), 0, 31, 7);
		assert_int_equal(
			hbm_sequence_restore(saved_rig.pool, &saved_space, "kept", NULL, &none),
			HBM_INVALID);
		saved_stage_expect_line("of \"layers=3 ");

		saved_stage_again(text);
		kept.sequence = saved_stage_restore("kept");
		kept_check(&saved_rig, &kept);
		saved_stage_finish();
		free(text);
	}
}

/* In one call: the memory for pieces of one is not that of the other. */
static void test_both_in_one_call(void **state)
{
	(void)state;
	uint64_t saved[3];

	for (const char *const *layout = layouts; *layout; layout++) {
		saved_stage_start(*layout);
		struct kept kept = kept_some(20);
		char *text = layout_of(kept.sequence);
		const struct hbm_save saves[] = {{saved_stage_sequence(31, 7), "a", 0},
						 {kept.sequence, "kept", 0},
						 {saved_stage_sequence(12, 8), "b", 0}};

		saved_stage_expect_done(
			hbm_sequences_save(saved_rig.pool, saves, 3, &saved_plain, saved));
		assert_int_equal(saved[0] + saved[1] + saved[2], 31 + 7 + 12);
		saved_stage_again(*layout);
		saved_stage_expect(saved_stage_restore("a"), 0, 31, 7);
		saved_stage_expect(saved_stage_restore("b"), 0, 12, 8);
		saved_stage_again(text);
		kept.sequence = saved_stage_restore("kept");
		kept_check(&saved_rig, &kept);
		saved_stage_finish();
		free(text);
	}
}

static struct hbm_sequence *sequence_of_two(uint64_t tokens, uint64_t tag)
{
	static const uint64_t layers[] = {1, 2};
	struct hbm_sequence *sequence = saved_stage_sequence(tokens, tag);

	assert_int_equal(hbm_sequence_keep(sequence, HBM_AXIS_LAYERS, layers, 2), 0);

	return sequence;
}

static void test_modules_of_what_was_kept(void **state)
{
	(void)state;
	const struct hbm_module module = {"chat", "m", 1};

	for (unsigned i = 0; i < 4; i++) {
		saved_stage_start(layouts[i]);
		struct hbm_sequence *source = sequence_of_two(20, 1),
				    *sequence = sequence_of_two(5, 2),
				    *all = saved_stage_sequence(5, 3);
		struct contents contents = {.kv = &saved_rig.kv, .tag = 2, .first_layer = 1};

		saved_stage_expect_done(hbm_module_put(source, &saved_space, &module, 2, 19, NULL));
		saved_stage_expect_done(hbm_module_map(sequence, &saved_space, &module));
		assert_true(contents_are(&contents, sequence, 0, 5));
		contents.tag = 1;
		contents.shift = 2 - 5;
		assert_true(contents_are(&contents, sequence, 5, 22));

		assert_int_equal(hbm_module_map(all, &saved_space, &module), HBM_INVALID);
		saved_stage_expect(all, 0, 5, 3);
		assert_int_equal(hbm_module_drop(saved_rig.pool, &saved_space, &module), 0);
		saved_stage_finish();
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_was_kept_is_restored),
		TEST(test_both_in_one_call),
		TEST(test_modules_of_what_was_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
