/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease: see lease.h. Address space is reserved and freed on the device's control worker, like everything that may take
 * the driver long; regions are freed only when such a job has ended, so nothing here frees one under its caller.
 */
#include "daemon/lease.h"

#include <assert.h>
#include <stdlib.h>

#include "daemon/checked.h"
#include "daemon/claim.h"
#include "daemon/region.h"

void leases_init(struct leases *leases)
{
	*leases = (struct leases){0};
	list_init(&leases->regions);
	list_init(&leases->waiting);
	for (size_t i = 0; i < LEASE_BUCKETS; i++)
		list_init(&leases->by_id[i]);
}

/* ---- Looking ---- */

struct region *lease_find(const struct leases *leases, uint32_t id)
{
	const struct list *bucket = &leases->by_id[id % LEASE_BUCKETS];
	for (struct list *node = bucket->next; node != bucket; node = node->next) {
		struct region *region = container_of(node, struct region, by_id);
		if (region->id == id)
			return region;
	}
	return NULL;
}

struct device *lease_device(const struct region *region)
{
	return region->device;
}

struct device *leases_device(const struct leases *leases)
{
	const struct list *oldest = leases->regions.next;
	return list_empty(&leases->regions) ? NULL : container_of(oldest, const struct region, link)->device;
}

uint32_t lease_id(const struct region *region)
{
	return region->id;
}

uint64_t lease_reserve(const struct region *region)
{
	return region->reserve;
}

uint64_t lease_slab(const struct region *region)
{
	return region->slab;
}

int lease_address(const struct region *region, uint64_t offset, uint64_t bytes, CUdeviceptr *address)
{
	if (!checked_range(offset, bytes, region->reserve))
		return HBM_INVALID;
	uint64_t last = (offset + bytes - 1) / region->slab;
	for (uint64_t i = offset / region->slab; i <= last; i++)
		if (!region->slots[i].slab || region->slots[i].claim)
			return HBM_NOT_FOUND;
	*address = region->address + offset;
	return HBM_OK;
}

uint64_t leases_committed(const struct leases *leases)
{
	uint64_t bytes = 0;
	list_for_each (node, &leases->regions)
		bytes += container_of(node, struct region, link)->committed;
	return bytes;
}

bool leases_record(const struct leases *leases, size_t nth, struct hbm_wire_region *record)
{
	list_for_each (node, &leases->regions) {
		const struct region *region = container_of(node, struct region, link);
		if (nth-- > 0)
			continue;
		*record = (struct hbm_wire_region){
			.region = region->id,
			.device = region->device->index,
			.reserve = region->reserve,
			.slab = region->slab,
			.committed = region->committed,
		};
		return true;
	}
	return false;
}

/* ---- Holding ---- */

void lease_hold(struct region *region, uint64_t offset, uint64_t bytes)
{
	region->holds++;
	for (uint64_t i = offset / region->slab; i <= (offset + bytes - 1) / region->slab; i++)
		region->slots[i].holds++;
}

void lease_put(struct region *region, uint64_t offset, uint64_t bytes)
{
	assert(region->holds > 0);
	region->holds--;
	bool claimed = false;
	for (uint64_t i = offset / region->slab; i <= (offset + bytes - 1) / region->slab; i++) {
		struct slot *slot = &region->slots[i];
		assert(slot->holds > 0);
		claimed |= --slot->holds == 0 && slot->claim;
	}
	if (claimed || (region->holds == 0 && region->gone))
		leases_advance(region->leases);
}

/* ---- Closing ---- */

static void free_region(struct region *region)
{
	struct leases *leases = region->leases;
	list_remove(&region->by_id);
	list_remove(&region->link);
	leases->count--;
	leases->reserved -= region->reserve;
	free(region->slots);
	free(region);
	if (list_empty(&leases->regions) && leases->emptied)
		leases->emptied(leases);
}

static void close_done(struct job *job)
{
	struct region *region = container_of(job, struct region, job);
	if (region->result != CUDA_SUCCESS)
		device_failed(region->device, "cuMemAddressFree", region->result);
	if (region->done)
		region->done(region->arg, HBM_OK, NULL);
	free_region(region);
}

static void close_run(struct job *job)
{
	struct region *region = container_of(job, struct region, job);
	region->result = device_unreserve(region->device, region->address, region->reserve);
}

static void give_slabs(struct region *region)
{
	for (uint64_t i = 0; i < region->slot_count; i++) {
		struct slab *slab = region->slots[i].slab;
		region->slots[i].slab = NULL;
		if (slab)
			slab_unref(slab, region->quarantined);
	}
	region->committed = 0;
}

static void close_unmapped(struct mapping *mapping)
{
	struct region *region = container_of(mapping, struct region, mapping);
	give_slabs(region);
	region->job.run = close_run;
	region->job.done = close_done;
	worker_post(region->device->control, &region->job);
}

