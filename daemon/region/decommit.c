/* SPDX-License-Identifier: Apache-2.0 */
/* decommit: see decommit.h. One unmapping job per device; it ends when all jobs have
 * ended. */
#include "daemon/region/decommit.h"

#include <stdlib.h>

#include "daemon/region/claim.h"
#include "daemon/region/mapping.h"
#include "daemon/region/region.h"
#include "daemon/region/slab.h"

struct per_device {
	struct decommit *decommit;
	struct mapping mapping;
};

struct decommit {
	struct claim claim;
	struct region_wait wait;
	struct per_device *per_devices; /* [claim.count] allocated */
	size_t per_device_count, pending;
	void (*done)(void *arg, int status);
	void *arg;
};

static void decommit_empty_run(const struct slot_run *run)
{
	for (uint64_t k = 0; k < run->count; k++)
		slot_empty(run->region, run->first + k, false);

	run->region->committed -= run->count * run->region->slab;
}

static void decommit_finish(struct decommit *decommit)
{
	for (size_t i = 0; i < decommit->claim.count; i++)
		decommit_empty_run(&decommit->claim.runs[i]);

	claim_drop(&decommit->claim);
	decommit->done(decommit->arg, HBM_OK);
	free(decommit->per_devices);
	free(decommit);
}

static void decommit_unmapped(struct mapping *mapping)
{
	struct decommit *decommit = container_of(mapping, struct per_device, mapping)->decommit;
	if (--decommit->pending == 0)
		decommit_finish(decommit);
}

static void decommit_add_device(struct decommit *decommit, struct device *device)
{
	for (size_t i = 0; i < decommit->per_device_count; i++)
		if (decommit->per_devices[i].mapping.device == device)
			return;

	struct per_device *per_device = &decommit->per_devices[decommit->per_device_count++];
	per_device->decommit = decommit;
	per_device->mapping = (struct mapping){
		.device = device,
		.runs = decommit->claim.runs,
		.run_count = decommit->claim.count,
		.done = decommit_unmapped,
	};
}

static void decommit_begin(struct region_wait *wait)
{
	struct decommit *decommit = container_of(wait, struct decommit, wait);
	if (claim_is_used(&decommit->claim))
		return;

	list_remove(&wait->link);
	for (size_t i = 0; i < decommit->claim.count; i++)
		decommit_add_device(decommit, decommit->claim.runs[i].region->device);
	decommit->pending = decommit->per_device_count;
	for (size_t i = 0; i < decommit->per_device_count; i++)
		mapping_unmap(&decommit->per_devices[i].mapping);
}

uint64_t decommit_bytes(uint32_t count)
{
	return sizeof(struct decommit) +
	       count * (sizeof(struct slot_run) + sizeof(struct per_device));
}

int decommit_start(struct regions *regions, const struct hbm_wire_range *ranges, uint32_t count,
		   void (*done)(void *arg, int status), void *arg)
{
	struct decommit *decommit = calloc(1, sizeof(*decommit));
	struct per_device *per_devices = calloc(count, sizeof(*per_devices));
	int status = decommit && per_devices
			     ? claim_make(&decommit->claim, regions, ranges, count, CLAIM_COMMITTED)
			     : HBM_NO_SPACE;
	if (status != HBM_OK) {
		free(per_devices);
		free(decommit);
		return status;
	}

	decommit->per_devices = per_devices;
	decommit->done = done;
	decommit->arg = arg;
	decommit->wait.retry = decommit_begin;
	list_push_back(&regions->waiting, &decommit->wait.link);
	decommit_begin(&decommit->wait);

	return HBM_OK;
}
