/* SPDX-License-Identifier: Apache-2.0 */
/* Slots that share slabs: who refers to what, and that nothing is allocated for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "daemon/device/device.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot.h"
#include "daemon/region/slot_recount.h"
#include "tests/support/region_rig.h"
#include "tests/support/seed.h"
#include "tests/support/share_rig.h"

static void one_slab_at_two_addresses(void **state)
{
	struct region_rig *rig = *state;
	struct region *one = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *two = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, one, 1, 2), HBM_OK);
	share_rig_put(one, 1, 'a');
	share_rig_put(one, 2, 'b');
	assert_int_equal(share_rig_slots(rig, one, 1, two, 5, 2), HBM_OK);
	assert_int_equal(share_rig_get(two, 5), 'a');
	share_rig_put(two, 6, 'c');
	assert_int_equal(share_rig_get(one, 2), 'c');

	/* Charged once, seen in both. */
	assert_int_equal(share_rig_books(rig).leased, 2 * SLAB);
	assert_int_equal(regions_committed(&rig->regions), 2 * SLAB);
	assert_int_equal(share_rig_shared(rig, one), 2 * SLAB);
	assert_int_equal(share_rig_shared(rig, two), 2 * SLAB);

	/* The one that had it first goes first. */
	assert_int_equal(region_rig_decommit_slots(rig, one, 1, 1), HBM_OK);
	assert_int_equal(share_rig_books(rig).leased, 2 * SLAB);
	assert_int_equal(share_rig_get(two, 5), 'a');
	assert_int_equal(share_rig_shared(rig, one), SLAB);
	assert_int_equal(share_rig_shared(rig, two), SLAB);
	assert_int_equal(region_rig_destroy(rig, one), HBM_OK);
	assert_int_equal(share_rig_get(two, 6), 'c');
	assert_int_equal(share_rig_shared(rig, two), 0);
	assert_int_equal(share_rig_books(rig).leased, 2 * SLAB);
	assert_int_equal(region_rig_decommit_slots(rig, two, 5, 2), HBM_OK);
	assert_int_equal(share_rig_books(rig).leased, 0);
	assert_int_equal(regions_committed(&rig->regions), 0);
}

static void many_forks_in_one_region(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 1), HBM_OK);
	share_rig_put(region, 0, 'x');
	struct hbm_wire_share forks[] = {share_rig_range(region, 0, region, 1, 1),
					 share_rig_range(region, 0, region, 2, 1),
					 share_rig_range(region, 0, region, 7, 1)};
	assert_int_equal(share_rig_share(rig, forks, 3), HBM_OK);
	assert_int_equal(share_rig_shared(rig, region), 4 * SLAB);
	assert_int_equal(share_rig_books(rig).leased, SLAB);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(share_rig_get(region, (uint64_t[]){0, 1, 2, 7}[i]), 'x');

	for (size_t i = 0; i < 3; i++)
		assert_int_equal(
			region_rig_decommit_slots(rig, region, (uint64_t[]){1, 0, 7}[i], 1),
			HBM_OK);
	assert_int_equal(share_rig_get(region, 2), 'x');
	assert_int_equal(share_rig_shared(rig, region), 0);
	assert_int_equal(share_rig_books(rig).leased, SLAB);
}

/* A share and a decommit of the source: the device neither makes nor releases memory. */
static void moving_a_slab_costs_no_memory(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 4), HBM_OK);
	share_rig_put(region, 3, 'm');
	pool_run(&rig->pool, share_rig_is_ready, &rig->pool);
	region_rig_settle(rig);
	uint64_t created = rig->pool.call.calls("cuMemCreate"),
		 released = rig->pool.call.calls("cuMemRelease"),
		 exported = rig->pool.call.calls("cuMemExportToShareableHandle");
	struct slabs_books before = share_rig_books(rig);

	for (uint64_t turn = 0; turn < 10; turn++) {
		uint64_t from = turn % 2 * 4;
		assert_int_equal(share_rig_slots(rig, region, from, region, 4 - from, 4), HBM_OK);
		assert_int_equal(region_rig_decommit_slots(rig, region, from, 4), HBM_OK);
		assert_int_equal(share_rig_get(region, 4 - from + 3), 'm');
	}

	struct slabs_books after = share_rig_books(rig);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(rig->pool.call.calls("cuMemCreate"), created);
	assert_int_equal(rig->pool.call.calls("cuMemRelease"), released);
	assert_int_equal(rig->pool.call.calls("cuMemExportToShareableHandle"), exported);
}

