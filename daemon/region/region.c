/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region: see region.h. Address space is reserved and freed on the device's control
 * worker, like every call that may keep the driver busy for long. Regions are freed only
 * when such a job completes, so nothing here frees a region under its caller.
 */
#include "daemon/region/region.h"

#include <assert.h>
#include <stdlib.h>

#include "daemon/base/checked.h"
#include "daemon/region/mapping.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot.h"

static void region_check_emptied(struct regions *regions)
{
	if (regions_is_empty(regions) && regions->emptied)
		regions->emptied(regions);
}

static void region_holder_settled(struct holder *holder)
{
	region_check_emptied(container_of(holder, struct regions, holder));
}

void regions_init(struct regions *regions, struct payer *payer)
{
	*regions = (struct regions){.payer = payer};
	holder_init(&regions->holder, payer);
	regions->holder.settled = region_holder_settled;
	list_init(&regions->all);
	list_init(&regions->waiting);
	for (size_t i = 0; i < REGION_BUCKETS; i++)
		list_init(&regions->by_id[i]);
}

bool regions_is_empty(const struct regions *regions)
{
	return list_empty(&regions->all) && holder_is_settled(&regions->holder);
}

/* ---- Look up ---- */

struct region *region_find(const struct regions *regions, uint32_t id)
{
	const struct list *bucket = &regions->by_id[id % REGION_BUCKETS];
	for (struct list *node = bucket->next; node != bucket; node = node->next) {
		struct region *region = container_of(node, struct region, by_id);
		if (region->id == id)
			return region;
	}

	return NULL;
}

struct device *region_device(const struct region *region)
{
	return region->device;
}

struct device *regions_device(const struct regions *regions)
{
	const struct list *oldest = regions->all.next;
	return list_empty(&regions->all) ? NULL
					 : container_of(oldest, const struct region, link)->device;
}

uint32_t region_id(const struct region *region)
{
	return region->id;
}

uint64_t region_address_space(const struct region *region)
{
	return region->address_space;
}

uint64_t region_slab(const struct region *region)
{
	return region->slab;
}

int region_address(const struct region *region, uint64_t offset, uint64_t bytes,
		   CUdeviceptr *address)
{
	if (!checked_range(offset, bytes, region->address_space))
		return HBM_INVALID;

	uint64_t last = (offset + bytes - 1) / region->slab;
	for (uint64_t i = offset / region->slab; i <= last; i++)
		if (!region->slots[i].slab || region->slots[i].claim)
			return HBM_NOT_FOUND;

	*address = region->address + offset;

	return HBM_OK;
}

uint64_t regions_reserved(const struct regions *regions)
{
	uint64_t bytes = 0;
	list_for_each (node, &regions->all)
		bytes += container_of(node, struct region, link)->address_space;
	return bytes;
}

uint64_t regions_committed(const struct regions *regions)
{
	uint64_t bytes = 0;
	list_for_each (node, &regions->all)
		bytes += container_of(node, struct region, link)->committed;
	return bytes;
}

uint32_t regions_records(const struct regions *regions, uint32_t from,
			 struct hbm_wire_region *records, uint32_t room, uint32_t *next)
{
	uint32_t count = 0;

	*next = 0;
	list_for_each (node, &regions->all) {
		const struct region *region = container_of(node, struct region, link);
		if (region->id < from)
			continue;

		if (count == room) {
			*next = region->id;
			break;
		}

		records[count++] = (struct hbm_wire_region){
			.region = region->id,
			.device = region->device->index,
			.address_space = region->address_space,
			.slab = region->slab,
			.committed = region->committed,
		};
	}

	return count;
}

/* ---- Use ---- */

void region_use(struct region *region, uint64_t offset, uint64_t bytes)
{
	region->users++;
	for (uint64_t i = offset / region->slab; i <= (offset + bytes - 1) / region->slab; i++)
		region->slots[i].users++;
}

