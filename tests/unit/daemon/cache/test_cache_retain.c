/* SPDX-License-Identifier: Apache-2.0 */
/* Retention: what goes last and for how long, what a user may have of it, and that children go
 * before their parents all the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/clock.h"
#include "daemon/cache/cache.h"
#include "tests/support/retain_rig.h"

static void expect_there(uint32_t first, uint32_t last, bool there)
{
	for (uint32_t n = first; n <= last; n++)
		if ((retain_rig_find(n) != 0) != there)
			fail_msg("block %u is %sthere", n, there ? "not " : "");
}

/* ---- what goes last ---- */

static void test_what_is_retained_goes_last(void **state)
{
	(void)state;
	retain_rig_open("test_what_is_retained_goes_last", (const uint64_t[]){4, 0, 0});
	for (uint32_t n = 1; n <= 4; n++)
		retain_rig_use(n);
	assert_int_equal(retain_rig_retain(1, 1), HBM_OK);
	for (uint32_t n = 5; n <= 40; n++)
		retain_rig_use(n);
	expect_there(1, 1, true);
	expect_there(2, 37, false);
	expect_there(38, 40, true);
	retain_rig_close();
}

/* Of those, the lowest priority first, and of equals the least recently used. */
static void test_by_priority(void **state)
{
	(void)state;
	static const uint32_t order[] = {6, 3, 1, 4, 2, 5};

	retain_rig_open("test_by_priority", (const uint64_t[]){6, 0, 0});
	for (uint32_t n = 1; n <= 6; n++)
		retain_rig_use(n);
	assert_int_equal(retain_rig_retain(5, 3), HBM_OK);
	assert_int_equal(retain_rig_retain(2, 3), HBM_OK);
	assert_int_equal(retain_rig_retain(4, 2), HBM_OK);
	assert_int_equal(retain_rig_retain(1, 1), HBM_OK);
	assert_int_equal(retain_rig_retain(3, 1), HBM_OK);
	retain_rig_use(1); /* newer than 3 from now on */
	retain_rig_use(5);
	for (uint32_t i = 0; i < 6; i++) {
		assert_int_not_equal(retain_rig_find(order[i]), 0);
		assert_int_equal(cache_push_out(retain_cache, &retain_cache->tiers[1], 1, 1).blocks,
				 1);
		assert_int_equal(retain_rig_find(order[i]), 0);
	}
	retain_rig_close();
}

/* It goes down in each tier last, and up when it is used. */
static void test_in_every_tier(void **state)
{
	(void)state;
	retain_rig_open("test_in_every_tier", (const uint64_t[]){2, 2, 2});
	retain_rig_use(1);
	assert_int_equal(retain_rig_retain(1, 2), HBM_OK);
	for (uint32_t n = 2; n <= 9; n++)
		retain_rig_use(n);
	assert_int_equal(cache_block(retain_cache, retain_rig_find(1))->target, 1);
	assert_int_equal(cache_push_out(retain_cache, &retain_cache->tiers[1], 2 * UNIT, 2).blocks,
			 2);
	assert_int_equal(cache_block(retain_cache, retain_rig_find(1))->target, 2);
	for (uint32_t n = 11; n <= 19; n++)
		retain_rig_use(n);
	assert_int_equal(cache_block(retain_cache, retain_rig_find(1))->target, 2);
	retain_rig_use(1);
	assert_int_equal(cache_block(retain_cache, retain_rig_find(1))->target, 1);
	assert_int_equal(cache_block(retain_cache, retain_rig_find(1))->level, 2);
	retain_rig_close();
}

/* ---- ancestors ---- */

static void test_ancestors_stay_as_long(void **state)
{
	(void)state;
	static const uint32_t chain[] = {1, 2, 3}, branch[] = {1, 2, 4};

	retain_rig_open("test_ancestors_stay_as_long", (const uint64_t[]){8, 0, 0});
	cache_rig_request(&retain_rig, retain_ns, chain, 3, 0);
	cache_rig_request(&retain_rig, retain_ns, branch, 3, 0);
	assert_int_equal(retain_rig_retain(3, 2), HBM_OK);
	for (uint32_t n = 10; n < 30; n++)
		retain_rig_use(n);
	expect_there(1, 3, true);
	expect_there(4, 4, false);

	/* From the tail; not while something retained continues it, nor for another user. */
	assert_int_equal(cache_release(retain_cache, retain_rig_find(2), retain_user), HBM_DENIED);
	assert_int_equal(cache_release(retain_cache, retain_rig_find(3), retain_other), HBM_DENIED);
	assert_int_equal(cache_release(retain_cache, retain_rig_find(3), retain_user), HBM_OK);
	assert_int_equal(cache_release(retain_cache, retain_rig_find(3), retain_user), HBM_OK);
	assert_int_equal(cache_release(retain_cache, retain_rig_find(2), retain_user), HBM_OK);
	for (uint32_t n = 30; n < 37; n++)
		retain_rig_use(n);
	expect_there(1, 1, true);
	expect_there(2, 3, false);
	retain_rig_close();
}

