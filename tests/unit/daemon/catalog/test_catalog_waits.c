/* SPDX-License-Identifier: Apache-2.0 */
/* Barriers: each is told of the end of a flush that began when all that had changed before it was in
 * a batch, and of no other; those that may fail do so once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/catalog/catalog_waits.h"

#define NUMBERS 4u

struct told {
	struct catalog_barrier barrier;
	unsigned done, failed;
};

static struct catalog_changes changes;
static struct catalog_waits waits;

static int setup(void **state)
{
	(void)state;
	assert_int_equal(catalog_changes_open(&changes, NUMBERS), 0);
	catalog_waits_init(&waits, NULL, &changes);

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_false(catalog_waits_any(&waits));
	assert_false(catalog_waits_are_limited(&waits));
	catalog_changes_close(&changes);

	return 0;
}

static void count_done(struct catalog_barrier *barrier)
{
	container_of(barrier, struct told, barrier)->done++;
}

static void count_failed(struct catalog_barrier *barrier)
{
	container_of(barrier, struct told, barrier)->failed++;
}

static void bar(struct told *told, bool may_fail)
{
	*told = (struct told){
		.barrier = {.done = count_done, .failed = may_fail ? count_failed : NULL}};
	catalog_waits_bar(&waits, &told->barrier);
}

static void assert_told(const struct told *told, unsigned done, unsigned failed)
{
	assert_int_equal(told->done, done);
	assert_int_equal(told->failed, failed);
}

/* What it waits for has changed after the batch of the flush that is in flight was made. */
static void test_one_that_comes_during_a_flush(void **state)
{
	struct told first, second;

	(void)state;
	bar(&first, false);
	assert_true(catalog_waits_begin(&waits));
	assert_false(catalog_waits_any(&waits));
	catalog_changes_mark(&changes, 1);
	bar(&second, false);
	catalog_waits_succeed(&waits);
	assert_told(&first, 1, 0);
	assert_told(&second, 0, 0);

	/* Not in a batch yet. */
	assert_true(catalog_waits_any(&waits));
	assert_false(catalog_waits_begin(&waits));
	catalog_waits_succeed(&waits);
	assert_told(&second, 0, 0);

	assert_int_equal(catalog_changes_take(&changes), 1);
	assert_true(catalog_waits_begin(&waits));
	catalog_waits_succeed(&waits);
	assert_told(&first, 1, 0);
	assert_told(&second, 1, 0);
}

/* More changes may come than one batch has, as fast as batches are flushed. */
static void test_changes_go_on(void **state)
{
	struct told told;

	(void)state;
	catalog_changes_mark(&changes, 1);
	catalog_changes_mark(&changes, 2);
	bar(&told, false);
	catalog_changes_mark(&changes, 3);
	assert_int_equal(catalog_changes_take(&changes), 1);
	assert_false(catalog_waits_begin(&waits));
	catalog_waits_succeed(&waits);
	assert_told(&told, 0, 0);

	/* The next batch fails, and what it had comes behind the rest. */
	assert_int_equal(catalog_changes_take(&changes), 2);
	assert_true(catalog_waits_begin(&waits));
	catalog_changes_mark(&changes, 2);
	catalog_waits_fail(&waits, false);
	assert_int_equal(catalog_changes_take(&changes), 3);
	assert_false(catalog_waits_begin(&waits));
	catalog_waits_succeed(&waits);
	assert_told(&told, 0, 0);

	catalog_changes_mark(&changes, 1);
	assert_int_equal(catalog_changes_take(&changes), 2);
	assert_true(catalog_waits_begin(&waits));
	catalog_waits_succeed(&waits);
	assert_told(&told, 1, 0);
	assert_int_equal(catalog_changes_take(&changes), 1);
}

static void test_a_flush_that_fails(void **state)
{
	struct told patient, impatient, later;

	(void)state;
	bar(&patient, false);
	bar(&impatient, true);
	assert_true(catalog_waits_are_limited(&waits));
	assert_true(catalog_waits_begin(&waits));
	assert_true(catalog_waits_are_limited(&waits));
	bar(&later, true);
	catalog_waits_fail(&waits, false);
	assert_told(&patient, 0, 0);
	assert_told(&impatient, 0, 1);
	assert_told(&later, 0, 1);
	assert_true(catalog_waits_any(&waits));
	assert_false(catalog_waits_are_limited(&waits));

	assert_true(catalog_waits_begin(&waits));
	catalog_waits_succeed(&waits);
	assert_told(&patient, 1, 0);
}

/* The flush goes on, and how it ends is told to those that wait however long it takes. */
static void test_a_flush_that_takes_too_long(void **state)
{
	struct told patient, impatient, later;

	(void)state;
	bar(&patient, false);
	bar(&impatient, true);
	assert_true(catalog_waits_begin(&waits));
	bar(&later, false);
	catalog_waits_give_up(&waits);
	assert_told(&patient, 0, 0);
	assert_told(&impatient, 0, 1);
	assert_told(&later, 0, 0);

	catalog_waits_succeed(&waits);
	assert_told(&patient, 1, 0);
	assert_told(&impatient, 0, 1);
	assert_told(&later, 0, 0);
	assert_true(catalog_waits_begin(&waits));
	catalog_waits_succeed(&waits);
	assert_told(&later, 1, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_one_that_comes_during_a_flush, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_changes_go_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_flush_that_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_flush_that_takes_too_long, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
