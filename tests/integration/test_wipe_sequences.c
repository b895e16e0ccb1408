/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sequences that are suspended and saved with wipe_on_free: their blocks are in namespaces that
 * are wiped, as test_wipe.c sees it done, and no others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/pool_rig.h"
#include "tests/support/stage.h"
#include "tests/support/suspend_stage.h"

#include <hbm/saved.h>
#include <string.h>

struct seen {
	const char *model;
	unsigned wiped, others;
};

static int see(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_namespace *ns = record;
	struct seen *seen = arg;

	(void)bytes;
	if (strcmp(ns->model, seen->model) != 0)
		return 0;

	assert_int_equal(ns->memory_only, 0);
	seen->wiped += ns->wipe_on_free;
	seen->others += !ns->wipe_on_free;

	return 0;
}

static struct seen namespaces_of(const char *model)
{
	struct seen seen = {.model = model};

	assert_int_equal(hbm_query(suspend_rig.hbm, HBM_QUERY_NAMESPACES, see, &seen), 0);

	return seen;
}

static void suspended(bool wiped)
{
	const struct hbm_pool_options options = {.max_sequences = 8, .wipe_on_free = wiped};

	suspend_start_with(pool_rig_layouts[0], &options);
	struct hbm_sequence *a = suspend_filled(30, 1000);

	suspend_out(a, HBM_TIER_DDR);
	struct seen seen = namespaces_of("suspended");
	assert_int_equal(seen.wiped, wiped);
	assert_int_equal(seen.others, !wiped);
	suspend_in(a);
	suspend_expect(a, 0, 30, 1000);
	suspend_finish();
}

static void test_suspended_sequences(void **state)
{
	(void)state;
	suspended(true);
}

static void test_suspended_sequences_as_usual(void **state)
{
	(void)state;
	suspended(false);
}

static void test_saved_sequences(void **state)
{
	(void)state;
	const struct hbm_save_options options = {
		.space = {.model = "private", .wipe_on_free = true}, .tier = HBM_TIER_DDR};
	const struct hbm_saved_space other = {.model = "private"};
	struct hbm_saved found;
	struct hbm_sequence *back;
	uint64_t saved = 0;

	suspend_start(pool_rig_layouts[0]);
	struct hbm_sequence *a = suspend_filled(30, 1000);
	const struct hbm_save save = {a, "a", 0};

	assert_int_equal(hbm_sequences_save(suspend_rig.pool, &save, 1, &options, &saved), 0);
	assert_int_equal(saved, 30);
	struct seen seen = namespaces_of("private");
	assert_true(seen.wiped > 0);
	assert_int_equal(seen.others, 0);
	assert_int_equal(hbm_saved_find(suspend_rig.pool, &other, "a", &found), HBM_NOT_FOUND);
	assert_int_equal(hbm_sequence_restore(suspend_rig.pool, &options.space, "a", NULL, &back),
			 0);
	suspend_expect(back, 0, 30, 1000);
	assert_int_equal(hbm_saved_drop(suspend_rig.pool, &options.space, "a"), 0);
	suspend_finish();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_suspended_sequences),
		TEST(test_suspended_sequences_as_usual),
		TEST(test_saved_sequences),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
