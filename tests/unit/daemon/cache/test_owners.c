/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owners: random requests of tenants with bounds in a cascade of three tiers, against a model
 * that walks all blocks for each eviction.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/cache/owners.h"
#include "daemon/ledger/user.h"
#include "tests/support/cache_rig.h"

#define OWNERS 3u /* those without a tenant, and two tenants */
#define KEYS 60u  /* of each */
#define TIERS 3u
#define STEPS 20000u

static const uint64_t capacities[TIERS] = {16, 24, 32};

struct entry {
	uint32_t tier; /* from 1; 0: it is not there */
	uint64_t used; /* the step */
	uint64_t came; /* to its place in the order of its owner */
};

struct model {
	struct entry entries[OWNERS][KEYS];
	uint64_t most[OWNERS][TIERS + 1], least[OWNERS][TIERS + 1];
	uint64_t step, moves;
};

static struct cache_rig rig;
static struct model model;
static uint16_t namespaces[OWNERS];

static void set(const char *assignment)
{
	char error[256] = "";

	assert_int_equal(config_set(&rig.config, assignment, error, sizeof(error)), 0);
}

static uint16_t open_as(uint32_t owner, struct tenant *tenant)
{
	const struct hbm_wire_namespace_spec spec = {.block_bytes = UNIT};
	const struct namespace_identity identity = {.spec = &spec};
	struct user *user = user_open_of(&rig.ledger, 1000, tenant);
	uint16_t number = namespaces_open(rig.cache->namespaces, &identity, user);

	assert_int_equal(namespaces_owners(rig.cache->namespaces)[number], owner);
	user_close(user);

	return number;
}

static struct tenant *tenant_at(uint32_t number)
{
	list_for_each (node, &rig.ledger.tenants) {
		struct tenant *tenant = container_of(node, struct tenant, link);
		if (tenant->number == number)
			return tenant;
	}

	return NULL;
}

/* Takes the bounds as the ledger has them. */
static void bound(void)
{
	static const enum hbm_tier kinds[] = {HBM_TIER_NONE, HBM_TIER_HBM, HBM_TIER_DDR,
					      HBM_TIER_NVME};

	for (uint32_t t = 1; t <= TIERS; t++) {
		model.most[0][t] = UINT64_MAX;
		for (uint32_t o = 1; o < OWNERS; o++) {
			model.most[o][t] = tenant_most(tenant_at(o), kinds[t]);
			model.least[o][t] = tenant_least(tenant_at(o), kinds[t]);
		}
	}

	cache_bound_owners(rig.cache);
}

static int setup(void **state)
{
	(void)state;
	model = (struct model){.step = 0};
	cache_rig_open(&rig, "test_owners", 1, capacities);
	set("tenant greedy.match=any");
	set("tenant modest.match=any");
	assert_int_equal(tenants_configure(&rig.ledger, &rig.config), 0);
	for (uint32_t o = 0; o < OWNERS; o++)
		namespaces[o] = open_as(o, o > 0 ? tenant_at(o) : NULL);
	bound();

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cache_rig_close(&rig);
	tenants_close(&rig.ledger);

	return 0;
}

/* ---- The model ---- */

static uint64_t model_bytes(uint32_t owner, uint32_t tier)
{
	uint64_t bytes = 0;

	for (uint32_t o = 0; o < OWNERS; o++)
		for (uint32_t k = 0; k < KEYS; k++)
			if ((o == owner || owner == OWNERS) && model.entries[o][k].tier == tier)
				bytes += UNIT;

	return bytes;
}

static struct entry *model_oldest(uint32_t owner, uint32_t tier)
{
	struct entry *oldest = NULL;

	for (uint32_t k = 0; k < KEYS; k++) {
		struct entry *entry = &model.entries[owner][k];
		if (entry->tier == tier && (!oldest || entry->came < oldest->came))
			oldest = entry;
	}

	return oldest;
}

static struct entry *model_victim(uint32_t tier, bool all)
{
	struct entry *victim = NULL;

	for (uint32_t o = 0; o < OWNERS; o++) {
		struct entry *entry = model_oldest(o, tier);
		bool kept = model_bytes(o, tier) < model.least[o][tier] + UNIT &&
			    model.least[o][tier] > 0;
		if (entry && (all || !kept) && (!victim || entry->used < victim->used))
			victim = entry;
	}