/* A chain is in the order from its tail, so that nothing has to look for it. */
static void test_a_chain_is_in_order(void **state)
{
	(void)state;
	retain_rig_open("test_a_chain_is_in_order", (const uint64_t[]){8, 0, 0});
	cache_rig_request(&retain_rig, retain_ns, (const uint32_t[]){1, 2, 3, 4}, 4, 0);
	assert_int_equal(retain_rig_retain(2, 1), HBM_OK);
	assert_int_equal(retain_rig_retain(4, 1), HBM_OK);
	for (uint32_t n = 4; n >= 1; n--) {
		assert_int_equal(order_victim(retain_cache->orders[1], 0), retain_rig_find(n));
		cache_push_out(retain_cache, &retain_cache->tiers[1], UNIT, 1);
	}
	retain_rig_close();
}

/* A child is dropped: its parent can be released. */
static void test_a_dropped_child_counts_no_more(void **state)
{
	(void)state;
	retain_rig_open("test_a_dropped_child_counts_no_more", (const uint64_t[]){8, 0, 0});
	cache_rig_request(&retain_rig, retain_ns, (const uint32_t[]){1, 2, 3}, 3, 0);
	assert_int_equal(retain_rig_retain(3, 1), HBM_OK);
	cache_drop(retain_cache, retain_rig_find(3));
	assert_int_equal(retain_cache->retention.count, 2);
	assert_int_equal(cache_release(retain_cache, retain_rig_find(2), retain_user), HBM_OK);
	cache_drop(retain_cache, retain_rig_find(1));
	assert_int_equal(retain_cache->retention.count, 0);
	retain_rig_close();
}

/* Pinned ones are in no order; when they are unpinned they are where they belong. */
static void test_pinned_and_retained(void **state)
{
	(void)state;
	retain_rig_open("test_pinned_and_retained", (const uint64_t[]){4, 0, 0});
	cache_rig_request(&retain_rig, retain_ns, (const uint32_t[]){1, 2}, 2, 0);
	assert_int_equal(cache_pin(retain_cache, retain_rig_find(2), &(uint32_t){CACHE_WALK_MAX}),
			 HBM_OK);
	assert_int_equal(retain_rig_retain(2, 1), HBM_OK);
	assert_int_equal(ledger_used(&retain_rig.ledger.host, LEDGER_RETAINED), 0);
	cache_unpin(retain_cache, retain_rig_find(2));
	assert_int_equal(ledger_used(&retain_rig.ledger.host, LEDGER_RETAINED), 2 * UNIT);
	for (uint32_t n = 10; n < 20; n++)
		retain_rig_use(n);
	expect_there(1, 2, true);
	assert_int_equal(cache_pin(retain_cache, retain_rig_find(2), &(uint32_t){CACHE_WALK_MAX}),
			 HBM_OK);
	assert_int_equal(ledger_used(&retain_rig.ledger.host, LEDGER_RETAINED), 0);
	cache_unpin(retain_cache, retain_rig_find(2));
	retain_rig_close();
}

/* ---- until when ---- */