static void bad_shares_change_nothing(void **state)
{
	struct region_rig *rig = *state;
	struct region *one = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *two = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *far = region_rig_make(rig, 1, 8 * SLAB, SLAB),
		      *large = region_rig_make(rig, 0, 8 * SLAB, 2 * SLAB);

	assert_int_equal(region_rig_commit_slots(rig, one, 0, 3), HBM_OK);
	assert_int_equal(region_rig_commit_slots(rig, large, 0, 2), HBM_OK);
	assert_int_equal(region_rig_commit_slots(rig, two, 7, 1), HBM_OK);

	struct hbm_wire_share lost = share_rig_range(one, 0, two, 0, 1), nowhere = lost, odd = lost,
			      odd_source = lost, beyond = share_rig_range(one, 6, two, 0, 3),
			      wraps = share_rig_range(one, 1, two, 0, 1),
			      whole = share_rig_range(large, 0, two, 0, 1);
	lost.source = 99;
	nowhere.target = 99;
	odd.target_offset = odd_source.source_offset = 4096;
	wraps.source_offset = 0 - (uint64_t)SLAB;
	wraps.bytes = 2 * SLAB;
	struct {
		struct hbm_wire_share share;
		int status;
	} cases[] = {
		{lost, HBM_NOT_FOUND},
		{nowhere, HBM_NOT_FOUND},
		{odd, HBM_INVALID},
		{odd_source, HBM_INVALID},
		{beyond, HBM_INVALID},
		{wraps, HBM_INVALID},
		{whole, HBM_INVALID},
		{share_rig_range(one, 0, far, 0, 1), HBM_INVALID},
		{share_rig_range(one, 0, two, 0, 0), HBM_INVALID},
		{share_rig_range(one, 0, two, 7, 2), HBM_INVALID}, /* beyond the end */
		{share_rig_range(one, 0, two, 7, 1), HBM_EXISTS},
		{share_rig_range(one, 0, one, 0, 1), HBM_EXISTS},
		{share_rig_range(one, 0, one, 2, 2), HBM_EXISTS},    /* overlap */
		{share_rig_range(one, 2, two, 0, 2), HBM_NOT_FOUND}, /* half committed */
		{share_rig_range(one, 0, two, 4, 1), HBM_INVALID},   /* a target already */
		{share_rig_range(two, 4, two, 0, 1), HBM_INVALID},   /* the source is a target */
		{share_rig_range(one, 1, one, 3, 1), HBM_OK},
	};
	struct slabs_books before = share_rig_books(rig);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hbm_wire_share both[] = {share_rig_range(one, 0, two, 4, 1), cases[i].share};
		assert_int_equal(share_rig_share(rig, both, 2), cases[i].status);
		if (cases[i].status == HBM_OK)
			break;

		struct slabs_books after = share_rig_books(rig);
		assert_memory_equal(&before, &after, sizeof(before));
		assert_int_equal(share_rig_shared(rig, one) + share_rig_shared(rig, two), 0);
		assert_int_equal(region_rig_address(two, 4 * SLAB, 1), HBM_NOT_FOUND);
	}

	assert_int_equal(share_rig_shared(rig, one), 3 * SLAB);
	assert_int_equal(share_rig_shared(rig, two), SLAB);
}

/* Whatever has been passed when a slot gets or loses its slab, the sum is that of the end. */
static void slots_change_between_steps_of_the_check(void **state)
{
	struct region_rig *rig = *state;
	struct device *device = &rig->pool.devices->list[0];
	struct region *region = region_rig_make(rig, 0, 16 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 4), HBM_OK);
	assert_int_equal(share_rig_slots(rig, region, 0, region, 4, 4), HBM_OK);
	for (unsigned steps = 0; steps < 30; steps++) {
		slabs_check_begin(device->slabs);
		for (unsigned i = 0; i < steps; i++)
			(void)slabs_check_some(device->slabs, 1);
		assert_int_equal(share_rig_slots(rig, region, 0, region, 8, 4), HBM_OK);
		assert_int_equal(region_rig_decommit_slots(rig, region, 4, 4), HBM_OK);
		assert_int_equal(region_rig_decommit_slots(rig, region, 9, 1), HBM_OK);
		while (slabs_check_some(device->slabs, 1))
			;
		assert_null(slabs_check_end(device->slabs));
		assert_int_equal(slabs_check_slots(device->slabs), 7 * SLAB);
		assert_int_equal(slabs_slots(device->slabs)->backed, 7 * SLAB);
		assert_int_equal(regions_backed(&rig->regions, device), 7 * SLAB);
		assert_int_equal(share_rig_slots(rig, region, 0, region, 4, 4), HBM_OK);
		assert_int_equal(region_rig_decommit_slots(rig, region, 8, 1), HBM_OK);
		assert_int_equal(region_rig_decommit_slots(rig, region, 10, 2), HBM_OK);
	}
}

