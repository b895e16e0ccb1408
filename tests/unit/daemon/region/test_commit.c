/* SPDX-License-Identifier: Apache-2.0 */
/* Commits: all or none, with a client that dies and devices that fail at every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <semaphore.h>
#include <string.h>
#include <unistd.h>

#include "daemon/device/device.h"
#include "daemon/region/commit.h"
#include "daemon/region/slab.h"
#include "tests/support/region_rig.h"

static void committed_memory_has_an_address(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	assert_int_equal(region_rig_address(region, 0, 1), HBM_NOT_FOUND);
	assert_int_equal(region_rig_commit_slots(rig, region, 2, 3), HBM_OK);
	assert_int_equal(regions_committed(&rig->regions), 3 * SLAB);
	assert_int_equal(region_rig_address(region, 2 * SLAB, 3 * SLAB), HBM_OK);
	assert_int_equal(region_rig_address(region, 2 * SLAB - 1, 1), HBM_NOT_FOUND);
	assert_int_equal(region_rig_address(region, 2 * SLAB - 1, 2), HBM_NOT_FOUND);
	assert_int_equal(region_rig_address(region, 5 * SLAB - 1, 2), HBM_NOT_FOUND);
	assert_int_equal(region_rig_address(region, 8 * SLAB, 1), HBM_INVALID);
	assert_int_equal(region_rig_address(region, UINT64_MAX, 2), HBM_INVALID);
	assert_int_equal(region_rig_address(region, 2 * SLAB, 0), HBM_INVALID);

	/* It is memory, and the daemon may use it. */
	CUdeviceptr where;
	char out[4] = "";
	const struct driver *driver = rig->pool.devices->driver;
	assert_int_equal(region_address(region, 3 * SLAB - 2, 4, &where), HBM_OK);
	assert_int_equal(device_enter(region_device(region)), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyHtoD(where, "abc", 4), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyDtoH(out, where, 4), CUDA_SUCCESS);
	assert_string_equal(out, "abc");
}

static void fds_come_in_the_order_of_the_ranges(void **state)
{
	struct region_rig *rig = *state;
	struct region *small = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *large = region_rig_make(rig, 1, 32 * MIB, 0);
	struct hbm_wire_range ranges[] = {region_rig_range(small, 4, 2),
					  region_rig_range(large, 1, 1),
					  region_rig_range(small, 0, 1)},
			      got;
	const uint64_t offsets[] = {4 * SLAB, 5 * SLAB, 4 * MIB, 0};
	struct commit *commit;
	struct region_outcome outcome = {0};

	assert_int_equal(commit_new(&commit, &rig->regions, ranges, 3), HBM_OK);
	commit_start(commit, region_rig_op_over, &outcome);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
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
	struct region_rig *rig = *state;
	const struct device *devices = rig->pool.devices->list;
	const struct region *regions[] = {region_rig_make(rig, 0, 8 * SLAB, SLAB),
					  region_rig_make(rig, 1, 8 * SLAB, SLAB),
					  region_rig_make(rig, 1, 8 * MIB, 4 * MIB)};

	for (size_t first = 0; first < 3; first++) {
		struct hbm_wire_range ranges[3];
		for (size_t i = 0; i < 3; i++)
			ranges[i] = region_rig_range(regions[(first + i) % 3], 0,
						     1 + (first + i) % 3 % 2);

		for (int turn = 0; turn < 2; turn++) { /* as they are, then backwards */
			assert_int_equal(region_rig_commit(rig, ranges, 3), HBM_OK);
			assert_int_equal(slabs_books(devices[0].slabs).leased, SLAB);
			assert_int_equal(slabs_books(devices[1].slabs).leased, 2 * SLAB + 4 * MIB);
			assert_int_equal(region_rig_decommit(rig, ranges, 3), HBM_OK);

			struct hbm_wire_range last = ranges[2];
			ranges[2] = ranges[0];
			ranges[0] = last;
		}
	}
}

/* Whichever of the pools it is: all that is asked of it is one request. */
static void a_pool_that_is_named_again(void **state)
{
	struct region_rig *rig = *state;
	struct region *one = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *two = region_rig_make(rig, 1, 8 * SLAB, SLAB);
	struct hbm_wire_range ranges[] = {region_rig_range(one, 0, 1), region_rig_range(two, 0, 1),
					  region_rig_range(two, 4, 2), region_rig_range(one, 3, 1)};

	assert_int_equal(region_rig_commit(rig, ranges, 4), HBM_OK);
	assert_int_equal(regions_committed(&rig->regions), 5 * SLAB);
}

