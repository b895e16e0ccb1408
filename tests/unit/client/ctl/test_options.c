/* SPDX-License-Identifier: Apache-2.0 */
/* hbmctl's command line options. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/options.h"

static const struct option_spec first_specs[] = {
	{"json", NULL, "a flag"}, {"socket", "PATH", "a value"}, {NULL, NULL, NULL}};
static const struct option_spec second_specs[] = {{"limit", "N", "a value"}, {NULL, NULL, NULL}};

static void test_values(void **state)
{
	(void)state;
	struct option_set first = {.specs = first_specs}, second = {.specs = second_specs};
	struct option_set *sets[] = {&first, &second};
	char error[128];
	char text[][16] = {"--socket", "/a", "--limit=3", "--json", "--socket=--b=", "rest"};
	char *words[] = {text[0], text[1], text[2], text[3], text[4], text[5], NULL};
	char **args = words;
	for (int i = 0; i < 4; i++)
		assert_int_equal(options_take(sets, 2, &args, error, sizeof(error)), 0);
	assert_string_equal(*args, "rest");
	assert_string_equal(first.values[0], "");
	assert_string_equal(first.values[1], "--b=");
	assert_string_equal(second.values[0], "3");
}

static void assert_wrong(const char *word, const char *expected)
{
	struct option_set first = {.specs = first_specs}, none = {.specs = NULL};
	struct option_set *sets[] = {&first, &none};
	char error[128] = "";
	char text[32];

	snprintf(text, sizeof(text), "%s", word);
	char *words[] = {text, NULL};
	char **args = words;
	assert_int_equal(options_take(sets, 2, &args, error, sizeof(error)), -EINVAL);
	assert_string_equal(error, expected);
	assert_null(first.values[0]);
	assert_null(first.values[1]);
}

static void test_errors(void **state)
{
	(void)state;
	assert_wrong("--nope", "there is no option --nope");
	assert_wrong("--js", "there is no option --js");
	assert_wrong("--jsonx=1", "there is no option --jsonx");
	assert_wrong("--json=1", "--json takes no value");
	assert_wrong("--socket", "--socket needs a value: PATH");
}

static void test_help_names_all(void **state)
{
	(void)state;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	options_help(first_specs, out);
	options_help(NULL, out);
	fclose(out);
	assert_string_equal(
		text, "  --json                  a flag\n  --socket PATH           a value\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_help_names_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
