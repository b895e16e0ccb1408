/* SPDX-License-Identifier: Apache-2.0 */
/* STOREs and LOADs that are parts of one: which belong together, and when they are over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/session/parts.h"
#include "tests/support/seed.h"

static struct hbm_wire_blocks message_of(bool more, uint64_t value)
{
	return (struct hbm_wire_blocks){.header = {.flags = more ? HBM_WIRE_MORE : 0},
					.fence_slot = 3,
					.failed_slot = 4,
					.fence_value = value};
}

static struct parts *join(struct parts **open, bool more, uint64_t value)
{
	const struct hbm_wire_blocks message = message_of(more, value);
	struct parts *joined = NULL;

	assert_int_equal(parts_join(open, &message, &joined), HBM_OK);

	return joined;
}

static void one_without_more_is_whole_by_itself(void **state)
{
	struct parts *open = NULL;
	uint64_t failed = 5;
	(void)state;

	assert_null(join(&open, false, 1));
	assert_null(open);
	assert_true(parts_end_one(NULL, &failed));
	assert_int_equal(failed, 5);
	assert_null(parts_unref(NULL));
	assert_null(parts_ref(NULL));
}

static void those_up_to_one_without_more_belong_together(void **state)
{
	struct parts *open = NULL, *first = join(&open, true, 1), *second = join(&open, true, 1),
		     *last = join(&open, false, 1);
	uint64_t failed = 0;
	(void)state;

	assert_non_null(first);
	assert_ptr_equal(first, second);
	assert_ptr_equal(first, last);
	assert_null(open);
	assert_int_equal(first->fence.slot, 3);
	assert_int_equal(first->fence.failed_slot, 4);
	assert_int_equal(first->fence.value, 1);

	/* what comes now is another */
	struct parts *other = join(&open, true, 2);
	assert_ptr_not_equal(other, first);

	assert_false(parts_end_one(first, &failed));
	assert_false(parts_end_one(first, &failed));
	assert_true(parts_end_one(first, &failed));
	for (int i = 0; i < 3; i++)
		first = (parts_unref(first), i < 2 ? first : NULL);
	parts_unref(other);
	open = parts_unref(open);
}

/* All that have come may be over before the last has. */
static void they_are_not_over_before_the_last_has_come(void **state)
{
	struct parts *open = NULL, *first = join(&open, true, 1);
	uint64_t failed = 2;
	(void)state;

	assert_false(parts_end_one(first, &failed));
	parts_unref(first);
	assert_ptr_equal(join(&open, false, 1), first);
	assert_null(open);
	failed = 3;
	assert_true(parts_end_one(first, &failed));
	assert_int_equal(failed, 5);
	parts_unref(first);
}

static void all_have_the_same_fences(void **state)
{
	struct parts *open = NULL, *first = join(&open, true, 1), *joined = first;
	struct hbm_wire_blocks other[] = {message_of(false, 1), message_of(true, 1),
					  message_of(false, 2)};
	(void)state;

	other[0].fence_slot = 5;
	other[1].failed_slot = 0;
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(parts_join(&open, &other[i], &joined), HBM_INVALID);
		assert_null(joined);
		assert_ptr_equal(open, first);
		assert_int_equal(first->running, 1);
	}

	parts_unref(first);
	open = parts_unref(open);
}

/* In any order of coming and ending, they are over once, with all that failed. */
static void they_are_over_once(void **state)
{
	struct seed seed;
	(void)state;
	seed_open(&seed, "parts");

	for (int round = 0; round < 2000; round++) {
		struct parts *open = NULL, *parts = NULL;
		unsigned count = 1 + (unsigned)seed_below(&seed, 8), come = 0, ended = 0, over = 0;
		uint64_t sum = 0, failed = 0;

		while (ended < count) {
			if (come < count && (come == ended || seed_below(&seed, 2) == 0)) {
				parts = join(&open, come + 1 < count, 1);
				come++;
				continue;
			}
			uint64_t own = seed_below(&seed, 5);

			sum += own;
			failed = own;
			over += parts_end_one(parts, &failed);
			ended++;
			assert_int_equal(over, ended == count);
			parts_unref(parts);
		}
		assert_int_equal(failed, sum);
		assert_null(open);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_without_more_is_whole_by_itself),
		cmocka_unit_test(those_up_to_one_without_more_belong_together),
		cmocka_unit_test(they_are_not_over_before_the_last_has_come),
		cmocka_unit_test(all_have_the_same_fences),
		cmocka_unit_test(they_are_over_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
