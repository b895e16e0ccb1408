/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regions: created, recorded, destroyed, and what becomes of them when their client dies;
 * then commits and decommits at random beside a dumb model.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/device/device.h"
#include "daemon/region/slab.h"
#include "tests/support/region_rig.h"
#include "tests/support/seed.h"

static void regions_are_created_and_destroyed(void **state)
{
	struct region_rig *rig = *state;
	struct region *first = region_rig_make(rig, 0, 64 * MIB, 0);
	struct region *second = region_rig_make(rig, 1, 32 * MIB, 16 * MIB);

	assert_int_equal(region_slab(first), 4 * MIB);
	assert_int_equal(region_slab(second), 16 * MIB);
	assert_int_not_equal(region_id(first), region_id(second));
	assert_int_not_equal(region_id(first), 0);
	assert_ptr_equal(region_find(&rig->regions, region_id(first)), first);
	assert_ptr_equal(region_device(second), &rig->pool.devices->list[1]);
	assert_int_equal(ledger_used(&rig->payer, LEDGER_ADDRESS_SPACE), 96 * MIB);
	uint32_t id = region_id(first);
	assert_int_equal(region_rig_destroy(rig, first), HBM_OK);
	assert_null(region_find(&rig->regions, id));
	assert_int_equal(rig->emptied, false);
	assert_int_equal(region_rig_destroy(rig, second), HBM_OK);
	pool_run(&rig->pool, region_rig_is_empty, rig);
	assert_int_equal(rig->emptied, true);
	assert_int_equal(region_destroy(&rig->regions, id, region_rig_region_over, NULL),
			 HBM_NOT_FOUND);
}

static void regions_are_limited(void **state)
{
	struct region_rig *rig = *state;
	struct region *region;
	static const uint64_t bad[][2] = {{0, 0},
					  {MIB, 0},
					  {6 * MIB, 4 * MIB},
					  {8 * MIB, 1 * MIB},
					  {6 * MIB, 3 * MIB},
					  {1ull << 40, 2ull << 30},
					  {UINT64_MAX, 0}};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(region_rig_create(rig, 0, bad[i][0], bad[i][1], &region),
				 HBM_INVALID);
	assert_int_equal(region_rig_create(rig, 0, 260 * MIB, 0, &region), HBM_LIMIT);
	assert_int_equal(region_rig_create(rig, 0, UINT64_MAX - 4 * MIB + 1, 0, &region),
			 HBM_LIMIT);
	for (int i = 0; i < 4; i++)
		region_rig_make(rig, 0, 4 * MIB, 0);
	assert_int_equal(region_rig_create(rig, 0, 4 * MIB, 0, &region), HBM_LIMIT);
}

static void a_failed_reservation_leaves_nothing(void **state)
{
	struct region_rig *rig = *state;
	struct region *region;

	assert_int_equal(
		rig->pool.call.fail_nth("cuMemAddressReserve", 1, CUDA_ERROR_OUT_OF_MEMORY), 0);
	assert_int_equal(region_rig_create(rig, 0, 4 * MIB, 0, &region), HBM_NO_SPACE);
	assert_int_equal(ledger_used(&rig->payer, LEDGER_REGIONS), 0);
	region_rig_make(rig, 0, 4 * MIB, 0);
}

/* A session that has come round to the first number does not give one out twice. */
static void numbers_of_regions_in_use_are_passed_over(void **state)
{
	struct region_rig *rig = *state;
	struct region *first = region_rig_make(rig, 0, 4 * MIB, 0);
	uint32_t id = region_id(first);

	rig->regions.last_id = UINT32_MAX;
	struct region *second = region_rig_make(rig, 0, 4 * MIB, 0);
	assert_int_equal(id, 1);
	assert_int_equal(region_id(second), 2);
	rig->regions.last_id = UINT32_MAX - 1;
	assert_int_equal(region_id(region_rig_make(rig, 0, 4 * MIB, 0)), UINT32_MAX);
}

static void regions_are_told_apart_by_their_whole_number(void **state)
{
	struct region_rig *rig = *state;

	rig->regions.last_id = REGION_BUCKETS;
	struct region *high = region_rig_make(rig, 0, 4 * MIB, 0);
	rig->regions.last_id = 0;
	struct region *low = region_rig_make(rig, 0, 4 * MIB, 0);
	assert_int_equal(region_id(high) % REGION_BUCKETS, region_id(low));
	assert_ptr_equal(region_find(&rig->regions, region_id(high)), high);
	assert_ptr_equal(region_find(&rig->regions, region_id(low)), low);
}

