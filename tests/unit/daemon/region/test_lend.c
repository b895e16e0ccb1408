/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device lends: where replicas lie and who finds them, whose room they take, what is
 * given up and what is not, and that a count that is off is found.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/cache/cache.h"
#include "tests/support/lend_rig.h"

/* ---- Where they lie ---- */

static void test_blocks_of_one_namespace_and_user_share_slabs(void **state)
{
	struct lend_rig *rig = *state;
	const struct lend_client *client = &rig->clients[0];
	struct replica *replicas[5];

	for (int i = 0; i < 5; i++)
		replicas[i] = lend_rig_make(rig, client, lend_rig_block(rig, rig->ns));
	for (int i = 1; i < 4; i++) {
		assert_ptr_equal(replicas[i]->lent, replicas[0]->lent);
		assert_int_equal(replica_address(replicas[i]),
				 replica_address(replicas[0]) + (uint64_t)i * BLOCK);
	}

	assert_ptr_not_equal(replicas[4]->lent, replicas[0]->lent);
	lend_rig_assert_leased(rig, 2);
}

static void test_no_slab_is_of_two_namespaces_or_users(void **state)
{
	struct lend_rig *rig = *state;
	uint32_t number = lend_rig_block(rig, rig->ns);
	struct replica *one = lend_rig_make(rig, &rig->clients[0], number),
		       *other_ns = lend_rig_make(rig, &rig->clients[0],
						 lend_rig_block(rig, rig->other_ns)),
		       *stranger = lend_rig_make(rig, &rig->stranger, number);

	assert_ptr_not_equal(one->lent, other_ns->lent);
	assert_ptr_not_equal(one->lent, stranger->lent);
	assert_ptr_not_equal(one, stranger);

	const struct replica_form form = lend_rig_form(&rig->clients[1], number, 0);
	assert_ptr_equal(replica_find(rig->lend, &form), one);
	lend_rig_assert_leased(rig, 3);
}

/* The number of a namespace whose blocks are gone may be given to another. */
static void test_slabs_of_dropped_blocks_take_no_more(void **state)
{
	struct lend_rig *rig = *state;
	struct lend_client *client = &rig->clients[0];
	uint32_t number = lend_rig_block(rig, rig->ns);
	struct replica *replica = lend_rig_make(rig, client, number);
	bool named;
	struct loan *loan = lend_rig_borrow(client, replica, &named);

	cache_drop(rig->tiers.hbmd.cache, number);
	assert_int_equal(replica->number, 0);
	struct replica *next = lend_rig_make(rig, client, lend_rig_block(rig, rig->ns));
	assert_ptr_not_equal(next->lent, replica->lent);
	lend_rig_assert_leased(rig, 2);

	/* It is gone with its last loan. */
	loan_free(loan);
	lend_rig_assert_leased(rig, 1);
}

static bool all_is_made(void *arg)
{
	return slabs_books(arg).uncreated == 0 && slabs_books(arg).retiring == 0;
}

/* Slabs that have held bytes of a user are not used again, also if no client had them. */
static void test_slabs_are_released_and_not_reused(void **state)
{
	struct lend_rig *rig = *state;
	uint32_t number = lend_rig_block(rig, rig->ns);

	lend_rig_make(rig, &rig->clients[0], number);
	rig_run(&rig->tiers, all_is_made, rig->slabs);
	slabs_drain(rig->slabs); /* none is made ahead any more */
	cache_drop(rig->tiers.hbmd.cache, number);
	rig_run(&rig->tiers, lend_rig_is_quiet, rig->slabs);
	assert_int_equal(rig->lend->bytes, 0);
	assert_int_equal(slabs_books(rig->slabs).leased, 0);
	assert_int_equal(slabs_books(rig->slabs).ready, POOL - SLAB);
	assert_int_equal(slabs_books(rig->slabs).uncreated, SLAB);
}

/* ---- Room ---- */

