/* SPDX-License-Identifier: Apache-2.0 */
/* The pool of slabs: its books, what orders get, and conversion between sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "daemon/base/list.h"
#include "daemon/device/device.h"
#include "daemon/region/slab.h"
#include "tests/support/seed.h"
#include "tests/support/slab_rig.h"

static bool all_created(void *arg)
{
	struct slab_rig *rig = arg;
	return rig->pool.call.calls("cuMemCreate") == 2 * SLAB_RIG_BUDGET / (4 * MIB);
}

static void slabs_are_made_ahead(void **state)
{
	struct slab_rig *rig = *state;
	struct slabs_books books = slabs_books(rig->slabs);
	struct slab_wanted wanted;

	assert_int_equal(books.budget, SLAB_RIG_BUDGET);
	assert_int_equal(books.uncreated, SLAB_RIG_BUDGET); /* the first is being created */
	assert_int_equal(books.ready, 0);
	assert_int_equal(slabs_default(rig->slabs), 4 * MIB);
	pool_run(&rig->pool, all_created, rig);
	assert_int_equal(slab_rig_take(rig, &wanted, 4 * MIB, 3), HBM_OK);
	assert_int_equal(list_length(&wanted.request.taken), 3);
	assert_int_equal(slabs_books(rig->slabs).leased, 12 * MIB);
	assert_int_equal(all_created(rig), true);
	slab_rig_give(rig, &wanted, false, false);
	assert_int_equal(slabs_books(rig->slabs).leased, 0);
}

/* Memory that comes back stays uncreated, and what is made on order is still made. */
static void nothing_is_made_ahead_while_draining(void **state)
{
	struct slab_rig *rig = *state;
	struct slab_wanted wanted;

	pool_run(&rig->pool, all_created, rig);
	assert_int_equal(slab_rig_take(rig, &wanted, 4 * MIB, 3), HBM_OK);
	slabs_drain(rig->slabs);
	slab_rig_give(rig, &wanted, true, false);
	pool_run(&rig->pool, slab_rig_nothing_retires, rig);
	uint64_t calls = rig->pool.call.calls("cuMemCreate");
	struct slabs_books books = slabs_books(rig->slabs);
	assert_int_equal(books.uncreated, 12 * MIB);
	assert_int_equal(books.ready, SLAB_RIG_BUDGET - 12 * MIB);

	assert_int_equal(slab_rig_take(rig, &wanted, 2 * MIB, 2), HBM_OK);
	slab_rig_give(rig, &wanted, true, false);
	pool_run(&rig->pool, slab_rig_nothing_retires, rig);
	assert_int_equal(rig->pool.call.calls("cuMemCreate"), calls + 2);
	assert_int_equal(slabs_books(rig->slabs).uncreated, 12 * MIB);
}

static void ready_slabs_make_way_for_other_sizes(void **state)
{
	struct slab_rig *rig = *state;
	struct slab_wanted all;

	pool_run(&rig->pool, slab_rig_all_ready, rig);
	assert_int_equal(slab_rig_take(rig, &all, 2 * MIB, 16), HBM_OK);
	assert_int_equal(list_length(&all.request.taken), 16);
	assert_int_equal(slabs_books(rig->slabs).leased, SLAB_RIG_BUDGET);
	slab_rig_give(rig, &all, false, false);
	assert_int_equal(slab_rig_take(rig, &all, 32 * MIB, 1), HBM_OK);
	slab_rig_give(rig, &all, false, false);
}

static void more_than_the_budget_is_refused_at_once(void **state)
{
	struct slab_rig *rig = *state;
	struct slab_wanted wanted, rest;

	assert_int_equal(slab_rig_take(rig, &wanted, 4 * MIB, 9), HBM_NO_SPACE);
	assert_int_equal(slab_rig_take(rig, &wanted, 1ull << 63, 2), HBM_NO_SPACE);
	assert_int_equal(slab_rig_take(rig, &wanted, 4 * MIB, UINT64_MAX), HBM_NO_SPACE);
	assert_int_equal(slab_rig_take(rig, &wanted, 4 * MIB, 6), HBM_OK);
	assert_int_equal(slab_rig_take(rig, &rest, 4 * MIB, 3), HBM_NO_SPACE);
	assert_int_equal(slab_rig_take(rig, &rest, 4 * MIB, 2), HBM_OK);
	slab_rig_give(rig, &wanted, false, false);
	slab_rig_give(rig, &rest, false, false);
}

