/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is lent beside regions: slabs of theirs that are lent as they are, and the memory that they
 * were promised.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/cache/cache.h"
#include "daemon/region/promise.h"
#include "tests/support/lend_rig.h"

/* ---- Their slabs ---- */

static void taken(struct slab_request *request)
{
	assert_int_equal(request->status, HBM_OK);
}

static bool is_taken(void *arg)
{
	return !list_empty(&((struct slab_request *)arg)->taken);
}

/* A slab that backs a slot, and may have been handed out. */
static struct slab *place_slab_of(struct lend_rig *rig, struct promise *promise)
{
	struct slab_request request = {
		.bytes = SLAB, .count = 1, .promise = promise, .done = taken};

	list_init(&request.taken);
	assert_int_equal(slabs_request(rig->slabs, &request), HBM_OK);
	rig_run(&rig->tiers, is_taken, &request);
	struct slab *slab = container_of(list_pop_front(&request.taken), struct slab, link);
	slab->exported = true;
	slab_place(slab);

	return slab;
}

static struct slab *place_slab(struct lend_rig *rig)
{
	return place_slab_of(rig, NULL);
}

/* The slab of a slot is lent as it is: a check that goes on takes that for no slot's. */
static void test_a_slab_is_adopted(void **state)
{
	struct lend_rig *rig = *state;
	struct slabs *slabs = rig->slabs;
	uint32_t number = lend_rig_large_block(rig, SLAB);
	const struct replica_form form = lend_rig_form(&rig->clients[0], number, SLAB);
	struct slab *slab = place_slab(rig);

	slabs_check_begin(slabs);
	(void)slabs_check_some(slabs, UINT32_MAX);
	assert_int_equal(slabs_check_slots(slabs), SLAB);
	struct replica *replica = replica_adopt(rig->lend, &form, &slab, 1);
	assert_non_null(replica);
	assert_int_equal(slab->refs, 2);
	assert_int_equal(slabs_check_slots(slabs), SLAB);
	assert_null(replica_adopt(rig->lend, &form, &slab, 1));
	assert_ptr_equal(replica_find(rig->lend, &form), replica);
	assert_int_equal(slabs_books(slabs).leased, SLAB);
	assert_int_equal(rig->lend->bytes, SLAB);

	cache_drop(rig->tiers.hbmd.cache, number);
	assert_int_equal(slab->refs, 1);
	assert_int_equal(slabs_check_slots(slabs), SLAB);
	slab_drop_slot(slab, false);
	lend_rig_assert_leased(rig, 0);
}

/* A block may have one slab twice. Whoever had it as a region's may be gone when it is closed,
 * and is not charged for it. */
static void test_one_slab_is_adopted_twice(void **state)
{
	struct lend_rig *rig = *state;
	uint32_t number = lend_rig_large_block(rig, 2 * SLAB);
	const struct replica_form form = lend_rig_form(&rig->clients[0], number, SLAB);
	struct slab *slab = place_slab(rig), *both[] = {slab, slab};

	slab->part.holder = &rig->clients[0].holder;
	assert_non_null(replica_adopt(rig->lend, &form, both, 2));
	assert_int_equal(slab->refs, 3);
	slab_drop_slot(slab, false);
	cache_drop(rig->tiers.hbmd.cache, number);
	assert_null(slab->part.holder);
	lend_rig_assert_leased(rig, 0);
}

static void test_the_pool_asks_for_a_slab_that_is_adopted_twice(void **state)
{
	struct lend_rig *rig = *state;
	uint32_t number = lend_rig_large_block(rig, 2 * SLAB);
	const struct replica_form form = lend_rig_form(&rig->clients[0], number, SLAB);
	struct slab *slab = place_slab(rig), *both[] = {slab, slab};

	assert_non_null(replica_adopt(rig->lend, &form, both, 2));
	assert_int_equal(lend_give_back(rig->lend, SLAB), 0);
	slab_drop_slot(slab, false);
	assert_int_equal(lend_give_back(rig->lend, SLAB), SLAB);
	assert_false(lend_gives_back(rig->lend));
	lend_rig_assert_leased(rig, 0);
}

/* The pool has nothing of a slab that a region has, too: it stays, and another goes. */
static void test_the_pool_asks_for_nothing_that_a_region_has(void **state)
{
	struct lend_rig *rig = *state;
	uint32_t number = lend_rig_large_block(rig, SLAB);
	const struct replica_form form = lend_rig_form(&rig->clients[0], number, SLAB);
	struct slab *slab = place_slab(rig);
	struct replica *replica = replica_adopt(rig->lend, &form, &slab, 1);

	assert_non_null(replica);
	lend_rig_make(rig, &rig->clients[0], lend_rig_block(rig, rig->ns));
	assert_int_equal(lend_give_back(rig->lend, SLAB), SLAB);
	lend_rig_assert_leased(rig, 1);
	assert_int_equal(lend_give_back(rig->lend, SLAB), 0);
	assert_ptr_equal(replica_find(rig->lend, &form), replica);

	slab_drop_slot(slab, false);
	assert_int_equal(lend_give_back(rig->lend, SLAB), SLAB);
	lend_rig_assert_leased(rig, 0);
}

