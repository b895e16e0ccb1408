/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regions: creating, committing, decommitting, destroying and dying, all or none, with
 * devices that fail at every step. After each test the pools hold all memory again and
 * the devices nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/device/device.h"
#include "daemon/region/commit.h"
#include "daemon/region/decommit.h"
#include "daemon/region/slab.h"
#include "tests/support/seed.h"
#include "tests/support/soft_pool.h"

#define BUDGET (32 * MIB)
#define SLAB (2 * MIB)

struct fixture {
	struct soft_pool pool;
	struct regions regions;
	struct ledger ledger;
	struct payer payer;
	bool emptied;
};

static void emptied(struct regions *regions)
{
	container_of(regions, struct fixture, regions)->emptied = true;
}

static void open_regions(struct fixture *fixture)
{
	regions_init(&fixture->regions, &fixture->payer);
	fixture->regions.emptied = emptied;
	fixture->emptied = false;
}

static int setup(void **state)
{
	static struct fixture fixture;

	pool_open(&fixture.pool, BUDGET);
	fixture.pool.config.limit_regions = 4;
	fixture.pool.config.limit_address_space = 256 * MIB;
	ledger_open(&fixture.ledger, &fixture.pool.config);
	payer_open(&fixture.payer, &fixture.ledger, PAYER_SESSION);
	open_regions(&fixture);
	*state = &fixture;

	return 0;
}

static bool no_regions(void *arg)
{
	struct fixture *fixture = arg;
	return list_empty(&fixture->regions.all);
}

static void assert_all_is_back(struct fixture *fixture)
{
	pool_run(&fixture->pool, no_regions, fixture);
	pool_run(&fixture->pool, pool_is_quiet, &fixture->pool);
	assert_int_equal(ledger_used(&fixture->payer, LEDGER_REGIONS), 0);
	assert_int_equal(ledger_used(&fixture->payer, LEDGER_ADDRESS_SPACE), 0);

	for (uint32_t i = 0; i < 2; i++) {
		struct slabs_books books = slabs_books(fixture->pool.devices->list[i].slabs);
		assert_int_equal(books.leased + books.quarantined, 0);
	}

	assert_int_equal(fixture->pool.call.live("mappings"), 0);
	assert_int_equal(fixture->pool.call.live("reservations"), 0);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	regions_end(&fixture->regions);
	regions_release(&fixture->regions);
	assert_all_is_back(fixture);
	payer_close(&fixture->payer);
	pool_close(&fixture->pool);

	return 0;
}

/* ---- Calls, made blocking ---- */

struct outcome {
	bool over;
	int status;
	struct region *region;
};

static bool is_over(void *arg)
{
	return ((struct outcome *)arg)->over;
}

static void region_over(void *arg, int status, struct region *region)
{
	*(struct outcome *)arg = (struct outcome){true, status, region};
}

static void op_over(void *arg, int status)
{
	*(struct outcome *)arg = (struct outcome){.over = true, .status = status};
}

static int create(struct fixture *fixture, uint32_t device, uint64_t address_space, uint64_t slab,
		  struct region **out)
{
	struct outcome outcome = {0};
	int status = region_create(&fixture->regions, &fixture->pool.devices->list[device],
				   address_space, slab, region_over, &outcome);
	if (status != HBM_OK)
		return status;

	pool_run(&fixture->pool, is_over, &outcome);
	*out = outcome.region;

	return outcome.status;
}

static struct region *must_create(struct fixture *fixture, uint32_t device, uint64_t address_space,
				  uint64_t slab)
{
	struct region *region = NULL;
	assert_int_equal(create(fixture, device, address_space, slab, &region), HBM_OK);
	return region;
}

static int destroy(struct fixture *fixture, const struct region *region)
{
	struct outcome outcome = {0};
	int status = region_destroy(&fixture->regions, region_id(region), region_over, &outcome);
	if (status != HBM_OK)
		return status;

	pool_run(&fixture->pool, is_over, &outcome);

	return outcome.status;
}

/* Commits and counts the fds that come with it, closing them. */
static int commit(struct fixture *fixture, const struct hbm_wire_range *ranges, uint32_t count)
{
	struct commit *commit;
	struct outcome outcome = {0};
	int status = commit_new(&commit, &fixture->regions, ranges, count);
	if (status != HBM_OK)
		return status;

	uint64_t slabs = commit_slabs(commit), got = 0;
	commit_start(commit, op_over, &outcome);
	pool_run(&fixture->pool, is_over, &outcome);

	if (outcome.status == HBM_OK) {
		struct hbm_wire_range range;
		for (int fd; (fd = commit_next(commit, &range)) >= 0; got++)
			assert_int_equal(close(fd), 0);
		assert_int_equal(got, slabs);
	}

	commit_free(commit);

	return outcome.status;
}

