/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapping: see mapping.h. Access is set and mappings are removed for whole runs of slots
 * at once, because each such call costs tens of microseconds whatever its length.
 */
#include "daemon/region/mapping.h"

#include <unistd.h>

#include "daemon/base/fdpass.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot.h"

static bool mapping_includes(const struct mapping *mapping, const struct slot_run *run)
{
	const struct region *region = run->region;
	return region->device == mapping->device &&
	       (mapping->slab == 0 || region->slab == mapping->slab);
}

static CUdeviceptr mapping_slot_address(const struct region *region, uint64_t slot)
{
	return region->address + slot * region->slab;
}

/* Unmaps a run of occupied slots. */
static void mapping_unmap_occupied(const struct region *region, uint64_t first, uint64_t count)
{
	const struct device *device = region->device;
	if (device->driver->cuMemUnmap(mapping_slot_address(region, first), count * region->slab) ==
	    CUDA_SUCCESS)
		return;

	for (uint64_t i = first; i < first + count; i++)
		if (device_unmap(device, mapping_slot_address(region, i), region->slab) !=
		    CUDA_SUCCESS)
			region->slots[i].slab->stuck = true;
}

/* A stuck slab stays mapped: copies may use it. */
static bool mapping_may_unmap(const struct slot *slot)
{
	return slot->slab && !slot->slab->stuck;
}

static void mapping_unmap_slots(const struct region *region, uint64_t first, uint64_t count)
{
	uint64_t end = first + count;
	while (first < end) {
		uint64_t run = first;
		while (run < end && mapping_may_unmap(&region->slots[run]))
			run++;
		if (run > first)
			mapping_unmap_occupied(region, first, run - first);
		first = run + 1;
	}
}

static CUresult mapping_map_slots(struct mapping *mapping, const struct slot_run *run,
				  uint64_t *mapped)
{
	const struct region *region = run->region;
	const struct driver *driver = region->device->driver;

	mapping->call = "cuMemMap";

	for (; *mapped < run->count; (*mapped)++) {
		uint64_t slot = run->first + *mapped;
		CUresult r = driver->cuMemMap(mapping_slot_address(region, slot), region->slab, 0,
					      region->slots[slot].slab->handle, 0);
		if (r != CUDA_SUCCESS)
			return r;
	}

	mapping->call = "cuMemSetAccess";

	return device_allow(region->device, mapping_slot_address(region, run->first),
			    run->count * region->slab);
}

static CUresult mapping_export_slots(struct mapping *mapping, const struct slot_run *run)
{
	const struct region *region = run->region;
	mapping->call = "cuMemExportToShareableHandle";
	for (uint64_t i = 0; i < run->count; i++) {
		CUresult r = region->device->driver->cuMemExportToShareableHandle(
			&mapping->fds[run->at + i], region->slots[run->first + i].slab->handle,
			CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
		if (r != CUDA_SUCCESS) {
			mapping->lacks_fds = fdpass_exhausted();
			mapping->fds[run->at + i] = -1;
			return r;
		}
	}

	return CUDA_SUCCESS;
}

static void mapping_undo_run(struct mapping *mapping, const struct slot_run *run, uint64_t mapped)
{
	mapping_unmap_slots(run->region, run->first, mapped);
	for (uint64_t i = 0; i < run->count; i++) {
		int *fd = &mapping->fds[run->at + i];
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
}

static CUresult mapping_map_run(struct mapping *mapping, const struct slot_run *run)
{
	uint64_t mapped = 0;
	CUresult r = mapping_map_slots(mapping, run, &mapped);
	if (r == CUDA_SUCCESS)
		r = mapping_export_slots(mapping, run);
	if (r != CUDA_SUCCESS)
		mapping_undo_run(mapping, run, mapped);

	return r;
}

static void mapping_map_job_run(struct job *job)
{
	struct mapping *mapping = container_of(job, struct mapping, job);

	mapping->result = CUDA_SUCCESS;
	size_t i = 0;
	for (; i < mapping->run_count && mapping->result == CUDA_SUCCESS; i++)
		if (mapping_includes(mapping, &mapping->runs[i]))
			mapping->result = mapping_map_run(mapping, &mapping->runs[i]);

	if (mapping->result == CUDA_SUCCESS)
		return;

	/* The last one has undone itself. */
	for (size_t k = 0; k + 1 < i; k++)
		if (mapping_includes(mapping, &mapping->runs[k]))
			mapping_undo_run(mapping, &mapping->runs[k], mapping->runs[k].count);
}

static void mapping_unmap_job_run(struct job *job)
{
	struct mapping *mapping = container_of(job, struct mapping, job);
	mapping->result = CUDA_SUCCESS;
	for (size_t i = 0; i < mapping->run_count; i++)
		if (mapping_includes(mapping, &mapping->runs[i]))
			mapping_unmap_slots(mapping->runs[i].region, mapping->runs[i].first,
					    mapping->runs[i].count);
}

static void mapping_done(struct job *job)
{
	struct mapping *mapping = container_of(job, struct mapping, job);
	mapping->done(mapping);
}

static void mapping_post(struct mapping *mapping, void (*run)(struct job *job))
{
	mapping->job.run = run;
	mapping->job.done = mapping_done;
	worker_post(mapping->device->control, &mapping->job);
}

void mapping_map(struct mapping *mapping)
{
	mapping_post(mapping, mapping_map_job_run);
}

void mapping_unmap(struct mapping *mapping)
{
	mapping_post(mapping, mapping_unmap_job_run);
}
