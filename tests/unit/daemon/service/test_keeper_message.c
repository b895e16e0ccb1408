/* SPDX-License-Identifier: Apache-2.0 */
/* What a keeper understands of a datagram, and what it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/service/keeper_message.h"
#include "tests/support/seed.h"

#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 20000, MOST = 200 };

static struct keeper_message parsed(const char *text)
{
	struct keeper_message message;
	assert_true(keeper_message_parse(&message, text, strlen(text)));
	return message;
}

static void assert_says_nothing(const struct keeper_message *message)
{
	static const struct keeper_message nothing;
	assert_memory_equal(message, &nothing, sizeof(nothing));
}

static void test_what_a_daemon_says(void **state)
{
	(void)state;
	struct keeper_message message = parsed("FDSTORE=1\nFDNAME=kept-park-3\nFDPOLL=0");
	assert_true(message.store);
	assert_int_equal(message.drop, false);
	assert_string_equal(message.name, "kept-park-3");

	message = parsed("FDSTOREREMOVE=1\nFDNAME=a\n");
	assert_true(message.drop);
	assert_int_equal(message.store, false);
	assert_string_equal(message.name, "a");

	message = parsed("READY=1\nSTATUS=Serving");
	assert_true(message.ready);
	message = parsed("WATCHDOG=1");
	assert_true(message.alive);
}

/* Only whole lines count, and only the one value that has a meaning. */
static void test_what_says_nothing(void **state)
{
	static const char *const texts[] = {
		"",           "\n\n\n",     "FDSTORE=",       "FDSTORE=0", "FDSTORE=11",
		"XFDSTORE=1", " FDSTORE=1", "FDSTORE=1 ",     "fdstore=1", "FDSTORE",
		"READY=0",    "READY=1\r",  "STATUS=READY=1", "=1",        "WATCHDOG=trigger",
		"FDNAM=a",
	};
	(void)state;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct keeper_message message = parsed(texts[i]);
		assert_says_nothing(&message);
	}
}

static void test_names_that_may_not_be(void **state)
{
	char text[KEEPER_NAME_BYTES + 16] = "FDNAME=";
	static const char *const texts[] = {"FDNAME=",         "FDNAME=a:b",
					    "FDNAME=a b",      "FDNAME=a\tb",
					    "FDNAME=\xc3\xa4", "FDNAME=good\nFDNAME=not:good"};
	(void)state;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_string_equal(parsed(texts[i]).name, "");

	memset(text + 7, 'x', KEEPER_NAME_BYTES - 1);
	assert_int_equal(strlen(parsed(text).name), KEEPER_NAME_BYTES - 1);
	text[7 + KEEPER_NAME_BYTES - 1] = 'x';
	assert_string_equal(parsed(text).name, "");
}

static void test_texts_that_are_no_text(void **state)
{
	static const char zero[] = "READY=1\0READY=1";
	char *text = malloc(KEEPER_TEXT_MAX + 1);
	struct keeper_message message;
	(void)state;

	assert_non_null(text);
	assert_int_equal(keeper_message_parse(&message, zero, sizeof(zero) - 1), false);
	assert_says_nothing(&message);

	memset(text, 'x', KEEPER_TEXT_MAX + 1);
	memcpy(text, "READY=1\n", 8);
	assert_int_equal(keeper_message_parse(&message, text, KEEPER_TEXT_MAX + 1), false);
	assert_says_nothing(&message);
	assert_true(keeper_message_parse(&message, text, KEEPER_TEXT_MAX));
	assert_true(message.ready);
	free(text);
}

/* Of pieces of messages, cut and mixed; the text ends where it ends, for sanitizers to see. */
static void test_any_text(void **state)
{
	static const char *const pieces[] = {"FDSTORE=1", "FDNAME=", "\n", "=",
					     "x",         "\0",      "1",  "FDSTOREREMOVE=1",
					     "BARRIER=1", ":"};
	struct seed seed;
	(void)state;

	seed_open(&seed, "keeper_message");
	for (int i = 0; i < ROUNDS; i++) {
		size_t bytes = 0, most = seed_below(&seed, MOST);
		char *text = malloc(most + 1);
		struct keeper_message message;

		assert_non_null(text);
		while (bytes < most) {
			const char *piece =
				pieces[seed_below(&seed, sizeof(pieces) / sizeof(pieces[0]))];
			size_t length = piece[0] ? strlen(piece) : 1;
			if (length > most - bytes)
				length = most - bytes;
			memcpy(text + bytes, piece, length);
			bytes += length;
		}

		char *exact = realloc(text, bytes > 0 ? bytes : 1);
		assert_non_null(exact);
		bool is_text = !memchr(exact, '\0', bytes);
		assert_int_equal(keeper_message_parse(&message, exact, bytes), is_text);
		assert_null(strchr(message.name, ':'));
		assert_null(strchr(message.name, '\n'));
		if (!is_text)
			assert_says_nothing(&message);
		free(exact);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_a_daemon_says),
		cmocka_unit_test(test_what_says_nothing),
		cmocka_unit_test(test_names_that_may_not_be),
		cmocka_unit_test(test_texts_that_are_no_text),
		cmocka_unit_test(test_any_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
