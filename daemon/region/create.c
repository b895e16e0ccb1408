/* SPDX-License-Identifier: Apache-2.0 */
/*
 * create: how regions begin, region_create(), _attach() and _import() of region.h. A region is
 * charged for and in its session's list from the first, and cannot be found before the control
 * worker has reserved its address space, or opened its client's memory. Its session may have
 * ended by then.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/region/region.h"
#include "daemon/region/region_kept.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot.h"
#include "daemon/region/slot_recount.h"

static void create_run(struct job *job)
{
	struct region *region = container_of(job, struct region, job);
	region->result = region->device->driver->cuMemAddressReserve(
		&region->address, region->address_space, 0, 0, 0);
}

static void create_run_import(struct job *job)
{
	guest_open(&container_of(job, struct region, job)->guest);
}

/* HBM_OK, or why there is no memory or address space. */
static int create_status(const struct region *region)
{
	if (region_is_guest(region))
		return guest_outcome(&region->guest, &region->why);
	return region->result == CUDA_SUCCESS
		       ? HBM_OK
		       : device_failed(region->device, "cuMemAddressReserve", region->result);
}

int region_write(struct region *region)
{
	const struct region_kept *kept = slabs_kept(region->device->slabs);
	struct kept_region body = {
		.session = region->session,
		.address_space = region->address_space,
		.slab = region->slab,
		.region = region->id,
		.attached = region->attached ? region->attached->region->id : 0,
		.guest = region->guest.kind,
		.read_only = region->attached_read_only,
	};

	memcpy(body.uuid, region->device->uuid.bytes, sizeof(body.uuid));
	if (region->guest.kind == HBM_WIRE_GUEST_IPC)
		memcpy(body.handle, &region->guest.handle, sizeof(body.handle));
	region_kept_number(kept, region->id);
	int status = region_kept_add(kept, STATE_REGIONS, &body, 0, &region->kept);
	if (status == HBM_OK && region->guest.kind == HBM_WIRE_GUEST_FD)
		status = region_kept_park_guest(kept, region->kept, region->guest.fd);

	return status;
}

static void create_done(struct job *job)
{
	struct region *region = container_of(job, struct region, job);
	struct regions *regions = region->regions;
	region_done *done = region->done;
	void *arg = region->arg;

	region->done = NULL;
	region->claims--;

	int status = create_status(region);
	if (status != HBM_OK) {
		region_discard(region);
		done(arg, status, NULL);
		return;
	}

	status = regions->ended ? HBM_SHUTDOWN : region_write(region);
	region->guest.fd = -1; /* its owner's from now on */
	if (status != HBM_OK) {
		region->gone = region->given_up = true;
		done(arg, status, NULL);
		regions_advance(regions);
		return;
	}

	if (region_is_guest(region))
		region->address = region->guest.address;
	list_push_back(&regions->by_id[region->id % REGION_BUCKETS], &region->by_id);
	done(arg, HBM_OK, region);
}

static uint32_t create_id(struct regions *regions)
{
	do
		regions->last_id++;
	while (regions->last_id == 0 || region_find(regions, regions->last_id));
	return regions->last_id;
}

static int create_check_limits(const struct regions *regions, uint64_t address_space)
{
	return ledger_check(regions->payer, LEDGER_REGIONS, 1) &&
			       ledger_check(regions->payer, LEDGER_ADDRESS_SPACE, address_space)
		       ? HBM_OK
		       : HBM_LIMIT;
}

/* Before anything is allocated: address_space may be any number. */
static int create_check(const struct regions *regions, const struct device *device,
			uint64_t address_space, uint64_t slab)
{
	if (!slabs_is_size(slab) || slab % device->granularity != 0 || address_space == 0 ||
	    address_space % slab != 0)
		return HBM_INVALID;

	return create_check_limits(regions, address_space);
}

struct region *region_new(struct regions *regions, struct device *device, uint64_t address_space,
			  uint64_t slab)
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
	region->session = regions->holder.session;
	region->leased = &regions->leased;
	region->borrower = &regions->borrower;
	region->device = device;
	region->address_space = address_space;
	region->slab = slab;
	list_init(&region->by_id);
	region->id = create_id(regions);
	list_push_back(&regions->all, &region->link);
	if (!regions->device && device->index != HBM_WIRE_DEVICE_HOST)
		regions->device = device;
	slot_recount_add(slabs_slots(device->slabs), region);

	return region;
}

static void create_start(struct region *region, void (*run)(struct job *job), region_done *done,
			 void *arg)
{
	struct regions *regions = region->regions;

	region->done = done;
	region->arg = arg;
	region->claims = 1;
	ledger_charge_always(&region->count_charge, regions->payer, LEDGER_REGIONS, 1);
	ledger_charge_always(&region->address_charge, regions->payer, LEDGER_ADDRESS_SPACE,
			     region->address_space);
	region->job.run = run;
	region->job.done = create_done;
	worker_post(region->device->control, &region->job);
}

int region_create(struct regions *regions, struct device *device, uint64_t address_space,
		  uint64_t slab, region_done *done, void *arg)
{
	slab = slab ? slab : slabs_default(device->slabs);
	int status = create_check(regions, device, address_space, slab);
	if (status != HBM_OK)
		return status;

	struct region *region = region_new(regions, device, address_space, slab);
	if (!region)
		return HBM_NO_SPACE;

	create_start(region, create_run, done, arg);

	return HBM_OK;
}

int region_attach(struct regions *regions, struct publication *publication, bool read_only,
		  region_done *done, void *arg)
{
	const struct region *source = publication->region;
	int status = create_check_limits(regions, source->address_space);
	if (status != HBM_OK)
		return status;

	struct region *region =
		region_new(regions, source->device, source->address_space, source->slab);
	if (!region)
		return HBM_NO_SPACE;

	region->attached = publication;
	region->attached_read_only = read_only;
	publication->attached++;
	create_start(region, create_run, done, arg);

	return HBM_OK;
}

int region_import(struct regions *regions, struct device *device, const struct guest *guest,
		  const struct reason *why, region_done *done, void *arg)
{
	uint64_t unit = guest->kind == HBM_WIRE_GUEST_FD ? device->granularity : 1;
	if (guest->bytes == 0 || guest->bytes % unit != 0)
		return reason_set(why, HBM_INVALID, "bytes is %llu, expected a multiple of %llu",
				  (unsigned long long)guest->bytes, (unsigned long long)unit);

	int status = create_check_limits(regions, guest->bytes);
	if (status != HBM_OK)
		return status;

	struct region *region = region_new(regions, device, guest->bytes, guest->bytes);
	if (!region)
		return HBM_NO_SPACE;

	region->guest = *guest;
	region->guest.device = device;
	region->why = *why;
	create_start(region, create_run_import, done, arg);

	return HBM_OK;
}