static void close_region(struct region *region)
{
	region->closing = true;
	region->whole = (struct stretch){.region = region, .first = 0, .count = region->slot_count};
	region->mapping = (struct mapping){
		.device = region->device,
		.stretches = &region->whole,
		.stretch_count = 1,
		.done = close_unmapped,
	};
	mapping_unmap(&region->mapping);
}

static bool may_close(const struct region *region)
{
	return region->gone && !region->closing && region->holds == 0 && region->claims == 0 &&
	       (region->given_up || region->leases->released);
}

void leases_advance(struct leases *leases)
{
	list_for_each_safe (node, after, &leases->waiting) {
		struct lease_wait *wait = container_of(node, struct lease_wait, link);
		wait->retry(wait);
	}
	list_for_each (node, &leases->regions) {
		struct region *region = container_of(node, struct region, link);
		if (may_close(region))
			close_region(region);
	}
}

int lease_destroy(struct leases *leases, uint32_t id, lease_done *done, void *arg)
{
	struct region *region = lease_find(leases, id);
	if (!region)
		return HBM_NOT_FOUND;
	list_remove(&region->by_id);
	region->gone = region->given_up = true;
	region->done = done;
	region->arg = arg;
	leases_advance(leases);
	return HBM_OK;
}

/* Slots under a claim are left to the operation that claimed them: it sees that the region is gone. */
static void quarantine(struct region *region)
{
	region->quarantined = true;
	for (uint64_t i = 0; i < region->slot_count; i++)
		if (region->slots[i].slab && !region->slots[i].claim)
			slab_quarantine(region->slots[i].slab);
}

void leases_end(struct leases *leases)
{
	leases->ended = true;
	list_for_each (node, &leases->regions) {
		struct region *region = container_of(node, struct region, link);
		if (region->gone)
			continue;
		region->gone = true;
		list_remove(&region->by_id);
		quarantine(region);
	}
	leases_advance(leases);
}

void leases_release(struct leases *leases)
{
	leases->released = true;
	leases_advance(leases);
}

/* ---- Creating ---- */

static void create_run(struct job *job)
{
	struct region *region = container_of(job, struct region, job);
	region->result = region->device->driver->cuMemAddressReserve(&region->address, region->reserve, 0, 0, 0);
}

static void create_done(struct job *job)
{
	struct region *region = container_of(job, struct region, job);
	struct leases *leases = region->leases;
	lease_done *done = region->done;
	region->done = NULL;
	region->claims--;
	if (region->result != CUDA_SUCCESS) {
		done(region->arg, device_failed(region->device, "cuMemAddressReserve", region->result), NULL);
		free_region(region);
		return;
	}
	if (leases->ended) {
		region->gone = region->given_up = true;
		done(region->arg, HBM_SHUTDOWN, NULL);
		leases_advance(leases);
		return;
	}
	list_push_back(&leases->by_id[region->id % LEASE_BUCKETS], &region->by_id);
	done(region->arg, HBM_OK, region);
}

static uint32_t new_id(struct leases *leases)
{
	do
		leases->last_id++;
	while (leases->last_id == 0 || lease_find(leases, leases->last_id));
	return leases->last_id;
}

static int check_creation(const struct leases *leases, const struct device *device, uint64_t reserve, uint64_t slab,
			  const struct lease_limits *limits)
{
	uint64_t reserved;
	if (!slabs_is_size(slab) || slab % device->granularity != 0 || reserve == 0 || reserve % slab != 0)
		return HBM_INVALID;
	if (leases->count >= limits->regions || !checked_add(leases->reserved, reserve, &reserved) ||
	    reserved > limits->reserve)
		return HBM_LIMIT;
	return HBM_OK;
}

static struct region *region_new(struct leases *leases, struct device *device, uint64_t reserve, uint64_t slab)
{
	struct region *region = calloc(1, sizeof(*region));
	if (!region)
		return NULL;
	region->slot_count = reserve / slab;
	region->slots = calloc(region->slot_count, sizeof(*region->slots));
	if (!region->slots) {
		free(region);
		return NULL;
	}
	region->leases = leases;
	region->device = device;
	region->reserve = reserve;
	region->slab = slab;
	list_init(&region->by_id);
	return region;
}

int lease_create(struct leases *leases, struct device *device, uint64_t reserve, uint64_t slab,
		 const struct lease_limits *limits, lease_done *done, void *arg)
{
	slab = slab ? slab : slabs_default(device->slabs);
	int status = check_creation(leases, device, reserve, slab, limits);
	if (status != HBM_OK)
		return status;
	struct region *region = region_new(leases, device, reserve, slab);
	if (!region)
		return HBM_NO_SPACE;
	region->id = new_id(leases);
	region->done = done;
	region->arg = arg;
	region->claims = 1;
	list_push_back(&leases->regions, &region->link);
	leases->count++;
	leases->reserved += reserve;
	region->job.run = create_run;
	region->job.done = create_done;
	worker_post(device->control, &region->job);
	return HBM_OK;
}
