/* SPDX-License-Identifier: Apache-2.0 */
/* Commits and decommits that go well, and what the library itself refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/client_region.h"
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

static void test_commit_maps_the_slabs_in_place(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(CLIENT_REGION_SLABS);
	struct hbm_range ranges[] = {
		{region, 6 * SLAB, SLAB}, {region, 0, 2 * SLAB}, {region, 2 * SLAB, SLAB}};
	assert_int_equal(hbm_commit(hbm, ranges, 3), 0);
	static const uint64_t order[] = {6, 0, 1, 2};
	for (size_t i = 0; i < 4; i++) {
		client_region_put(region, order[i], (char)('a' + i));
		assert_int_equal(client_region_slab_byte(i), 'a' + i);
	}

	assert_int_equal(soft.live("mappings"), 4);

	assert_int_equal(client_region_decommit(region, 1, 2), 0);
	assert_int_equal(soft.live("mappings"), 2);
	assert_int_equal(client_region_get(region, 0), 'b');
	assert_int_equal(client_region_get(region, 6), 'a');
	fake_await(&fake, HBM_WIRE_DECOMMIT, 1);
	const struct hbm_wire_ranges *message = fake.last;
	assert_int_equal(message->header.size, sizeof(*message) + sizeof(message->ranges[0]));
	assert_int_equal(message->count, 1);
	assert_int_equal(message->ranges[0].offset, SLAB);
	assert_int_equal(message->ranges[0].bytes, 2 * SLAB);

	assert_int_equal(client_region_commit(region, 1, 1), 0);
	client_region_put(region, 1, 'z');
	assert_int_equal(client_region_slab_byte(4), 'z');
	assert_int_equal(hbm_region_destroy(hbm, region), 0);
	assert_int_equal(soft.live("mappings"), 0);
}

static void test_parts_of_every_size(void **state)
{
	(void)state;
	for (fake.part = 1; fake.part <= 7; fake.part++) {
		struct hbm_region *a = client_region_make(5), *b = client_region_make(3);
		struct hbm_range ranges[] = {{a, 0, 5 * SLAB}, {b, SLAB, SLAB}};

		fake.slab_next = 0;
		assert_int_equal(hbm_commit(hbm, ranges, 2), 0);
		for (uint64_t i = 0; i < 5; i++)
			client_region_put(a, i, (char)(fake.part + i));
		client_region_put(b, 1, '!');
		for (size_t i = 0; i < 5; i++)
			assert_int_equal(client_region_slab_byte(i), fake.part + i);
		assert_int_equal(client_region_slab_byte(5), '!');
		assert_int_equal(hbm_region_destroy(hbm, a), 0);
		assert_int_equal(hbm_region_destroy(hbm, b), 0);
	}
}

static void test_more_slabs_than_a_message_has_fds(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(600);
	assert_int_equal(client_region_commit(region, 0, 600), 0);
	assert_int_equal(soft.live("mappings"), 600);
	client_region_put(region, 599, 'q');
	assert_int_equal(client_region_slab_byte(599 % CLIENT_REGION_SLABS), 'q');
	assert_int_equal(client_region_decommit(region, 0, 600), 0);
	assert_int_equal(soft.live("mappings"), 0);
}

static void test_ranges_are_checked_here(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(4);
	const struct hbm_range wrong[] = {
		{NULL, 0, SLAB},          {region, 0, 0},           {region, 1, SLAB},
		{region, 0, SLAB + 4096}, {region, 4 * SLAB, SLAB}, {region, 3 * SLAB, 2 * SLAB},
		{region, SLAB, -SLAB},    {region, -SLAB, SLAB},    {region, -SLAB, 2 * SLAB},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		/* A good range before it changes nothing. */
		struct hbm_range ranges[] = {{region, 0, SLAB}, wrong[i]};
		assert_int_equal(hbm_commit(hbm, &wrong[i], 1), HBM_INVALID);
		assert_int_equal(hbm_commit(hbm, ranges, 2), HBM_INVALID);
		assert_int_equal(hbm_decommit(hbm, &wrong[i], 1), HBM_INVALID);
	}

	assert_int_equal(hbm_commit(hbm, NULL, 0), HBM_INVALID);
	assert_int_equal(hbm_decommit(hbm, NULL, 0), HBM_INVALID);
	static struct hbm_range many[6000];
	for (size_t i = 0; i < 6000; i++)
		many[i] = (struct hbm_range){region, 0, SLAB};
	assert_int_equal(hbm_commit(hbm, many, 6000), HBM_LIMIT);
	assert_int_equal(fake.seen[HBM_WIRE_COMMIT] + fake.seen[HBM_WIRE_DECOMMIT], 0);
	assert_int_equal(client_region_commit(region, 0, 4), 0);
}

