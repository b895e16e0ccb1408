/* SPDX-License-Identifier: Apache-2.0 */
/* Walks over a list of pins: each passes every pin once, whatever others do to the list
 * between two of its steps; and which pins are lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/serve/pins.h"
#include "tests/support/cache_rig.h"

enum { PINS = 12 };

struct rig {
	struct cache_rig cache;
	struct list pins;
	uint16_t ns;
	struct pin_walk walk, other;
};

static int setup(void **state)
{
	static struct rig rig;

	cache_rig_open(&rig.cache, "test_pins", 1, (const uint64_t[]){64, 0, 0});
	rig.ns = cache_rig_namespace(&rig.cache, 1);
	list_init(&rig.pins);
	for (uint32_t i = 0; i < PINS; i++) {
		struct pin *pin = pin_new(&rig.cache.ledger.host);
		assert_non_null(pin);
		pin->number = cache_rig_insert_placed(&rig.cache, rig.ns, i);
		assert_int_equal(
			cache_pin(rig.cache.cache, pin->number, &(uint32_t){CACHE_WALK_MAX}),
			HBM_OK);
		list_push_back(&rig.pins, &pin->link);
	}

	pin_walk_init(&rig.walk);
	pin_walk_init(&rig.other);
	*state = &rig;

	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	assert_false(pin_walk_is_on(&rig->walk) || pin_walk_is_on(&rig->other));
	for (uint32_t number; (number = pins_take_first(rig->cache.cache, &rig->pins)) != 0;)
		cache_unref_branch(rig->cache.cache, number);
	assert_true(list_empty(&rig->pins));
	cache_rig_assert_empties(&rig->cache);
	cache_rig_close(&rig->cache);

	return 0;
}

static uint32_t block(struct rig *rig, uint32_t i)
{
	return cache_rig_find(&rig->cache, rig->ns, i);
}

static void two_walks_pass_every_pin_in_order(void **state)
{
	struct rig *rig = *state;

	pin_walk_begin(&rig->walk, &rig->pins);
	pin_walk_begin(&rig->other, &rig->pins);
	for (uint32_t i = 0; i < PINS; i++) {
		assert_int_equal(pin_walk_next(&rig->walk)->number, block(rig, i));
		if (i % 2 == 1) {
			assert_int_equal(pin_walk_next(&rig->other)->number, block(rig, i - 1));
			assert_int_equal(pin_walk_next(&rig->other)->number, block(rig, i));
		}
	}

	assert_null(pin_walk_next(&rig->walk));
	assert_null(pin_walk_next(&rig->other));
	assert_null(pin_walk_next(&rig->walk)); /* and so it stays */
}

static void pins_go_beside_the_place_of_a_walk(void **state)
{
	struct rig *rig = *state;
	struct cache *cache = rig->cache.cache;
	const struct list *place = &rig->walk.place.link;

	pin_walk_begin(&rig->walk, &rig->pins);
	for (uint32_t i = 0; i < 4; i++)
		assert_non_null(pin_walk_next(&rig->walk));
	cache_unref_branch(cache, pins_take(cache, container_of(place->prev, struct pin, link)));
	cache_unref_branch(cache, pins_take(cache, container_of(place->next, struct pin, link)));
	assert_int_equal(pin_walk_next(&rig->walk)->number, block(rig, 5));

	for (uint32_t number; (number = pins_take_first(cache, &rig->pins)) != 0;)
		cache_unref_branch(cache, number);
	assert_true(pin_walk_is_on(&rig->walk));
	assert_null(pin_walk_next(&rig->walk));
}

static void a_walk_may_end_early(void **state)
{
	struct rig *rig = *state;

	pin_walk_begin(&rig->walk, &rig->pins);
	assert_non_null(pin_walk_next(&rig->walk));
	pin_walk_end(&rig->walk);
	pin_walk_end(&rig->walk);
	assert_null(pin_walk_next(&rig->walk));
	assert_int_equal(list_length(&rig->pins), PINS);
}

/* The blocks of two pins are dropped, one before the walk begins, one behind its place. */
static void lost_pins_are_those_of_dropped_blocks(void **state)
{
	struct rig *rig = *state;
	struct cache *cache = rig->cache.cache;
	const struct namespace *ns = namespaces_get(cache->namespaces, rig->ns);
	uint64_t lost = ns->pins_lost;

	cache_drop(cache, block(rig, 7));
	pin_walk_begin(&rig->walk, &rig->pins);
	for (uint32_t i = 0; i < 4; i++)
		assert_true(pin_walk_forget_lost(&rig->walk, cache));
	cache_drop(cache, block(rig, 2));
	assert_int_equal(ns->pins_lost, lost + 2);
	assert_int_equal(ns->pins, PINS - 2);
	while (pin_walk_forget_lost(&rig->walk, cache))
		;

	assert_int_equal(list_length(&rig->pins), PINS - 1);
	uint64_t in = 0, elsewhere = 0;
	pin_walk_begin(&rig->walk, &rig->pins);
	for (const struct pin *pin; (pin = pin_walk_next(&rig->walk));) {
		in += pin_is_in(pin, cache, rig->ns);
		elsewhere += pin_is_in(pin, cache, (uint16_t)(rig->ns + 1));
	}

	assert_int_equal(in, ns->pins);
	assert_int_equal(elsewhere, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(two_walks_pass_every_pin_in_order),
		TEST(pins_go_beside_the_place_of_a_walk),
		TEST(a_walk_may_end_early),
		TEST(lost_pins_are_those_of_dropped_blocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