static int decommit(struct fixture *fixture, const struct hbm_wire_range *ranges, uint32_t count)
{
	struct outcome outcome = {0};
	int status = decommit_start(&fixture->regions, ranges, count, op_over, &outcome);
	if (status != HBM_OK)
		return status;

	pool_run(&fixture->pool, is_over, &outcome);

	return outcome.status;
}

static struct hbm_wire_range range(const struct region *region, uint64_t first, uint64_t count)
{
	uint64_t slab = region_slab(region);
	return (struct hbm_wire_range){
		.region = region_id(region), .offset = first * slab, .bytes = count * slab};
}

static int commit_slots(struct fixture *fixture, const struct region *region, uint64_t first,
			uint64_t count)
{
	return commit(fixture, (struct hbm_wire_range[]){range(region, first, count)}, 1);
}

static int decommit_slots(struct fixture *fixture, const struct region *region, uint64_t first,
			  uint64_t count)
{
	return decommit(fixture, (struct hbm_wire_range[]){range(region, first, count)}, 1);
}

static int address(const struct region *region, uint64_t offset, uint64_t bytes)
{
	CUdeviceptr where;
	return region_address(region, offset, bytes, &where);
}

struct errand {
	struct job job;
	bool over;
};

static void errand_run(struct job *job)
{
	(void)job;
}

static void errand_done(struct job *job)
{
	container_of(job, struct errand, job)->over = true;
}

static bool errand_is_over(void *arg)
{
	return ((struct errand *)arg)->over;
}

/* Runs the loop until the control worker of device 0 has done all it was told so far. */
static void settle(struct fixture *fixture)
{
	struct errand errand = {.job = {.run = errand_run, .done = errand_done}};
	worker_post(fixture->pool.devices->list[0].control, &errand.job);
	pool_run(&fixture->pool, errand_is_over, &errand);
}

/* ---- Regions ---- */

static void regions_are_created_and_destroyed(void **state)
{
	struct fixture *fixture = *state;
	struct region *first = must_create(fixture, 0, 64 * MIB, 0);
	struct region *second = must_create(fixture, 1, 32 * MIB, 16 * MIB);

	assert_int_equal(region_slab(first), 4 * MIB);
	assert_int_equal(region_slab(second), 16 * MIB);
	assert_int_not_equal(region_id(first), region_id(second));
	assert_int_not_equal(region_id(first), 0);
	assert_ptr_equal(region_find(&fixture->regions, region_id(first)), first);
	assert_ptr_equal(region_device(second), &fixture->pool.devices->list[1]);
	assert_int_equal(ledger_used(&fixture->payer, LEDGER_ADDRESS_SPACE), 96 * MIB);
	uint32_t id = region_id(first);
	assert_int_equal(destroy(fixture, first), HBM_OK);
	assert_null(region_find(&fixture->regions, id));
	assert_int_equal(fixture->emptied, false);
	assert_int_equal(destroy(fixture, second), HBM_OK);
	pool_run(&fixture->pool, no_regions, fixture);
	assert_int_equal(fixture->emptied, true);
	assert_int_equal(region_destroy(&fixture->regions, id, region_over, NULL), HBM_NOT_FOUND);
}

static void regions_are_limited(void **state)
{
	struct fixture *fixture = *state;
	struct region *region;
	static const uint64_t bad[][2] = {{0, 0},
					  {MIB, 0},
					  {6 * MIB, 4 * MIB},
					  {8 * MIB, 1 * MIB},
					  {6 * MIB, 3 * MIB},
					  {1ull << 40, 2ull << 30},
					  {UINT64_MAX, 0}};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(create(fixture, 0, bad[i][0], bad[i][1], &region), HBM_INVALID);
	assert_int_equal(create(fixture, 0, 260 * MIB, 0, &region), HBM_LIMIT);
	assert_int_equal(create(fixture, 0, UINT64_MAX - 4 * MIB + 1, 0, &region), HBM_LIMIT);
	for (int i = 0; i < 4; i++)
		must_create(fixture, 0, 4 * MIB, 0);
	assert_int_equal(create(fixture, 0, 4 * MIB, 0, &region), HBM_LIMIT);
}

static void a_failed_reservation_leaves_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct region *region;

	assert_int_equal(
		fixture->pool.call.fail_nth("cuMemAddressReserve", 1, CUDA_ERROR_OUT_OF_MEMORY), 0);
	assert_int_equal(create(fixture, 0, 4 * MIB, 0, &region), HBM_NO_SPACE);
	assert_int_equal(ledger_used(&fixture->payer, LEDGER_REGIONS), 0);
	must_create(fixture, 0, 4 * MIB, 0);
}

