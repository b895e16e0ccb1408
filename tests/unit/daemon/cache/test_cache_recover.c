/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of before: what becomes one, where it is in tree and order, and what is refused, which
 * changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/cache_rig.h"

#define SIZE 2u /* units of a block */

static struct cache_rig rig;
static uint16_t ns;

static int setup(void **state)
{
	static const uint64_t units[] = {20, 20, 20};

	(void)state;
	cache_rig_open(&rig, "test_cache_recover", 1, units);
	ns = cache_rig_namespace(&rig, SIZE);
	rig.cache->nvme->claiming = true;

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cache_rig_close(&rig);
	return 0;
}

static struct cache_recovered found(uint32_t n, uint32_t parent)
{
	struct cache_recovered one = {.tier = rig.cache->nvme,
				      .ns = ns,
				      .key = cache_rig_key(n),
				      .checksummed = true,
				      .checksum = n,
				      .unit = n * SIZE,
				      .units = SIZE};
	if (parent != 0)
		one.parent = cache_rig_key(parent);

	return one;
}

static int claim_and_recover(const struct cache_recovered *one, uint32_t *number)
{
	struct tier *nvme = rig.cache->nvme;
	bool usable = !nvme->claiming;

	nvme->claiming = true;
	assert_true(tier_claim(nvme, one->unit, one->units * UNIT, 1));
	nvme->claiming = false;
	if (!usable)
		tier_end_claims(nvme);

	return cache_recover(rig.cache, one, number);
}

static void test_recovers(void **state)
{
	struct cache *cache = rig.cache;
	struct cache_recovered parent = found(1, 0), child = found(2, 1), orphan = found(3, 77);
	uint32_t number = 0, first;

	(void)state;
	assert_int_equal(claim_and_recover(&parent, &first), HBM_OK);
	assert_int_equal(claim_and_recover(&child, &number), HBM_OK);
	const struct block *block = cache_block(cache, number);
	assert_int_equal(block->parent, first);
	assert_int_equal(block->unit, child.unit);
	assert_int_equal(block->actual, cache->nvme->number);
	assert_int_equal(block->target, cache->nvme->number);
	assert_true(block->checksummed);
	assert_int_equal(block->checksum, 2);
	assert_int_equal(order_victim(cache->orders[cache->nvme->number], 0), number);
	assert_int_equal(cache_rig_find(&rig, ns, 2), number);

	assert_int_equal(claim_and_recover(&orphan, &number), HBM_OK);
	assert_int_equal(cache_block(cache, number)->parent, 0);
	assert_int_equal(order_victim(cache->orders[cache->nvme->number], 0), number);
	assert_int_equal(cache->nvme->placed, 3 * SIZE * UNIT);
	assert_int_equal(cache->nvme->moving, 0);
}

/* Nothing has changed, and the extent is still claimed. */
static void assert_refused(const struct cache_recovered *one, int status)
{
	struct tier *nvme = rig.cache->nvme;
	uint64_t blocks = index_count(rig.cache->index), placed = nvme->placed;
	uint32_t number = 0;

	assert_int_equal(claim_and_recover(one, &number), status);
	assert_int_equal(index_count(rig.cache->index), blocks);
	assert_int_equal(nvme->placed, placed);
	assert_int_equal(nvme->moving, one->units * UNIT);
	tier_free(nvme, one->unit, one->units * UNIT);
}

static void test_refuses(void **state)
{
	struct cache_recovered one = found(1, 0);
	uint32_t number;

	(void)state;
	one.units = SIZE + 1;
	assert_refused(&one, HBM_INVALID);
	one.units = SIZE - 1; /* smaller, and nothing encodes it */
	assert_refused(&one, HBM_INVALID);

	one = found(1, 0);
	assert_int_equal(claim_and_recover(&one, &number), HBM_OK);
	one.unit += SIZE;
	assert_refused(&one, HBM_EXISTS);

	for (uint32_t n = 2; n < 10; n++) {
		one = found(n, 0);
		assert_int_equal(claim_and_recover(&one, &number), HBM_OK);
	}
	one = found(0, 0);
	rig.cache->nvme->usable -= UNIT;
	assert_refused(&one, HBM_NO_SPACE);
	rig.cache->nvme->usable += UNIT;
	ledger_set_limit(&rig.ledger.host, LEDGER_BLOCKS, 9);
	assert_refused(&one, HBM_LIMIT);
	ledger_set_limit(&rig.ledger.host, LEDGER_BLOCKS, 10);
	namespaces_get(rig.cache->namespaces, ns)->drops = 1;
	assert_refused(&one, HBM_NOT_FOUND);
	namespaces_get(rig.cache->namespaces, ns)->drops = 0;
	assert_int_equal(claim_and_recover(&one, &number), HBM_OK);
}

/* Which block is near saves a search, and decides nothing: it may be another, or none any more. */
static void test_what_is_near(void **state)
{
	struct cache *cache = rig.cache;
	struct cache_recovered parent = found(1, 0), other = found(2, 0), child = found(3, 1);
	uint32_t first, second, number = 0;

	(void)state;
	assert_int_equal(claim_and_recover(&parent, &first), HBM_OK);
	assert_int_equal(claim_and_recover(&other, &second), HBM_OK);
	child.near = second;
	assert_int_equal(claim_and_recover(&child, &number), HBM_OK);
	assert_int_equal(cache_parent(cache, number), first);

	child = found(4, 1);
	child.near = first;
	assert_int_equal(claim_and_recover(&child, &number), HBM_OK);
	assert_int_equal(cache_parent(cache, number), first);

	child = found(5, 2);
	child.near = second;
	cache_drop(cache, second);
	assert_int_equal(claim_and_recover(&child, &number), HBM_OK);
	assert_int_equal(cache_parent(cache, number), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_near, setup, teardown),
		cmocka_unit_test_setup_teardown(test_recovers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refuses, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