static void bad_commits_change_nothing(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *other = region_rig_make(rig, 1, 8 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, region, 3, 1), HBM_OK);
	struct hbm_wire_range ok = region_rig_range(other, 0, 2), bad;
	struct {
		struct hbm_wire_range range;
		int status;
	} cases[] = {
		{region_rig_range(region, 2, 2), HBM_EXISTS},
		{region_rig_range(region, 3, 1), HBM_EXISTS},
		{region_rig_range(other, 1, 2), HBM_INVALID},
		{region_rig_range(region, 7, 2), HBM_INVALID},
		{region_rig_range(region, 8, 1), HBM_INVALID},
		{region_rig_range(region, 0, 0), HBM_INVALID},
		{{99, 0, 0, SLAB}, HBM_NOT_FOUND},
		{{region_id(region), 0, 1, SLAB}, HBM_INVALID},
		{{region_id(region), 0, 0, 1}, HBM_INVALID},
		{{region_id(region), 0, -SLAB, 2 * SLAB}, HBM_INVALID},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bad = cases[i].range;
		struct hbm_wire_range ranges[] = {ok, bad};
		assert_int_equal(region_rig_commit(rig, ranges, 2), cases[i].status);
		assert_int_equal(regions_committed(&rig->regions), SLAB);
	}

	struct commit *commit;
	ledger_set_limit(&rig->payer.ledger->host, LEDGER_COMMIT_SLABS, 7);
	assert_int_equal(commit_new(&commit, &rig->regions,
				    (struct hbm_wire_range[]){region_rig_range(other, 0, 8)}, 1),
			 HBM_LIMIT);
	ledger_set_limit(&rig->payer.ledger->host, LEDGER_COMMIT_SLABS, 8);
	assert_int_equal(region_rig_commit_slots(rig, other, 0, 8), HBM_OK);
}

static void more_than_the_pool_changes_nothing(void **state)
{
	struct region_rig *rig = *state;
	struct region *one = region_rig_make(rig, 0, 32 * SLAB, SLAB),
		      *two = region_rig_make(rig, 1, 32 * SLAB, SLAB);
	struct hbm_wire_range ranges[] = {region_rig_range(one, 0, 4),
					  region_rig_range(two, 0, 17)};

	assert_int_equal(region_rig_commit(rig, ranges, 2), HBM_NO_SPACE);
	assert_int_equal(regions_committed(&rig->regions), 0);
	ranges[1] = region_rig_range(two, 0, 16);
	assert_int_equal(region_rig_commit(rig, ranges, 2), HBM_OK);
	assert_int_equal(region_rig_commit_slots(rig, two, 20, 1), HBM_NO_SPACE);
	assert_int_equal(region_rig_decommit_slots(rig, two, 3, 1), HBM_OK);
	assert_int_equal(region_rig_commit_slots(rig, two, 20, 1), HBM_OK);
}

static void two_commits_of_one_slot_do_not_meet(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct hbm_wire_range slots = region_rig_range(region, 0, 4);
	struct commit *commit, *again;
	struct region_outcome outcome = {0};

	assert_int_equal(commit_new(&commit, &rig->regions, &slots, 1), HBM_OK);
	assert_int_equal(commit_new(&again, &rig->regions, &slots, 1), HBM_EXISTS);
	assert_int_equal(region_rig_decommit(rig, &slots, 1), HBM_NOT_FOUND);
	commit_start(commit, region_rig_op_over, &outcome);
	assert_int_equal(commit_new(&again, &rig->regions, &slots, 1), HBM_EXISTS);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	commit_free(commit);
	assert_int_equal(region_rig_decommit(rig, &slots, 1), HBM_OK);

	/* One that was never started lets go. */
	assert_int_equal(commit_new(&commit, &rig->regions, &slots, 1), HBM_OK);
	commit_free(commit);
	assert_int_equal(commit_new(&commit, &rig->regions, &slots, 1), HBM_OK);
	commit_free(commit);
}

