/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups of namespaces, end to end: the ranks of an engine replay the requests of some
 * conversations under pressure, and what is left of each is what is left of all, which without a
 * group it is not. A group outlives the daemon with its namespaces.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/catalog_stage.h"
#include "tests/support/keeper_rig.h"
#include "tests/support/seed.h"

#include <stdio.h>
#include <string.h>

enum {
	RANKS = 4,
	TALKS = 8,
	LENGTH = 24, /* blocks of a conversation, at most */
	REQUESTS = 40,
	MEASURED = 5, /* requests between two looks at what there is */
};

static const char *const small[] = {"device.cache=2MiB", "ddr.size=2MiB", "nvme.size=4MiB",
				    "nvme.catalog_ms=1", NULL};
static uint32_t ranks[RANKS];

static int open_rank(const char *group, unsigned rank, uint32_t *ns)
{
	char layout[16];
	const struct hbm_namespace_options options = {
		.model = "m", .layout = layout, .block_bytes = CATALOG_STAGE_BLOCK, .group = group};

	snprintf(layout, sizeof(layout), "rank %u", rank);
	return hbm_namespace_open(kv.hbm, &options, ns);
}

static void open_ranks(const char *group)
{
	for (unsigned i = 0; i < RANKS; i++)
		assert_int_equal(open_rank(group, i, &ranks[i]), 0);
}

static bool has(unsigned rank, uint64_t block)
{
	kv.ns = ranks[rank];

	return kv_tier(&kv, block) != HBM_TIER_NONE;
}

/* ---- a replay ---- */

static uint64_t first_of(unsigned talk)
{
	return 1 + (uint64_t)talk * LENGTH;
}

/* A rank loads what it has of the prompt, and stores the rest. */
static void serve(unsigned rank, unsigned talk, uint32_t length)
{
	uint64_t first = first_of(talk);

	kv.ns = ranks[rank];
	uint32_t run = kv_lookup(&kv, first, length, results);
	if (run > 0)
		assert_int_equal(kv_load(&kv, 0, first, run, results), 0);
	if (run < length)
		assert_int_equal(kv_store(&kv, run, first + run, length - run,
					  run > 0 ? first + run - 1 : 0, results),
				 0);
}

static void shuffle(unsigned order[RANKS], struct seed *seed)
{
	for (unsigned i = 0; i < RANKS; i++) {
		unsigned other = (unsigned)seed_below(seed, i + 1);

		order[i] = order[other];
		order[other] = i;
	}
}

/* Blocks that some rank has, and another one has not. */
static unsigned dead_weight(void)
{
	unsigned dead = 0;

	for (uint64_t block = 1; block < first_of(TALKS); block++) {
		unsigned count = 0;

		for (unsigned rank = 0; rank < RANKS; rank++)
			count += has(rank, block);
		dead += count < RANKS ? count : 0;
	}

	return dead;
}

/* The dead weight after some of the requests, in all. */
static unsigned replay(uint64_t from)
{
	struct seed seed = {from};
	unsigned order[RANKS];
	uint32_t lengths[TALKS] = {0};
	unsigned dead = 0;

	for (unsigned i = 0; i < REQUESTS; i++) {
		unsigned talk = (unsigned)seed_below(&seed, TALKS);
		uint32_t longer = lengths[talk] + 4 + (uint32_t)seed_below(&seed, 8);

		lengths[talk] = longer > LENGTH ? 4 : longer;
		shuffle(order, &seed);
		for (unsigned rank = 0; rank < RANKS; rank++)
			serve(order[rank], talk, lengths[talk]);
		if (i % MEASURED == MEASURED - 1)
			dead += dead_weight();
	}

	return dead;
}

static unsigned dead_after_a_replay(const char *group, uint64_t from)
{
	catalog_stage_begin(small);
	open_ranks(group);

	unsigned dead = replay(from);
	struct hbm_wire_status now = catalog_stage_status();

	assert_true(now.evicted_blocks > 0);
	assert_int_equal(now.evicted_together > 0, group != NULL);
	catalog_stage_finish();

	return dead;
}

