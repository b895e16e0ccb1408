/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of namespaces: what is used or evicted in one is in all, what stays, how much is done at
 * once, and ranks beside a dumb model of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/cache/block.h"
#include "daemon/cache/cache.h"
#include "tests/support/cache_rig.h"
#include "tests/support/seed.h"

enum { RANKS = 4 };

static struct cache_rig rig;
static uint16_t ranks[RANKS];

static void open_ranks(const char *name, const uint64_t *units, const char *group)
{
	cache_rig_open(&rig, name, 1, units);
	for (unsigned i = 0; i < RANKS; i++)
		ranks[i] = cache_rig_namespace_of(&rig, group, i);
}

static void close_rig(void)
{
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

static void request(uint16_t ns, uint32_t n)
{
	cache_rig_request(&rig, ns, &n, 1, 0);
}

static bool has(uint16_t ns, uint32_t n)
{
	return cache_rig_find(&rig, ns, n) != 0;
}

/* The least recently used block of all, which is evicted from the cache. */
static struct cache_amount evict(uint64_t max)
{
	return cache_push_out(rig.cache, cache_hbm(rig.cache, 0), UINT64_MAX, max);
}

/* ---- what goes, and what stays ---- */

static void test_it_goes_in_all(void **state)
{
	(void)state;
	open_ranks("test_it_goes_in_all", (const uint64_t[]){100, 0, 0}, "tp4");
	for (uint32_t n = 1; n <= 2; n++)
		for (unsigned i = 0; i < RANKS; i++)
			request(ranks[i], n);

	struct cache_amount gone = evict(1);
	assert_int_equal(gone.blocks, 1);
	assert_int_equal(gone.bytes, UNIT);
	assert_int_equal(gone.others, RANKS - 1);
	for (unsigned i = 0; i < RANKS; i++) {
		assert_false(has(ranks[i], 1));
		assert_true(has(ranks[i], 2));
	}
	assert_int_equal(rig.cache->counters.evicted_blocks, RANKS);
	assert_int_equal(rig.cache->counters.evicted_together, RANKS - 1);
	close_rig();
}

/* A use in one is a use in all, in the tier where each is. */
static void test_it_is_used_in_all(void **state)
{
	(void)state;
	open_ranks("test_it_is_used_in_all", (const uint64_t[]){4, 8, 0}, "tp4");
	for (uint32_t n = 1; n <= 3; n++)
		for (unsigned i = 0; i < RANKS; i++)
			request(ranks[i], n);
	request(ranks[3], 1);
	assert_int_equal(cache_block(rig.cache, cache_rig_find(&rig, ranks[3], 1))->target, 1);
	assert_int_equal(cache_block(rig.cache, cache_rig_find(&rig, ranks[0], 1))->target, 2);

	assert_int_equal(cache_push_out(rig.cache, rig.cache->ddr, UNIT, 1).others, RANKS - 1);
	for (unsigned i = 0; i < RANKS; i++) {
		assert_true(has(ranks[i], 1));
		assert_false(has(ranks[i], 2));
		assert_true(has(ranks[i], 3));
	}
	close_rig();
}

/* Not where its parent is not used with it: it would be kept longer than that. */
static void test_parents_stay_ahead(void **state)
{
	(void)state;
	open_ranks("test_parents_stay_ahead", (const uint64_t[]){100, 0, 0}, "tp4");
	cache_rig_request(&rig, ranks[0], (const uint32_t[]){1, 2}, 2, 0);
	request(ranks[1], 2); /* a root there */
	request(ranks[2], 3);
	request(ranks[1], 2);

	const struct order *order = rig.cache->orders[1];
	uint32_t number = 0;
	static const struct {
		unsigned rank;
		uint32_t key;
	} wanted[] = {{1, 2}, {2, 3}, {0, 1}, {0, 2}};
	for (unsigned i = 0; i < 4; i++) {
		number = order_walk(order, number);
		assert_int_equal(number,
				 cache_rig_find(&rig, ranks[wanted[i].rank], wanted[i].key));
	}
	close_rig();
}

/* Only what leaves the cache: a demotion is for each rank alone. */
static void test_what_moves_down_takes_none_with_it(void **state)
{
	(void)state;
	open_ranks("test_what_moves_down_takes_none_with_it", (const uint64_t[]){4, 4, 0}, "tp4");
	for (unsigned i = 0; i < RANKS; i++)
		request(ranks[i], 1);
	assert_int_equal(evict(1).others, 0);
	assert_int_equal(rig.cache->ddr->blocks, 1);
	for (unsigned i = 0; i < RANKS; i++)
		assert_true(has(ranks[i], 1));
	close_rig();
}

/* Nor does what is removed. */
static void test_what_is_dropped_takes_none_with_it(void **state)
{
	(void)state;
	open_ranks("test_what_is_dropped_takes_none_with_it", (const uint64_t[]){100, 0, 0}, "tp4");
	for (unsigned i = 0; i < RANKS; i++)
		request(ranks[i], 1);
	cache_drop(rig.cache, cache_rig_find(&rig, ranks[0], 1));
	for (unsigned i = 0; i < RANKS; i++)
		assert_int_equal(has(ranks[i], 1), i > 0);
	close_rig();
}

/* A demotion that cannot be made is an eviction. */
static void test_what_cannot_move_down_takes_others_with_it(void **state)
{
	(void)state;
	open_ranks("test_what_cannot_move_down_takes_others_with_it", (const uint64_t[]){8, 8, 0},
		   "tp4");
	for (unsigned i = 0; i < RANKS; i++)
		cache_rig_insert_placed(&rig, ranks[i], 1);
	cache_give_up_demotion(rig.cache, cache_rig_find(&rig, ranks[2], 1));
	for (unsigned i = 0; i < RANKS; i++)
		assert_false(has(ranks[i], 1));
	assert_int_equal(rig.cache->counters.demotions_dropped, 1);
	assert_int_equal(rig.cache->counters.evicted_together, RANKS - 1);
	close_rig();
}

static void retain(uint16_t ns, uint32_t n, struct user *user, unsigned priority)
{
	struct cache_retaining retaining;
	uint32_t walk = CACHE_WALK_MAX;

	cache_retain_begin(&retaining, cache_rig_find(&rig, ns, n), user, priority,
			   clock_now() + UINT64_C(3600000000000));
	assert_true(cache_retain_some(rig.cache, &retaining, &walk,
				      &(struct slice){.until_ns = UINT64_MAX}));
	assert_int_equal(retaining.status, HBM_OK);
}

static void test_what_is_to_stay_stays(void **state)
{
	enum { PINNED = 1, RETAINED, STORING };

	(void)state;
	open_ranks("test_what_is_to_stay_stays", (const uint64_t[]){100, 0, 0}, "tp4");
	rig.cache->retained_limit = (struct config_size){.percent = 100};
	struct user *user = user_open(&rig.ledger, 1001);
	uint32_t walk = CACHE_WALK_MAX;
	struct hbm_wire_key key = cache_rig_key(1);

	assert_non_null(user);
	request(ranks[0], 1);
	request(ranks[PINNED], 1);
	request(ranks[RETAINED], 1);
	assert_int_equal(cache_pin(rig.cache, cache_rig_find(&rig, ranks[PINNED], 1), &walk),
			 HBM_OK);
	retain(ranks[RETAINED], 1, user, 2);
	uint32_t storing = cache_insert(rig.cache, ranks[STORING], &key, 0);
	assert_int_not_equal(storing, 0);

	assert_int_equal(evict(1).others, 0);
	assert_false(has(ranks[0], 1));
	assert_true(has(ranks[PINNED], 1));
	assert_true(has(ranks[RETAINED], 1));
	block_stored(&rig.cache->blocks, storing, (struct place){0});
	assert_true(has(ranks[STORING], 1));

	/* It is not pinned any more, and the one evicted is retained as much. */
	cache_unpin(rig.cache, cache_rig_find(&rig, ranks[PINNED], 1));
	request(ranks[0], 1);
	retain(ranks[0], 1, user, 3);
	cache_drop(rig.cache, cache_rig_find(&rig, ranks[STORING], 1));
	cache_drop(rig.cache, cache_rig_find(&rig, ranks[PINNED], 1));
	assert_int_equal(evict(1).others, 0); /* the one retained less */
	assert_true(has(ranks[0], 1));
	request(ranks[RETAINED], 1);
	retain(ranks[RETAINED], 1, user, 3);
	assert_int_equal(evict(1).others, 1);
	user_close(user);
	close_rig();
}

/* What is durable goes with what is durable. */
static void test_what_is_durable(void **state)
{
	(void)state;
	open_ranks("test_what_is_durable", (const uint64_t[]){0, 0, 100}, "tp4");
	for (uint32_t n = 1; n <= 2; n++)
		for (unsigned i = 0; i < RANKS; i++) {
			request(ranks[i], n);
			if (i == 1 || n == 2)
				assert_int_equal(
					cache_make_durable(rig.cache,
							   cache_rig_find(&rig, ranks[i], n)),
					HBM_OK);
		}

	assert_int_equal(cache_push_out(rig.cache, rig.cache->nvme, UNIT, 1).others, RANKS - 2);
	for (unsigned i = 0; i < RANKS; i++)
		assert_int_equal(has(ranks[i], 1), i == 1);
	assert_int_equal(cache_push_out(rig.cache, rig.cache->nvme, UNIT, 1).others, 0);
	assert_int_equal(cache_push_out(rig.cache, rig.cache->nvme, UNIT, 1).others, RANKS - 1);
	for (unsigned i = 0; i < RANKS; i++)
		assert_false(has(ranks[i], 2));
	close_rig();
}

/* Nor do those of no group, or of another one. */
static void test_other_groups(void **state)
{
	(void)state;
	open_ranks("test_other_groups", (const uint64_t[]){100, 0, 0}, NULL);
	uint16_t group = cache_rig_namespace_of(&rig, "tp4", 0);
	uint16_t other = cache_rig_namespace_of(&rig, "tp8", 0);

	request(ranks[0], 1);
	request(ranks[1], 1);
	request(other, 1);
	request(group, 1);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(evict(1).others, 0);
	assert_int_equal(rig.cache->counters.evicted_together, 0);
	close_rig();
}

/* The last block of a namespace that nobody has open: it is forgotten while its group is walked
 * through. */
static void test_members_that_are_forgotten(void **state)
{
	(void)state;
	open_ranks("test_members_that_are_forgotten", (const uint64_t[]){100, 0, 0}, "tp4");
	for (unsigned i = 0; i < RANKS; i++) {
		request(ranks[i], 1);
		namespaces_unref(rig.cache->namespaces, ranks[i]);
	}
	assert_int_equal(namespaces_count(rig.cache->namespaces), RANKS);
	assert_int_equal(evict(1).others, RANKS - 1);
	assert_int_equal(namespaces_count(rig.cache->namespaces), 0);
	close_rig();
}

/* ---- how much is done at once ---- */

/* As many members as there may be, each with many blocks: a slice that is over ends after one
 * eviction, and what an operator evicts in one go is bounded with what goes with it. */
static void test_many_members(void **state)
{
	enum { MEMBERS = HBM_WIRE_GROUP_MAX, KEYS = 60 };

	(void)state;
	cache_rig_open(&rig, "test_many_members", 1, (const uint64_t[]){MEMBERS * KEYS, 0, 0});
	struct tier *hbm = cache_hbm(rig.cache, 0);
	uint16_t members[MEMBERS];
	struct slice over = {.until_ns = 1};

	for (unsigned i = 0; i < MEMBERS; i++)
		members[i] = cache_rig_namespace_of(&rig, "tp64", i);
	for (uint32_t n = 0; n < KEYS; n++)
		for (unsigned i = 0; i < MEMBERS; i++)
			request(members[i], n);
	assert_int_equal(hbm->blocks, MEMBERS * KEYS);

	struct cache_amount gone = evict(100);
	assert_int_equal(gone.blocks, 2);
	assert_int_equal(gone.others, 2 * (MEMBERS - 1));

	hbm->usable = 0;
	for (uint32_t left = KEYS - 3; left < KEYS; left--) {
		assert_int_equal(cache_settle_some(rig.cache, &over), false);
		assert_int_equal(hbm->blocks, left * MEMBERS);
	}
	assert_true(cache_settle_some(rig.cache, &over));
	hbm->usable = hbm->capacity;
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* A use of many blocks with many others ends a slice after each, and what is left is used later. */
static void test_uses_in_slices(void **state)
{
	enum { LENGTH = CACHE_RIG_CHAIN };

	(void)state;
	struct slice over = {.until_ns = 1};
	struct cache_touch touch;
	uint32_t keys[LENGTH], calls = 1, number = 0;

	open_ranks("test_uses_in_slices", (const uint64_t[]){RANKS * LENGTH, 0, 0}, "tp4");
	for (uint32_t n = 0; n < LENGTH; n++)
		keys[n] = n;
	for (unsigned i = 0; i < RANKS; i++)
		cache_rig_request(&rig, ranks[i], keys, LENGTH, 0);

	cache_touch_begin(rig.cache, &touch);
	number = cache_rig_find(&rig, ranks[2], LENGTH - 1);
	while (!cache_touch_some(rig.cache, &touch, number, 0, &over))
		calls++;
	cache_touch_end(rig.cache);
	assert_true(calls >= LENGTH);

	/* As in one slice: the last to be evicted are its own. */
	static const unsigned wanted[RANKS] = {2, 3, 0, 1};
	number = 0;
	for (unsigned i = 0; i < RANKS; i++)
		for (uint32_t n = 0; n < LENGTH; n++) {
			number = order_walk(rig.cache->orders[1], number);
			assert_int_equal(number, cache_rig_find(&rig, ranks[wanted[i]], n));
		}
	close_rig();
}

/* Of what continues the blocks that go with another, most is dropped bit by bit. */
static void test_descendants_go_later(void **state)
{
	enum { LENGTH = CACHE_RIG_CHAIN, LEFT = 2 * (LENGTH - 1) - CACHE_DROP_STEPS };

	(void)state;
	uint32_t keys[LENGTH], left = 0;

	open_ranks("test_descendants_go_later", (const uint64_t[]){200, 0, 0}, "tp4");
	for (uint32_t n = 0; n < LENGTH; n++)
		keys[n] = n;
	request(ranks[0], 0);
	cache_rig_request(&rig, ranks[1], keys, LENGTH, 0);
	cache_rig_request(&rig, ranks[2], keys, LENGTH, 0);
	assert_int_equal(cache_drop_with_group(rig.cache, cache_rig_find(&rig, ranks[0], 0)), 2);
	for (unsigned i = 1; i <= 2; i++)
		for (uint32_t n = 0; n < LENGTH; n++)
			left += has(ranks[i], n);
	assert_int_equal(left, LEFT);
	for (uint32_t step = 1; cache_drop_pending(rig.cache, 1); step++)
		assert_true(step < LEFT);
	assert_int_equal(cache_hbm(rig.cache, 0)->blocks, 0);
	close_rig();
}

/* ---- beside a model ---- */

/* Trees so small that what goes with a block goes at once. */
enum { TREE = 16, KEYS = 20 * TREE, ENTRIES = RANKS * KEYS };
static_assert((RANKS - 1) * (TREE - 1) <= CACHE_DROP_STEPS, "what is dropped at once");

enum { TIERS = 3 };

/* Of each tier one list of (rank, key), the most recently used first. */
static struct {
	struct {
		uint32_t entries[ENTRIES + TREE], count, capacity;
	} tiers[TIERS];
	uint32_t parents[KEYS]; /* of each key in all ranks; its own number: a root */
} model;

static bool model_continues(uint32_t key, uint32_t of)
{
	while (key != of && model.parents[key] != key)
		key = model.parents[key];
	return key == of;
}

/* Where it is: its tier and its place there. False: nowhere. */
static bool model_find(unsigned rank, uint32_t key, unsigned *tier, uint32_t *at)
{
	for (*tier = 0; *tier < TIERS; ++*tier)
		for (*at = 0; *at < model.tiers[*tier].count; ++*at)
			if (model.tiers[*tier].entries[*at] == rank * KEYS + key)
				return true;
	return false;
}

static bool model_has(unsigned rank, uint32_t key)
{
	unsigned tier;
	uint32_t at;

	return model_find(rank, key, &tier, &at);
}

static bool model_remove(unsigned rank, uint32_t key)
{
	unsigned tier;
	uint32_t at;
	if (!model_find(rank, key, &tier, &at))
		return false;

	uint32_t *entry = &model.tiers[tier].entries[at];
	memmove(entry, entry + 1, (--model.tiers[tier].count - at) * sizeof(*entry));
	return true;
}

/* To that place of that tier, or of the next one that there is. */
static void model_push(unsigned tier, uint32_t at, uint32_t entry)
{
	while (model.tiers[tier].capacity == 0)
		tier++;

	uint32_t *place = &model.tiers[tier].entries[at];
	memmove(place + 1, place, (model.tiers[tier].count++ - at) * sizeof(*place));
	*place = entry;
}

/* A use: right behind its parent, if that is in the same tier, or else to the front. */
static void model_use(unsigned tier, unsigned rank, uint32_t key)
{
	unsigned in;
	uint32_t at = 0, parent = model.parents[key];

	while (model.tiers[tier].capacity == 0)
		tier++;
	model_remove(rank, key);
	if (parent != key && model_find(rank, parent, &in, &at) && in == tier)
		at++;
	else
		at = 0;
	model_push(tier, at, rank * KEYS + key);
}

/* The others of its group, in the tiers where they are. */
static void model_use_others(unsigned rank, uint32_t key)
{
	static const unsigned next[RANKS] = {3, 0, 1, 2};
	unsigned tier;
	uint32_t at;

	for (unsigned i = next[rank]; i != rank; i = next[i])
		if (model_find(i, key, &tier, &at))
			model_use(tier, i, key);
}

/* A rank's block, and all that continue it there. */
static void model_drop(unsigned rank, uint32_t key)
{
	if (!model_remove(rank, key))
		return;
	for (uint32_t k = 0; k < KEYS; k++)
		if (model_continues(k, key))
			model_remove(rank, k);
}

static void model_evict(unsigned tier)
{
	uint32_t entry = model.tiers[tier].entries[model.tiers[tier].count - 1];
	unsigned below = tier + 1;

	while (below < TIERS && model.tiers[below].capacity == 0)
		below++;
	if (below < TIERS) {
		model.tiers[tier].count--;
		model_push(below, 0, entry);
		return;
	}
	for (unsigned i = 0; i < RANKS; i++)
		model_drop(i, entry % KEYS);
}

static void model_request(unsigned rank, const uint32_t *keys, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		model_use_others(rank, keys[i]);
		model_use(0, rank, keys[i]);
	}
	for (unsigned tier = 0; tier < TIERS; tier++)
		while (model.tiers[tier].count > model.tiers[tier].capacity)
			model_evict(tier);
}

static void expect_as_the_model(void)
{
	while (cache_drop_pending(rig.cache, 8))
		;
	for (unsigned i = 0; i < RANKS; i++)
		for (uint32_t k = 0; k < KEYS; k++)
			if (has(ranks[i], k) != model_has(i, k))
				fail_msg("rank %u has %skey %u", i, model_has(i, k) ? "no " : "",
					 k);
}

/* The keys from a root to one at random. */
static uint32_t random_chain(uint32_t keys[TREE])
{
	uint32_t key = (uint32_t)seed_below(&rig.seed, KEYS), count = 1;

	for (uint32_t at = key; model.parents[at] != at; at = model.parents[at])
		count++;
	for (uint32_t i = count; i-- > 0; key = model.parents[key])
		keys[i] = key;

	return count;
}

static void random_ranks(const char *name, const uint64_t *units)
{
	uint32_t keys[TREE];

	open_ranks(name, units, "tp4");
	for (unsigned i = 0; i < TIERS; i++) {
		model.tiers[i].count = 0;
		model.tiers[i].capacity = (uint32_t)units[i];
	}
	for (uint32_t k = 0; k < KEYS; k++)
		model.parents[k] =
			k % TREE == 0 ? k : k - 1 - (uint32_t)seed_below(&rig.seed, k % TREE);

	for (unsigned i = 0; i < 500; i++) {
		unsigned rank = (unsigned)seed_below(&rig.seed, RANKS);
		uint32_t count = random_chain(keys);

		cache_rig_request(&rig, ranks[rank], keys, count, 0);
		model_request(rank, keys, count);
		expect_as_the_model();
	}

	close_rig();
}

static void test_ranks_beside_a_model(void **state)
{
	(void)state;
	random_ranks("of one tier", (const uint64_t[]){200, 0, 0});
	random_ranks("of three tiers", (const uint64_t[]){20, 60, 100});
	random_ranks("small", (const uint64_t[]){10, 0, 40});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_goes_in_all),
		cmocka_unit_test(test_it_is_used_in_all),
		cmocka_unit_test(test_parents_stay_ahead),
		cmocka_unit_test(test_what_moves_down_takes_none_with_it),
		cmocka_unit_test(test_what_is_dropped_takes_none_with_it),
		cmocka_unit_test(test_what_cannot_move_down_takes_others_with_it),
		cmocka_unit_test(test_what_is_to_stay_stays),
		cmocka_unit_test(test_what_is_durable),
		cmocka_unit_test(test_other_groups),
		cmocka_unit_test(test_members_that_are_forgotten),
		cmocka_unit_test(test_many_members),
		cmocka_unit_test(test_uses_in_slices),
		cmocka_unit_test(test_descendants_go_later),
		cmocka_unit_test(test_ranks_beside_a_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