static void a_commit_under_way_fails_when_its_region_goes(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct hbm_wire_range slots = region_rig_range(region, 0, 4);
	struct region_outcome committed = {0}, destroyed = {0};
	struct commit *commit;

	assert_int_equal(commit_new(&commit, &rig->regions, &slots, 1), HBM_OK);
	commit_start(commit, region_rig_op_over, &committed);
	assert_int_equal(region_destroy(&rig->regions, region_id(region), region_rig_region_over,
					&destroyed),
			 HBM_OK);
	pool_run(&rig->pool, region_rig_is_over, &committed);
	assert_int_equal(committed.status, HBM_NOT_FOUND);
	commit_free(commit);
	pool_run(&rig->pool, region_rig_is_over, &destroyed);
	region_rig_assert_all_back(rig);
}

/* The client dies at every step of a commit: after so many completions on the loop. */
struct countdown {
	struct region_rig *rig;
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
	struct region_rig *rig = *state;
	for (unsigned step = 0; step < 12; step++) {
		struct region *one = region_rig_make(rig, 0, 8 * SLAB, SLAB);
		struct region *two = region_rig_make(rig, 1, 8 * SLAB, SLAB);
		struct hbm_wire_range ranges[] = {region_rig_range(one, 0, 3),
						  region_rig_range(two, 2, 3)};
		struct region_outcome outcome = {0};
		struct commit *commit;

		assert_int_equal(commit_new(&commit, &rig->regions, ranges, 2), HBM_OK);
		commit_start(commit, region_rig_op_over, &outcome);
		struct countdown countdown = {rig, step};
		if (step > 0)
			pool_run(&rig->pool, count_down, &countdown);

		regions_end(&rig->regions);
		pool_run(&rig->pool, region_rig_is_over, &outcome);
		commit_free(commit);
		regions_release(&rig->regions);
		region_rig_assert_all_back(rig);
		region_rig_open(rig);
	}
}

static const char *const commit_calls[] = {"cuMemCreate", "cuMemMap", "cuMemSetAccess",
					   "cuMemExportToShareableHandle", "*"};

/* Nothing is being made ahead any more: less than a default slab is left to make. */
static bool everything_is_ready(void *arg)
{
	struct soft_pool *pool = arg;
	bool ready = true;
	for (uint32_t i = 0; i < 2; i++)
		ready = ready && slabs_books(pool->devices->list[i].slabs).ready + 4 * MIB >
					 REGION_RIG_BUDGET;
	return ready;
}

/* The n-th call fails, for every n until the commit passes; after each failure everything
 * is as before, and works. */
static void commit_survives_the_nth_failure_of(struct region_rig *rig, const char *call)
{
	struct region *one = region_rig_make(rig, 0, 16 * SLAB, SLAB),
		      *two = region_rig_make(rig, 1, 32 * MIB, 0);
	struct hbm_wire_range ranges[] = {region_rig_range(one, 0, 2), region_rig_range(two, 1, 2),
					  region_rig_range(one, 5, 2)};
	unsigned n = 1, passed = 0;

	/* What is made ahead may take the failure meant for the commit, so one success is
	 * no proof. */
	for (; passed < 3; n++) {
		pool_run(&rig->pool, everything_is_ready, &rig->pool);
		assert_int_equal(rig->pool.call.fail_nth(call, n, CUDA_ERROR_UNKNOWN), 0);
		int status = region_rig_commit(rig, ranges, 3);
		rig->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);

		if (status == HBM_OK) {
			assert_int_equal(regions_committed(&rig->regions), 4 * SLAB + 8 * MIB);
			assert_int_equal(region_rig_decommit(rig, ranges, 3), HBM_OK);
			passed++;
		} else {
			assert_int_equal(status, HBM_DEVICE);
			passed = 0;
		}

		assert_int_equal(regions_committed(&rig->regions), 0);
		assert_int_equal(rig->pool.call.live("mappings"), 0);
		pool_run(&rig->pool, pool_is_quiet, &rig->pool);
	}

	assert_in_range(n, 4, 200);
	assert_int_equal(region_rig_destroy(rig, one), HBM_OK);
	assert_int_equal(region_rig_destroy(rig, two), HBM_OK);
}

static void commit_survives_failing_devices(void **state)
{
	struct region_rig *rig = *state;
	for (size_t i = 0; i < sizeof(commit_calls) / sizeof(commit_calls[0]); i++)
		commit_survives_the_nth_failure_of(rig, commit_calls[i]);
}