static void test_idle_slabs_make_way_and_others_do_not(void **state)
{
	struct lend_rig *rig = *state;
	struct lend_client *clients = rig->clients;
	const uint32_t first = lend_rig_block(rig, rig->ns),
		       second = lend_rig_block(rig, rig->other_ns),
		       third = lend_rig_block(rig, lend_rig_namespace(rig, 3)),
		       fourth = lend_rig_block(rig, lend_rig_namespace(rig, 4));
	bool named;

	/* Of one user, which may have two slabs: the first is on loan, the second goes. */
	struct loan *loan =
		lend_rig_borrow(&clients[0], lend_rig_make(rig, &clients[0], first), &named);
	lend_rig_make(rig, &clients[0], second);
	lend_rig_make(rig, &clients[0], third);
	const struct replica_form forms[] = {
		lend_rig_form(&clients[0], first, 0), lend_rig_form(&clients[0], second, 0),
		lend_rig_form(&clients[0], third, 0), lend_rig_form(&rig->stranger, fourth, 0)};
	assert_non_null(replica_find(rig->lend, &forms[0]));
	assert_null(replica_find(rig->lend, &forms[1]));
	lend_rig_assert_leased(rig, 2);

	/* Both on loan: it may have no more; another user may, and then all is in use. */
	struct loan *last =
		lend_rig_borrow(&clients[0], replica_find(rig->lend, &forms[2]), &named);
	struct replica *replica;
	assert_int_equal(replica_new(&replica, rig->lend, &forms[1], NULL), HBM_LIMIT);
	assert_int_equal(rig->lend->bytes, 2 * SLAB);
	struct loan *strange =
		lend_rig_borrow(&rig->stranger, lend_rig_make(rig, &rig->stranger, fourth), &named);
	const struct replica_form fifth = lend_rig_form(&rig->stranger, first, 0);
	assert_int_equal(replica_new(&replica, rig->lend, &fifth, NULL), HBM_NO_SPACE);
	lend_rig_assert_leased(rig, 3);
	rig_assert_balanced(&rig->tiers);

	loan_free(strange);
	loan_free(last);
	loan_free(loan);
	assert_int_equal(rig->lend->busy, 0);
}

static void test_the_pool_asks_for_what_is_idle(void **state)
{
	struct lend_rig *rig = *state;
	bool named;

	lend_rig_make(rig, &rig->clients[0], lend_rig_block(rig, rig->ns));
	struct loan *loan = lend_rig_borrow(
		&rig->clients[0],
		lend_rig_make(rig, &rig->clients[0], lend_rig_block(rig, rig->other_ns)), &named);
	lend_give_back(rig->lend, UINT64_MAX);
	lend_rig_assert_leased(rig, 1);
	loan_free(loan);
	lend_give_back(rig->lend, 1);
	lend_rig_assert_leased(rig, 0);
}

/* A copy that failed may go on: the cell that it writes to is no other block's. */
static void test_the_cell_of_a_late_copy_is_not_used_again(void **state)
{
	struct lend_rig *rig = *state;
	const struct lend_client *client = &rig->clients[0];
	struct replica *first = lend_rig_make(rig, client, lend_rig_block(rig, rig->ns));
	struct replica *late = lend_rig_make(rig, client, lend_rig_block(rig, rig->ns));
	struct lent *lent = first->lent;

	assert_ptr_equal(late->lent, lent);
	replica_hold(late);
	lent_keep(lent);
	replica_lose(late);
	replica_unhold(late);
	assert_int_equal(lent->used, 1);

	struct replica *next = lend_rig_make(rig, client, lend_rig_block(rig, rig->ns));
	assert_ptr_not_equal(next->lent, lent);
}

/* ---- Many ---- */

static bool is_given_back(void *arg)
{
	const struct lend *lend = arg;

	return !lend_gives_back(lend) && lend->bytes == 0;
}