#define WORDS 2u /* of bits, in the region */

/* Slots are counted some words at a time, however many a region has, and regions may come and go. */
static void slots_are_counted_in_steps(void **state)
{
	struct region_rig *rig = *state;
	struct slabs *slabs = rig->pool.devices->list[0].slabs;
	struct slot_recount *recount = slabs_slots(slabs);
	const uint64_t many = WORDS * SLOT_BITS;
	struct region *region = region_rig_make(rig, 0, many * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 1), HBM_OK);
	for (uint64_t steps = 0; steps <= WORDS + 1; steps++) {
		uint64_t n = 0;

		slot_recount_begin(recount);
		while (n < steps && slot_recount_some(recount, 1))
			n++;
		assert_int_equal(region_rig_commit_slots(rig, region, many - 1, 1), HBM_OK);
		assert_int_equal(region_rig_decommit_slots(rig, region, 0, 1), HBM_OK);
		assert_int_equal(region_rig_commit_slots(rig, region, 5, 2), HBM_OK);
		while (slot_recount_some(recount, 1))
			n++;
		assert_in_range(n, WORDS, WORDS + 2);
		assert_int_equal(recount->backed, 3 * SLAB);
		assert_int_equal(region_rig_decommit_slots(rig, region, 5, 2), HBM_OK);
		assert_int_equal(region_rig_decommit_slots(rig, region, many - 1, 1), HBM_OK);
		assert_int_equal(recount->backed, 0);
		assert_int_equal(region_rig_commit_slots(rig, region, 0, 1), HBM_OK);
	}
}

/* A reference that is no slot's (a slab that is lent) keeps the memory, and counts nowhere. */
static void references_beside_slots(void **state)
{
	struct region_rig *rig = *state;
	struct region *one = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *two = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	for (uint64_t first = 0; first < 2; first++) {
		struct region *order[] = {first == 0 ? one : two, first == 0 ? two : one};

		assert_int_equal(region_rig_commit_slots(rig, one, 0, 1), HBM_OK);
		struct slab *slab = one->slots[0].slab;
		share_rig_books(rig); /* it is passed when the reference comes */
		slab_ref(slab);
		assert_int_equal(slabs_check_slots(rig->pool.devices->list[0].slabs), SLAB);
		assert_int_equal(share_rig_shared(rig, one), 0);
		assert_int_equal(share_rig_slots(rig, one, 0, two, 0, 1), HBM_OK);
		assert_int_equal(share_rig_shared(rig, one), SLAB);
		assert_int_equal(share_rig_shared(rig, two), SLAB);
		assert_int_equal(regions_committed(&rig->regions), SLAB);

		assert_int_equal(region_rig_decommit_slots(rig, order[0], 0, 1), HBM_OK);
		assert_int_equal(share_rig_shared(rig, one) + share_rig_shared(rig, two), 0);
		assert_int_equal(regions_committed(&rig->regions), SLAB);
		assert_int_equal(region_rig_decommit_slots(rig, order[1], 0, 1), HBM_OK);
		assert_int_equal(share_rig_shared(rig, one) + share_rig_shared(rig, two), 0);
		assert_int_equal(regions_committed(&rig->regions), 0);
		assert_int_equal(share_rig_books(rig).leased, SLAB);
		slab_unref(slab, false);
		assert_int_equal(share_rig_books(rig).leased, 0);
	}
}

static void a_share_has_the_limit_of_a_commit(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 4), HBM_OK);
	ledger_set_limit(&rig->payer.ledger->host, LEDGER_COMMIT_SLABS, 3);
	assert_int_equal(share_rig_slots(rig, region, 0, region, 4, 4), HBM_LIMIT);
	assert_int_equal(share_rig_slots(rig, region, 0, region, 4, 3), HBM_OK);
}

/* ---- At random ---- */

enum { SLOTS = 24, SLABS = 16, STEPS = 600 };

/* Which slab each slot of both regions has, by its number; 0: none. */
struct model {
	unsigned slab[2][SLOTS];
	unsigned last;
};

static unsigned model_references(const struct model *model, unsigned slab)
{
	unsigned count = 0;
	for (size_t i = 0; i < 2; i++)
		for (size_t k = 0; k < SLOTS; k++)
			count += model->slab[i][k] == slab;
	return count;
}

