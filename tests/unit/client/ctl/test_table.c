/* SPDX-License-Identifier: Apache-2.0 */
/* The aligned columns of hbmctl. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/table.h"

static const struct table_column name_and_size[] = {{"NAME", false}, {"SIZE", true}};
static const struct table_column bare[] = {{NULL, false}, {NULL, true}};

static char *printed(struct table *table)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	assert_int_equal(table_finish(table, out), 0);
	fclose(out);

	return text;
}

static void assert_prints(struct table *table, const char *expected)
{
	char *text = printed(table);
	assert_string_equal(text, expected);
	free(text);
}

static void test_alignment(void **state)
{
	(void)state;
	struct table *table = table_new(name_and_size, 2);
	table_cell(table, "%s", "a");
	table_cell(table, "%d", 1);
	table_cell(table, "%s", "longer name");
	table_cell(table, "%d", 1234567);
	assert_prints(table, "NAME            SIZE\n"
			     "a                  1\n"
			     "longer name  1234567\n");
}

static void test_no_rows_no_header(void **state)
{
	(void)state;
	assert_prints(table_new(name_and_size, 2), "NAME  SIZE\n");
	assert_prints(table_new(bare, 2), "");
}

static void test_no_line_ends_in_spaces(void **state)
{
	(void)state;
	struct table *table = table_new(bare, 2);
	table_cell(table, "a");
	table_cell(table, "22");
	table_cell(table, "bb");
	assert_prints(table, "a   22\nbb\n");
}

static void test_names_of_clients_cannot_control_the_terminal(void **state)
{
	(void)state;
	struct table *table = table_new(bare, 2);
	table_cell(table, "a\033[2J\n\x7f");
	table_cell(table, "\xc2\x9b");
	assert_prints(table, "a?[2J??  ??\n");
}

static void test_utf8_counts_characters(void **state)
{
	(void)state;
	struct table *table = table_new(bare, 2);
	table_cell(table, "\xc3\xa9");
	table_cell(table, "1");
	table_cell(table, "e");
	table_cell(table, "2");
	assert_prints(table, "\xc3\xa9  1\ne  2\n");
}

static void test_many_cells(void **state)
{
	(void)state;
	struct table *table = table_new(bare, 2);
	for (int i = 0; i < 10000; i++) {
		table_cell(table, "%d", i % 10);
		table_cell(table, "x");
	}

	char *text = printed(table);
	assert_int_equal(strlen(text), 10000 * strlen("0  x\n"));
	free(text);
}

static void test_missing_table_is_an_error(void **state)
{
	(void)state;
	table_cell(NULL, "lost");
	assert_int_equal(table_finish(NULL, stdout), -ENOMEM);
	assert_null(table_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_no_rows_no_header),
		cmocka_unit_test(test_no_line_ends_in_spaces),
		cmocka_unit_test(test_names_of_clients_cannot_control_the_terminal),
		cmocka_unit_test(test_utf8_counts_characters),
		cmocka_unit_test(test_many_cells),
		cmocka_unit_test(test_missing_table_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
