/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/share_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/device/device.h"
#include "daemon/region/commit.h"

struct hbm_wire_share share_rig_range(const struct region *source, uint64_t first,
				      const struct region *target, uint64_t to, uint64_t count)
{
	return (struct hbm_wire_share){
		.source = region_id(source),
		.target = region_id(target),
		.source_offset = first * region_slab(source),
		.target_offset = to * region_slab(target),
		.bytes = count * region_slab(source),
	};
}

int share_rig_share(struct region_rig *rig, const struct hbm_wire_share *shares, uint32_t count)
{
	struct region_outcome outcome = {0};
	struct commit *commit;
	int status = commit_new_share(&commit, &rig->regions, shares, count);
	if (status != HBM_OK)
		return status;

	commit_start(commit, region_rig_op_over, &outcome);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	commit_free(commit);

	return outcome.status;
}

int share_rig_slots(struct region_rig *rig, const struct region *source, uint64_t first,
		    const struct region *target, uint64_t to, uint64_t count)
{
	struct hbm_wire_share one = share_rig_range(source, first, target, to, count);
	return share_rig_share(rig, &one, 1);
}

void share_rig_put(const struct region *region, uint64_t slot, char byte)
{
	CUdeviceptr where;
	struct device *device = region_device(region);

	assert_int_equal(region_address(region, slot * SLAB, 1, &where), HBM_OK);
	assert_int_equal(device_enter(device), CUDA_SUCCESS);
	assert_int_equal(device->driver->cuMemcpyHtoD(where, &byte, 1), CUDA_SUCCESS);
}

char share_rig_get(const struct region *region, uint64_t slot)
{
	CUdeviceptr where;
	struct device *device = region_device(region);
	char byte = 0;

	assert_int_equal(region_address(region, slot * SLAB, 1, &where), HBM_OK);
	assert_int_equal(device_enter(device), CUDA_SUCCESS);
	assert_int_equal(device->driver->cuMemcpyDtoH(&byte, where, 1), CUDA_SUCCESS);

	return byte;
}

struct slabs_books share_rig_books(struct region_rig *rig)
{
	struct slabs *slabs = rig->pool.devices->list[0].slabs;

	assert_null(slabs_check(slabs));
	assert_int_equal(slabs_check_slots(slabs),
			 regions_backed(&rig->regions, &rig->pool.devices->list[0]));

	return slabs_books(slabs);
}

uint64_t share_rig_shared(struct region_rig *rig, const struct region *region)
{
	struct hbm_wire_region records[4];
	uint32_t next, count = regions_records(&rig->regions, 0, records, 4, &next);

	for (uint32_t i = 0; i < count; i++)
		if (records[i].region == region_id(region))
			return records[i].shared;

	fail();
	return 0;
}

bool share_rig_is_ready(void *arg)
{
	struct soft_pool *pool = arg;
	bool ready = pool_is_quiet(pool);
	for (uint32_t i = 0; i < 2; i++) {
		struct slabs_books books = slabs_books(pool->devices->list[i].slabs);
		ready = ready && books.uncreated < 4 * MIB && books.retiring == 0;
	}
	return ready;
}