	return victim || all ? victim : model_victim(tier, true);
}

static void model_evict(struct entry *entry)
{
	entry->came = ++model.moves;
	entry->tier = entry->tier == TIERS ? 0 : entry->tier + 1;
}

static void model_settle(void)
{
	for (uint32_t t = 1; t <= TIERS; t++) {
		for (uint32_t o = 0; o < OWNERS; o++)
			while (model_bytes(o, t) > model.most[o][t] && model_oldest(o, t))
				model_evict(model_oldest(o, t));
		while (model_bytes(OWNERS, t) > capacities[t - 1] * UNIT)
			model_evict(model_victim(t, false));
	}
}

static void request(uint32_t owner, uint32_t key)
{
	cache_rig_request(&rig, namespaces[owner], &key, 1, 0);
	model.entries[owner][key] =
		(struct entry){.tier = 1, .used = ++model.step, .came = ++model.moves};
	model_settle();
}

static void assert_same(void)
{
	for (uint32_t o = 0; o < OWNERS; o++) {
		for (uint32_t k = 0; k < KEYS; k++) {
			uint32_t number = cache_rig_find(&rig, namespaces[o], k);
			uint32_t tier = number != 0 ? cache_block(rig.cache, number)->target : 0;
			assert_int_equal(tier, model.entries[o][k].tier);
		}
		for (uint32_t t = 1; t <= TIERS; t++)
			assert_int_equal(rig.cache->owners[t].list[o].bytes, model_bytes(o, t));
	}
	for (uint32_t t = 1; t <= TIERS; t++)
		assert_int_equal(owners_bytes(&rig.cache->owners[t]), rig.cache->tiers[t].bytes);
}

static void random_requests(unsigned steps)
{
	for (unsigned i = 0; i < steps; i++) {
		request((uint32_t)seed_below(&rig.seed, OWNERS),
			(uint32_t)seed_below(&rig.seed, KEYS));
		if (i % 16 == 0)
			assert_same();
	}
	assert_same();
}

static void change(const char *assignment)
{
	set(assignment);
	assert_int_equal(tenants_configure(&rig.ledger, &rig.config), 0);
	bound();
}

/* ---- Tests ---- */

/* Without bounds all owners together are one LRU list. */
static void test_without_bounds(void **state)
{
	(void)state;
	random_requests(STEPS);
}

static void test_at_most_and_at_least(void **state)
{
	(void)state;
	change("tenant greedy.hbm_max=16KiB");
	change("tenant greedy.nvme_max=0");
	change("tenant modest.hbm_min=32KiB");
	change("tenant modest.ddr_min=40KiB");
	random_requests(STEPS);
}

/* What one keeps stays whatever the others do; it goes when all that is left is kept. */
static void test_what_is_kept(void **state)
{
	(void)state;
	change("tenant modest.hbm_min=32KiB");
	for (uint32_t k = 0; k < 10; k++)
		request(2, k);
	for (uint32_t k = 0; k < 4 * KEYS; k++)
		request(k % 2, k / 2 % KEYS);
	assert_same();
	assert_int_equal(model_bytes(2, 1), 8 * UNIT);
	for (uint32_t k = 2; k < 10; k++)
		assert_int_equal(model.entries[2][k].tier, 1);

	change("tenant greedy.hbm_min=64KiB"); /* with it more than there is */
	for (uint32_t k = 0; k < KEYS; k++)
		request(1, k);
	assert_same();
	assert_int_equal(model_bytes(OWNERS, 1), capacities[0] * UNIT);
}

/* A bound below what there is takes effect as the cache is used, and takes the owner's own. */
static void test_bounds_that_change(void **state)
{
	(void)state;
	static const char *const changes[] = {
		"tenant greedy.hbm_max=8KiB",    "tenant greedy.ddr_max=0",
		"tenant modest.nvme_min=64KiB",  "tenant greedy.hbm_max=default",
		"tenant greedy.ddr_max=default", "tenant modest.nvme_min=0",
		"tenant modest.hbm_max=0",       "tenant greedy.hbm_min=4KiB",
	};

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		random_requests(STEPS / 10);
		change(changes[i]);
	}
	random_requests(STEPS / 10);
}