void region_keep(struct region *region, uint64_t offset, uint64_t bytes)
{
	for (uint64_t i = offset / region->slab; i <= (offset + bytes - 1) / region->slab; i++)
		region->slots[i].slab->stuck = true;
}

void region_unuse(struct region *region, uint64_t offset, uint64_t bytes)
{
	assert(region->users > 0);
	region->users--;
	bool claimed = false;
	for (uint64_t i = offset / region->slab; i <= (offset + bytes - 1) / region->slab; i++) {
		struct slot *slot = &region->slots[i];
		assert(slot->users > 0);
		claimed |= --slot->users == 0 && slot->claim;
	}

	if (claimed || (region->users == 0 && region->gone))
		regions_advance(region->regions);
}

/* ---- Close ---- */

static void region_free(struct region *region)
{
	ledger_release(&region->address_charge);
	ledger_release(&region->count_charge);
	free(region->backed);
	free(region->slots);
	free(region);
}

static void region_free_region(struct region *region)
{
	struct regions *regions = region->regions;

	list_remove(&region->by_id);
	list_remove(&region->link);
	region_free(region);
	region_check_emptied(regions);
}

static void region_close_done(struct job *job)
{
	struct region *region = container_of(job, struct region, job);
	region_done *done = region->done;
	void *arg = region->arg;

	if (region->result != CUDA_SUCCESS)
		device_failed(region->device, "cuMemAddressFree", region->result);

	/* First: who hears of the end may make another region in its place. */
	region_free_region(region);
	if (done)
		done(arg, HBM_OK, NULL);
}

static void region_close_run(struct job *job)
{
	struct region *region = container_of(job, struct region, job);
	region->result = device_unreserve(region->device, region->address, region->address_space);
}

static void region_free_slabs(struct region *region)
{
	for (uint64_t i = 0; (i = slot_next_backed(region, i)) < region->slot_count; i++) {
		struct slab *slab = region->slots[i].slab;

		slot_set_slab(region, i, NULL);
		slab_unref(slab, region->quarantined);
	}

	region->committed = 0;
}

static void region_close_unmapped(struct mapping *mapping)
{
	struct region *region = container_of(mapping, struct region, mapping);
	region_free_slabs(region);
	region->job.run = region_close_run;
	region->job.done = region_close_done;
	worker_post(region->device->control, &region->job);
}

static void region_close_region(struct region *region)
{
	region->closing = true;
	region->whole =
		(struct slot_run){.region = region, .first = 0, .count = region->slot_count};
	region->mapping = (struct mapping){
		.device = region->device,
		.runs = &region->whole,
		.run_count = 1,
		.done = region_close_unmapped,
	};
	mapping_unmap(&region->mapping);
}

static bool region_may_close(const struct region *region)
{
	return region->gone && !region->closing && region->users == 0 && region->claims == 0 &&
	       (region->given_up || region->regions->released);
}

void regions_advance(struct regions *regions)
{
	list_for_each_safe (node, after, &regions->waiting) {
		struct region_wait *wait = container_of(node, struct region_wait, link);
		wait->retry(wait);
	}
	list_for_each (node, &regions->all) {
		struct region *region = container_of(node, struct region, link);
		if (region_may_close(region))
			region_close_region(region);
	}
}

int region_destroy(struct regions *regions, uint32_t id, region_done *done, void *arg)
{
	struct region *region = region_find(regions, id);
	if (!region)
		return HBM_NOT_FOUND;

	list_remove(&region->by_id);
	region->gone = region->given_up = true;
	region->done = done;
	region->arg = arg;
	regions_advance(regions);

	return HBM_OK;
}

/* Skips claimed slots: the operation that claimed them sees that the region is gone. */
static void region_quarantine(struct region *region)
{
	region->quarantined = true;
	for (uint64_t i = 0; (i = slot_next_backed(region, i)) < region->slot_count; i++)
		if (!region->slots[i].claim)
			slab_quarantine(region->slots[i].slab);
}

