/* SPDX-License-Identifier: Apache-2.0 */
/* Loads that wait: those of a block leave together and in order, and payers take turns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "daemon/move/waiting_loads.h"
#include "tests/support/seed.h"

enum { LOADS = 400, BLOCKS = 90 };

struct work {
	struct waiting_load load;
	uint64_t payer, arrival;
	bool waits;
};

static void add(struct waiting_loads *loads, struct work *work, uint32_t block, uint64_t payer)
{
	static uint64_t arrivals;

	work->payer = payer;
	work->arrival = arrivals++;
	work->waits = true;
	waiting_loads_add(loads, &work->load, block, (struct fair_payer){.id = payer}, 64 << 10);
}

static struct work *pop(struct list *taken)
{
	struct list *node = list_pop_front(taken);
	return node ? container_of(node, struct work, load.link) : NULL;
}

static void test_the_loads_of_a_block_leave_together(void **state)
{
	(void)state;
	struct waiting_loads loads = {0};
	struct work works[6] = {0};
	struct list taken = LIST_INIT(taken);

	assert_int_equal(waiting_loads_open(&loads, 1), 0);
	assert_true(waiting_loads_empty(&loads));
	add(&loads, &works[0], 7, 1);
	add(&loads, &works[1], 7 + 16, 1); /* in the same list */
	add(&loads, &works[2], 7, 2);
	add(&loads, &works[3], 8, 2);
	add(&loads, &works[4], 7, 1); /* the same payer again */

	waiting_loads_take(&loads, 9, &taken);
	assert_true(list_empty(&taken));
	waiting_loads_take(&loads, 7, &taken);
	assert_ptr_equal(pop(&taken), &works[0]);
	assert_ptr_equal(pop(&taken), &works[2]);
	assert_ptr_equal(pop(&taken), &works[4]);
	assert_null(pop(&taken));
	waiting_loads_take(&loads, 7, &taken);
	assert_true(list_empty(&taken));

	waiting_loads_take_next(&loads, &taken);
	assert_ptr_equal(pop(&taken), &works[1]);
	waiting_loads_take_next(&loads, &taken);
	assert_ptr_equal(pop(&taken), &works[3]);
	assert_true(waiting_loads_empty(&loads));
	waiting_loads_close(&loads);
}

/* A load is not behind another payer's hundreds, not even if that one came first for the same
 * block. */
static void test_payers_take_turns(void **state)
{
	(void)state;
	struct waiting_loads loads = {0};
	struct work *works = calloc(LOADS, sizeof(*works)), late = {0};
	struct list taken = LIST_INIT(taken);
	unsigned before = 0;

	assert_int_equal(waiting_loads_open(&loads, 8), 0);
	for (uint32_t i = 0; i < LOADS; i++)
		add(&loads, &works[i], i, 1);
	add(&loads, &late, LOADS - 1, 2);

	while (late.waits) {
		waiting_loads_take_next(&loads, &taken);
		for (struct work *work; (work = pop(&taken)); before++)
			work->waits = false;
	}

	assert_in_range(before, 2, 2 + (1 << 20) / (64 << 10));
	assert_false(works[LOADS - 1].waits);
	for (; !waiting_loads_empty(&loads); list_init(&taken))
		waiting_loads_take_next(&loads, &taken);
	waiting_loads_close(&loads);
	free(works);
}

static unsigned count_of(const struct work *works, uint32_t block)
{
	unsigned count = 0;
	for (unsigned i = 0; i < LOADS; i++)
		count += works[i].waits && works[i].load.block == block;
	return count;
}

/* Takes what is left of `taken`: all of one block, in order, as many as waited. */
static void check_taken(struct work *works, struct list *taken, uint32_t block)
{
	unsigned expected = count_of(works, block), count = 0;
	uint64_t last = 0;

	for (struct work *work; (work = pop(taken)); count++) {
		assert_true(work->waits);
		assert_int_equal(work->load.block, block);
		assert_true(count == 0 || work->arrival > last);
		last = work->arrival;
		work->waits = false;
	}

	assert_int_equal(count, expected);
}

static void test_random_loads(void **state)
{
	(void)state;
	struct seed seed;
	struct waiting_loads loads = {0};
	struct work *works = calloc(LOADS, sizeof(*works));
	struct list taken = LIST_INIT(taken);

	seed_open(&seed, "test_random_loads");
	assert_int_equal(waiting_loads_open(&loads, 1 + seed_below(&seed, 3)), 0);

	for (unsigned n = 0; n < 20000; n++) {
		struct work *work = &works[seed_below(&seed, LOADS)];
		uint32_t block = (uint32_t)seed_below(&seed, BLOCKS);
		uint64_t what = seed_below(&seed, 10);

		if (what < 7 && !work->waits) {
			add(&loads, work, block, seed_below(&seed, 9));
		} else if (what == 7) {
			waiting_loads_take(&loads, block, &taken);
			check_taken(works, &taken, block);
		} else if (what == 8 && !waiting_loads_empty(&loads)) {
			waiting_loads_take_next(&loads, &taken);
			work = container_of(taken.next, struct work, load.link);
			check_taken(works, &taken, work->load.block);
		}
	}

	while (!waiting_loads_empty(&loads)) {
		waiting_loads_take_next(&loads, &taken);
		check_taken(works, &taken,
			    container_of(taken.next, struct work, load.link)->load.block);
	}

	for (unsigned i = 0; i < LOADS; i++)
		assert_false(works[i].waits);
	waiting_loads_close(&loads);
	free(works);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_loads_of_a_block_leave_together),
		cmocka_unit_test(test_payers_take_turns),
		cmocka_unit_test(test_random_loads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