/* A session that has come round to the first number does not give one out twice. */
static void numbers_of_regions_in_use_are_passed_over(void **state)
{
	struct fixture *fixture = *state;
	struct region *first = must_create(fixture, 0, 4 * MIB, 0);
	uint32_t id = region_id(first);

	fixture->regions.last_id = UINT32_MAX;
	struct region *second = must_create(fixture, 0, 4 * MIB, 0);
	assert_int_equal(id, 1);
	assert_int_equal(region_id(second), 2);
	fixture->regions.last_id = UINT32_MAX - 1;
	assert_int_equal(region_id(must_create(fixture, 0, 4 * MIB, 0)), UINT32_MAX);
}

static void regions_are_recorded_one_by_one(void **state)
{
	struct fixture *fixture = *state;
	const struct region *first = must_create(fixture, 0, 64 * MIB, 0);
	const struct region *second = must_create(fixture, 1, 32 * MIB, 16 * MIB);
	struct hbm_wire_region record;

	assert_int_equal(commit_slots(fixture, second, 1, 1), HBM_OK);
	assert_true(regions_record(&fixture->regions, 0, &record));
	assert_int_equal(record.region, region_id(first));
	assert_int_equal(record.device, 0);
	assert_int_equal(record.address_space, 64 * MIB);
	assert_int_equal(record.slab, 4 * MIB);
	assert_int_equal(record.committed, 0);
	assert_true(regions_record(&fixture->regions, 1, &record));
	assert_int_equal(record.region, region_id(second));
	assert_int_equal(record.device, 1);
	assert_int_equal(record.address_space, 32 * MIB);
	assert_int_equal(record.slab, 16 * MIB);
	assert_int_equal(record.committed, 16 * MIB);
	assert_false(regions_record(&fixture->regions, 2, &record));
	assert_int_equal(regions_committed(&fixture->regions), 16 * MIB);
}

/* Its address space goes with the session, and nobody is told of a region. */
static void a_region_that_comes_after_the_end_is_given_up(void **state)
{
	struct fixture *fixture = *state;
	struct outcome outcome = {0};

	assert_int_equal(region_create(&fixture->regions, &fixture->pool.devices->list[0], 4 * MIB,
				       0, region_over, &outcome),
			 HBM_OK);
	regions_end(&fixture->regions);
	pool_run(&fixture->pool, is_over, &outcome);
	assert_int_equal(outcome.status, HBM_SHUTDOWN);
	assert_null(outcome.region);
	pool_run(&fixture->pool, no_regions, fixture);
	assert_int_equal(fixture->pool.call.live("reservations"), 0);
	open_regions(fixture);
}

static void what_goes_well_is_no_error_of_the_device(void **state)
{
	struct fixture *fixture = *state;
	const struct device *device = &fixture->pool.devices->list[0];
	struct region *region = must_create(fixture, 0, 8 * MIB, 0);

	assert_int_equal(commit_slots(fixture, region, 0, 2), HBM_OK);
	assert_int_equal(decommit_slots(fixture, region, 0, 1), HBM_OK);
	assert_int_equal(destroy(fixture, region), HBM_OK);
	pool_run(&fixture->pool, no_regions, fixture);
	assert_int_equal(device_errors(device), 0);
}

/* ---- Committing ---- */

static void committed_memory_has_an_address(void **state)
{
	struct fixture *fixture = *state;
	struct region *region = must_create(fixture, 0, 8 * SLAB, SLAB);

	assert_int_equal(address(region, 0, 1), HBM_NOT_FOUND);
	assert_int_equal(commit_slots(fixture, region, 2, 3), HBM_OK);
	assert_int_equal(regions_committed(&fixture->regions), 3 * SLAB);
	assert_int_equal(address(region, 2 * SLAB, 3 * SLAB), HBM_OK);
	assert_int_equal(address(region, 2 * SLAB - 1, 1), HBM_NOT_FOUND);
	assert_int_equal(address(region, 2 * SLAB - 1, 2), HBM_NOT_FOUND);
	assert_int_equal(address(region, 5 * SLAB - 1, 2), HBM_NOT_FOUND);
	assert_int_equal(address(region, 8 * SLAB, 1), HBM_INVALID);
	assert_int_equal(address(region, UINT64_MAX, 2), HBM_INVALID);
	assert_int_equal(address(region, 2 * SLAB, 0), HBM_INVALID);

	/* It is memory, and the daemon may use it. */
	CUdeviceptr where;
	char out[4] = "";
	const struct driver *driver = fixture->pool.devices->driver;
	assert_int_equal(region_address(region, 3 * SLAB - 2, 4, &where), HBM_OK);
	assert_int_equal(device_enter(region_device(region)), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyHtoD(where, "abc", 4), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyDtoH(out, where, 4), CUDA_SUCCESS);
	assert_string_equal(out, "abc");
}

