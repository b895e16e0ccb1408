/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapping: see mapping.h. Access is set and mappings are removed for whole runs of slots
 * at once, because each such call costs tens of microseconds whatever its length; but for
 * no more than SLABS_PER_TURN slabs before other jobs of the worker have their turn.
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

/* Unmaps up to `most` slabs of a run from its slot `*at` on, and moves that: how many. */
static uint64_t mapping_unmap_some(const struct slot_run *run, uint64_t *at, uint64_t most)
{
	const struct region *region = run->region;
	uint64_t unmapped = 0;

	while (*at < run->count && unmapped < most) {
		uint64_t first = run->first + *at, count = 0;
		while (*at + count < run->count && unmapped + count < most &&
		       mapping_may_unmap(&region->slots[first + count]))
			count++;

		if (count > 0)
			mapping_unmap_occupied(region, first, count);
		unmapped += count;
		*at += count > 0 ? count : 1;
	}

	return unmapped;
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
	for (uint64_t i = 0; mapping->fds && i < run->count; i++) {
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

static void mapping_close_fds(struct mapping *mapping, const struct slot_run *run)
{
	for (uint64_t i = 0; mapping->fds && i < run->count; i++) {
		int *fd = &mapping->fds[run->at + i];
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
}

/* Maps part of a run, or nothing of it. */
static CUresult mapping_map_part(struct mapping *mapping, const struct slot_run *part)
{
	uint64_t mapped = 0, at = 0;
	CUresult r = mapping_map_slots(mapping, part, &mapped);
	if (r == CUDA_SUCCESS)
		r = mapping_export_slots(mapping, part);
	if (r == CUDA_SUCCESS)
		return r;

	const struct slot_run undone = {part->region, part->first, mapped, part->at};
	mapping_unmap_some(&undone, &at, mapped);
	mapping_close_fds(mapping, part);

	return r;
}

/* The run that the mapping has come to; NULL: it is through. */
static const struct slot_run *mapping_current(struct mapping *mapping)
{
	while (mapping->run < mapping->run_count) {
		const struct slot_run *run = &mapping->runs[mapping->run];
		if (mapping_includes(mapping, run) && mapping->slot < run->count)
			return run;

		mapping->run++;
		mapping->slot = 0;
	}

	return NULL;
}

/* Unmaps what was mapped before a part failed: all up to run and slot. */
static void mapping_undo(struct mapping *mapping)
{
	for (size_t i = 0; i <= mapping->run && i < mapping->run_count; i++) {
		struct slot_run run = mapping->runs[i];
		if (!mapping_includes(mapping, &run))
			continue;

		uint64_t at = 0;
		if (i == mapping->run)
			run.count = mapping->slot;
		mapping_unmap_some(&run, &at, run.count);
		mapping_close_fds(mapping, &run);
	}
}

static void mapping_map_job_run(struct job *job)
{
	struct mapping *mapping = container_of(job, struct mapping, job);
	const struct slot_run *run;
	uint64_t left = SLABS_PER_TURN;

	while (left > 0 && (run = mapping_current(mapping))) {
		struct slot_run part = {run->region, run->first + mapping->slot,
					run->count - mapping->slot, run->at + mapping->slot};
		if (part.count > left)
			part.count = left;

		mapping->result = mapping_map_part(mapping, &part);
		if (mapping->result != CUDA_SUCCESS) {
			mapping_undo(mapping);
			return;
		}

		mapping->slot += part.count;
		left -= part.count;
	}

	job->more = mapping_current(mapping) != NULL;
}

static void mapping_unmap_job_run(struct job *job)
{
	struct mapping *mapping = container_of(job, struct mapping, job);
	const struct slot_run *run;
	uint64_t left = SLABS_PER_TURN;

	while (left > 0 && (run = mapping_current(mapping)))
		left -= mapping_unmap_some(run, &mapping->slot, left);

	job->more = mapping_current(mapping) != NULL;
}

static void mapping_done(struct job *job)
{
	struct mapping *mapping = container_of(job, struct mapping, job);
	mapping->done(mapping);
}

static void mapping_post(struct mapping *mapping, void (*run)(struct job *job))
{
	mapping->result = CUDA_SUCCESS;
	mapping->run = 0;
	mapping->slot = 0;
	mapping->job.run = run;
	mapping->job.done = mapping_done;
	worker_post(mapping->device->control, &mapping->job);
}

void mapping_map(struct mapping *mapping)
{
	mapping_post(mapping, mapping_map_job_run);
}

void mapping_map_now(struct mapping *mapping)
{
	mapping->result = CUDA_SUCCESS;
	do {
		mapping->job.more = false;
		mapping_map_job_run(&mapping->job);
	} while (mapping->job.more);
}

void mapping_unmap(struct mapping *mapping)
{
	mapping_post(mapping, mapping_unmap_job_run);
}