static void exported_slabs_are_never_used_again(void **state)
{
	struct slab_rig *rig = *state;
	struct slab_wanted wanted;

	assert_int_equal(slab_rig_take(rig, &wanted, 4 * MIB, 8), HBM_OK);
	uint64_t calls = rig->pool.call.calls("cuMemRelease");
	slab_rig_give(rig, &wanted, true, true);
	assert_int_equal(slabs_books(rig->slabs).leased + slabs_books(rig->slabs).quarantined, 0);

	/* What is retiring is waited for, not refused. */
	assert_int_equal(slab_rig_take(rig, &wanted, 4 * MIB, 8), HBM_OK);
	assert_int_equal(rig->pool.call.calls("cuMemRelease"), calls + 8);
	slab_rig_give(rig, &wanted, false, false);
}

struct look {
	struct job job;
	struct slab_rig *rig;
	uint64_t releases;
	bool over;
};

static void look_run(struct job *job)
{
	struct look *look = container_of(job, struct look, job);

	look->releases = look->rig->pool.call.calls("cuMemRelease");
}

static void look_done(struct job *job)
{
	container_of(job, struct look, job)->over = true;
}

static bool look_is_over(void *arg)
{
	return ((struct look *)arg)->over;
}

static void a_job_waits_for_few_releases(void **state)
{
	struct slab_rig *rig = *state;
	struct look look = {.job = {.run = look_run, .done = look_done}, .rig = rig};
	struct slab_wanted wanted;

	assert_int_equal(slab_rig_take(rig, &wanted, 2 * MIB, 16), HBM_OK);
	uint64_t calls = rig->pool.call.calls("cuMemRelease");
	slab_rig_give(rig, &wanted, true, false);
	worker_post(rig->pool.devices->list[0].control, &look.job);
	pool_run(&rig->pool, look_is_over, &look);
	assert_in_range(look.releases - calls, 1, 8);
	pool_run(&rig->pool, slab_rig_nothing_retires, rig);
	assert_in_range(rig->pool.call.calls("cuMemRelease") - calls, 16, UINT64_MAX);
	assert_int_equal(slabs_books(rig->slabs).held, 0);
	assert_null(slabs_check(rig->slabs));
}

static void orders_are_served_in_turn(void **state)
{
	struct slab_rig *rig = *state;
	struct slab_wanted first, second, third;

	assert_int_equal(slab_rig_take(rig, &first, 32 * MIB, 1), HBM_OK);
	slab_rig_give(rig, &first, true, false);
	assert_int_equal(slab_rig_begin(rig, &first, 2 * MIB, 8), HBM_OK);
	assert_int_equal(slab_rig_begin(rig, &second, 16 * MIB, 1), HBM_OK);
	assert_int_equal(slab_rig_begin(rig, &third, 2 * MIB, 1), HBM_NO_SPACE);
	pool_run(&rig->pool, slab_rig_is_over, &first);
	pool_run(&rig->pool, slab_rig_is_over, &second);
	assert_int_equal(first.request.status, HBM_OK);
	assert_int_equal(second.request.status, HBM_OK);
	slab_rig_give(rig, &first, false, false);
	slab_rig_give(rig, &second, false, false);
}

static void quarantine_is_counted(void **state)
{
	struct slab_rig *rig = *state;
	struct slab_wanted wanted;

	assert_int_equal(slab_rig_take(rig, &wanted, 8 * MIB, 1), HBM_OK);
	struct slab *slab = container_of(list_pop_front(&wanted.request.taken), struct slab, link);
	slab->exported = true;
	slab_quarantine(slab);
	assert_int_equal(slabs_books(rig->slabs).quarantined, 8 * MIB);
	assert_int_equal(slabs_books(rig->slabs).leased, 0);
	assert_int_equal(slab_rig_take(rig, &wanted, 8 * MIB, 4), HBM_NO_SPACE);
	slab_unref(slab, true);
	pool_run(&rig->pool, slab_rig_nothing_retires, rig);
	assert_int_equal(slabs_books(rig->slabs).quarantined, 0);
}

/* What the books say of one slab of 8 MiB. */
static void assert_counted(struct slab_rig *rig, uint64_t leased, uint64_t quarantined)
{
	struct slabs_books books = slabs_books(rig->slabs);

	assert_int_equal(books.leased, leased * MIB);
	assert_int_equal(books.quarantined, quarantined * MIB);
	assert_null(slabs_check(rig->slabs));
}

static struct slab *one_slab(struct slab_rig *rig)
{
	struct slab_wanted wanted;

	assert_int_equal(slab_rig_take(rig, &wanted, 8 * MIB, 1), HBM_OK);
	return container_of(list_pop_front(&wanted.request.taken), struct slab, link);
}