static void fds_come_in_the_order_of_the_ranges(void **state)
{
	struct fixture *fixture = *state;
	struct region *small = must_create(fixture, 0, 8 * SLAB, SLAB),
		      *large = must_create(fixture, 1, 32 * MIB, 0);
	struct hbm_wire_range ranges[] = {range(small, 4, 2), range(large, 1, 1),
					  range(small, 0, 1)},
			      got;
	const uint64_t offsets[] = {4 * SLAB, 5 * SLAB, 4 * MIB, 0};
	struct commit *commit;
	struct outcome outcome = {0};

	assert_int_equal(commit_new(&commit, &fixture->regions, ranges, 3), HBM_OK);
	commit_start(commit, op_over, &outcome);
	pool_run(&fixture->pool, is_over, &outcome);
	assert_int_equal(outcome.status, HBM_OK);

	for (size_t i = 0; i < 3; i++) { /* the fourth is for commit_free to close */
		int fd = commit_next(commit, &got);
		assert_int_equal(got.region, region_id(i == 2 ? large : small));
		assert_int_equal(got.offset, offsets[i]);
		assert_int_equal(got.bytes, i == 2 ? 4 * MIB : SLAB);
		assert_int_equal(close(fd), 0);
	}

	commit_free(commit);
}

/* Slabs of one size on two devices, and of two sizes on one: each range gets those of its
 * own region, whichever comes first. */
static void each_region_gets_slabs_of_its_own_device_and_size(void **state)
{
	struct fixture *fixture = *state;
	const struct device *devices = fixture->pool.devices->list;
	const struct region *regions[] = {must_create(fixture, 0, 8 * SLAB, SLAB),
					  must_create(fixture, 1, 8 * SLAB, SLAB),
					  must_create(fixture, 1, 8 * MIB, 4 * MIB)};

	for (size_t first = 0; first < 3; first++) {
		struct hbm_wire_range ranges[3];
		for (size_t i = 0; i < 3; i++)
			ranges[i] = range(regions[(first + i) % 3], 0, 1 + (first + i) % 3 % 2);

		for (int turn = 0; turn < 2; turn++) { /* as they are, then backwards */
			assert_int_equal(commit(fixture, ranges, 3), HBM_OK);
			assert_int_equal(slabs_books(devices[0].slabs).leased, SLAB);
			assert_int_equal(slabs_books(devices[1].slabs).leased, 2 * SLAB + 4 * MIB);
			assert_int_equal(decommit(fixture, ranges, 3), HBM_OK);

			struct hbm_wire_range last = ranges[2];
			ranges[2] = ranges[0];
			ranges[0] = last;
		}
	}
}

static void bad_commits_change_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct region *region = must_create(fixture, 0, 8 * SLAB, SLAB),
		      *other = must_create(fixture, 1, 8 * SLAB, SLAB);

	assert_int_equal(commit_slots(fixture, region, 3, 1), HBM_OK);
	struct hbm_wire_range ok = range(other, 0, 2), bad;
	struct {
		struct hbm_wire_range range;
		int status;
	} cases[] = {
		{range(region, 2, 2), HBM_EXISTS},
		{range(region, 3, 1), HBM_EXISTS},
		{range(other, 1, 2), HBM_INVALID},
		{range(region, 7, 2), HBM_INVALID},
		{range(region, 8, 1), HBM_INVALID},
		{range(region, 0, 0), HBM_INVALID},
		{{99, 0, 0, SLAB}, HBM_NOT_FOUND},
		{{region_id(region), 0, 1, SLAB}, HBM_INVALID},
		{{region_id(region), 0, 0, 1}, HBM_INVALID},
		{{region_id(region), 0, -SLAB, 2 * SLAB}, HBM_INVALID},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bad = cases[i].range;
		struct hbm_wire_range ranges[] = {ok, bad};
		assert_int_equal(commit(fixture, ranges, 2), cases[i].status);
		assert_int_equal(regions_committed(&fixture->regions), SLAB);
	}

	struct commit *commit;
	ledger_set_limit(&fixture->payer.ledger->host, LEDGER_COMMIT_SLABS, 7);
	assert_int_equal(commit_new(&commit, &fixture->regions,
				    (struct hbm_wire_range[]){range(other, 0, 8)}, 1),
			 HBM_LIMIT);
	ledger_set_limit(&fixture->payer.ledger->host, LEDGER_COMMIT_SLABS, 8);
	assert_int_equal(commit_slots(fixture, other, 0, 8), HBM_OK);
}

