/* SPDX-License-Identifier: Apache-2.0 */
/* What is taken of a catalog's rows, and in which order it becomes blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "tests/support/catalog_rows.h"
#include "tests/support/seed.h"

static const struct catalog_bounds all = {
	.units = 1 << 20, .blocks = 100000, .trust_unchecked = true, .trust_any = true};

static void begin(struct catalog_contents *contents)
{
	struct catalog_namespace ns = catalog_row_namespace(1);

	*contents = (struct catalog_contents){0};
	assert_int_equal(catalog_contents_add_namespace(contents, 1, &ns, sizeof(ns)), 0);
}

static void add(struct catalog_contents *contents, const struct catalog_bounds *bounds,
		const struct catalog_block *block)
{
	assert_int_equal(
		catalog_contents_add_block(contents, bounds, block->unit, block, sizeof(*block)),
		0);
}

/* Whether each block is in the order once, and none before its parent unless a newer one has
 * that key. */
static void assert_parents_first(const struct catalog_contents *contents)
{
	uint32_t *place = calloc(contents->count + 1, sizeof(*place));

	for (uint32_t i = 0; i < contents->count; i++) {
		assert_in_range(contents->order[i], 0, contents->count - 1);
		assert_int_equal(place[contents->order[i]], 0);
		place[contents->order[i]] = i + 1;
	}

	for (uint32_t i = 0; i < contents->count; i++)
		for (uint32_t k = 0; k < contents->count; k++)
			if (memcmp(&contents->blocks[i].parent, &contents->blocks[k].key,
				   sizeof(struct hbm_wire_key)) == 0)
				assert_true(place[k] < place[i]);
	free(place);
}

/* ---- what is refused ---- */

static void test_refused(void **state)
{
	struct catalog_contents contents;
	struct catalog_block sound = catalog_row(1, 0, 1), of_other = catalog_row(3, 0, 2),
			     beyond = catalog_row(5, 0, 3), unchecked = catalog_row(6, 0, 4);
	struct catalog_bounds bounds = all;

	(void)state;
	begin(&contents);
	bounds.units = 7 * CATALOG_ROW_UNITS;
	bounds.trust_unchecked = false;
	add(&contents, &bounds, &sound);
	assert_int_equal(contents.count, 1);

	/* at another unit than it says */
	assert_int_equal(catalog_contents_add_block(&contents, &bounds, 32, &sound, sizeof(sound)),
			 0);
	of_other.ns = 2;
	catalog_block_seal(&of_other);
	add(&contents, &bounds, &of_other);

	beyond.units = 2 * CATALOG_ROW_UNITS + 1;
	catalog_block_seal(&beyond);
	add(&contents, &bounds, &beyond);

	unchecked.flags = 0;
	catalog_block_seal(&unchecked);
	add(&contents, &bounds, &unchecked);
	assert_int_equal(catalog_contents_add_block(&contents, &bounds, 1000, "x", 1), 0);

	assert_int_equal(contents.count, 1);
	assert_int_equal(contents.refused_count, 5);
	assert_int_equal(contents.refused[0], 32);
	assert_int_equal(contents.refused[4], 1000);
	assert_int_equal(contents.stamp, 4);
	catalog_contents_clear(&contents);
}

static void test_nothing_trusted(void **state)
{
	struct catalog_contents contents;
	struct catalog_block sound = catalog_row(1, 0, 8);
	struct catalog_bounds bounds = all;

	(void)state;
	begin(&contents);
	bounds.trust_any = false;
	add(&contents, &bounds, &sound);
	assert_int_equal(contents.count, 0);
	assert_int_equal(contents.refused_count, 1);
	assert_int_equal(contents.stamp, 8);
	catalog_contents_clear(&contents);
}

static void test_too_many(void **state)
{
	struct catalog_contents contents;
	struct catalog_bounds bounds = all;

	(void)state;
	begin(&contents);
	bounds.blocks = 2;
	for (uint32_t n = 1; n <= 3; n++) {
		struct catalog_block block = catalog_row(n, 0, n);
		add(&contents, &bounds, &block);
	}

	assert_int_equal(contents.count, 2);
	assert_int_equal(contents.refused_count, 1);
	catalog_contents_clear(&contents);
}

/* A namespace's record that is damaged takes its blocks along. Its id is not used again. */
static void test_damaged_namespace(void **state)
{
	struct catalog_contents contents = {0};
	struct catalog_namespace ns = catalog_row_namespace(9);
	struct catalog_block block = catalog_row(1, 0, 1);

	(void)state;
	ns.spec.model[1] = 'x';
	assert_int_equal(catalog_contents_add_namespace(&contents, 9, &ns, sizeof(ns)), 0);
	block.ns = 9;
	catalog_block_seal(&block);
	add(&contents, &all, &block);
	assert_int_equal(contents.namespace_count, 0);
	assert_int_equal(contents.count, 0);
	assert_int_equal(contents.ns, 9);
	catalog_contents_clear(&contents);
}

/* Of two that overlap the newer stays, whichever comes first. */
static void test_overlap(void **state)
{
	struct catalog_contents contents;

	(void)state;
	for (int newer = 0; newer < 2; newer++) {
		struct catalog_block first = catalog_row(1, 0, newer == 0 ? 5 : 4),
				     second = catalog_row(2, 0, newer == 0 ? 4 : 5),
				     third = catalog_row(3, 0, 1);
		first.units = CATALOG_ROW_UNITS + 1;
		catalog_block_seal(&first);

		begin(&contents);
		add(&contents, &all, &first);
		add(&contents, &all, &second);
		add(&contents, &all, &third);
		assert_int_equal(contents.count, 2);
		assert_int_equal(contents.blocks[0].stamp, 5);
		assert_int_equal(contents.blocks[1].unit, third.unit);
		assert_int_equal(contents.refused_count, 1);
		assert_int_equal(contents.refused[0], newer == 0 ? second.unit : first.unit);
		catalog_contents_clear(&contents);
	}
}