static void test_ranks_keep_the_same(void **state)
{
	struct seed seed;

	(void)state;
	seed_open(&seed, "test_ranks_keep_the_same");
	uint64_t from = seed_next(&seed);
	unsigned apart = dead_after_a_replay(NULL, from),
		 together = dead_after_a_replay("tp4", from);

	print_message("dead weight: %u blocks, as a group %u\n", apart, together);
	assert_true(apart > 0);
	assert_true(together * 20 <= apart);
}

/* ---- what outlives the daemon ---- */

static void store_in_all(uint64_t first, uint64_t count)
{
	for (unsigned i = 0; i < RANKS; i++) {
		kv.ns = ranks[i];
		catalog_stage_store(first, count, 0);
	}
}

static int count_members(const void *bytes, size_t size, void *arg)
{
	const struct hbm_wire_namespace *ns = bytes;

	(void)size;
	*(unsigned *)arg += strcmp(ns->group, "tp4") == 0;
	return 0;
}

/* One block of the tier is evicted from the cache, and those of its key with it. */
static void expect_a_group(enum hbm_tier tier)
{
	unsigned members = 0;
	struct hbm_amount gone;

	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_NAMESPACES, count_members, &members), 0);
	assert_int_equal(members, RANKS);
	assert_int_equal(hbm_evict(kv.hbm, tier, 0, 1, &gone), 0);
	assert_int_equal(gone.blocks, 1);
	assert_int_equal(catalog_stage_status().evicted_together, RANKS - 1);
	open_ranks("tp4");
	assert_int_equal(dead_weight(), 0);
}

static void test_a_group_is_in_the_catalog(void **state)
{
	(void)state;
	catalog_stage_begin(small);
	open_ranks("tp4");
	store_in_all(1, 4);
	kv_push_to_nvme(&kv);
	catalog_stage_await_records(4 * RANKS);
	catalog_stage_stop_and_begin(small);
	expect_a_group(HBM_TIER_NVME);
	assert_true(has(0, 1));
	assert_false(has(0, 4));
	catalog_stage_finish();
}

static void test_a_group_is_in_the_state(void **state)
{
	static const char *const in_ddr[] = {"device.cache=0", "ddr.size=4MiB",        "nvme.path=",
					     "nvme.size=0",    "hbmd.checksum=always", NULL};

	(void)state;
	keeper_start(&daemon_, in_ddr, NULL);
	kv_open(&kv, &daemon_, 0, CATALOG_STAGE_BLOCK, CATALOG_STAGE_SLOTS);
	open_ranks("tp4");
	store_in_all(1, 4);
	kv_close(&kv);
	keeper_kill(&daemon_);
	kv_open(&kv, &daemon_, 0, CATALOG_STAGE_BLOCK, CATALOG_STAGE_SLOTS);
	expect_a_group(HBM_TIER_DDR);
	catalog_stage_finish();
}

/* ---- what is refused, and shown ---- */

static void test_a_group_is_full(void **state)
{
	static const char *const many[] = {"limits.namespace_opens=128", NULL};
	uint32_t ns, other;

	(void)state;
	catalog_stage_begin(many);
	for (unsigned i = 0; i < HBM_WIRE_GROUP_MAX; i++)
		assert_int_equal(open_rank("tp", i, &ns), 0);
	assert_int_equal(open_rank("tp", HBM_WIRE_GROUP_MAX, &other), HBM_LIMIT);
	assert_non_null(strstr(hbm_error(kv.hbm), "group"));
	assert_int_equal(open_rank("tp", HBM_WIRE_GROUP_MAX - 1, &other), 0);
	assert_int_equal(other, ns);
	assert_int_equal(open_rank("of others", HBM_WIRE_GROUP_MAX, &other), 0);
	assert_int_equal(open_rank(NULL, 0, &other), 0);
	assert_int_equal(hbm_namespace_close(kv.hbm, ns), 0);
	assert_int_equal(open_rank("tp", HBM_WIRE_GROUP_MAX, &other), 0);
	assert_int_equal(
		open_rank("a name that is as long as one cannot be, of 64 bytes and not one less",
			  0, &other),
		HBM_INVALID);
	catalog_stage_finish();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, catalog_stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_ranks_keep_the_same),
		TEST(test_a_group_is_in_the_catalog),
		TEST(test_a_group_is_in_the_state),
		TEST(test_a_group_is_full),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
