/* SPDX-License-Identifier: Apache-2.0 */
/*
 * late_use: the use of a region by a late copy (device_late.c). It begins while the transfer
 * whose copy it is still uses the range, and ends when the copy is known to be over: a
 * decommit, and the region's end, wait for it as for any other. If that will never be known
 * it ends too, and what it used is stuck: it stays mapped in the daemon, and is not used again.
 */
#include <stdlib.h>

#include "daemon/region/region.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot.h"

struct late_use {
	struct late_listener listener;
	struct region *region;
	uint64_t offset, bytes;
	uint64_t mark;
};

static void late_use_stick(struct region *region, uint64_t offset, uint64_t bytes)
{
	if (region_is_guest(region)) {
		region->guest.kept = true;
		return;
	}

	for (uint64_t i = offset / region->slab; i <= (offset + bytes - 1) / region->slab; i++)
		region->slots[i].slab->stuck = true;
}

static void late_use_settled(struct late_listener *listener)
{
	struct late_use *use = container_of(listener, struct late_use, listener);
	const struct device *device = use->region->device;
	bool over = device_late_is_over(device, use->mark);

	if (!over && !device_late_never(device))
		return;

	list_remove(&use->listener.link);
	if (!over)
		late_use_stick(use->region, use->offset, use->bytes);
	region_unuse(use->region, use->offset, use->bytes);
	free(use);
}

void region_keep(struct region *region, uint64_t offset, uint64_t bytes)
{
	struct device *device = region->device;
	uint64_t mark = device_late_mark(device);
	struct late_use *use = device_late_never(device) ? NULL : malloc(sizeof(*use));
	if (!use) {
		late_use_stick(region, offset, bytes);
		return;
	}

	*use = (struct late_use){.listener.settled = late_use_settled,
				 .region = region,
				 .offset = offset,
				 .bytes = bytes,
				 .mark = mark};
	region_use(region, offset, bytes);
	device_late_listen(device, &use->listener);
}