static void more_than_the_pool_changes_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct region *one = must_create(fixture, 0, 32 * SLAB, SLAB),
		      *two = must_create(fixture, 1, 32 * SLAB, SLAB);
	struct hbm_wire_range ranges[] = {range(one, 0, 4), range(two, 0, 17)};

	assert_int_equal(commit(fixture, ranges, 2), HBM_NO_SPACE);
	assert_int_equal(regions_committed(&fixture->regions), 0);
	ranges[1] = range(two, 0, 16);
	assert_int_equal(commit(fixture, ranges, 2), HBM_OK);
	assert_int_equal(commit_slots(fixture, two, 20, 1), HBM_NO_SPACE);
	assert_int_equal(decommit_slots(fixture, two, 3, 1), HBM_OK);
	assert_int_equal(commit_slots(fixture, two, 20, 1), HBM_OK);
}

static void two_commits_of_one_slot_do_not_meet(void **state)
{
	struct fixture *fixture = *state;
	struct region *region = must_create(fixture, 0, 8 * SLAB, SLAB);
	struct hbm_wire_range slots = range(region, 0, 4);
	struct commit *commit, *again;
	struct outcome outcome = {0};

	assert_int_equal(commit_new(&commit, &fixture->regions, &slots, 1), HBM_OK);
	assert_int_equal(commit_new(&again, &fixture->regions, &slots, 1), HBM_EXISTS);
	assert_int_equal(decommit(fixture, &slots, 1), HBM_NOT_FOUND);
	commit_start(commit, op_over, &outcome);
	assert_int_equal(commit_new(&again, &fixture->regions, &slots, 1), HBM_EXISTS);
	pool_run(&fixture->pool, is_over, &outcome);
	commit_free(commit);
	assert_int_equal(decommit(fixture, &slots, 1), HBM_OK);

	/* One that was never started lets go. */
	assert_int_equal(commit_new(&commit, &fixture->regions, &slots, 1), HBM_OK);
	commit_free(commit);
	assert_int_equal(commit_new(&commit, &fixture->regions, &slots, 1), HBM_OK);
	commit_free(commit);
}

/* ---- Decommitting ---- */

static void bad_decommits_change_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct region *region = must_create(fixture, 0, 8 * SLAB, SLAB);

	assert_int_equal(commit_slots(fixture, region, 0, 4), HBM_OK);
	struct hbm_wire_range ranges[] = {range(region, 0, 2), range(region, 3, 2)};
	assert_int_equal(decommit(fixture, ranges, 2), HBM_NOT_FOUND);
	ranges[1] = range(region, 1, 1);
	assert_int_equal(decommit(fixture, ranges, 2), HBM_INVALID);
	ranges[1] = range(region, 3, 6);
	assert_int_equal(decommit(fixture, ranges, 2), HBM_INVALID);
	assert_int_equal(regions_committed(&fixture->regions), 4 * SLAB);
	assert_int_equal(address(region, 0, 4 * SLAB), HBM_OK);
	ranges[1] = range(region, 3, 1);
	assert_int_equal(decommit(fixture, ranges, 2), HBM_OK);
	assert_int_equal(regions_committed(&fixture->regions), SLAB);
	assert_int_equal(address(region, 2 * SLAB, SLAB), HBM_OK);
}

static void a_decommit_waits_for_holds(void **state)
{
	struct fixture *fixture = *state;
	struct region *region = must_create(fixture, 0, 8 * SLAB, SLAB);
	struct outcome outcome = {0};
	struct hbm_wire_range slots = range(region, 1, 2);

	assert_int_equal(commit_slots(fixture, region, 0, 4), HBM_OK);
	region_use(region, SLAB, SLAB);
	region_use(region, 2 * SLAB, 2 * SLAB);
	region_use(region, 0, SLAB); /* of another slab: does not matter */
	assert_int_equal(decommit_start(&fixture->regions, &slots, 1, op_over, &outcome), HBM_OK);

	/* Nothing new may begin there; the rest stays usable. */
	assert_int_equal(address(region, SLAB, SLAB), HBM_NOT_FOUND);
	assert_int_equal(address(region, 0, SLAB), HBM_OK);
	assert_int_equal(commit_slots(fixture, region, 1, 1), HBM_EXISTS);
	region_unuse(region, SLAB, SLAB);
	settle(fixture);
	assert_int_equal(outcome.over, false);
	assert_int_equal(fixture->pool.call.live("mappings"), 4);
	region_unuse(region, 2 * SLAB, 2 * SLAB);
	pool_run(&fixture->pool, is_over, &outcome);
	assert_int_equal(outcome.status, HBM_OK);
	assert_int_equal(fixture->pool.call.live("mappings"), 2);
	region_unuse(region, 0, SLAB);
}

/* ---- Ends ---- */

static void note_committed(void *arg, int status, struct region *region)
{
	struct fixture *fixture = arg;
	assert_int_equal(status, HBM_OK);
	assert_null(region);
	assert_int_equal(regions_committed(&fixture->regions), SLAB);
	fixture->emptied = true;
}