static void regions_are_recorded_in_pages(void **state)
{
	struct region_rig *rig = *state;
	const struct region *first = region_rig_make(rig, 0, 64 * MIB, 0);
	const struct region *second = region_rig_make(rig, 1, 32 * MIB, 16 * MIB);
	struct hbm_wire_region records[3];
	uint32_t next;

	assert_int_equal(region_rig_commit_slots(rig, second, 1, 1), HBM_OK);
	assert_int_equal(regions_records(&rig->regions, 0, records, 3, &next), 2);
	assert_int_equal(next, 0);
	assert_int_equal(records[0].region, region_id(first));
	assert_int_equal(records[0].device, 0);
	assert_int_equal(records[0].address_space, 64 * MIB);
	assert_int_equal(records[0].slab, 4 * MIB);
	assert_int_equal(records[0].committed, 0);
	assert_int_equal(records[1].region, region_id(second));
	assert_int_equal(records[1].device, 1);
	assert_int_equal(records[1].address_space, 32 * MIB);
	assert_int_equal(records[1].slab, 16 * MIB);
	assert_int_equal(records[1].committed, 16 * MIB);

	/* a page at a time, also when the next one has gone */
	assert_int_equal(regions_records(&rig->regions, 0, records, 0, &next), 0);
	assert_int_equal(next, region_id(first));
	assert_int_equal(regions_records(&rig->regions, next, records, 1, &next), 1);
	assert_int_equal(records[0].region, region_id(first));
	assert_int_equal(next, region_id(second));
	assert_int_equal(regions_records(&rig->regions, next, records, 1, &next), 1);
	assert_int_equal(records[0].region, region_id(second));
	assert_int_equal(next, 0);
	assert_int_equal(regions_records(&rig->regions, region_id(second) + 1, records, 1, &next),
			 0);
	assert_int_equal(regions_committed(&rig->regions), 16 * MIB);
}

/* Its address space goes with the session, and nobody is told of a region. */
static void a_region_that_comes_after_the_end_is_given_up(void **state)
{
	struct region_rig *rig = *state;
	struct region_outcome outcome = {0};

	assert_int_equal(region_create(&rig->regions, &rig->pool.devices->list[0], 4 * MIB, 0,
				       region_rig_region_over, &outcome),
			 HBM_OK);
	regions_end(&rig->regions);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	assert_int_equal(outcome.status, HBM_SHUTDOWN);
	assert_null(outcome.region);
	pool_run(&rig->pool, region_rig_is_empty, rig);
	assert_int_equal(rig->pool.call.live("reservations"), 0);
	region_rig_open(rig);
}

static void what_goes_well_is_no_error_of_the_device(void **state)
{
	struct region_rig *rig = *state;
	const struct device *device = &rig->pool.devices->list[0];
	struct region *region = region_rig_make(rig, 0, 8 * MIB, 0);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 2), HBM_OK);
	assert_int_equal(region_rig_decommit_slots(rig, region, 0, 1), HBM_OK);
	assert_int_equal(region_rig_destroy(rig, region), HBM_OK);
	pool_run(&rig->pool, region_rig_is_empty, rig);
	assert_int_equal(device_errors(device), 0);
}

static void note_committed(void *arg, int status, struct region *region)
{
	struct region_rig *rig = arg;
	assert_int_equal(status, HBM_OK);
	assert_null(region);
	assert_int_equal(regions_committed(&rig->regions), SLAB);
	rig->emptied = true;
}

static bool is_emptied(void *arg)
{
	return ((struct region_rig *)arg)->emptied;
}

/* Its memory is no longer counted when its client is told. */
static void a_destroyed_region_has_nothing_committed(void **state)
{
	struct region_rig *rig = *state;
	struct region *kept = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, kept, 0, 1), HBM_OK);
	assert_int_equal(region_rig_commit_slots(rig, region, 0, 4), HBM_OK);
	assert_int_equal(region_destroy(&rig->regions, region_id(region), note_committed, rig),
			 HBM_OK);
	pool_run(&rig->pool, is_emptied, rig);
}

struct room {
	struct region_rig *rig;
	bool over, free;
};

static void room_look(void *arg, int status, struct region *region)
{
	struct room *room = arg;

	(void)status;
	(void)region;
	room->over = true;
	room->free = ledger_used(&room->rig->payer, LEDGER_REGIONS) == 0;
}

static bool room_is_over(void *arg)
{
	return ((struct room *)arg)->over;
}

/* Whoever hears that a region is gone, or could not be made, may make another in its
 * place. */
static void a_region_that_is_over_is_not_charged(void **state)
{
	struct region_rig *rig = *state;
	struct room destroyed = {.rig = rig}, failed = {.rig = rig};
	const struct region *region = region_rig_make(rig, 0, 64 * MIB, 0);

	assert_int_equal(region_destroy(&rig->regions, region_id(region), room_look, &destroyed),
			 HBM_OK);
	pool_run(&rig->pool, room_is_over, &destroyed);
	assert_true(destroyed.free);

	assert_int_equal(
		rig->pool.call.fail_nth("cuMemAddressReserve", 1, CUDA_ERROR_OUT_OF_MEMORY), 0);
	assert_int_equal(region_create(&rig->regions, &rig->pool.devices->list[0], 64 * MIB, 0,
				       room_look, &failed),
			 HBM_OK);
	pool_run(&rig->pool, room_is_over, &failed);
	assert_true(failed.free);
}

