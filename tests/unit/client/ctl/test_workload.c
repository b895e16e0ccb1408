/* SPDX-License-Identifier: Apache-2.0 */
/* Traces, read and made: bad lines are named, made chains are chains. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/generate.h"
#include "client/ctl/units.h"
#include "client/ctl/workload.h"

static int read_text(const char *text, size_t limit, struct workload **out, char error[256])
{
	FILE *in = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
	assert_non_null(in);
	int r = workload_read(in, "t", limit, out, error, 256);
	fclose(in);
	return r;
}

static void test_read(void **state)
{
	(void)state;
	struct workload *workload = NULL;
	char error[256];
	const char *text =
		"{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [0, "
		"1]}\n"
		"\n"
		"{\"hash_ids\": [0, 2, 3], \"timestamp\": 12.5, \"session\": {\"x\": [1]}}\r\n"
		"{\"timestamp\": 13, \"hash_ids\": []}";
	assert_int_equal(read_text(text, 0, &workload, error), 0);
	assert_int_equal(workload->request_count, 3);
	assert_int_equal(workload->longest, 3);
	assert_int_equal(workload->requests[0].input_length, 600);
	assert_int_equal(workload->requests[0].output_length, 5);
	assert_int_equal(workload->requests[1].first, 2);
	assert_int_equal(workload->requests[1].count, 3);
	assert_float_equal(workload->requests[1].timestamp_ms, 12.5, 0.0);
	assert_int_equal(workload->ids[4], 3);
	assert_int_equal(workload->requests[2].count, 0);
	workload_free(workload);
}

static void test_limit(void **state)
{
	(void)state;
	struct workload *workload = NULL;
	char error[256];
	const char *text = "{\"timestamp\": 0, \"hash_ids\": [7]}\n{\"timestamp\": 1, "
			   "\"hash_ids\": [8]}\nnot read\n";
	assert_int_equal(read_text(text, 2, &workload, error), 0);
	assert_int_equal(workload->request_count, 2);
	workload_free(workload);
}

static void assert_bad(const char *text, int result, const char *message)
{
	struct workload *workload = NULL;
	char error[256] = "";

	assert_int_equal(read_text(text, 0, &workload, error), result);
	assert_null(workload);
	if (strncmp(error, message, strlen(message)) != 0)
		assert_string_equal(error, message);
}

#define GOOD "{\"timestamp\": 0, \"hash_ids\": [1]}\n"

static void test_bad_lines(void **state)
{
	(void)state;
	assert_bad("\n\n", -ENODATA, "t holds no request");
	assert_bad(GOOD "\n{\"timestamp\": 0, \"hash_ids\": [1}\n", -EINVAL, "t, line 3: ");
	assert_bad(GOOD "[1]\n", -EINVAL, "t, line 2: expected an object");
	assert_bad("{\"hash_ids\": [1]}\n", -EINVAL, "t, line 1: \"timestamp\" is missing");
	assert_bad("{\"timestamp\": -1, \"hash_ids\": [1]}\n", -EINVAL,
		   "t, line 1: \"timestamp\" is missing");
	assert_bad("{\"timestamp\": 5e83, \"hash_ids\": [1]}\n", -EINVAL,
		   "t, line 1: \"timestamp\" is missing or no number from 0 to 2^53");
	assert_bad("{\"timestamp\": \"0\", \"hash_ids\": [1]}\n", -EINVAL,
		   "t, line 1: \"timestamp\" is missing");
	assert_bad("{\"timestamp\": 0}\n", -EINVAL, "t, line 1: \"hash_ids\" is missing");
	assert_bad("{\"timestamp\": 0, \"hash_ids\": 3}\n", -EINVAL,
		   "t, line 1: \"hash_ids\" is missing");
	assert_bad("{\"timestamp\": 0, \"hash_ids\": [1, -2]}\n", -EINVAL,
		   "t, line 1: \"hash_ids\" holds");
	assert_bad("{\"timestamp\": 0, \"hash_ids\": [1.5]}\n", -EINVAL,
		   "t, line 1: \"hash_ids\" holds");
	assert_bad("{\"timestamp\": 0, \"hash_ids\": [null]}\n", -EINVAL,
		   "t, line 1: \"hash_ids\" holds");
	assert_bad("{\"timestamp\": 0, \"input_length\": -1, \"hash_ids\": [1]}\n", -EINVAL,
		   "t, line 1: a length");
	assert_bad(GOOD GOOD "{\"timestamp\": 0, \"hash_ids\": [1]} x\n", -EINVAL, "t, line 3: ");
	assert_bad("{\"timestamp\": 0, \"hash_ids\": [99999999999999999999]}\n", -EINVAL,
		   "t, line 1: ");
}

static void test_spec_errors(void **state)
{
	(void)state;
	static const char *const wrong[] = {"users=0",
					    "user=1",
					    "users",
					    "users=",
					    "users=x",
					    "users=-1",
					    "=3",
					    "users=1 ",
					    "block=0",
					    "prompt=0",
					    ",users=1",
					    "defaults",
					    "users=1,,seed=2",
					    "users=99999999999999999999",
					    "turns=100000,prompt=10000000,block=1"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct generate_spec spec = {.users = 77};
		char error[256] = "";
		assert_int_equal(generate_parse(wrong[i], &spec, error, sizeof(error)), -EINVAL);
		assert_string_not_equal(error, "");
		assert_int_equal(spec.users, 77);
	}
}

static struct workload *made(const char *text)
{
	struct generate_spec spec;
	struct workload *workload = NULL;
	char error[256] = "";

	assert_int_equal(generate_parse(text, &spec, error, sizeof(error)), 0);
	assert_int_equal(generate(&spec, &workload), 0);

	return workload;
}

static char *printed(const struct workload *workload)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	for (size_t i = 0; i < workload->request_count; i++)
		workload_print(workload, &workload->requests[i], out);
	fclose(out);

	return text;
}

static void test_deterministic(void **state)
{
	(void)state;
	struct workload *first = made("default"), *again = made(""), *seeded = made("seed=2");
	char *a = printed(first), *b = printed(again), *c = printed(seeded);
	assert_int_equal(first->request_count, 8 * 6);
	assert_string_equal(a, b);
	assert_string_not_equal(a, c);
	free(a);
	free(b);
	free(c);
	workload_free(first);
	workload_free(again);
	workload_free(seeded);
}

static void test_printed_is_read_back(void **state)
{
	(void)state;
	struct workload *first = made("users=3,turns=2"), *back = NULL;
	char *text = printed(first), error[256];
	assert_int_equal(read_text(text, 0, &back, error), 0);
	char *again = printed(back);
	assert_string_equal(text, again);
	assert_int_equal(back->longest, first->longest);
	free(text);
	free(again);
	workload_free(first);
	workload_free(back);
}

/* The same id has the same id before it, everywhere; so, by induction, the same prefix. */
static void check_chains(const struct workload *workload)
{
	uint64_t *parent_plus_2 = calloc(workload->id_count + 2, sizeof(*parent_plus_2));
	assert_non_null(parent_plus_2);

	for (size_t r = 0; r < workload->request_count; r++) {
		const uint64_t *ids = workload->ids + workload->requests[r].first;
		for (size_t i = 0; i < workload->requests[r].count; i++) {
			uint64_t parent = i == 0 ? 1 : ids[i - 1] + 2;
			assert_in_range(ids[i], 0, workload->id_count);
			if (parent_plus_2[ids[i]] == 0)
				parent_plus_2[ids[i]] = parent;
			assert_int_equal(parent_plus_2[ids[i]], parent);
		}
	}

	free(parent_plus_2);
}