static void a_shared_slab_is_counted_once_and_freed_with_its_last_reference(void **state)
{
	struct slab_rig *rig = *state;
	struct slab *slab = one_slab(rig);

	assert_ptr_equal(slab_ref(slab), slab);
	assert_ptr_equal(slab_ref(slab), slab);
	assert_counted(rig, 8, 0);
	slab_unref(slab, false);
	slab_unref(slab, false);
	assert_counted(rig, 8, 0);
	slab_unref(slab, false);
	assert_counted(rig, 0, 0);
}

static void a_shared_slab_is_quarantined_once_all_of_its_references_are(void **state)
{
	struct slab_rig *rig = *state;
	struct slab *slab = one_slab(rig);

	slab->exported = true;
	slab_ref(slab_ref(slab));
	slab_quarantine(slab);
	assert_counted(rig, 8, 0);
	slab_quarantine(slab);
	assert_counted(rig, 8, 0);
	slab_unref(slab, false); /* the only one that could still be used */
	assert_counted(rig, 0, 8);
	slab_unref(slab, true);
	assert_counted(rig, 0, 8);
	slab_unref(slab, true);
	pool_run(&rig->pool, slab_rig_nothing_retires, rig);
	assert_counted(rig, 0, 0);
}

static void a_quarantined_reference_may_go_before_the_live_one(void **state)
{
	struct slab_rig *rig = *state;
	struct slab *slab = slab_ref(one_slab(rig));

	slab_quarantine(slab);
	slab_unref(slab, true);
	assert_counted(rig, 8, 0);
	slab_quarantine(slab);
	assert_counted(rig, 0, 8);
	slab_unref(slab, true);
	assert_counted(rig, 0, 0);
}

static void slabs_come_and_go_between_steps_of_the_check(void **state)
{
	struct slab_rig *rig = *state;
	struct slabs *slabs = rig->slabs;
	struct slab_wanted wanted;

	pool_run(&rig->pool, slab_rig_all_ready, rig);
	slabs_check_begin(slabs);
	assert_true(slabs_check_some(slabs, 1));
	assert_int_equal(slab_rig_begin(rig, &wanted, 4 * MIB, 2), HBM_OK); /* one was passed */
	pool_run(&rig->pool, slab_rig_is_over, &wanted);
	while (slabs_check_some(slabs, 1))
		;
	assert_null(slabs_check_end(slabs));

	for (struct list *node; (node = list_pop_front(&wanted.request.taken));)
		slab_unref(container_of(node, struct slab, link), false);
	assert_true(slabs_check_some(slabs, 1)); /* they are ready again */
	while (slabs_check_some(slabs, 1))
		;
	assert_null(slabs_check_end(slabs));
}

/* Random orders against a count of what is out. */
static void random_orders_balance(void **state)
{
	struct slab_rig *rig = *state;
	struct seed seed;
	struct slab_wanted out[8];
	uint64_t leased = 0;

	seed_open(&seed, "slab");
	memset(out, 0, sizeof(out));

	for (int i = 0; i < 400; i++) {
		struct slab_wanted *wanted = &out[seed_below(&seed, 8)];
		if (wanted->over) {
			leased -= wanted->request.bytes * wanted->request.count;
			slab_rig_give(rig, wanted, seed_below(&seed, 2), seed_below(&seed, 2));
			wanted->over = false;
		} else {
			uint64_t bytes = (2 * MIB) << seed_below(&seed, 4),
				 count = 1 + seed_below(&seed, 4);
			int expected =
				leased + bytes * count <= SLAB_RIG_BUDGET ? HBM_OK : HBM_NO_SPACE;

			assert_int_equal(slab_rig_take(rig, wanted, bytes, count), expected);
			wanted->over = expected == HBM_OK;
			leased += wanted->over ? bytes * count : 0;
		}

		assert_int_equal(slabs_books(rig->slabs).leased, leased);
	}

	for (size_t i = 0; i < 8; i++)
		if (out[i].over)
			slab_rig_give(rig, &out[i], true, false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, slab_rig_setup, slab_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(slabs_are_made_ahead),
		TEST(nothing_is_made_ahead_while_draining),
		TEST(ready_slabs_make_way_for_other_sizes),
		TEST(more_than_the_budget_is_refused_at_once),
		TEST(exported_slabs_are_never_used_again),
		TEST(a_job_waits_for_few_releases),
		TEST(orders_are_served_in_turn),
		TEST(quarantine_is_counted),
		TEST(a_shared_slab_is_counted_once_and_freed_with_its_last_reference),
		TEST(a_shared_slab_is_quarantined_once_all_of_its_references_are),
		TEST(a_quarantined_reference_may_go_before_the_live_one),
		TEST(slabs_come_and_go_between_steps_of_the_check),
		TEST(random_orders_balance),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