static void a_destroyed_region_waits_for_holds(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct region_outcome outcome = {0};
	uint32_t id = region_id(region);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 4), HBM_OK);
	region_use(region, 0, SLAB);
	assert_int_equal(region_destroy(&rig->regions, id, region_rig_region_over, &outcome),
			 HBM_OK);
	assert_null(region_find(&rig->regions, id));
	region_rig_settle(rig);
	assert_int_equal(outcome.over, false);
	assert_int_equal(rig->pool.call.live("mappings"), 4);
	region_unuse(region, 0, SLAB);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	assert_int_equal(outcome.status, HBM_OK);
	region_rig_assert_all_back(rig);
}

static void a_dead_clients_memory_is_quarantined(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct slabs *slabs = rig->pool.devices->list[0].slabs;
	uint32_t id = region_id(region);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 4), HBM_OK);
	region_use(region, 0, SLAB);
	regions_end(&rig->regions);
	assert_null(region_find(&rig->regions, id));
	assert_int_equal(slabs_books(slabs).quarantined, 4 * SLAB);
	assert_int_equal(slabs_books(slabs).leased, 0);
	regions_release(&rig->regions);
	region_rig_settle(rig);
	assert_int_equal(slabs_books(slabs).quarantined, 4 * SLAB);
	region_unuse(region, 0, SLAB);
	region_rig_assert_all_back(rig);
	assert_int_equal(rig->emptied, true);
}

/* Few slabs, far apart: the next may be anywhere in a word of the bits. */
static void slabs_far_apart_are_all_found(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 128 * SLAB, SLAB);
	struct slabs *slabs = rig->pool.devices->list[0].slabs;
	const uint64_t committed[] = {5, 64, 100, 126, 127};
	const uint64_t count = sizeof(committed) / sizeof(committed[0]);

	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(region_rig_commit_slots(rig, region, committed[i], 1), HBM_OK);
	assert_int_equal(region_rig_decommit_slots(rig, region, 100, 1), HBM_OK);
	regions_end(&rig->regions);
	assert_int_equal(slabs_books(slabs).quarantined, (count - 1) * SLAB);
	assert_int_equal(slabs_books(slabs).leased, 0);
	regions_release(&rig->regions);
	region_rig_assert_all_back(rig);
	assert_int_equal(rig->emptied, true);
}

enum { MODEL_REGIONS = 2, MODEL_SLOTS = 12 };

static void random_operations_agree_with_a_model(void **state)
{
	struct region_rig *rig = *state;
	struct seed seed;
	struct region *regions[MODEL_REGIONS];
	bool model[MODEL_REGIONS][MODEL_SLOTS] = {0};
	uint64_t used = 0;

	seed_open(&seed, "region");
	for (uint32_t i = 0; i < MODEL_REGIONS; i++)
		regions[i] = region_rig_make(rig, 0, MODEL_SLOTS * SLAB, SLAB);
	for (int i = 0; i < 500; i++) {
		uint64_t r = seed_below(&seed, MODEL_REGIONS),
			 first = seed_below(&seed, MODEL_SLOTS);
		uint64_t count = 1 + seed_below(&seed, MODEL_SLOTS - first), set = 0;

		for (uint64_t k = first; k < first + count; k++)
			set += model[r][k];
		bool grow = seed_below(&seed, 2);
		int expected = grow          ? set > 0                                    ? HBM_EXISTS
						: used + count > REGION_RIG_BUDGET / SLAB ? HBM_NO_SPACE
											  : HBM_OK
			       : set < count ? HBM_NOT_FOUND
					     : HBM_OK;
		int status = grow ? region_rig_commit_slots(rig, regions[r], first, count)
				  : region_rig_decommit_slots(rig, regions[r], first, count);
		assert_int_equal(status, expected);
		for (uint64_t k = first; status == HBM_OK && k < first + count; k++)
			model[r][k] = grow;
		used += status != HBM_OK ? 0 : grow ? count : -count;
		assert_int_equal(regions_committed(&rig->regions), used * SLAB);

		for (uint64_t k = 0; k < MODEL_SLOTS; k++)
			assert_int_equal(region_rig_address(regions[r], k * SLAB, SLAB),
					 model[r][k] ? HBM_OK : HBM_NOT_FOUND);

		assert_int_equal(rig->pool.call.live("mappings"), used);
		assert_null(slabs_check(rig->pool.devices->list[0].slabs));
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, region_rig_setup, region_rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(regions_are_created_and_destroyed),
		TEST(regions_are_limited),
		TEST(a_failed_reservation_leaves_nothing),
		TEST(numbers_of_regions_in_use_are_passed_over),
		TEST(regions_are_told_apart_by_their_whole_number),
		TEST(regions_are_recorded_in_pages),
		TEST(a_region_that_comes_after_the_end_is_given_up),
		TEST(what_goes_well_is_no_error_of_the_device),
		TEST(a_destroyed_region_has_nothing_committed),
		TEST(a_region_that_is_over_is_not_charged),
		TEST(a_destroyed_region_waits_for_holds),
		TEST(a_dead_clients_memory_is_quarantined),
		TEST(slabs_far_apart_are_all_found),
		TEST(random_operations_agree_with_a_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
