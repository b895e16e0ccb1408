/* SPDX-License-Identifier: Apache-2.0 */
/* The names that are saved in a space, and the modules of a schema. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/saved_stage.h"
#include "tests/support/stage.h"

#include <stdio.h>
#include <string.h>

/* "NAME:TOKENS:COMMITTED:VERSION " of each. */
struct list {
	char text[4096];
	unsigned count, most; /* most: 0: all */
};

static int see(const char *name, const struct hbm_saved *saved, void *arg)
{
	struct list *list = arg;
	const size_t length = strlen(list->text);

	snprintf(list->text + length, sizeof(list->text) - length, "%s:%d:%d:%d ", name,
		 (int)saved->tokens, (int)saved->committed, (int)saved->version);

	return ++list->count == list->most ? 99 : 0;
}

static void expect(const char *schema, const char *text)
{
	struct list list = {0};

	saved_stage_expect_done(hbm_saved_list(saved_rig.pool, &saved_space, schema, see, &list));
	assert_string_equal(list.text, text);
}

static void test_names_are_listed(void **state)
{
	(void)state;
	saved_stage_start(pool_rig_layouts[0]);
	expect(NULL, "");
	saved_stage_save(saved_stage_sequence(9, 1), "b", 4);
	saved_stage_save(saved_stage_sequence(5, 1), "a name", 7);
	saved_stage_save(saved_stage_sequence(8, 1), "b", 5);

	/* Of another layout, and seen from there. */
	saved_stage_again(pool_rig_layouts[1]);
	saved_stage_save(saved_stage_sequence(3, 1), "c", 0);
	expect(NULL, "a name:5:7:0 b:8:5:0 c:3:0:0 ");
	assert_int_equal(hbm_saved_drop(saved_rig.pool, &saved_space, "b"), 0);
	expect(NULL, "a name:5:7:0 c:3:0:0 ");

	struct list first = {.most = 1};

	assert_int_equal(hbm_saved_list(saved_rig.pool, &saved_space, NULL, see, &first), 99);
	assert_string_equal(first.text, "a name:5:7:0 ");
	saved_stage_finish();
}

static void test_pinned_ones_are_listed_once(void **state)
{
	(void)state;
	struct hbm_save_options options = saved_plain;
	char name[8];
	uint64_t saved;

	options.keep = true;
	saved_stage_start(pool_rig_layouts[0]);
	struct hbm_save one = {saved_stage_sequence(4, 1), name, 0};

	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		saved_stage_expect_done(
			hbm_sequences_save(saved_rig.pool, &one, 1, &options, &saved));
	}
	expect(NULL, "n0:4:0:0 n1:4:0:0 n2:4:0:0 ");
	saved_stage_finish();
}

static void test_modules_of_a_schema_are_listed(void **state)
{
	(void)state;
	const struct hbm_module modules[] = {
		{"chat", "system", 2}, {"chat", "doc", 1}, {"code", "system", 3}};

	saved_stage_start(pool_rig_layouts[0]);
	struct hbm_sequence *source = saved_stage_sequence(9, 1);

	for (unsigned i = 0; i < 3; i++)
		saved_stage_expect_done(
			hbm_module_put(source, &saved_space, &modules[i], 0, 4 + i, NULL));
	expect(NULL, "");
	expect("chat", "doc:5:0:1 system:4:0:2 ");
	expect("code", "system:6:0:3 ");
	expect("none", "");
	assert_int_equal(hbm_schema_drop(saved_rig.pool, &saved_space, "chat"), 0);
	expect("chat", "");
	saved_stage_finish();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_names_are_listed),
		TEST(test_pinned_ones_are_listed_once),
		TEST(test_modules_of_a_schema_are_listed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