void regions_end(struct regions *regions)
{
	regions->ended = true;
	list_for_each (node, &regions->all) {
		struct region *region = container_of(node, struct region, link);
		if (region->gone)
			continue;

		region->gone = true;
		list_remove(&region->by_id);
		region_quarantine(region);

		/* Without memory there is nothing that the process could write to. */
		region->given_up = region->committed == 0 && region->claims == 0;
	}

	regions_advance(regions);
}

void regions_release(struct regions *regions)
{
	regions->released = true;
	holder_end(&regions->holder);
	regions_advance(regions);
}

/* ---- Create ---- */

static void region_create_run(struct job *job)
{
	struct region *region = container_of(job, struct region, job);
	region->result = region->device->driver->cuMemAddressReserve(
		&region->address, region->address_space, 0, 0, 0);
}

static void region_create_done(struct job *job)
{
	struct region *region = container_of(job, struct region, job);
	struct regions *regions = region->regions;
	region_done *done = region->done;
	void *arg = region->arg;

	region->done = NULL;
	region->claims--;

	if (region->result != CUDA_SUCCESS) {
		int status = device_failed(region->device, "cuMemAddressReserve", region->result);
		region_free_region(region);
		done(arg, status, NULL);
		return;
	}

	if (regions->ended) {
		region->gone = region->given_up = true;
		done(arg, HBM_SHUTDOWN, NULL);
		regions_advance(regions);
		return;
	}

	list_push_back(&regions->by_id[region->id % REGION_BUCKETS], &region->by_id);
	done(arg, HBM_OK, region);
}

static uint32_t region_new_id(struct regions *regions)
{
	do
		regions->last_id++;
	while (regions->last_id == 0 || region_find(regions, regions->last_id));
	return regions->last_id;
}

/* Before anything is allocated: address_space may be any number. */
static int region_check_creation(const struct regions *regions, const struct device *device,
				 uint64_t address_space, uint64_t slab)
{
	if (!slabs_is_size(slab) || slab % device->granularity != 0 || address_space == 0 ||
	    address_space % slab != 0)
		return HBM_INVALID;

	return ledger_check(regions->payer, LEDGER_REGIONS, 1) &&
			       ledger_check(regions->payer, LEDGER_ADDRESS_SPACE, address_space)
		       ? HBM_OK
		       : HBM_LIMIT;
}

static struct region *region_new(struct regions *regions, struct device *device,
				 uint64_t address_space, uint64_t slab)
{
	struct region *region = calloc(1, sizeof(*region));
	if (!region)
		return NULL;

	region->slot_count = address_space / slab;
	region->slots = calloc(region->slot_count, sizeof(*region->slots));
	region->backed = calloc(region->slot_count / SLOT_BITS + 1, sizeof(*region->backed));
	if (!region->slots || !region->backed) {
		free(region->backed);
		free(region->slots);
		free(region);
		return NULL;
	}

	region->regions = regions;
	region->device = device;
	region->address_space = address_space;
	region->slab = slab;
	list_init(&region->by_id);

	return region;
}

int region_create(struct regions *regions, struct device *device, uint64_t address_space,
		  uint64_t slab, region_done *done, void *arg)
{
	slab = slab ? slab : slabs_default(device->slabs);
	int status = region_check_creation(regions, device, address_space, slab);
	if (status != HBM_OK)
		return status;

	struct region *region = region_new(regions, device, address_space, slab);
	if (!region)
		return HBM_NO_SPACE;

	region->id = region_new_id(regions);
	region->done = done;
	region->arg = arg;
	region->claims = 1;
	list_push_back(&regions->all, &region->link);
	ledger_charge_always(&region->count_charge, regions->payer, LEDGER_REGIONS, 1);
	ledger_charge_always(&region->address_charge, regions->payer, LEDGER_ADDRESS_SPACE,
			     address_space);
	region->job.run = region_create_run;
	region->job.done = region_create_done;
	worker_post(device->control, &region->job);

	return HBM_OK;
}