static bool is_emptied(void *arg)
{
	return ((struct fixture *)arg)->emptied;
}

/* Its memory is no longer counted when its client is told. */
static void a_destroyed_region_has_nothing_committed(void **state)
{
	struct fixture *fixture = *state;
	struct region *kept = must_create(fixture, 0, 8 * SLAB, SLAB);
	struct region *region = must_create(fixture, 0, 8 * SLAB, SLAB);

	assert_int_equal(commit_slots(fixture, kept, 0, 1), HBM_OK);
	assert_int_equal(commit_slots(fixture, region, 0, 4), HBM_OK);
	assert_int_equal(
		region_destroy(&fixture->regions, region_id(region), note_committed, fixture),
		HBM_OK);
	pool_run(&fixture->pool, is_emptied, fixture);
}

static void a_destroyed_region_waits_for_holds(void **state)
{
	struct fixture *fixture = *state;
	struct region *region = must_create(fixture, 0, 8 * SLAB, SLAB);
	struct outcome outcome = {0};
	uint32_t id = region_id(region);

	assert_int_equal(commit_slots(fixture, region, 0, 4), HBM_OK);
	region_use(region, 0, SLAB);
	assert_int_equal(region_destroy(&fixture->regions, id, region_over, &outcome), HBM_OK);
	assert_null(region_find(&fixture->regions, id));
	settle(fixture);
	assert_int_equal(outcome.over, false);
	assert_int_equal(fixture->pool.call.live("mappings"), 4);
	region_unuse(region, 0, SLAB);
	pool_run(&fixture->pool, is_over, &outcome);
	assert_int_equal(outcome.status, HBM_OK);
	assert_all_is_back(fixture);
}

static void a_commit_under_way_fails_when_its_region_goes(void **state)
{
	struct fixture *fixture = *state;
	struct region *region = must_create(fixture, 0, 8 * SLAB, SLAB);
	struct hbm_wire_range slots = range(region, 0, 4);
	struct outcome committed = {0}, destroyed = {0};
	struct commit *commit;

	assert_int_equal(commit_new(&commit, &fixture->regions, &slots, 1), HBM_OK);
	commit_start(commit, op_over, &committed);
	assert_int_equal(
		region_destroy(&fixture->regions, region_id(region), region_over, &destroyed),
		HBM_OK);
	pool_run(&fixture->pool, is_over, &committed);
	assert_int_equal(committed.status, HBM_NOT_FOUND);
	commit_free(commit);
	pool_run(&fixture->pool, is_over, &destroyed);
	assert_all_is_back(fixture);
}

static void a_dead_clients_memory_is_quarantined(void **state)
{
	struct fixture *fixture = *state;
	struct region *region = must_create(fixture, 0, 8 * SLAB, SLAB);
	struct slabs *slabs = fixture->pool.devices->list[0].slabs;
	uint32_t id = region_id(region);

	assert_int_equal(commit_slots(fixture, region, 0, 4), HBM_OK);
	region_use(region, 0, SLAB);
	regions_end(&fixture->regions);
	assert_null(region_find(&fixture->regions, id));
	assert_int_equal(slabs_books(slabs).quarantined, 4 * SLAB);
	assert_int_equal(slabs_books(slabs).leased, 0);
	regions_release(&fixture->regions);
	settle(fixture);
	assert_int_equal(slabs_books(slabs).quarantined, 4 * SLAB);
	region_unuse(region, 0, SLAB);
	assert_all_is_back(fixture);
	assert_int_equal(fixture->emptied, true);
}

/* The client dies at every step of a commit: after so many completions on the loop. */
struct countdown {
	struct fixture *fixture;
	unsigned left;
};

static bool count_down(void *arg)
{
	struct countdown *countdown = arg;
	if (countdown->left > 0)
		countdown->left--;
	return countdown->left == 0;
}

static void a_client_dies_at_every_step_of_a_commit(void **state)
{
	struct fixture *fixture = *state;
	for (unsigned step = 0; step < 12; step++) {
		struct region *one = must_create(fixture, 0, 8 * SLAB, SLAB);
		struct region *two = must_create(fixture, 1, 8 * SLAB, SLAB);
		struct hbm_wire_range ranges[] = {range(one, 0, 3), range(two, 2, 3)};
		struct outcome outcome = {0};
		struct commit *commit;

		assert_int_equal(commit_new(&commit, &fixture->regions, ranges, 2), HBM_OK);
		commit_start(commit, op_over, &outcome);
		struct countdown countdown = {fixture, step};
		if (step > 0)
			pool_run(&fixture->pool, count_down, &countdown);

		regions_end(&fixture->regions);
		pool_run(&fixture->pool, is_over, &outcome);
		commit_free(commit);
		regions_release(&fixture->regions);
		assert_all_is_back(fixture);
		open_regions(fixture);
	}
}

