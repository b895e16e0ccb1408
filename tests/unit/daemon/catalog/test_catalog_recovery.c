/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was read becomes blocks in slices that are bounded by count, whatever the phase; between
 * two of them a lookup finds what has come so far.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/catalog/catalog_recovery.h"
#include "tests/support/cache_rig.h"
#include "tests/support/catalog_rows.h"

#define COUNT 3000u
#define NAMESPACES 200u
#define STEPS 16u   /* of a slice */
#define AT_ONCE 64u /* blocks that one step claims, at most */

static struct cache_rig rig;
static struct catalog_contents contents;
static struct catalog_ids ids;
static struct catalog_recovery recovery;

static int setup(void **state)
{
	static const uint64_t units[] = {20, 20, (COUNT + 1) * CATALOG_ROW_UNITS};

	(void)state;
	cache_rig_open(&rig, "test_catalog_recovery", 1, units);
	rig.cache->nvme->claiming = true;

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);

	return 0;
}

static bool fits_if_even(void *arg, const struct namespace_identity *identity)
{
	(void)arg;

	return identity->spec->weights % 2 == 0;
}

static void note(void *arg, uint32_t number, const struct catalog_block *record)
{
	(void)arg;
	assert_int_equal(cache_block(rig.cache, number)->unit, record->unit);
}

/* Block n is of namespace 1 + n % NAMESPACES. */
static void make_contents(void)
{
	static const struct catalog_bounds all = {
		.units = (COUNT + 1) * CATALOG_ROW_UNITS, .blocks = COUNT, .trust_any = true};

	contents = (struct catalog_contents){0};
	for (uint32_t id = 1; id <= NAMESPACES; id++) {
		struct catalog_namespace ns = catalog_row_namespace(id);
		assert_int_equal(catalog_contents_add_namespace(&contents, id, &ns, sizeof(ns)), 0);
	}
	for (uint32_t n = 1; n <= COUNT; n++) {
		struct catalog_block block = catalog_row(n, 0, n);

		block.ns = 1 + n % NAMESPACES;
		catalog_block_seal(&block);
		assert_int_equal(catalog_contents_add_block(&contents, &all, block.unit, &block,
							    sizeof(block)),
				 0);
	}
	assert_int_equal(contents.count, COUNT);
	assert_int_equal(catalog_contents_sort(&contents), 0);
}

/* How many there are of what a slice changes. */
struct tally {
	uint64_t namespaces, blocks, moving, refused;
};

static struct tally tally_now(void)
{
	return (struct tally){.namespaces = namespaces_count(rig.cache->namespaces),
			      .blocks = index_count(rig.cache->index),
			      .moving = rig.cache->nvme->moving / (CATALOG_ROW_UNITS * UNIT),
			      .refused = recovery.refused_count};
}

static void assert_bounded(uint64_t before, uint64_t now, uint64_t most)
{
	assert_true((now > before ? now - before : before - now) <= most);
}

static uint32_t look_up(uint32_t n)
{
	const struct catalog_block *block = &contents.blocks[n];
	uint16_t ns = recovery.numbers[block->ns - 1];

	return ns != 0 ? cache_find(rig.cache, ns, &block->key) : 0;
}

/* One lookup of what is back, and one of what is not. */
static void assert_lookups_go_on(void)
{
	uint32_t last = recovery.next - 1;

	if (recovery.phase != CATALOG_RECOVERING || recovery.next == 0 || recovery.next == COUNT)
		return;
	while (last > 0 && contents.blocks[contents.order[last]].ns % 2 != 0)
		last--;
	if (contents.blocks[contents.order[last]].ns % 2 == 0)
		assert_int_not_equal(look_up(contents.order[last]), 0);
	assert_int_equal(look_up(contents.order[recovery.next]), 0);
}

static void test_slices_are_bounded(void **state)
{
	unsigned slices[CATALOG_RECOVERED] = {0};

	(void)state;
	make_contents();
	assert_int_equal(catalog_ids_open(&ids, rig.cache->namespaces), 0);
	recovery = (struct catalog_recovery){.cache = rig.cache,
					     .ids = &ids,
					     .contents = &contents,
					     .fits = fits_if_even,
					     .recovered = note};
	assert_int_equal(catalog_recovery_begin(&recovery), 0);
	assert_int_equal(namespaces_count(rig.cache->namespaces), 0);
	while (recovery.phase != CATALOG_RECOVERED) {
		struct tally before = tally_now(), now;

		slices[recovery.phase]++;
		catalog_recovery_some(&recovery, STEPS);
		now = tally_now();
		assert_bounded(before.namespaces, now.namespaces, STEPS);
		assert_bounded(before.blocks, now.blocks, STEPS);
		assert_bounded(before.refused, now.refused, STEPS);
		assert_bounded(before.moving, now.moving, STEPS * AT_ONCE);
		assert_lookups_go_on();
	}

	assert_int_equal(recovery.restored, COUNT / 2);
	assert_int_equal(recovery.refused_count, COUNT / 2);
	assert_true(slices[CATALOG_OPENING] >= NAMESPACES / STEPS);
	assert_true(slices[CATALOG_CLAIMING] >= COUNT / (STEPS * AT_ONCE));
	assert_true(slices[CATALOG_RECOVERING] >= COUNT / STEPS);
	assert_true(slices[CATALOG_LETTING_GO] >= COUNT / 2 / STEPS);
	assert_true(slices[CATALOG_CLOSING] >= NAMESPACES / STEPS);
	catalog_recovery_end(&recovery);
	catalog_contents_clear(&contents);
	catalog_ids_close(&ids);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_slices_are_bounded, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