/* As one that was used last, from the moment its time is over. */
static void test_after_its_time(void **state)
{
	(void)state;
	retain_rig_open("test_after_its_time", (const uint64_t[]){4, 0, 0});
	cache_rig_request(&retain_rig, retain_ns, (const uint32_t[]){1, 2, 3}, 3, 0);
	retain_rig_use(4);
	assert_int_equal(retain_rig_retain_by(retain_user, 3, 3, 1), HBM_OK);
	assert_int_equal(retain_cache->retention.count, 3);
	assert_int_equal(ledger_used(&retain_rig.ledger.host, LEDGER_RETAINED), 3 * UNIT);
	retain_rig_use(5); /* 4 was used before */
	assert_int_equal(retain_cache->retention.count, 0);
	assert_int_equal(ledger_used(&retain_rig.ledger.host, LEDGER_RETAINED), 0);
	expect_there(1, 3, true);
	expect_there(4, 4, false);
	retain_rig_use(6);
	expect_there(5, 5, false);
	retain_rig_use(7);
	expect_there(3, 3, false);
	expect_there(1, 2, true);
	retain_rig_use(8);
	expect_there(2, 2, false);
	retain_rig_use(9);
	expect_there(1, 1, false);
	retain_rig_close();
}

/* The higher priority and the later end of all that asked. */
static void test_more_of_both(void **state)
{
	(void)state;
	const uint64_t soon = clock_now() + HOUR_NS, late = soon + HOUR_NS;

	retain_rig_open("test_more_of_both", (const uint64_t[]){4, 0, 0});
	cache_rig_request(&retain_rig, retain_ns, (const uint32_t[]){1, 2}, 2, 0);
	assert_int_equal(retain_rig_retain_by(retain_user, 2, 1, late), HBM_OK);
	assert_int_equal(retain_rig_retain_by(retain_other, 1, 3, soon), HBM_OK);
	const struct retained *head = retention_find(&retain_cache->retention, retain_rig_find(1)),
			      *tail = retention_find(&retain_cache->retention, retain_rig_find(2));

	assert_int_equal(head->priority, 3);
	assert_int_equal(head->until_ns, late);
	assert_ptr_equal(head->retainer->user, retain_other);
	assert_int_equal(tail->priority, 1);
	assert_int_equal(tail->until_ns, late);
	assert_ptr_equal(tail->retainer->user, retain_user);
	assert_int_equal(ledger_used(&retain_user->payer, LEDGER_RETAINED_BLOCKS), 1);
	assert_int_equal(ledger_used(&retain_other->payer, LEDGER_RETAINED_BLOCKS), 1);
	retain_rig_close();
}

/* ---- how much ---- */

static void test_what_one_user_may_have(void **state)
{
	(void)state;
	retain_rig_open("test_what_one_user_may_have", (const uint64_t[]){8, 8, 0});
	retain_cache->retained_limit = (struct config_size){.percent = 50};
	cache_rig_request(&retain_rig, retain_ns, (const uint32_t[]){1, 2, 3, 4, 5}, 5, 0);
	for (uint32_t n = 6; n <= 8; n++)
		retain_rig_use(n);

	/* With its ancestors, which are too many; nothing has changed. */
	assert_int_equal(retain_rig_retain(5, 1), HBM_LIMIT);
	assert_int_equal(retain_cache->retention.count, 0);
	assert_true(list_empty(&retain_cache->retention.retainers));
	assert_int_equal(retain_rig_retain(4, 1), HBM_OK);
	assert_int_equal(retain_rig_retain(6, 1), HBM_LIMIT);
	assert_int_equal(retain_rig_retain(4, 2), HBM_OK);
	assert_int_equal(retain_rig_retain_by(retain_other, 6, 1, clock_now() + HOUR_NS), HBM_OK);
	assert_int_equal(retention_favoured(&retain_cache->retention, 1), 5 * UNIT);

	/* Nobody has all: others still come in, and go. */
	for (uint32_t n = 20; n < 40; n++)
		retain_rig_use(n);
	expect_there(1, 4, true);
	expect_there(6, 6, true);
	assert_int_equal(cache_block(retain_cache, retain_rig_find(39))->target, 1);

	/* In DDR it may have as much; what comes up from there is as any other in HBM. */
	assert_int_equal(cache_move(retain_cache, retain_rig_find(39), retain_cache->ddr), HBM_OK);
	assert_int_equal(retain_rig_retain(39, 3), HBM_OK);
	assert_int_equal(cache_block(retain_cache, retain_rig_find(39))->level, 3);
	retain_rig_use(39);
	assert_int_equal(cache_block(retain_cache, retain_rig_find(39))->target, 1);
	assert_int_equal(cache_block(retain_cache, retain_rig_find(39))->level, 0);
	assert_int_equal(retention_favoured(&retain_cache->retention, 1), 5 * UNIT);
	assert_int_equal(retention_favoured(&retain_cache->retention, 2), 0);
	retain_rig_close();
}