/* Another session's job: it takes a turn after each of the control worker's others, and
 * notes the most calls of the device that came between two of its turns. */
struct bystander {
	struct job job;
	struct region_rig *rig;
	uint64_t before[4], most[4];
	bool leaves, over; /* leaves: atomic */
};

static const char *const bystander_calls[4] = {"cuMemCreate", "cuMemMap",
					       "cuMemExportToShareableHandle", "cuMemUnmap"};

static void bystander_count(struct bystander *bystander)
{
	for (size_t i = 0; i < 4; i++) {
		uint64_t now = bystander->rig->pool.call.calls(bystander_calls[i]);
		uint64_t between = now - bystander->before[i];

		bystander->before[i] = now;
		if (between > bystander->most[i])
			bystander->most[i] = between;
	}
}

static void bystander_run(struct job *job)
{
	struct bystander *bystander = container_of(job, struct bystander, job);

	bystander_count(bystander);
	job->more = !__atomic_load_n(&bystander->leaves, __ATOMIC_RELAXED);
}

static void bystander_done(struct job *job)
{
	container_of(job, struct bystander, job)->over = true;
}

static bool bystander_is_over(void *arg)
{
	return ((struct bystander *)arg)->over;
}

static void bystander_begin(struct bystander *bystander, struct region_rig *rig)
{
	*bystander = (struct bystander){.rig = rig,
					.job = {.run = bystander_run, .done = bystander_done}};
	bystander_count(bystander);
	memset(bystander->most, 0, sizeof(bystander->most));
	worker_post(rig->pool.devices->list[0].control, &bystander->job);
}

static void bystander_end(struct bystander *bystander)
{
	__atomic_store_n(&bystander->leaves, true, __ATOMIC_RELAXED);
	pool_run(&bystander->rig->pool, bystander_is_over, bystander);
}

enum { LONG = 100 }; /* slabs: more than one turn of the control worker has */

/* Each call of a device is some tenths of a millisecond, so a job of another session waits
 * for a part of a long commit or close only, made of one range or of many. */
static void a_long_commit_takes_turns(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, (LONG + 3) * SLAB, SLAB);
	struct hbm_wire_range ranges[] = {region_rig_range(region, 3, 50),
					  region_rig_range(region, 0, 1),
					  region_rig_range(region, 53, LONG - 50)};
	struct bystander bystander;

	for (uint32_t count = 1; count <= 3; count += 2) {
		bystander_begin(&bystander, rig);
		ranges[0] = region_rig_range(region, 3, count == 1 ? LONG : 50);
		assert_int_equal(region_rig_commit(rig, ranges, count), HBM_OK);
		assert_int_equal(region_rig_address(region, 3 * SLAB, LONG * SLAB), HBM_OK);
		assert_int_equal(region_rig_decommit(rig, ranges, count), HBM_OK);
		bystander_end(&bystander);

		/* and one slab that the pool makes ahead meanwhile */
		for (size_t i = 0; i < 4; i++)
			assert_in_range(bystander.most[i], 1, SLABS_PER_TURN + 1);
		assert_in_range(bystander.most[0], SLABS_PER_TURN, SLABS_PER_TURN + 1);
	}
}

/* Keeps the control worker from its other jobs until it is opened. */
struct stop {
	struct job job;
	sem_t open;
};

static void stop_run(struct job *job)
{
	while (sem_wait(&container_of(job, struct stop, job)->open) != 0)
		;
}

/* Notes how many slabs have been made when it has its turn. */
struct witness {
	struct job job;
	struct region_rig *rig;
	uint64_t made;
	bool over;
};

static void witness_run(struct job *job)
{
	struct witness *witness = container_of(job, struct witness, job);

	witness->made = witness->rig->pool.call.calls("cuMemCreate");
}

static void witness_done(struct job *job)
{
	container_of(job, struct witness, job)->over = true;
}

static bool witness_is_over(void *arg)
{
	return ((struct witness *)arg)->over;
}

static bool list_is_empty(void *list)
{
	return list_empty(list);
}