/* One turn closes no more than a slice: the replicas of one slab. */
static void test_what_is_given_back_goes_in_slices(void **state)
{
	struct lend_rig *rig = *state;
	struct lend *lend = rig->lend;

	lend_rig_make_many(rig);
	assert_int_equal(lend_give_back(lend, 2 * SLAB), SLAB);
	assert_true(lend_gives_back(lend));
	assert_int_equal(lend->replicas, LENT_CELLS_MAX);
	rig_run(&rig->tiers, is_given_back, lend);
	assert_int_equal(lend->replicas, 0);
	lend_rig_assert_leased(rig, 0);
}

static bool is_served(void *arg)
{
	return ((const struct slab_request *)arg)->status != -1;
}

static void served(struct slab_request *request)
{
	(void)request;
}

/* Who asks the pool for all of it waits for the slices, and is refused after the last. */
static void test_a_request_waits_for_the_slices(void **state)
{
	struct lend_rig *rig = *state;
	struct slab_request all = {
		.bytes = SLAB, .count = POOL / SLAB, .done = served, .status = -1};

	lend_rig_make_many(rig);
	assert_int_equal(slabs_request(rig->slabs, &all), HBM_OK);
	assert_true(lend_gives_back(rig->lend));
	rig_run(&rig->tiers, is_served, &all);
	assert_int_equal(all.status, HBM_OK);
	for (struct list *node; (node = list_pop_front(&all.taken));)
		slab_unref(container_of(node, struct slab, link), false);
	assert_false(slabs_is_reclaiming(rig->slabs));
	assert_null(slabs_check(rig->slabs));
}

/* A step of the check counts cells. */
static void test_the_check_goes_in_slices(void **state)
{
	struct lend_rig *rig = *state;
	unsigned steps = 1;

	lend_rig_make_many(rig);
	lend_check_begin(rig->lend);
	while (lend_check_some(rig->lend, LENT_CELLS_MAX))
		steps++;
	assert_int_equal(steps, 2);
	assert_null(lend_check_end(rig->lend));
}

/* ---- The check ---- */

static const char *problem(struct lend *lend)
{
	lend_check_begin(lend);
	while (lend_check_some(lend, 1))
		;

	return lend_check_end(lend);
}

static void test_counts_that_are_off(void **state)
{
	struct lend_rig *rig = *state;
	struct lend *lend = rig->lend;
	struct lend_client *client = &rig->clients[0];
	struct replica *replica = lend_rig_make(rig, client, lend_rig_block(rig, rig->ns));
	struct lent *lent = replica->lent;
	bool named;
	struct loan *loan = lend_rig_borrow(client, replica, &named);

	lend_rig_make(rig, client, lend_rig_block(rig, rig->other_ns));
	assert_null(problem(lend));
	uint64_t *numbers[] = {&lend->bytes, &lent->holds, &replica->holds, &lent->charge.amount};
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		++*numbers[i];
		assert_non_null(problem(lend));
		--*numbers[i];
	}

	uint32_t *counts[] = {&lent->used, &lent->live, &replica->cell, &replica->number};
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		uint32_t saved = *counts[i];
		*counts[i] = i == 3 ? 0 : saved + 1;
		assert_non_null(problem(lend));
		*counts[i] = saved;
	}

	lend->budget = SLAB;
	assert_non_null(problem(lend));
	lend->budget = LEND;
	assert_null(problem(lend));
	loan_free(loan);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lend_rig_setup, lend_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_blocks_of_one_namespace_and_user_share_slabs),
		TEST(test_no_slab_is_of_two_namespaces_or_users),
		TEST(test_slabs_of_dropped_blocks_take_no_more),
		TEST(test_slabs_are_released_and_not_reused),
		TEST(test_idle_slabs_make_way_and_others_do_not),
		TEST(test_the_pool_asks_for_what_is_idle),
		TEST(test_the_cell_of_a_late_copy_is_not_used_again),
		TEST(test_what_is_given_back_goes_in_slices),
		TEST(test_a_request_waits_for_the_slices),
		TEST(test_the_check_goes_in_slices),
		TEST(test_counts_that_are_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