static void test_slabs_are_committed_once(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(6);
	struct hbm_range twice[] = {{region, 0, 2 * SLAB}, {region, SLAB, SLAB}};
	assert_int_equal(hbm_commit(hbm, twice, 2), HBM_INVALID);
	assert_int_equal(client_region_commit(region, 1, 2), 0);
	assert_int_equal(client_region_commit(region, 1, 1), HBM_EXISTS);
	assert_int_equal(client_region_commit(region, 0, 2), HBM_EXISTS);
	assert_int_equal(client_region_commit(region, 2, 2), HBM_EXISTS);
	assert_int_equal(client_region_decommit(region, 0, 2), HBM_NOT_FOUND);
	assert_int_equal(client_region_decommit(region, 2, 2), HBM_NOT_FOUND);
	struct hbm_range both[] = {{region, SLAB, SLAB}, {region, SLAB, 2 * SLAB}};
	assert_int_equal(hbm_decommit(hbm, both, 2), HBM_INVALID);
	assert_int_equal(soft.live("mappings"), 2);
	client_region_put(region, 1, 1);
	client_region_put(region, 2, 1);
	assert_int_equal(fake.seen[HBM_WIRE_COMMIT], 1);
	assert_int_equal(fake.seen[HBM_WIRE_DECOMMIT], 0);

	/* None of the refusals left a mark. */
	assert_int_equal(client_region_commit(region, 0, 1), 0);
	assert_int_equal(client_region_commit(region, 3, 3), 0);
	assert_int_equal(client_region_decommit(region, 0, 6), 0);
}

static void test_several_under_way(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(6);
	hbm_ticket tickets[3];
	for (uint64_t i = 0; i < 3; i++) {
		struct hbm_range range = {region, 2 * i * SLAB, 2 * SLAB};
		assert_int_equal(hbm_submit_commit(hbm, &range, 1, &tickets[i]), 0);
	}

	assert_int_equal(client_region_commit(region, 3, 1), HBM_EXISTS);
	assert_int_equal(client_region_decommit(region, 0, 1), HBM_NOT_FOUND);
	for (int i = 2; i >= 0; i--)
		assert_int_equal(hbm_wait(hbm, tickets[i], -1), 0);
	for (uint64_t i = 0; i < 6; i++)
		client_region_put(region, i, 1);
	assert_int_equal(soft.live("mappings"), 6);
}

static void test_destroy_waits_for_commits(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(4);
	struct hbm_range range = {region, 0, 4 * SLAB};
	hbm_ticket ticket;
	assert_int_equal(hbm_submit_commit(hbm, &range, 1, &ticket), 0);
	assert_int_equal(hbm_region_destroy(hbm, region), 0);
	assert_int_equal(soft.live("mappings"), 0);
	assert_int_equal(hbm_poll(hbm, ticket), HBM_OK);
}

int main(void)
{
#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, client_region_setup, client_region_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_commit_maps_the_slabs_in_place),    TEST(test_parts_of_every_size),
		TEST(test_more_slabs_than_a_message_has_fds), TEST(test_ranges_are_checked_here),
		TEST(test_slabs_are_committed_once),          TEST(test_several_under_way),
		TEST(test_destroy_waits_for_commits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
