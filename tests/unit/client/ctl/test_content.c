/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and contents of replayed blocks: every wrong byte is seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/block_key.h"
#include "client/ctl/content.h"

#define BYTES 8192

static uint64_t expected[BYTES / 8], other[BYTES / 8];

static void test_keys(void **state)
{
	(void)state;
	hbm_key zero = {{0}}, before = content_key(0);
	for (uint64_t id = 0; id < 10000; id++) {
		hbm_key key = content_key(id), again = content_key(id);

		assert_memory_equal(&key, &again, sizeof(key));
		assert_memory_not_equal(&key, &zero, sizeof(key));
		if (id > 0)
			assert_memory_not_equal(&key, &before, sizeof(key));

		before = key;
	}
}

static void test_key_stays_the_same_between_versions(void **state)
{
	(void)state;
	hbm_key key = content_key(46);
	assert_string_equal(block_key_text(&key).text, "ed18cc7e1be551f03e82940bc2152c4c");
}

static void test_key_text(void **state)
{
	(void)state;
	hbm_key key = content_key(7), parsed = {{0}}, untouched = {{1}};
	assert_int_equal(block_key_parse(block_key_text(&key).text, &parsed), 0);
	assert_memory_equal(&key, &parsed, sizeof(key));
	assert_int_equal(block_key_parse("0123456789ABCDEFabcdef0123456789", &parsed), 0);
	assert_string_equal(block_key_text(&parsed).text, "0123456789abcdefabcdef0123456789");
	static const char *const wrong[] = {"",
					    "12",
					    "0123456789abcdefabcdef012345678",
					    "0123456789abcdefabcdef01234567890",
					    "0123456789abcdefabcdef012345678g",
					    "00000000000000000000000000000000"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		hbm_key out = untouched;
		assert_int_equal(block_key_parse(wrong[i], &out), -EINVAL);
		assert_memory_equal(&out, &untouched, sizeof(out));
	}
}

static void test_same_is_same(void **state)
{
	(void)state;
	hbm_key key = content_key(1);
	content_fill(&key, BYTES, expected);
	assert_int_equal(content_compare(&key, BYTES, expected), CONTENT_SAME);
}

static void test_every_byte_counts(void **state)
{
	(void)state;
	hbm_key key = content_key(2);
	content_fill(&key, BYTES, expected);

	for (uint64_t offset = 0; offset < BYTES; offset++) {
		((unsigned char *)expected)[offset] ^= (unsigned char)(1u << (offset % 8));
		assert_int_equal(content_compare(&key, BYTES, expected), offset);
		((unsigned char *)expected)[offset] ^= (unsigned char)(1u << (offset % 8));
	}
}

/* Sizes that are no words, up to a block's. */
static void test_any_size(void **state)
{
	unsigned char *bytes = (unsigned char *)expected;
	hbm_key key = content_key(6);

	(void)state;
	for (uint64_t size = 1; size < 5000; size += size < 40 ? 1 : 611) {
		memset(bytes, 0xa5, size + 8);
		content_fill(&key, size, expected);
		assert_int_equal(content_compare(&key, size, expected), CONTENT_SAME);
		for (uint64_t i = size; i < size + 8; i++)
			assert_int_equal(bytes[i], 0xa5);
		for (uint64_t i = size > 9 ? size - 9 : 0; i < size; i++) {
			bytes[i] ^= 0x10;
			assert_int_equal(content_compare(&key, size, expected), i);
			bytes[i] ^= 0x10;
		}
	}
}

static void test_other_key_other_size_other_content(void **state)
{
	(void)state;
	hbm_key key = content_key(3);
	content_fill(&key, BYTES, expected);

	for (uint64_t id = 4; id < 200; id++) {
		hbm_key another = content_key(id);
		assert_int_not_equal(content_compare(&another, BYTES, expected), CONTENT_SAME);
	}

	content_fill(&key, BYTES / 2, other);
	assert_int_not_equal(content_compare(&key, BYTES, other), CONTENT_SAME);
	assert_memory_not_equal(expected, other, BYTES / 2);
}

static void test_swapped_pages_are_seen(void **state)
{
	(void)state;
	hbm_key key = content_key(5);
	content_fill(&key, BYTES, expected);
	memcpy(other, expected + 512, 4096);
	memcpy(other + 512, expected, 4096);
	assert_int_not_equal(content_compare(&key, BYTES, other), CONTENT_SAME);
	memset(other, 0, BYTES);
	assert_int_not_equal(content_compare(&key, BYTES, other), CONTENT_SAME);
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void test_words_do_not_repeat(void **state)
{
	(void)state;
	hbm_key key = content_key(6);
	content_fill(&key, BYTES, expected);
	qsort(expected, BYTES / 8, sizeof(expected[0]), ascending);
	for (size_t i = 1; i < BYTES / 8; i++)
		assert_int_not_equal(expected[i], expected[i - 1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_key_stays_the_same_between_versions),
		cmocka_unit_test(test_key_text),
		cmocka_unit_test(test_same_is_same),
		cmocka_unit_test(test_every_byte_counts),
		cmocka_unit_test(test_any_size),
		cmocka_unit_test(test_other_key_other_size_other_content),
		cmocka_unit_test(test_swapped_pages_are_seen),
		cmocka_unit_test(test_words_do_not_repeat),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
