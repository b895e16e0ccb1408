/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy beside one LRU list, for one size of block: which blocks are in which tier is
 * the top C1 of the list, the next C2, the next C3.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "daemon/cache/cache.h"
#include "tests/support/cache_rig.h"
#include "tests/support/lru_model.h"
#include "tests/support/seed.h"

/* Keys of conversations: a turn repeats what was said before and adds to it. */
struct talk {
	uint32_t keys[CACHE_RIG_CHAIN], length;
};

static void next_turn(struct talk *talk, struct talk *all, uint32_t talks, uint32_t *fresh,
		      struct seed *seed)
{
	if (talk->length >= CACHE_RIG_CHAIN / 2 || seed_below(seed, 20) == 0) {
		const struct talk *other = &all[seed_below(
			seed, talks)]; /* a new one, maybe with a prefix of another */
		uint32_t shared = (uint32_t)seed_below(seed, other->length + 1);
		memmove(talk->keys, other->keys, shared * sizeof(talk->keys[0]));
		talk->length = shared;
	}
	for (uint64_t more = 1 + seed_below(seed, 10); more > 0; more--)
		talk->keys[talk->length++] = (*fresh)++;
}

static void one_lru_test(const char *name, const uint64_t *units)
{
	enum { TALKS = 12 };
	struct cache_rig rig;

	cache_rig_open(&rig, name, 1, units);
	struct talk talks[TALKS] = {0};
	struct lru *lru = lru_new(CACHE_RIG_BLOCKS, units[0] + units[1] + units[2]);
	uint16_t ns = cache_rig_namespace(&rig, 1);
	for (uint32_t fresh = 0; fresh + 20 < CACHE_RIG_BLOCKS;) {
		struct talk *talk = &talks[seed_below(&rig.seed, TALKS)];

		next_turn(talk, talks, TALKS, &fresh, &rig.seed);
		cache_rig_request(&rig, ns, talk->keys, talk->length, 0);
		lru_request(lru, talk->keys, talk->length);

		for (uint32_t k = 0; k < fresh; k++) {
			uint32_t number = cache_rig_find(&rig, ns, k);

			assert_int_equal(number != 0, lru_has(lru, k));
			if (number == 0 || seed_below(&rig.seed, 8) != 0)
				continue;

			uint64_t rank = lru_rank(lru, k);
			uint8_t tier = rank < units[0] ? 1 : rank < units[0] + units[1] ? 2 : 3;
			assert_int_equal(cache_block(rig.cache, number)->target, tier);
		}

		assert_int_equal(index_count(rig.cache->index), lru_count(lru));
	}

	lru_free(lru);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

static void test_tiers_are_one_lru_list(void **state)
{
	(void)state;
	one_lru_test("test_tiers_are_one_lru_list", (const uint64_t[]){10, 30, 80});
}

static void test_one_lru_list_of_tiers_smaller_than_a_chain(void **state)
{
	(void)state;
	one_lru_test("test_one_lru_list_of_tiers_smaller_than_a_chain",
		     (const uint64_t[]){1, 3, 20});
}

static void test_one_lru_list_without_some_tier(void **state)
{
	(void)state;
	one_lru_test("without HBM", (const uint64_t[]){0, 30, 80});
	one_lru_test("without DDR", (const uint64_t[]){10, 0, 80});
	one_lru_test("without NVMe", (const uint64_t[]){10, 30, 0});
	one_lru_test("only HBM", (const uint64_t[]){50, 0, 0});
	one_lru_test("only NVMe", (const uint64_t[]){0, 0, 50});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tiers_are_one_lru_list),
		cmocka_unit_test(test_one_lru_list_of_tiers_smaller_than_a_chain),
		cmocka_unit_test(test_one_lru_list_without_some_tier),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
