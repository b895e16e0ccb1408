/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region: see region.h. Address space is reserved and freed on the device's control
 * worker, like every call that may keep the driver busy for long. Regions are freed only
 * when such a job completes, so nothing here frees a region under its caller.
 */
#include "daemon/region/region.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/checked.h"
#include "daemon/region/mapping.h"
#include "daemon/region/region_kept.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot.h"
#include "daemon/region/slot_recount.h"

static void region_check_emptied(struct regions *regions)
{
	if (regions_is_empty(regions) && regions->emptied)
		regions->emptied(regions);
}

static void region_holder_settled(struct holder *holder)
{
	region_check_emptied(container_of(holder, struct regions, holder));
}

static void region_borrower_settled(struct borrower *borrower)
{
	region_check_emptied(container_of(borrower, struct regions, borrower));
}

void regions_init(struct regions *regions, struct payer *payer)
{
	*regions = (struct regions){.payer = payer};
	holder_init(&regions->holder, payer);
	borrower_init(&regions->borrower, payer, &regions->holder);
	regions->holder.settled = region_holder_settled;
	regions->borrower.settled = region_borrower_settled;
	list_init(&regions->all);
	list_init(&regions->promises);
	list_init(&regions->waiting);
	list_init(&regions->gave_back);
	for (size_t i = 0; i < REGION_BUCKETS; i++)
		list_init(&regions->by_id[i]);
}

bool regions_is_empty(const struct regions *regions)
{
	return list_empty(&regions->all) && borrower_is_empty(&regions->borrower) &&
	       holder_is_settled(&regions->holder);
}

/* ---- Promises ---- */

struct promise *regions_promise(struct regions *regions, struct device *device)
{
	list_for_each (node, &regions->promises) {
		struct promise *promise = container_of(node, struct promise, by_session);
		if (promise->device == device->index)
			return promise;
	}

	struct promise *promise =
		promise_new(slabs_promises(device->slabs), device->index, regions->user);
	if (!promise)
		return NULL;

	list_push_back(&regions->promises, &promise->by_session);
	if (slabs_keep_promise(device->slabs, promise, regions->holder.session) == HBM_OK)
		return promise;

	promise_end(promise);

	return NULL;
}

struct regions_promised regions_promised(const struct regions *regions)
{
	struct regions_promised sum = {0};

	list_for_each (node, &regions->promises) {
		const struct promise *promise = container_of(node, struct promise, by_session);

		sum.reserved += promise->reserved;
		sum.outstanding += promise_outstanding(promise);
		sum.left += promise->left;
	}

	return sum;
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
	return regions->device;
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

bool region_is_guest(const struct region *region)
{
	return region->guest.kind != 0;
}

int region_address(const struct region *region, uint64_t offset, uint64_t bytes,
		   CUdeviceptr *address)
{
	if (!checked_range(offset, bytes, region->address_space))
		return HBM_INVALID;

	uint64_t last = (offset + bytes - 1) / region->slab;
	for (uint64_t i = offset / region->slab; i <= last && !region_is_guest(region); i++)
		if (!region->slots[i].slab || region->slots[i].claim)
			return HBM_NOT_FOUND;

	*address = region->address + offset;

	return HBM_OK;
}

uint32_t region_slabs(const struct region *region, uint64_t offset, uint64_t bytes,
		      struct slab **slabs, uint32_t room)
{
	uint64_t first = offset / region->slab, count = bytes / region->slab;

	if (region_is_guest(region) || !is_aligned(offset, region->slab) ||
	    !is_aligned(bytes, region->slab) || count > room)
		return 0;

	for (uint64_t i = 0; i < count; i++) {
		const struct slot *slot = &region->slots[first + i];
		if (!slot->slab || slot->slab->stuck)
			return 0;
		slabs[i] = slot->slab;
	}

