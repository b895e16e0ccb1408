/* SPDX-License-Identifier: Apache-2.0 */
/* Which clients a rule is for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/config/match.h"

#include <errno.h>
#include <string.h>

static const struct identity service = {.uid = 1000, .gid = 100, .unit = "vllm@1.service"};
static const struct identity login = {.uid = 0, .gid = 0};

static void words(void **state)
{
	(void)state;
	struct match matches[4];

	assert_int_equal(match_read("uid:1000", matches, 4), 1);
	assert_true(match_is(&matches[0], &service));
	assert_false(match_is(&matches[0], &login));

	assert_int_equal(match_read("gid:root  uid:root\tany", matches, 4), 3);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(match_is(&matches[i], &login));
		assert_false(match_is(&matches[i], &service));
	}
	assert_true(match_is(&matches[2], &service));

	assert_int_equal(
		match_read("unit:vllm@*.service unit:vllm@1.service unit:vllm", matches, 4), 3);
	assert_true(match_is(&matches[0], &service));
	assert_true(match_is(&matches[1], &service));
	assert_false(match_is(&matches[2], &service));
	assert_false(match_is(&matches[0], &login));
}

/* A client whose unit is not known is in none, whatever the pattern. */
static void no_unit_is_no_match(void **state)
{
	(void)state;
	struct match match;

	assert_int_equal(match_read("unit:*", &match, 1), 1);
	assert_true(match_is(&match, &service));
	assert_false(match_is(&match, &login));
	assert_false(match_is(&(struct match){0}, &login));
}

static void what_is_no_word(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"",
		" ",
		"uid:",
		"uid",
		"unit:",
		"uid:no-such-user-here",
		"gid:no-such-group-here",
		"uid:4294967295",
		"uid:99999999999",
		"uid:-1",
		"uid: 1",
		"pid:1",
		"Any",
		"any any any any any",
	};
	char unit[MATCH_UNIT_BYTES + 8] = "unit:";
	struct match matches[4];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(match_read(wrong[i], matches, 4), -EINVAL);

	memset(unit + 5, 'u', MATCH_UNIT_BYTES);
	assert_int_equal(match_read(unit, matches, 4), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words),
		cmocka_unit_test(no_unit_is_no_match),
		cmocka_unit_test(what_is_no_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