/* Starts both, the long one first, and looks after the short one's turn. */
static void commit_side_by_side(struct region_rig *rig, struct commit *commits[2])
{
	struct worker *control = rig->pool.devices->list[0].control;
	struct stop stop = {.job.run = stop_run};
	struct witness witness = {.rig = rig, .job = {.run = witness_run, .done = witness_done}};
	struct region_outcome outcomes[2] = {0};
	uint64_t before = rig->pool.call.calls("cuMemCreate");

	assert_int_equal(sem_init(&stop.open, 0, 0), 0);
	worker_post(control, &stop.job);
	for (size_t i = 0; i < 2; i++)
		commit_start(commits[i], region_rig_op_over, &outcomes[i]);
	worker_post(control, &witness.job);
	sem_post(&stop.open);

	for (size_t i = 0; i < 2; i++) {
		pool_run(&rig->pool, region_rig_is_over, &outcomes[i]);
		assert_int_equal(outcomes[i].status, HBM_OK);
	}

	pool_run(&rig->pool, witness_is_over, &witness);
	assert_int_equal(witness.made - before, SLABS_PER_TURN + 1);
	sem_destroy(&stop.open);
}

static void others_emptied(struct regions *regions)
{
	(void)regions;
}

/* Of two sessions: the short one's slab is made while most of the long one's are not. */
static void a_short_commit_beside_a_long_one(void **state)
{
	struct region_rig *rig = *state;
	struct regions others;
	struct region_outcome made = {0};
	struct commit *commits[2];

	regions_init(&others, &rig->payer);
	others.emptied = others_emptied;
	struct region *region = region_rig_make(rig, 0, LONG * SLAB, SLAB);
	assert_int_equal(region_create(&others, &rig->pool.devices->list[0], SLAB, SLAB,
				       region_rig_region_over, &made),
			 HBM_OK);
	pool_run(&rig->pool, region_rig_is_over, &made);

	struct hbm_wire_range ranges[] = {region_rig_range(region, 0, LONG),
					  region_rig_range(made.region, 0, 1)};
	assert_int_equal(commit_new(&commits[0], &rig->regions, &ranges[0], 1), HBM_OK);
	assert_int_equal(commit_new(&commits[1], &others, &ranges[1], 1), HBM_OK);
	commit_side_by_side(rig, commits);
	for (size_t i = 0; i < 2; i++)
		commit_free(commits[i]);

	assert_int_equal(regions_committed(&rig->regions), LONG * SLAB);
	assert_int_equal(regions_committed(&others), SLAB);
	regions_end(&others);
	regions_release(&others);
	pool_run(&rig->pool, list_is_empty, &others.all);
}

/* The second part of a range cannot be mapped, or passed on: the first is undone. */
static void a_long_commit_that_fails_late(void **state)
{
	static const struct {
		const char *call;
		unsigned nth;
	} tries[] = {{"cuMemCreate", 70},
		     {"cuMemMap", 90},
		     {"cuMemSetAccess", 2},
		     {"cuMemExportToShareableHandle", 64},
		     {"cuMemExportToShareableHandle", 65}};
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, LONG * SLAB, SLAB);

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		assert_int_equal(
			rig->pool.call.fail_nth(tries[i].call, tries[i].nth, CUDA_ERROR_UNKNOWN),
			0);
		assert_int_equal(region_rig_commit_slots(rig, region, 0, LONG), HBM_DEVICE);
		rig->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);

		assert_int_equal(regions_committed(&rig->regions), 0);
		assert_int_equal(rig->pool.call.live("mappings"), 0);
		pool_run(&rig->pool, pool_is_quiet, &rig->pool);
	}

	assert_int_equal(region_rig_commit_slots(rig, region, 0, LONG), HBM_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, region_rig_setup, region_rig_teardown)
#define LARGE(name)                                                                                \
	cmocka_unit_test_setup_teardown(name, region_rig_setup_large, region_rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(committed_memory_has_an_address),
		TEST(fds_come_in_the_order_of_the_ranges),
		TEST(each_region_gets_slabs_of_its_own_device_and_size),
		TEST(a_pool_that_is_named_again),
		TEST(bad_commits_change_nothing),
		TEST(more_than_the_pool_changes_nothing),
		TEST(two_commits_of_one_slot_do_not_meet),
		TEST(a_commit_under_way_fails_when_its_region_goes),
		TEST(a_client_dies_at_every_step_of_a_commit),
		TEST(commit_survives_failing_devices),
		LARGE(a_long_commit_takes_turns),
		LARGE(a_short_commit_beside_a_long_one),
		LARGE(a_long_commit_that_fails_late),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