	return (uint32_t)count;
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
	return regions->leased;
}

static uint64_t region_backed(const struct region *region)
{
	uint64_t slots = 0;

	for (uint64_t i = 0; i * SLOT_BITS < region->slot_count; i++)
		slots += (uint64_t)__builtin_popcountll(region->backed[i]);

	return slots * region->slab - region->lent;
}

uint64_t regions_backed(const struct regions *regions, const struct device *device)
{
	uint64_t bytes = 0;

	list_for_each (node, &regions->all) {
		const struct region *region = container_of(node, struct region, link);

		if (region->device == device && !region_is_guest(region))
			bytes += region_backed(region);
	}

	return bytes;
}

uint64_t regions_attached(const struct regions *regions, const struct device *device)
{
	uint64_t count = 0;

	list_for_each (node, &regions->all) {
		const struct region *region = container_of(node, struct region, link);

		count += region->device == device && region->attached;
	}

	return count;
}

void region_record(const struct region *region, struct hbm_wire_region *record)
{
	*record = (struct hbm_wire_region){
		.region = region->id,
		.device = region->device->index,
		.address_space = region->address_space,
		.slab = region->slab,
		.committed = region->committed,
		.shared = region->shared,
		.lent = region->lent,
	};
	snprintf(record->guest, sizeof(record->guest), "%s", guest_kind_name(region->guest.kind));
	if (region->attached)
		memcpy(record->name, region->attached->name, sizeof(record->name));
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

		region_record(region, &records[count++]);
	}

	return count;
}

bool region_is_read_only(const struct region *region, uint64_t offset, uint64_t bytes)
{
	bool read_only = false;

	for (uint64_t i = offset / region->slab; i <= (offset + bytes - 1) / region->slab; i++)
		read_only |= region->slots[i].read_only;

	return read_only;
}

/* ---- Use ---- */

void region_use(struct region *region, uint64_t offset, uint64_t bytes)
{
	region->users++;
	for (uint64_t i = offset / region->slab; i <= (offset + bytes - 1) / region->slab; i++)
		region->slots[i].users++;
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

/* A descriptor without a record is let go by the next daemon. */
static void region_forget(struct region *region)
{
	const struct region_kept *kept = slabs_kept(region->device->slabs);
	uint32_t member = region->kept;

	region_kept_drop(kept, STATE_REGIONS, &region->kept);
	if (region->guest.kind == HBM_WIRE_GUEST_FD)
		region_kept_drop_guest(kept, member);
}

void region_discard(struct region *region)
{
	struct regions *regions = region->regions;
	struct publication *attached = region->attached;

	list_remove(&region->by_id);
	list_remove(&region->link);
	slot_recount_remove(slabs_slots(region->device->slabs), region);
	region_forget(region);
	region_free(region);
	if (attached) {
		attached->attached--;
		attached->settle(attached);
	}
	region_check_emptied(regions);
}

static void region_close_done(struct job *job)
{
	struct region *region = container_of(job, struct region, job);
	region_done *done = region->done;
	void *arg = region->arg;

	if (region->result != CUDA_SUCCESS)
		device_failed(region->device,
			      region_is_guest(region) ? region->guest.call : "cuMemAddressFree",
			      region->result);

	/* First: who hears of the end may make another region in its place. */
	region_discard(region);
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
		slot_empty(region, i, region->quarantined);
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

static void region_close_guest_run(struct job *job)
{
	struct region *region = container_of(job, struct region, job);

	guest_close(&region->guest);
	region->result = region->guest.result;
}

static void region_close_guest(struct region *region)
{
	region->job.run = region_close_guest_run;
	region->job.done = region_close_done;
	worker_post(region->device->control, &region->job);
}

static void region_close_region(struct region *region)
{
	region->closing = true;
	if (region_is_guest(region)) {
		region_close_guest(region);
		return;
	}

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
		if (!region->slots[i].claim && !region->slots[i].lent)
			slab_quarantine(region->slots[i].slab);
}

/* It is charged for nothing that it has given back of what is published. */
static void region_forget_gave_back(struct regions *regions)
{
	for (struct list *node; (node = list_pop_front(&regions->gave_back));)
		container_of(node, struct publication, by_regions)->last = NULL;
}

void regions_end(struct regions *regions)
{
	regions->ended = true;
	region_forget_gave_back(regions);
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

	/* What is quarantined is not had by a session that lives. */
	borrower_end(&regions->borrower);
	while (!list_empty(&regions->promises))
		slabs_end_promise(container_of(regions->promises.next, struct promise, by_session));
	regions_advance(regions);
}

void regions_release(struct regions *regions)
{
	regions->released = true;
	borrower_release(&regions->borrower);
	holder_end(&regions->holder);
	regions_advance(regions);
}