static void fill(uint32_t owner, uint32_t from, uint32_t to)
{
	for (uint32_t key = from; key < to; key++) {
		assert_true(cache_make_room(rig.cache, namespaces[owner], 1,
					    &(struct slice){UINT64_MAX, 0}));
		(void)cache_rig_insert_placed(&rig, namespaces[owner], key);
	}
}

static uint32_t count(uint32_t owner, uint32_t from, uint32_t to)
{
	uint32_t there = 0;

	for (uint32_t key = from; key < to; key++)
		there += cache_rig_find(&rig, namespaces[owner], key) != 0;

	return there;
}

/* A tenant with as many blocks as it may have makes way itself, the least recently used first,
 * and those of no other; where it has pinned all of its own, it gets no more. */
static void test_so_many_blocks(void **state)
{
	(void)state;
	struct tenant *greedy = tenant_at(1);
	uint32_t walk = UINT32_MAX;

	change("tenant greedy.blocks=6");
	fill(0, 0, 3);
	fill(2, 0, 3);
	fill(1, 100, 130);
	assert_int_equal(count(1, 100, 124), 0);
	assert_int_equal(count(1, 124, 130), 6);
	assert_int_equal(ledger_used(&greedy->payer, LEDGER_BLOCKS), 6);
	assert_int_equal(count(0, 0, 3), 3);
	assert_int_equal(count(2, 0, 3), 3);

	for (uint32_t key = 124; key < 130; key++)
		assert_int_equal(
			cache_pin(rig.cache, cache_rig_find(&rig, namespaces[1], key), &walk),
			HBM_OK);
	assert_true(cache_make_room(rig.cache, namespaces[1], 1, &(struct slice){UINT64_MAX, 0}));
	assert_int_equal(block_begin_store(&rig.cache->blocks, namespaces[1],
					   &(struct hbm_wire_key){.bytes = {9, 9, 9}}),
			 0);
	assert_int_equal(greedy->section.refused[LEDGER_BLOCKS], 1);
	fill(2, 8, 9);
	assert_int_equal(count(1, 124, 130), 6);
	for (uint32_t key = 124; key < 130; key++)
		cache_unpin(rig.cache, cache_rig_find(&rig, namespaces[1], key));
	fill(1, 130, 131);
	assert_int_equal(count(1, 100, 131), 6);
}

/* What is pinned of a tenant's blocks, in whatever tier, is counted for the tenant. */
static void test_so_much_pinned(void **state)
{
	(void)state;
	struct tenant *greedy = tenant_at(1);
	uint32_t walk = UINT32_MAX;

	change("tenant greedy.pinned=8KiB");
	fill(1, 0, 4);
	fill(2, 0, 4);
	for (uint32_t key = 0; key < 4; key++) {
		uint32_t own = cache_rig_find(&rig, namespaces[1], key);
		uint32_t others = cache_rig_find(&rig, namespaces[2], key);

		assert_int_equal(cache_pin(rig.cache, own, &walk), key < 2 ? HBM_OK : HBM_LIMIT);
		assert_int_equal(cache_pin(rig.cache, others, &walk), HBM_OK);
	}

	assert_int_equal(ledger_used(&greedy->payer, LEDGER_TENANT_PINNED), 2 * UNIT);
	assert_int_equal(ledger_used(&tenant_at(2)->payer, LEDGER_TENANT_PINNED), 4 * UNIT);
	assert_int_equal(greedy->section.refused[LEDGER_TENANT_PINNED], 2);
	for (uint32_t key = 0; key < 4; key++) {
		if (key < 2)
			cache_unpin(rig.cache, cache_rig_find(&rig, namespaces[1], key));
		cache_unpin(rig.cache, cache_rig_find(&rig, namespaces[2], key));
	}
	assert_int_equal(ledger_used(&rig.ledger.host, LEDGER_TENANT_PINNED), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_without_bounds), TEST(test_at_most_and_at_least),
		TEST(test_what_is_kept),   TEST(test_bounds_that_change),
		TEST(test_so_many_blocks), TEST(test_so_much_pinned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