/* ---- the order ---- */

static void test_newest_first(void **state)
{
	static const uint64_t stamps[] = {30, 10, 50, 20};
	static const uint32_t order[] = {2, 0, 3, 1};
	struct catalog_contents contents;

	(void)state;
	begin(&contents);
	for (uint32_t n = 1; n <= 4; n++) {
		struct catalog_block block = catalog_row(n, 0, stamps[n - 1]);
		add(&contents, &all, &block);
	}

	assert_int_equal(catalog_contents_sort(&contents), 0);
	assert_memory_equal(contents.order, order, sizeof(order));
	catalog_contents_clear(&contents);
}

static struct catalog_block durable_row(uint32_t n, uint32_t parent, uint64_t stamp)
{
	struct catalog_block block = catalog_row(n, parent, stamp);

	block.flags |= CATALOG_DURABLE;
	catalog_block_seal(&block);

	return block;
}

/* With what is above them; but an old one whose key a newer block has is as others are. */
static void test_durable_first(void **state)
{
	static const uint32_t order[] = {3, 1, 2, 0, 4};
	struct catalog_contents contents;
	struct catalog_block blocks[] = {catalog_row(1, 0, 30), durable_row(2, 4, 10),
					 catalog_row(3, 0, 50), catalog_row(4, 0, 20),
					 durable_row(5, 0, 5)};

	(void)state;
	blocks[4].key = catalog_row_key(3);
	catalog_block_seal(&blocks[4]);
	begin(&contents);
	for (uint32_t i = 0; i < 5; i++)
		add(&contents, &all, &blocks[i]);
	assert_int_equal(catalog_contents_sort(&contents), 0);
	assert_memory_equal(contents.order, order, sizeof(order));
	catalog_contents_clear(&contents);
}

/* A chain whose blocks were written from head to tail. */
static void test_chain(void **state)
{
	static const uint32_t order[] = {0, 1, 2};
	struct catalog_contents contents;

	(void)state;
	begin(&contents);
	for (uint32_t n = 1; n <= 3; n++) {
		struct catalog_block block = catalog_row(n, n - 1, n);
		add(&contents, &all, &block);
	}

	assert_int_equal(catalog_contents_sort(&contents), 0);
	assert_memory_equal(contents.order, order, sizeof(order));
	catalog_contents_clear(&contents);
}

static void test_circle(void **state)
{
	struct catalog_contents contents;

	(void)state;
	begin(&contents);
	for (uint32_t n = 1; n <= 3; n++) {
		struct catalog_block block = catalog_row(n, n % 3 + 1, n);
		add(&contents, &all, &block);
	}

	struct catalog_block own = catalog_row(4, 4, 9);
	add(&contents, &all, &own);
	assert_int_equal(catalog_contents_sort(&contents), 0);
	assert_int_equal(contents.count, 4);
	assert_int_equal(contents.order[0], 3);
	catalog_contents_clear(&contents);
}

/* Two of one key: the newer is the parent. */
static void test_same_key(void **state)
{
	struct catalog_contents contents;
	struct catalog_block older = catalog_row(1, 0, 3), newer = catalog_row(2, 0, 5),
			     child = catalog_row(3, 1, 9);

	(void)state;
	newer.key = older.key;
	catalog_block_seal(&newer);
	begin(&contents);
	add(&contents, &all, &older);
	add(&contents, &all, &newer);
	add(&contents, &all, &child);
	assert_int_equal(catalog_contents_sort(&contents), 0);

	static const uint32_t order[] = {1, 2, 0};
	assert_memory_equal(contents.order, order, sizeof(order));
	catalog_contents_clear(&contents);
}

static void test_random_trees(void **state)
{
	struct seed seed;
	struct catalog_contents contents;

	(void)state;
	seed_open(&seed, "test_random_trees");
	for (int round = 0; round < 50; round++) {
		uint32_t count = 1 + (uint32_t)seed_below(&seed, 120);

		begin(&contents);
		for (uint32_t n = 1; n <= count; n++) {
			uint32_t parent = (uint32_t)seed_below(&seed, n);
			struct catalog_block block =
				catalog_row(n, parent, 1 + seed_below(&seed, 1000) * 1000 + n);
			add(&contents, &all, &block);
		}

		assert_int_equal(catalog_contents_sort(&contents), 0);
		assert_int_equal(contents.count, count);
		assert_parents_first(&contents);
		catalog_contents_clear(&contents);
	}
}

static void test_empty(void **state)
{
	struct catalog_contents contents = {0};

	(void)state;
	assert_int_equal(catalog_contents_sort(&contents), 0);
	assert_int_equal(contents.count, 0);
	catalog_contents_clear(&contents);
	assert_true(catalog_contents_bytes_for(1000) >= 1000 * sizeof(struct catalog_block));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),       cmocka_unit_test(test_nothing_trusted),
		cmocka_unit_test(test_too_many),      cmocka_unit_test(test_damaged_namespace),
		cmocka_unit_test(test_overlap),       cmocka_unit_test(test_newest_first),
		cmocka_unit_test(test_durable_first), cmocka_unit_test(test_chain),
		cmocka_unit_test(test_circle),        cmocka_unit_test(test_same_key),
		cmocka_unit_test(test_random_trees),  cmocka_unit_test(test_empty),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
