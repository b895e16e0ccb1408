/* SPDX-License-Identifier: Apache-2.0 */
/* region_rig: see region_rig.h. */
#include "tests/support/region_rig.h"

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

static void region_rig_emptied(struct regions *regions)
{
	container_of(regions, struct region_rig, regions)->emptied = true;
}

void region_rig_open(struct region_rig *rig)
{
	regions_init(&rig->regions, &rig->payer);
	rig->regions.emptied = region_rig_emptied;
	rig->emptied = false;
}

static int region_rig_setup_of(void **state, uint64_t budget)
{
	static struct region_rig rig;

	pool_open(&rig.pool, budget);
	rig.pool.config.limit_regions = 4;
	rig.pool.config.limit_address_space = 256 * MIB;
	ledger_open(&rig.ledger, &rig.pool.config);
	payer_open(&rig.payer, &rig.ledger, PAYER_SESSION);
	region_rig_open(&rig);
	*state = &rig;

	return 0;
}

int region_rig_setup(void **state)
{
	return region_rig_setup_of(state, REGION_RIG_BUDGET);
}

int region_rig_setup_large(void **state)
{
	int r = region_rig_setup_of(state, REGION_RIG_LARGE);
	struct region_rig *rig = *state;

	for (uint32_t i = 0; i < 2; i++)
		slabs_drain(rig->pool.devices->list[i].slabs);
	region_rig_settle(rig);

	return r;
}

bool region_rig_is_empty(void *arg)
{
	struct region_rig *rig = arg;
	return list_empty(&rig->regions.all);
}

void region_rig_assert_all_back(struct region_rig *rig)
{
	pool_run(&rig->pool, region_rig_is_empty, rig);
	pool_run(&rig->pool, pool_is_quiet, &rig->pool);
	assert_int_equal(ledger_used(&rig->payer, LEDGER_REGIONS), 0);
	assert_int_equal(ledger_used(&rig->payer, LEDGER_ADDRESS_SPACE), 0);

	for (uint32_t i = 0; i < 2; i++) {
		struct slabs_books books = slabs_books(rig->pool.devices->list[i].slabs);
		assert_int_equal(books.leased + books.quarantined, 0);
	}

	assert_int_equal(rig->pool.call.live("mappings"), 0);
	assert_int_equal(rig->pool.call.live("reservations"), 0);
}

int region_rig_teardown(void **state)
{
	struct region_rig *rig = *state;

	regions_end(&rig->regions);
	regions_release(&rig->regions);
	region_rig_assert_all_back(rig);
	payer_close(&rig->payer);
	pool_close(&rig->pool);

	return 0;
}

bool region_rig_is_over(void *arg)
{
	return ((struct region_outcome *)arg)->over;
}

void region_rig_region_over(void *arg, int status, struct region *region)
{
	*(struct region_outcome *)arg = (struct region_outcome){true, status, region};
}

void region_rig_op_over(void *arg, int status)
{
	*(struct region_outcome *)arg = (struct region_outcome){.over = true, .status = status};
}

int region_rig_create(struct region_rig *rig, uint32_t device, uint64_t address_space,
		      uint64_t slab, struct region **out)
{
	struct region_outcome outcome = {0};
	int status = region_create(&rig->regions, &rig->pool.devices->list[device], address_space,
				   slab, region_rig_region_over, &outcome);
	if (status != HBM_OK)
		return status;

	pool_run(&rig->pool, region_rig_is_over, &outcome);
	*out = outcome.region;

	return outcome.status;
}

struct region *region_rig_make(struct region_rig *rig, uint32_t device, uint64_t address_space,
			       uint64_t slab)
{
	struct region *region = NULL;
	assert_int_equal(region_rig_create(rig, device, address_space, slab, &region), HBM_OK);
	return region;
}

int region_rig_destroy(struct region_rig *rig, const struct region *region)
{
	struct region_outcome outcome = {0};
	int status =
		region_destroy(&rig->regions, region_id(region), region_rig_region_over, &outcome);
	if (status != HBM_OK)
		return status;

	pool_run(&rig->pool, region_rig_is_over, &outcome);

	return outcome.status;
}

int region_rig_commit(struct region_rig *rig, const struct hbm_wire_range *ranges, uint32_t count)
{
	struct commit *commit;
	struct region_outcome outcome = {0};
	int status = commit_new(&commit, &rig->regions, ranges, count);
	if (status != HBM_OK)
		return status;

	uint64_t slabs = commit_slabs(commit), got = 0;
	commit_start(commit, region_rig_op_over, &outcome);
	pool_run(&rig->pool, region_rig_is_over, &outcome);

	if (outcome.status == HBM_OK) {
		struct hbm_wire_range range;
		for (int fd; (fd = commit_next(commit, &range)) >= 0; got++)
			assert_int_equal(close(fd), 0);
		assert_int_equal(got, slabs);
	}

	commit_free(commit);

	return outcome.status;
}

int region_rig_decommit(struct region_rig *rig, const struct hbm_wire_range *ranges, uint32_t count)
{
	struct region_outcome outcome = {0};
	int status = decommit_start(&rig->regions, ranges, count, region_rig_op_over, &outcome);
	if (status != HBM_OK)
		return status;

	pool_run(&rig->pool, region_rig_is_over, &outcome);

	return outcome.status;
}

struct hbm_wire_range region_rig_range(const struct region *region, uint64_t first, uint64_t count)
{
	uint64_t slab = region_slab(region);
	return (struct hbm_wire_range){
		.region = region_id(region), .offset = first * slab, .bytes = count * slab};
}

int region_rig_commit_slots(struct region_rig *rig, const struct region *region, uint64_t first,
			    uint64_t count)
{
	return region_rig_commit(
		rig, (struct hbm_wire_range[]){region_rig_range(region, first, count)}, 1);
}

int region_rig_decommit_slots(struct region_rig *rig, const struct region *region, uint64_t first,
			      uint64_t count)
{
	return region_rig_decommit(
		rig, (struct hbm_wire_range[]){region_rig_range(region, first, count)}, 1);
}

int region_rig_address(const struct region *region, uint64_t offset, uint64_t bytes)
{
	CUdeviceptr where;
	return region_address(region, offset, bytes, &where);
}

struct region_rig_errand {
	struct job job;
	bool over;
};

static void region_rig_errand_run(struct job *job)
{
	(void)job;
}

static void region_rig_errand_done(struct job *job)
{
	container_of(job, struct region_rig_errand, job)->over = true;
}

static bool region_rig_errand_is_over(void *arg)
{
	return ((struct region_rig_errand *)arg)->over;
}

void region_rig_settle(struct region_rig *rig)
{
	struct region_rig_errand errand = {
		.job = {.run = region_rig_errand_run, .done = region_rig_errand_done}};
	worker_post(rig->pool.devices->list[0].control, &errand.job);
	pool_run(&rig->pool, region_rig_errand_is_over, &errand);
}