/* ---- Failing devices ---- */

static const char *const commit_calls[] = {"cuMemCreate", "cuMemMap", "cuMemSetAccess",
					   "cuMemExportToShareableHandle", "*"};

/* Nothing is being made ahead any more: less than a default slab is left to make. */
static bool everything_is_ready(void *arg)
{
	struct soft_pool *pool = arg;
	bool ready = true;
	for (uint32_t i = 0; i < 2; i++)
		ready = ready && slabs_books(pool->devices->list[i].slabs).ready + 4 * MIB > BUDGET;
	return ready;
}

/* The n-th call fails, for every n until the commit passes; after each failure everything
 * is as before, and works. */
static void commit_survives_the_nth_failure_of(struct fixture *fixture, const char *call)
{
	struct region *one = must_create(fixture, 0, 16 * SLAB, SLAB),
		      *two = must_create(fixture, 1, 32 * MIB, 0);
	struct hbm_wire_range ranges[] = {range(one, 0, 2), range(two, 1, 2), range(one, 5, 2)};
	unsigned n = 1, passed = 0;

	/* What is made ahead may take the failure meant for the commit, so one success is
	 * no proof. */
	for (; passed < 3; n++) {
		pool_run(&fixture->pool, everything_is_ready, &fixture->pool);
		assert_int_equal(fixture->pool.call.fail_nth(call, n, CUDA_ERROR_UNKNOWN), 0);
		int status = commit(fixture, ranges, 3);
		fixture->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);

		if (status == HBM_OK) {
			assert_int_equal(regions_committed(&fixture->regions), 4 * SLAB + 8 * MIB);
			assert_int_equal(decommit(fixture, ranges, 3), HBM_OK);
			passed++;
		} else {
			assert_int_equal(status, HBM_DEVICE);
			passed = 0;
		}

		assert_int_equal(regions_committed(&fixture->regions), 0);
		assert_int_equal(fixture->pool.call.live("mappings"), 0);
		pool_run(&fixture->pool, pool_is_quiet, &fixture->pool);
	}

	assert_in_range(n, 4, 200);
	assert_int_equal(destroy(fixture, one), HBM_OK);
	assert_int_equal(destroy(fixture, two), HBM_OK);
}

static void commit_survives_failing_devices(void **state)
{
	struct fixture *fixture = *state;
	for (size_t i = 0; i < sizeof(commit_calls) / sizeof(commit_calls[0]); i++)
		commit_survives_the_nth_failure_of(fixture, commit_calls[i]);
}

static void decommit_and_destroy_survive_failing_devices(void **state)
{
	struct fixture *fixture = *state;
	for (unsigned n = 1; n < 30; n++) {
		struct region *one = must_create(fixture, 0, 16 * SLAB, SLAB);
		struct region *two = must_create(fixture, 1, 32 * MIB, 0);
		struct hbm_wire_range ranges[] = {range(one, 0, 2), range(two, 1, 2),
						  range(one, 5, 2)};

		assert_int_equal(commit(fixture, ranges, 3), HBM_OK);
		assert_int_equal(commit_slots(fixture, one, 8, 3), HBM_OK);
		assert_int_equal(fixture->pool.call.fail_nth("*", n, CUDA_ERROR_UNKNOWN), 0);
		assert_int_equal(decommit(fixture, ranges, 3), HBM_OK);
		assert_int_equal(destroy(fixture, one), HBM_OK);
		assert_int_equal(destroy(fixture, two), HBM_OK);
		pool_run(&fixture->pool, no_regions, fixture);
		fixture->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
		assert_all_is_back(fixture);
	}
}

/* A device that refuses to unmap for good: the memory stays quarantined, the client's
 * request is done. */