/* ---- What they were promised ---- */

static struct promise *reserve(struct lend_rig *rig, struct lend_client *client, uint64_t slabs)
{
	struct promise *promise = promise_new(slabs_promises(rig->slabs), 0, NULL);

	assert_non_null(promise);
	assert_true(slabs_reserve(rig->slabs, promise, &client->payer, slabs * SLAB));

	return promise;
}

/* A slab that its maker lends and has given back. */
static struct replica *lend_and_give_back(struct lend_rig *rig, struct lend_client *client,
					  struct promise *promise)
{
	uint32_t number = lend_rig_large_block(rig, SLAB);
	const struct replica_form form = lend_rig_form(client, number, SLAB);
	struct slab *slab = place_slab_of(rig, promise);
	struct replica *replica = replica_adopt(rig->lend, &form, &slab, 1);

	assert_non_null(replica);
	assert_int_equal(promise->used, SLAB);
	slab_drop_slot(slab, false);
	assert_null(slabs_check(rig->slabs));

	return replica;
}

/* What it reserved is its to commit, as before. */
static void test_what_is_given_back_is_in_no_promise(void **state)
{
	struct lend_rig *rig = *state;
	struct lend_client *client = &rig->clients[0];
	struct promise *promise = reserve(rig, client, 2);
	bool named;
	struct replica *replica = lend_and_give_back(rig, client, promise);
	struct loan *loan = lend_rig_borrow(&rig->clients[1], replica, &named);

	assert_int_equal(promise->used, 0);
	assert_int_equal(slabs_books(rig->slabs).promised, 2 * SLAB);
	loan_free(loan);
	assert_int_equal(lend_give_back(rig->lend, SLAB), SLAB);
	lend_rig_assert_leased(rig, 0);
	slabs_end_promise(promise);
	assert_null(slabs_check(rig->slabs));
}

/* What is waited for is not leased: an audit would take it from what regions have. */
static void test_what_is_waited_for_is_not_there(void **state)
{
	struct lend_rig *rig = *state;
	struct slab *slabs[POOL / SLAB];
	const struct replica_form form =
		lend_rig_form(&rig->clients[0], lend_rig_block(rig, rig->ns), 0);
	struct replica *replica;

	for (size_t i = 0; i < POOL / SLAB; i++)
		slabs[i] = place_slab(rig);
	slab_drop_slot(slabs[0], false);
	assert_int_equal(replica_new(&replica, rig->lend, &form, NULL), HBM_OK);
	assert_int_equal(replica->lent->state, LENT_ALLOCATING);
	assert_int_equal(rig->lend->own, 0);
	rig_run(&rig->tiers, lend_rig_is_open, replica);
	assert_int_equal(rig->lend->own, SLAB);
	replica_unhold(replica);
	lend_give_back(rig->lend, SLAB);
	assert_int_equal(rig->lend->own, 0);
	for (size_t i = 1; i < POOL / SLAB; i++)
		slab_drop_slot(slabs[i], false);
	lend_rig_assert_leased(rig, 0);
}

/* Not while others have been promised all that is free; as soon as they have not. */
static void test_no_promise_is_broken_for_it(void **state)
{
	struct lend_rig *rig = *state;
	struct lend_client *client = &rig->clients[0];
	struct promise *promise = reserve(rig, client, 2),
		       *other = reserve(rig, &rig->stranger, POOL / SLAB - 2);

	lend_and_give_back(rig, client, promise);
	assert_int_equal(promise->used, SLAB);
	assert_true(slabs_reserve(rig->slabs, other, &rig->stranger.payer, SLAB));
	assert_int_equal(promise->used, 0);
	assert_null(slabs_check(rig->slabs));

	/* Nor is one of a session that has ended. */
	lend_and_give_back(rig, client, promise);
	assert_int_equal(promise->used, 0);
	slabs_end_promise(promise);
	slabs_end_promise(other);
	assert_int_equal(lend_give_back(rig->lend, 2 * SLAB), 2 * SLAB);
	lend_rig_assert_leased(rig, 0);
	assert_int_equal(slabs_books(rig->slabs).promised, 0);
	assert_null(slabs_check(rig->slabs));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lend_rig_setup, lend_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_slab_is_adopted),
		TEST(test_one_slab_is_adopted_twice),
		TEST(test_the_pool_asks_for_a_slab_that_is_adopted_twice),
		TEST(test_the_pool_asks_for_nothing_that_a_region_has),
		TEST(test_what_is_given_back_is_in_no_promise),
		TEST(test_what_is_waited_for_is_not_there),
		TEST(test_no_promise_is_broken_for_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
