/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/area.h"

#include "client/python/native/allocator.h"
#include "client/python/native/core.h"

#include <stdlib.h>
#include <string.h>

struct area *area_new(struct core *core, struct hbm_region *region, bool committed)
{
	uint64_t bytes = hbm_region_bytes(region), slab = hbm_region_slab(region);
	struct area *area = calloc(1, sizeof(*area));
	unsigned char *slabs = calloc(1, bytes / slab + 1);

	if (!area || !slabs) {
		free(area);
		free(slabs);
		PyErr_NoMemory();
		return NULL;
	}

	area->core = core;
	area->region = region;
	area->refs = 1;
	area->address = hbm_region_address(region);
	area->bytes = bytes;
	area->slab = slab;
	area->device = hbm_region_device(region);
	area->memory = hbm_region_host(region);
	area->slabs = slabs;
	memset(slabs, committed ? AREA_COMMITTED : AREA_EMPTY, bytes / slab);
	area->next = core->areas;
	core->areas = area;

	return area;
}

bool area_is_unused(const struct area *area, const char *what)
{
	if (area->views > 0)
		PyErr_Format(PyExc_BufferError, "cannot %s a region with %zd live views", what,
			     area->views);
	else if (area->pins > 0)
		PyErr_Format(PyExc_BufferError, "cannot %s a region that %d requests in flight use",
			     what, area->pins);
	else
		return true;

	return false;
}

static void area_leave(struct area *area)
{
	struct area **link = &area->core->areas;

	while (*link && *link != area)
		link = &(*link)->next;
	if (*link)
		*link = area->next;
}

bool area_close(struct area *area)
{
	struct hbm_region *region = area->region;
	struct call call;

	if (!region)
		return true;
	area->region = NULL; /* with the GIL: from now on no call is given it */
	if (area->allocation) {
		allocation_leave(area->core, area->allocation);
		return true;
	}
	if (!core_enter(&call, area->core))
		return false;

	return core_leave(&call, hbm_region_destroy(call.hbm, region)) == 0;
}

void area_unref(struct area *area)
{
	PyObject *type, *value, *trace;

	if (--area->refs > 0)
		return;

	/* It may be collected while an exception is on its way. */
	PyErr_Fetch(&type, &value, &trace);
	if (!area->core->closed && !area_close(area))
		PyErr_Clear();
	PyErr_Restore(type, value, trace);

	area_leave(area);
	free(area->slabs);
	free(area);
}

bool area_check(const struct area *area, uint64_t offset, uint64_t bytes)
{
	if (!area->region) {
		native_raise_closed("region");
		return false;
	}

	if (offset <= area->bytes && bytes <= area->bytes - offset)
		return true;
	PyErr_Format(PyExc_ValueError, "%llu bytes at %llu in a region of %llu",
		     (unsigned long long)bytes, (unsigned long long)offset,
		     (unsigned long long)area->bytes);

	return false;
}

bool area_can_be_seen(const struct area *area, uint64_t offset, uint64_t bytes)
{
	if (!area_check(area, offset, bytes))
		return false;
	if (area->memory && area_is_committed(area, offset, bytes))
		return true;

	PyErr_SetString(PyExc_BufferError, area->memory ? "the range is not committed throughout"
							: "the region is device memory");

	return false;
}

bool area_is_committed(const struct area *area, uint64_t offset, uint64_t bytes)
{
	if (bytes == 0)
		return true;
	for (uint64_t slab = offset / area->slab; slab <= (offset + bytes - 1) / area->slab; slab++)
		if (area->slabs[slab] == AREA_EMPTY)
			return false;
	return true;
}

bool area_is_read_only(const struct area *area, uint64_t offset, uint64_t bytes)
{
	if (area->read_only || bytes == 0)
		return area->read_only;
	for (uint64_t slab = offset / area->slab; slab <= (offset + bytes - 1) / area->slab; slab++)
		if (area->slabs[slab] == AREA_READ_ONLY)
			return true;
	return false;
}

void area_set(struct area *area, uint64_t offset, uint64_t bytes, enum area_slab slab)
{
	memset(&area->slabs[offset / area->slab], slab, bytes / area->slab);
}