static void what_cannot_be_unmapped_stays_quarantined(void **state)
{
	struct fixture *fixture = *state;
	struct region *region = must_create(fixture, 0, 8 * SLAB, SLAB);
	struct slabs *slabs = fixture->pool.devices->list[0].slabs;
	CUdeviceptr where;

	assert_int_equal(commit_slots(fixture, region, 0, 4), HBM_OK);
	assert_int_equal(region_address(region, 0, SLAB, &where), HBM_OK);

	/* The run as a whole, then the first slab twice. */
	assert_int_equal(fixture->pool.call.faults("cuMemUnmap:1,cuMemUnmap:2,cuMemUnmap:3"), 0);
	assert_int_equal(decommit_slots(fixture, region, 0, 2), HBM_OK);
	pool_run(&fixture->pool, pool_is_quiet, &fixture->pool);
	assert_int_equal(slabs_books(slabs).quarantined, SLAB);
	assert_int_equal(slabs_books(slabs).leased, 2 * SLAB);
	assert_int_equal(address(region, 0, SLAB), HBM_NOT_FOUND);
	assert_int_equal(commit_slots(fixture, region, 0, 1), HBM_EXISTS);
	assert_int_equal(commit_slots(fixture, region, 1, 1), HBM_OK);
	assert_int_equal(decommit_slots(fixture, region, 0, 1), HBM_NOT_FOUND);
	assert_int_equal(destroy(fixture, region), HBM_OK);
	pool_run(&fixture->pool, no_regions, fixture);
	pool_run(&fixture->pool, pool_is_quiet, &fixture->pool);
	assert_int_equal(slabs_books(slabs).quarantined, SLAB);
	assert_int_equal(slabs_books(slabs).leased, 0);
	assert_int_equal(fixture->pool.call.live("mappings"), 1);

	/* So that the fixture's own check can be made: undo by hand what the daemon has
	 * given up. */
	const struct driver *driver = fixture->pool.devices->driver;
	CUmemGenericAllocationHandle handle;
	assert_int_equal(device_enter(&fixture->pool.devices->list[0]), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)where),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemUnmap(where, SLAB), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemAddressFree(where, 8 * SLAB), CUDA_SUCCESS);
}

static int stuck_teardown(void **state)
{
	struct fixture *fixture = *state;
	pool_close(&fixture->pool);
	return 0;
}

/* ---- Against a dumb model ---- */

enum { MODEL_REGIONS = 2, MODEL_SLOTS = 12 };

static void random_operations_agree_with_a_model(void **state)
{
	struct fixture *fixture = *state;
	struct seed seed;
	struct region *regions[MODEL_REGIONS];
	bool model[MODEL_REGIONS][MODEL_SLOTS] = {0};
	uint64_t used = 0;

	seed_open(&seed, "region");
	for (uint32_t i = 0; i < MODEL_REGIONS; i++)
		regions[i] = must_create(fixture, 0, MODEL_SLOTS * SLAB, SLAB);
	for (int i = 0; i < 500; i++) {
		uint64_t r = seed_below(&seed, MODEL_REGIONS),
			 first = seed_below(&seed, MODEL_SLOTS);
		uint64_t count = 1 + seed_below(&seed, MODEL_SLOTS - first), set = 0;

		for (uint64_t k = first; k < first + count; k++)
			set += model[r][k];
		bool grow = seed_below(&seed, 2);
		int expected = grow          ? set > 0                         ? HBM_EXISTS
						: used + count > BUDGET / SLAB ? HBM_NO_SPACE
									       : HBM_OK
			       : set < count ? HBM_NOT_FOUND
					     : HBM_OK;
		int status = grow ? commit_slots(fixture, regions[r], first, count)
				  : decommit_slots(fixture, regions[r], first, count);
		assert_int_equal(status, expected);
		for (uint64_t k = first; status == HBM_OK && k < first + count; k++)
			model[r][k] = grow;
		used += status != HBM_OK ? 0 : grow ? count : -count;
		assert_int_equal(regions_committed(&fixture->regions), used * SLAB);

		for (uint64_t k = 0; k < MODEL_SLOTS; k++)
			assert_int_equal(address(regions[r], k * SLAB, SLAB),
					 model[r][k] ? HBM_OK : HBM_NOT_FOUND);

		assert_int_equal(fixture->pool.call.live("mappings"), used);
		assert_null(slabs_check(fixture->pool.devices->list[0].slabs));
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(regions_are_created_and_destroyed),
		TEST(regions_are_limited),
		TEST(a_failed_reservation_leaves_nothing),
		TEST(numbers_of_regions_in_use_are_passed_over),
		TEST(regions_are_recorded_one_by_one),
		TEST(a_region_that_comes_after_the_end_is_given_up),
		TEST(what_goes_well_is_no_error_of_the_device),
		TEST(committed_memory_has_an_address),
		TEST(fds_come_in_the_order_of_the_ranges),
		TEST(each_region_gets_slabs_of_its_own_device_and_size),
		TEST(bad_commits_change_nothing),
		TEST(more_than_the_pool_changes_nothing),
		TEST(two_commits_of_one_slot_do_not_meet),
		TEST(bad_decommits_change_nothing),
		TEST(a_decommit_waits_for_holds),
		TEST(a_destroyed_region_has_nothing_committed),
		TEST(a_destroyed_region_waits_for_holds),
		TEST(a_commit_under_way_fails_when_its_region_goes),
		TEST(a_dead_clients_memory_is_quarantined),
		TEST(a_client_dies_at_every_step_of_a_commit),
		TEST(commit_survives_failing_devices),
		TEST(decommit_and_destroy_survive_failing_devices),
		cmocka_unit_test_setup_teardown(what_cannot_be_unmapped_stays_quarantined, setup,
						stuck_teardown),
		TEST(random_operations_agree_with_a_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