static void model_check(struct region_rig *rig, struct region *const regions[2],
			const struct model *model)
{
	for (size_t i = 0; i < 2; i++) {
		uint64_t shared = 0;
		for (size_t k = 0; k < SLOTS; k++) {
			unsigned number = model->slab[i][k], references;
			const struct slab *slab = regions[i]->slots[k].slab;

			assert_int_equal(slab != NULL, number != 0);
			if (number == 0)
				continue;

			references = model_references(model, number);
			assert_int_equal(slab->refs, references);
			shared += references > 1 ? SLAB : 0;
			assert_int_equal((unsigned char)share_rig_get(regions[i], k), number % 251);
		}
		assert_int_equal(share_rig_shared(rig, regions[i]), shared);
	}

	uint64_t slabs = 0;
	for (unsigned n = 1; n <= model->last; n++)
		slabs += model_references(model, n) > 0;
	assert_int_equal(share_rig_books(rig).leased, slabs * SLAB);
	assert_int_equal(regions_committed(&rig->regions), slabs * SLAB);
}

/* The status that the model expects of a share, which is done if it is HBM_OK. */
static int model_share(struct model *model, unsigned from, uint64_t first, unsigned to, uint64_t at,
		       uint64_t count)
{
	if (at + count > SLOTS)
		return HBM_INVALID;
	for (uint64_t k = 0; k < count; k++)
		if (model->slab[to][at + k] != 0)
			return HBM_EXISTS;
	if (first + count > SLOTS)
		return HBM_INVALID;
	for (uint64_t k = 0; k < count; k++) {
		if (from == to && first + k >= at && first + k < at + count)
			return HBM_INVALID;
		if (model->slab[from][first + k] == 0)
			return HBM_NOT_FOUND;
	}
	memcpy(&model->slab[to][at], &model->slab[from][first], count * sizeof(unsigned));

	return HBM_OK;
}

/* The first slot from that one on that has a slab, or the last of the region. */
static uint64_t model_source(const struct model *model, unsigned r, uint64_t first)
{
	while (first < SLOTS - 1 && model->slab[r][first] == 0)
		first++;

	return first;
}

static void random_commit(struct region_rig *rig, struct region *region, struct model *model,
			  unsigned r, uint64_t at)
{
	int expected = model->slab[r][at] != 0 ? HBM_EXISTS : HBM_OK, status;

	status = region_rig_commit_slots(rig, region, at, 1);
	if (expected == HBM_OK && status == HBM_NO_SPACE)
		return; /* all of the pool is in use */
	assert_int_equal(status, expected);
	if (status != HBM_OK)
		return;

	model->slab[r][at] = ++model->last;
	share_rig_put(region, at, (char)(model->last % 251));
}

static void random_decommit(struct region_rig *rig, struct region *region, struct model *model,
			    unsigned r, uint64_t at)
{
	bool there = model->slab[r][at] != 0;

	assert_int_equal(region_rig_decommit_slots(rig, region, at, 1),
			 there ? HBM_OK : HBM_NOT_FOUND);
	model->slab[r][at] = 0;
}

static void shares_at_random(void **state)
{
	struct region_rig *rig = *state;
	struct region *regions[2];
	struct model model = {0};
	struct seed seed;
	unsigned shares = 0;

	seed_open(&seed, __func__);
	for (size_t i = 0; i < 2; i++)
		regions[i] = region_rig_make(rig, 0, SLOTS * SLAB, SLAB);

	for (unsigned step = 0; step < STEPS; step++) {
		unsigned from = (unsigned)seed_below(&seed, 2), to = (unsigned)seed_below(&seed, 2);
		uint64_t first = model_source(&model, from, seed_below(&seed, SLOTS)),
			 at = seed_below(&seed, SLOTS);
		uint64_t count = 1 + seed_below(&seed, 3);
		uint64_t kind = seed_below(&seed, 6);

		if (kind < 1 || model.last == 0) {
			random_commit(rig, regions[to], &model, to, at);
		} else if (kind < 3) {
			random_decommit(rig, regions[to], &model, to, at);
		} else {
			int expected = model_share(&model, from, first, to, at, count);
			assert_int_equal(
				share_rig_slots(rig, regions[from], first, regions[to], at, count),
				expected);
			shares += expected == HBM_OK;
		}
		model_check(rig, regions, &model);
	}

	assert_in_range(shares, 10, STEPS);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, region_rig_setup, region_rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(one_slab_at_two_addresses),
		TEST(many_forks_in_one_region),
		TEST(moving_a_slab_costs_no_memory),
		TEST(bad_shares_change_nothing),
		TEST(slots_change_between_steps_of_the_check),
		TEST(slots_are_counted_in_steps),
		TEST(references_beside_slots),
		TEST(a_share_has_the_limit_of_a_commit),
		TEST(shares_at_random),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
