/* SPDX-License-Identifier: Apache-2.0 */
/* Unpinning in slices: which pins go, and what others may do to the list meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "daemon/serve/unpin.h"
#include "tests/support/cache_rig.h"

enum { BLOCKS = 8, PINS = 4 /* of each block */ };

struct rig {
	struct cache_rig cache;
	struct list pins;
	uint32_t blocks[BLOCKS];
	struct hbm_wire_results *reply;
	struct unpin *unpin;
};

static int setup(void **state)
{
	static struct rig rig;
	struct cache *cache;

	cache_rig_open(&rig.cache, "test_unpin", 1, (const uint64_t[]){64, 0, 0});
	cache = rig.cache.cache;
	uint16_t ns = cache_rig_namespace(&rig.cache, 1);
	list_init(&rig.pins);
	for (uint32_t i = 0; i < BLOCKS; i++)
		rig.blocks[i] = cache_rig_insert_placed(&rig.cache, ns, i);

	for (uint32_t i = 0; i < BLOCKS * PINS; i++) {
		struct pin *pin = pin_new(&rig.cache.ledger.host);
		assert_non_null(pin);
		pin->number = rig.blocks[i % BLOCKS];
		assert_int_equal(cache_pin(cache, pin->number, &(uint32_t){CACHE_WALK_MAX}),
				 HBM_OK);
		list_push_back(&rig.pins, &pin->link);
	}

	rig.reply = calloc(1, sizeof(*rig.reply) + BLOCKS * sizeof(rig.reply->results[0]));
	rig.unpin = unpin_new(&rig.pins, rig.reply);
	assert_true(rig.reply && rig.unpin);
	*state = &rig;

	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	for (uint32_t number; (number = pins_take_first(rig->cache.cache, &rig->pins)) != 0;)
		cache_unref_branch(rig->cache.cache, number);
	assert_true(list_empty(&rig->pins));
	rig->unpin = unpin_free(rig->unpin);
	free(rig->reply);
	cache_rig_assert_empties(&rig->cache);
	cache_rig_close(&rig->cache);

	return 0;
}

/* A slice as short as one can be; whether that was all. */
static bool step(struct rig *rig)
{
	return unpin_some(rig->unpin, rig->cache.cache, &(struct slice){.until_ns = 0});
}

static uint32_t pins_of(const struct rig *rig, uint32_t i)
{
	return cache_block(rig->cache.cache, rig->blocks[i])->pins;
}

static void each_block_loses_as_many_pins_as_it_is_named(void **state)
{
	struct rig *rig = *state;
	const uint32_t named[] = {3, 5, 3}, left[BLOCKS] = {4, 4, 4, 2, 4, 3, 4, 4};
	unsigned slices = 1;

	for (uint32_t i = 0; i < 3; i++)
		unpin_add(rig->unpin, rig->blocks[named[i]], i);
	unpin_begin(rig->unpin);
	while (!step(rig))
		slices++;

	assert_in_range(slices, BLOCKS * PINS / SLICE_UNITS, BLOCKS * PINS + 3);
	assert_int_equal(rig->reply->done, 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(rig->reply->results[i].status, HBM_OK);
	for (uint32_t i = 0; i < BLOCKS; i++)
		assert_int_equal(pins_of(rig, i), left[i]);
}

static void a_block_without_a_pin_left_is_not_found(void **state)
{
	struct rig *rig = *state;

	for (uint32_t i = 0; i < PINS + 1; i++)
		unpin_add(rig->unpin, rig->blocks[0], i);
	unpin_begin(rig->unpin);
	while (!step(rig))
		;

	assert_int_equal(rig->reply->done, PINS);
	assert_int_equal(rig->reply->results[PINS].status, HBM_NOT_FOUND);
	assert_int_equal(pins_of(rig, 0), 0);
}

/* The pins on both sides of its place go, and then all: the place is not taken for one. */
static void others_may_take_pins_between_slices(void **state)
{
	struct rig *rig = *state;
	struct cache *cache = rig->cache.cache;
	struct list *place = &rig->unpin->walk.place.link;
	uint32_t taken = 0;

	unpin_add(rig->unpin, rig->blocks[BLOCKS - 1], 0);
	unpin_begin(rig->unpin);
	assert_false(step(rig));
	cache_unref_branch(cache, pins_take(cache, container_of(place->next, struct pin, link)));
	cache_unref_branch(cache, pins_take(cache, container_of(place->prev, struct pin, link)));
	assert_false(step(rig));

	for (uint32_t number; (number = pins_take_first(cache, &rig->pins)) != 0; taken++)
		cache_unref_branch(cache, number);
	assert_in_range(taken, BLOCKS * PINS - 3, BLOCKS * PINS - 2);
	while (!step(rig))
		;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(each_block_loses_as_many_pins_as_it_is_named),
		TEST(a_block_without_a_pin_left_is_not_found),
		TEST(others_may_take_pins_between_slices),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
