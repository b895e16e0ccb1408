/* SPDX-License-Identifier: Apache-2.0 */
/* Retention at random, against the rules: what a block has of it its ancestors have, none stays in
 * a tier that what it continues has left, and the books balance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/clock.h"
#include "daemon/cache/cache.h"
#include "tests/support/retain_rig.h"

enum { NODES = 120, STEPS = 20000 };

/* One that was pinned may come down to where its parent is: it is in front of that then. */
static bool has_pins;

/* Where it is in the order in which its tier's blocks go, the last one first. */
static uint32_t place_of(uint32_t number)
{
	const struct order *order = cache_order(retain_cache, number);
	uint32_t place = 1, at = 0;

	while ((at = order_walk(order, at)) != number) {
		assert_int_not_equal(at, 0);
		place++;
	}

	return place;
}

static bool is_ordered(uint32_t number)
{
	return cache_block(retain_cache, number)->target != 0 &&
	       cache_block(retain_cache, number)->refs == 0;
}

/* Of a block and its parent: the parent has at least as much. Where it has nothing, it goes after
 * it by the order alone. */
static void check_pair(uint32_t parent, uint32_t number)
{
	const struct retained *above = retention_find(&retain_cache->retention, parent),
			      *below = retention_find(&retain_cache->retention, number);

	if (below) {
		assert_non_null(above);
		assert_true(above->priority >= below->priority);
		assert_true(above->until_ns >= below->until_ns);
	}
	if (has_pins || above || !is_ordered(parent) || !is_ordered(number) ||
	    cache_block(retain_cache, parent)->target != cache_block(retain_cache, number)->target)
		return;

	if (place_of(parent) >= place_of(number))
		fail_msg("tier %u: %u goes before %u, which continues it",
			 cache_block(retain_cache, parent)->target, parent, number);
}

/* No block leaves a tier in which one stays that continues it. */
static void push_out(uint8_t tier)
{
	uint8_t before[NODES + 1];

	for (uint32_t number = 1; number <= NODES; number++)
		before[number] = cache_block(retain_cache, number)->target & 0x7fu;
	cache_push_out(retain_cache, &retain_cache->tiers[tier], UNIT, 1);

	for (uint32_t n = 0; !has_pins && n < NODES; n++) {
		uint32_t child = retain_rig_find(n),
			 parent = child != 0 ? cache_parent(retain_cache, child) : 0;

		if (parent != 0 && cache_block(retain_cache, child)->target == before[parent])
			assert_int_equal(cache_block(retain_cache, parent)->target, before[parent]);
	}
}

static void check_all(void)
{
	uint64_t favoured[4] = {0}, retained = 0;

	for (uint32_t n = 0; n < NODES; n++) {
		uint32_t number = retain_rig_find(n), children = 0;
		const struct retained *entry;
		const struct block *block;

		if (number == 0)
			continue;
		block = cache_block(retain_cache, number);
		entry = retention_find(&retain_cache->retention, number);
		retained += entry != NULL;
		assert_true(block->level == 0 || (entry && entry->priority == block->level));
		assert_int_equal(entry && entry->tier != 0, block->level > 0);
		if (block->level > 0)
			favoured[block->target] += block_bytes_in(
				&retain_cache->blocks, number, &retain_cache->tiers[block->target]);
		for (uint32_t child = block->child; child != 0;
		     child = cache_block(retain_cache, child)->sibling) {
			children += cache_is_retained(retain_cache, child);
			check_pair(number, child);
		}
		if (entry)
			assert_int_equal(entry->children, children);
	}
	assert_int_equal(retained, retain_cache->retention.count);
	for (uint8_t tier = 1; tier <= 3; tier++) {
		assert_int_equal(retention_favoured(&retain_cache->retention, tier),
				 favoured[tier]);
		assert_true(retain_cache->tiers[tier].bytes <= retain_cache->tiers[tier].usable);
	}
}

static void step(uint32_t *pinned)
{
	uint32_t chain[8], count = 0;

	/* Node n continues n / 3. */
	for (uint32_t n = (uint32_t)seed_below(&retain_rig.seed, NODES); count < 8; n /= 3) {
		chain[count++] = n;
		if (n == 0)
			break;
	}
	for (uint32_t i = 0; i < count / 2; i++) {
		uint32_t swap = chain[i];
		chain[i] = chain[count - 1 - i], chain[count - 1 - i] = swap;
	}

	uint32_t last = chain[count - 1], number = retain_rig_find(last);
	struct user *who = seed_below(&retain_rig.seed, 2) ? retain_user : retain_other;

	switch (seed_below(&retain_rig.seed, number == 0 ? 1 : 8)) {
	case 1:
	case 2:
		(void)retain_rig_retain_by(who, last, 1 + (unsigned)seed_below(&retain_rig.seed, 3),
					   seed_below(&retain_rig.seed, 3)
						   ? clock_now() + HOUR_NS
						   : 1 + seed_below(&retain_rig.seed, 3));
		break;
	case 3:
		(void)cache_release(retain_cache, number, who);
		break;
	case 4:
		if (has_pins && *pinned == 0 &&
		    cache_pin(retain_cache, number, &(uint32_t){CACHE_WALK_MAX}) == HBM_OK)
			*pinned = number;
		break;
	case 5:
		if (*pinned != 0)
			cache_unpin(retain_cache, *pinned);
		*pinned = 0;
		break;
	case 6:
		if (seed_below(&retain_rig.seed, 10) == 0 && !cache_is_pinned(retain_cache, number))
			cache_drop(retain_cache, number);
		break;
	case 7:
		push_out((uint8_t)(1 + seed_below(&retain_rig.seed, 3)));
		break;
	default:
		cache_rig_request(&retain_rig, retain_ns, chain, count, 0);
	}
	while (cache_drop_pending(retain_cache, 64))
		;
}

static void play(const char *name)
{
	uint32_t pinned = 0;

	retain_rig_open(name, (const uint64_t[]){12, 16, 20});
	retain_cache->retained_limit = (struct config_size){.percent = 30};
	for (uint32_t i = 0; i < STEPS; i++) {
		step(&pinned);
		check_all();
	}
	if (pinned != 0)
		cache_unpin(retain_cache, pinned);
	retain_rig_close();
}

static void test_at_random(void **state)
{
	(void)state;
	has_pins = false;
	play("test_at_random");
}

static void test_at_random_with_pins(void **state)
{
	(void)state;
	has_pins = true;
	play("test_at_random_with_pins");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_at_random),
		cmocka_unit_test(test_at_random_with_pins),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