static void test_as_many_blocks_as_may_be(void **state)
{
	(void)state;
	retain_rig_open("test_as_many_blocks_as_may_be", (const uint64_t[]){8, 0, 0});
	ledger_set_limit(&retain_user->payer, LEDGER_RETAINED_BLOCKS, 2);
	cache_rig_request(&retain_rig, retain_ns, (const uint32_t[]){1, 2, 3}, 3, 0);
	assert_int_equal(retain_rig_retain(3, 1), HBM_LIMIT);
	assert_int_equal(retain_cache->retention.count, 0);
	assert_int_equal(retain_rig_retain(2, 1), HBM_OK);
	assert_int_equal(retain_rig_retain(3, 1), HBM_LIMIT);
	assert_int_equal(cache_release(retain_cache, retain_rig_find(2), retain_user), HBM_OK);
	assert_int_equal(retain_rig_retain(1, 1), HBM_OK);
	retain_rig_close();
}

/* A parent without room at its level goes after its child that has some. */
static void test_children_go_first_without_room(void **state)
{
	(void)state;
	retain_rig_open("test_children_go_first_without_room", (const uint64_t[]){3, 4, 0});
	retain_cache->retained_limit = (struct config_size){.bytes = UNIT};
	retain_rig_use(1);
	assert_int_equal(retain_rig_retain(1, 2), HBM_OK);
	assert_int_equal(cache_push_out(retain_cache, &retain_cache->tiers[1], UNIT, 1).blocks, 1);
	retain_rig_use(7);
	assert_int_equal(retain_rig_retain(7, 1), HBM_OK);
	cache_rig_request(&retain_rig, retain_ns, (const uint32_t[]){1, 2}, 2, 0);
	/* 7 has the room in HBM, 1 is as any other there. */
	assert_int_equal(cache_block(retain_cache, retain_rig_find(1))->level, 0);
	assert_int_equal(cache_release(retain_cache, retain_rig_find(7), retain_user), HBM_OK);
	retain_cache->retained_limit = (struct config_size){.bytes = UNIT};
	struct retained *one = retention_find(&retain_cache->retention, retain_rig_find(1));
	struct retained *two = retention_set(&retain_cache->retention, retain_rig_find(2),
					     retain_user, 1, one->until_ns);
	two->parent = retain_rig_find(1);
	one->children++;
	cache_leave(retain_cache, retain_rig_find(2));
	cache_enter(retain_cache, retain_rig_find(2), 0);
	assert_int_equal(cache_block(retain_cache, retain_rig_find(2))->level, 1);
	cache_push_out(retain_cache, &retain_cache->tiers[1], UNIT, 1);
	assert_int_equal(cache_block(retain_cache, retain_rig_find(1))->target, 1);
	assert_int_equal(cache_block(retain_cache, retain_rig_find(2))->target, 2);
	retain_rig_close();
}

/* ---- in slices ---- */

/* A long chain, some blocks at a time, and what goes meanwhile. */
static void test_in_slices(void **state)
{
	enum { TRUNK = 3000 };

	(void)state;
	struct cache_retaining retaining;
	struct slice none = {.until_ns = 0};
	uint32_t walk = CACHE_WALK_MAX, turns = 0;

	retain_rig_open("test_in_slices", (const uint64_t[]){CACHE_RIG_BLOCKS, 0, 0});
	cache_rig_grow_branches(&retain_rig, retain_ns, TRUNK, 1);
	cache_rig_use_leaves(&retain_rig, retain_ns, TRUNK, 1);
	cache_retain_begin(&retaining, retain_rig_find(TRUNK), retain_user, 1,
			   clock_now() + HOUR_NS);
	for (; !cache_retain_some(retain_cache, &retaining, &walk, &none); turns++)
		for (uint32_t n = 0; n < TRUNK; n += 97) {
			bool above = cache_is_retained(retain_cache, retain_rig_find(n)),
			     below = cache_is_retained(retain_cache, retain_rig_find(n + 1));
			assert_true(above || !below);
		}
	assert_int_equal(retaining.status, HBM_OK);
	assert_true(turns > TRUNK / CACHE_STRETCH);
	assert_int_equal(retain_cache->retention.count, TRUNK + 1);
	assert_int_equal(walk, CACHE_WALK_MAX - TRUNK - 1);

	/* An ancestor is dropped while it is climbed: so is this. */
	cache_retain_begin(&retaining, retain_rig_find(TRUNK), retain_user, 2,
			   clock_now() + HOUR_NS);
	assert_false(cache_retain_some(retain_cache, &retaining, &walk, &none));
	cache_drop(retain_cache, retain_rig_find(TRUNK / 2));
	while (!cache_retain_some(retain_cache, &retaining, &walk, &none))
		;
	assert_int_equal(retaining.status, HBM_MISS);
	retain_rig_close();
}

