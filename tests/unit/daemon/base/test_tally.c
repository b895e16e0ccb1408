/* SPDX-License-Identifier: Apache-2.0 */
/* A list that is added up in steps: whatever comes and goes between them, the sum is that of
 * the list when nothing is left to be passed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/tally.h"
#include "tests/support/seed.h"

enum { ITEMS = 32 };

struct item {
	struct list link;
	uint32_t mark;
	uint64_t amount;
	bool there;
};

static struct item *next_of(const struct tally *tally)
{
	return container_of(tally->next, struct item, link);
}

static void pass(struct tally *tally)
{
	tally_pass(tally, &next_of(tally)->mark, next_of(tally)->amount);
}

static void add(struct tally *tally, struct item *item)
{
	tally_push(tally, &item->link, &item->mark);
	item->there = true;
}

static void take(struct tally *tally, struct item *item)
{
	tally_remove(tally, &item->link, item->mark, item->amount);
	item->there = false;
}

static uint64_t sum_of(const struct item *items)
{
	uint64_t sum = 0;
	for (int i = 0; i < ITEMS; i++)
		sum += items[i].there ? items[i].amount : 0;
	return sum;
}

static void test_an_empty_list(void **state)
{
	(void)state;
	struct tally tally;
	struct item item = {.amount = 5};

	tally_init(&tally);
	assert_true(tally_is_over(&tally));
	add(&tally, &item); /* before the first round */
	take(&tally, &item);
	tally_begin(&tally);
	assert_true(tally_is_over(&tally));
	assert_int_equal(tally.sum, 0);

	add(&tally, &item); /* after the end of a round */
	assert_false(tally_is_over(&tally));
	pass(&tally);
	assert_int_equal(tally.sum, 5);
}

/* One that was passed comes again: it is not passed yet. */
static void test_what_comes_again(void **state)
{
	(void)state;
	struct tally tally;
	struct item first = {.amount = 5}, second = {.amount = 7};

	tally_init(&tally);
	add(&tally, &first);
	add(&tally, &second);
	tally_begin(&tally);
	pass(&tally);
	take(&tally, &first);
	add(&tally, &first);
	assert_int_equal(tally.sum, 0);
	take(&tally, &first);
	assert_int_equal(tally.sum, 0);
	pass(&tally);
	assert_true(tally_is_over(&tally));
	assert_int_equal(tally.sum, 7);
}

static void test_random_changes_between_steps(void **state)
{
	(void)state;
	struct seed seed;
	struct tally tally;
	struct item items[ITEMS] = {0};

	seed_open(&seed, __func__);
	tally_init(&tally);
	for (int round = 0; round < 200; round++) {
		tally_begin(&tally);
		for (int i = 0; i < ITEMS; i++) {
			struct item *item = &items[seed_below(&seed, ITEMS)];

			if (item->there) {
				take(&tally, item);
			} else {
				item->amount = seed_below(&seed, 1000);
				add(&tally, item);
			}

			if (!tally_is_over(&tally))
				pass(&tally);
		}

		while (!tally_is_over(&tally))
			pass(&tally);
		assert_int_equal(tally.sum, sum_of(items));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_empty_list),
		cmocka_unit_test(test_what_comes_again),
		cmocka_unit_test(test_random_changes_between_steps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