static void test_chains(void **state)
{
	(void)state;
	static const char *const specs[] = {"",
					    "shared=0",
					    "users=1,turns=50,requests=120",
					    "shared=511",
					    "shared=512,prompt=1,reply=0,block=1",
					    "users=20,turns=3,think_ms=0",
					    "reply=0,prompt=512,block=100,requests=7"};
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		struct workload *workload = made(specs[i]);
		check_chains(workload);

		for (size_t r = 1; r < workload->request_count; r++)
			assert_in_range((uint64_t)workload->requests[r].timestamp_ms,
					(uint64_t)workload->requests[r - 1].timestamp_ms,
					UINT64_MAX);

		workload_free(workload);
	}
}

static void test_blocks_cover_the_prompt(void **state)
{
	(void)state;
	struct workload *workload = made("users=5,turns=4,block=256,shared=700,requests=43");
	assert_int_equal(workload->request_count, 43);

	for (size_t r = 0; r < workload->request_count; r++) {
		const struct workload_request *request = &workload->requests[r];
		assert_int_equal(request->count, (request->input_length + 255) / 256);
		assert_int_equal(workload->ids[request->first], 0);
		assert_int_equal(workload->ids[request->first + 1], 1);
	}

	workload_free(workload);
}

static void test_later_turns_find_earlier_blocks(void **state)
{
	(void)state;
	struct workload *workload = made("users=1,turns=2,shared=0,prompt=5120,reply=0");
	const struct workload_request *first = &workload->requests[0],
				      *second = &workload->requests[1];
	size_t full = first->input_length / 512;
	assert_in_range(second->count, full + 1, SIZE_MAX);
	assert_memory_equal(workload->ids + first->first, workload->ids + second->first,
			    full * sizeof(uint64_t));
	if (first->count > full)
		assert_int_not_equal(workload->ids[first->first + full],
				     workload->ids[second->first + full]);

	workload_free(workload);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_spec_errors),
		cmocka_unit_test(test_deterministic),
		cmocka_unit_test(test_printed_is_read_back),
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_blocks_cover_the_prompt),
		cmocka_unit_test(test_later_turns_find_earlier_blocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