/* Others have their turns in between. What is above has less by then: so has what is below. */
static void test_no_more_than_what_is_above(void **state)
{
	enum { TRUNK = 2 * CACHE_STRETCH };

	(void)state;
	const uint64_t late = clock_now() + 2 * HOUR_NS, soon = late - HOUR_NS;
	struct cache_retaining retaining;
	struct slice none = {.until_ns = 0};
	uint32_t walk = CACHE_WALK_MAX, last = 0;

	retain_rig_open("test_no_more_than_what_is_above",
			(const uint64_t[]){CACHE_RIG_BLOCKS, 0, 0});
	cache_rig_grow_branches(&retain_rig, retain_ns, TRUNK, 1);
	cache_rig_use_leaves(&retain_rig, retain_ns, TRUNK, 1);
	for (unsigned round = 0; round < 2; round++) {
		cache_retain_begin(&retaining, retain_rig_find(TRUNK), retain_user, 3, late);
		while (retain_cache->retention.count == 0)
			assert_false(cache_retain_some(retain_cache, &retaining, &walk, &none));
		last = (uint32_t)retain_cache->retention.count - 1;
		assert_true(last < TRUNK);
		assert_int_equal(cache_release(retain_cache, retain_rig_find(last), retain_user),
				 HBM_OK);
		if (round == 1)
			assert_int_equal(retain_rig_retain_by(retain_user, last, 1, soon), HBM_OK);
		while (!cache_retain_some(retain_cache, &retaining, &walk, &none))
			;
		assert_int_equal(retaining.status, round == 0 ? HBM_LIMIT : HBM_OK);
		assert_int_equal(cache_is_retained(retain_cache, retain_rig_find(last + 1)),
				 round == 1);
		for (uint32_t n = last; round == 0 && n-- > 0;)
			assert_int_equal(
				cache_release(retain_cache, retain_rig_find(n), retain_user),
				HBM_OK);
	}
	for (uint32_t n = last; n <= TRUNK; n++) {
		const struct retained *retained =
			retention_find(&retain_cache->retention, retain_rig_find(n));

		assert_int_equal(retained->priority, 1);
		assert_int_equal(retained->until_ns, soon);
	}
	retain_rig_close();
}

static void test_a_walk_has_an_end(void **state)
{
	(void)state;
	struct cache_retaining retaining;
	uint32_t walk = 10;

	retain_rig_open("test_a_walk_has_an_end", (const uint64_t[]){64, 0, 0});
	cache_rig_grow_branches(&retain_rig, retain_ns, 20, 1);
	cache_rig_use_leaves(&retain_rig, retain_ns, 20, 1);
	cache_retain_begin(&retaining, retain_rig_find(20), retain_user, 1, clock_now() + HOUR_NS);
	assert_true(cache_retain_some(retain_cache, &retaining, &walk,
				      &(struct slice){.until_ns = UINT64_MAX}));
	assert_int_equal(retaining.status, HBM_LIMIT);
	assert_int_equal(retain_cache->retention.count, 0);
	retain_rig_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_retained_goes_last),
		cmocka_unit_test(test_by_priority),
		cmocka_unit_test(test_in_every_tier),
		cmocka_unit_test(test_ancestors_stay_as_long),
		cmocka_unit_test(test_a_chain_is_in_order),
		cmocka_unit_test(test_a_dropped_child_counts_no_more),
		cmocka_unit_test(test_pinned_and_retained),
		cmocka_unit_test(test_after_its_time),
		cmocka_unit_test(test_more_of_both),
		cmocka_unit_test(test_what_one_user_may_have),
		cmocka_unit_test(test_as_many_blocks_as_may_be),
		cmocka_unit_test(test_children_go_first_without_room),
		cmocka_unit_test(test_in_slices),
		cmocka_unit_test(test_no_more_than_what_is_above),
		cmocka_unit_test(test_a_walk_has_an_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
