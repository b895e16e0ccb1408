/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit: see commit.h. A commit is split per pool and slab size (struct per_pool). All
 * of them go through each stage in parallel; the next stage starts when all have
 * completed theirs. `pending` counts those that have not, plus one while a stage is being
 * started, because one may complete its stage at once.
 */
#include "daemon/region/commit.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/region/claim.h"
#include "daemon/region/mapping.h"
#include "daemon/region/region.h"
#include "daemon/region/share.h"
#include "daemon/region/slab.h"

struct per_pool {
	struct commit *commit;
	struct device *device;
	struct slab_request request;
	struct mapping mapping;
	bool taken, mapped;
};

struct commit {
	struct claim claim;
	struct per_pool *per_pools; /* commit_per_pool_room() of them */
	size_t per_pool_count;
	int *fds;                     /* [claim.slots]; NULL: of a share */
	struct share_source *sources; /* [claim.count], of a share */
	bool attached;                /* its slots are of attached regions */
	size_t pending;
	int status; /* the first refusal */
	void (*done)(void *arg, int status);
	void *arg;
	size_t next_run; /* commit_next's */
	uint64_t next_slot;
};

/* NULL: no memory. */
static struct per_pool *commit_per_pool_for(struct commit *commit, const struct region *region)
{
	for (size_t i = 0; i < commit->per_pool_count; i++) {
		struct per_pool *per_pool = &commit->per_pools[i];
		if (per_pool->device == region->device && per_pool->request.bytes == region->slab)
			return per_pool;
	}

	struct promise *promise = regions_promise(region->regions, region->device);
	if (!promise)
		return NULL;

	struct per_pool *per_pool = &commit->per_pools[commit->per_pool_count++];
	per_pool->commit = commit;
	per_pool->device = region->device;
	per_pool->request.bytes = region->slab;
	per_pool->request.holder = &region->regions->holder;
	per_pool->request.promise = promise;

	return per_pool;
}

/* At most: a pool for each device and size of slab. */
static size_t commit_per_pool_room(size_t ranges)
{
	const size_t pools = (size_t)HBM_WIRE_DEVICES_MAX * SLAB_SIZES;

	return ranges < pools ? ranges : pools;
}

static int commit_make_per_pools(struct commit *commit)
{
	commit->per_pools =
		calloc(commit_per_pool_room(commit->claim.count), sizeof(*commit->per_pools));
	if (!commit->per_pools)
		return HBM_NO_SPACE;

	for (size_t i = 0; i < commit->claim.count; i++) {
		const struct slot_run *run = &commit->claim.runs[i];
		struct per_pool *per_pool = commit_per_pool_for(commit, run->region);
		if (!per_pool)
			return HBM_NO_SPACE;

		per_pool->request.count += run->count;
	}

	return HBM_OK;
}

static int commit_make_fds(struct commit *commit)
{
	commit->fds = malloc(commit->claim.slots * sizeof(*commit->fds));
	if (!commit->fds)
		return HBM_NO_SPACE;

	memset(commit->fds, 0xff, commit->claim.slots * sizeof(*commit->fds));

	return HBM_OK;
}

/* Hands over what was made, or frees it. */
static int commit_made(struct commit **out, struct commit *commit, int status)
{
	if (status == HBM_OK)
		*out = commit;
	else
		commit_free(commit);

	return status;
}

int commit_new(struct commit **out, struct regions *regions, const struct hbm_wire_range *ranges,
	       uint32_t count)
{
	struct commit *commit = calloc(1, sizeof(*commit));
	if (!commit)
		return HBM_NO_SPACE;

	int status = claim_make(&commit->claim, regions, ranges, count, CLAIM_EMPTY);
	if (status == HBM_OK)
		status = share_attached(&commit->claim, &commit->attached);
	if (status == HBM_OK)
		status = commit_make_fds(commit);
	if (status == HBM_OK)
		status = commit_make_per_pools(commit);

	return commit_made(out, commit, status);
}

int commit_new_share(struct commit **out, struct regions *regions,
		     const struct hbm_wire_share *shares, uint32_t count)
{
	struct commit *commit = calloc(1, sizeof(*commit));
	if (!commit)
		return HBM_NO_SPACE;

	int status = share_claim(&commit->claim, &commit->sources, regions, shares, count);
	if (status == HBM_OK)
		status = commit_make_per_pools(commit);

	return commit_made(out, commit, status);
}

uint64_t commit_slabs(const struct commit *commit)
{
	return commit->claim.slots;
}

uint64_t commit_bytes_for(uint64_t slabs, uint64_t ranges)
{
	return sizeof(struct commit) + slabs * sizeof(int) + ranges * sizeof(struct slot_run) +
	       commit_per_pool_room(ranges) * sizeof(struct per_pool);
}

uint64_t commit_bytes(const struct commit *commit)
{
	size_t count = commit->claim.count;

	return commit->sources ? commit_bytes_for(0, count) + count * sizeof(*commit->sources)
			       : commit_bytes_for(commit->claim.slots, count);
}

/* Whether it gets slabs that there are. */
static bool commit_shares(const struct commit *commit)
{
	return commit->sources || commit->attached;
}

static void commit_refuse(struct commit *commit, int status)
{
	if (commit->status == HBM_OK)
		commit->status = status;
}

/* ---- End ---- */

static void commit_finish(struct commit *commit)
{
	commit->done(commit->arg, commit->status);
}

/* Unrefs the slabs of a failed commit. */
static void commit_empty_slots(struct commit *commit)
{
	for (size_t i = 0; i < commit->claim.count; i++) {
		const struct slot_run *run = &commit->claim.runs[i];
		for (uint64_t k = 0; k < run->count; k++) {
			if (run->region->slots[run->first + k].slab)
				slot_empty(run->region, run->first + k, false);
		}
	}
}

static void commit_fail(struct commit *commit)
{
	commit_empty_slots(commit);
	commit_finish(commit);
}

static void commit_undone(struct mapping *mapping)
{
	struct commit *commit = container_of(mapping, struct per_pool, mapping)->commit;
	if (--commit->pending == 0)
		commit_fail(commit);
}

static void commit_unmap(struct commit *commit)
{
	commit->pending = 1;
	for (size_t i = 0; i < commit->per_pool_count; i++) {
		struct per_pool *per_pool = &commit->per_pools[i];
		if (!per_pool->mapped)
			continue;

		commit->pending++;
		per_pool->mapping.done = commit_undone;
		mapping_unmap(&per_pool->mapping);
	}

	if (--commit->pending == 0)
		commit_fail(commit);
}

static void commit_publish(struct commit *commit)
{
	for (size_t i = 0; i < commit->claim.count; i++) {
		struct slot_run *run = &commit->claim.runs[i];
		run->region->committed += run->count * run->region->slab;
		for (uint64_t k = 0; k < run->count; k++)
			run->region->slots[run->first + k].claim = NULL;
	}
	commit_finish(commit);
}

/* ---- Mapping ---- */

/* Fails the commit if the region or the session has gone while it was in flight. */
static void commit_check_wanted(struct commit *commit)
{
	if (!claim_wanted(&commit->claim))
		commit_refuse(commit, HBM_NOT_FOUND);
}

/* What it has mapped outlives the daemon from now on. */
static int commit_keep(const struct commit *commit)
{
	int status = HBM_OK;

	for (size_t i = 0; i < commit->claim.count; i++) {
		const struct slot_run *run = &commit->claim.runs[i];

		for (uint64_t k = 0; status == HBM_OK && k < run->count; k++)
			status = slot_keep(run->region, run->first + k,
					   run->region->slots[run->first + k].slab,
					   commit->fds ? commit->fds[run->at + k] : -1);
	}

	return status;
}

static void commit_end_mapping(struct commit *commit)
{
	commit_check_wanted(commit);
	if (commit->status == HBM_OK)
		commit_refuse(commit, commit_keep(commit));
	if (commit->status == HBM_OK)
		commit_publish(commit);
	else
		commit_unmap(commit);
}

static void commit_mapped(struct mapping *mapping)
{
	struct per_pool *per_pool = container_of(mapping, struct per_pool, mapping);
	struct commit *commit = per_pool->commit;

	per_pool->mapped = mapping->result == CUDA_SUCCESS;
	if (!per_pool->mapped && mapping->lacks_fds)
		commit_refuse(commit, device_lacks_fds(per_pool->device, mapping->call));
	else if (!per_pool->mapped)
		commit_refuse(commit,
			      device_failed(per_pool->device, mapping->call, mapping->result));

	if (--commit->pending == 0)
		commit_end_mapping(commit);
}

static void commit_place_slabs(struct per_pool *per_pool)
{
	const struct claim *claim = &per_pool->commit->claim;
	for (size_t i = 0; i < claim->count; i++) {
		const struct slot_run *run = &claim->runs[i];
		if (run->region->device != per_pool->device ||
		    run->region->slab != per_pool->request.bytes)
			continue;

		for (uint64_t k = 0; k < run->count; k++) {
			struct list *node = list_pop_front(&per_pool->request.taken);
			assert(node);
			struct slab *slab = container_of(node, struct slab, link);
			slab->exported = true; /* or about to be: the client may receive its fd */
			slab->part.holder = per_pool->request.holder;
			slot_fill(run->region, run->first + k, slab);
		}
	}
}

static void commit_start_mapping(struct commit *commit)
{
	commit->pending = 1;
	if (commit->sources)
		share_fill(&commit->claim, commit->sources);
	else if (commit->attached)
		share_fill_attached(&commit->claim);

	for (size_t i = 0; i < commit->per_pool_count; i++) {
		struct per_pool *per_pool = &commit->per_pools[i];

		if (!commit_shares(commit))
			commit_place_slabs(per_pool);
		per_pool->mapping = (struct mapping){
			.device = per_pool->device,
			.slab = per_pool->request.bytes,
			.runs = commit->claim.runs,
			.run_count = commit->claim.count,
			.fds = commit->fds,
			.done = commit_mapped,
		};
		commit->pending++;
		mapping_map(&per_pool->mapping);
	}

	if (--commit->pending == 0)
		commit_end_mapping(commit);
}

/* ---- Allocating ---- */

static void commit_free_slabs(struct commit *commit)
{
	for (size_t i = 0; i < commit->per_pool_count; i++) {
		struct per_pool *per_pool = &commit->per_pools[i];
		if (!per_pool->taken)
			continue;
		for (struct list *node; (node = list_pop_front(&per_pool->request.taken));)
			slab_unref(container_of(node, struct slab, link), false);
	}
	commit_finish(commit);
}

static void commit_end_taking(struct commit *commit)
{
	commit_check_wanted(commit);
	if (commit->status == HBM_OK)
		commit_start_mapping(commit);
	else
		commit_free_slabs(commit);
}

static void commit_taken(struct slab_request *request)
{
	struct per_pool *per_pool = container_of(request, struct per_pool, request);
	struct commit *commit = per_pool->commit;

	per_pool->taken = request->status == HBM_OK;
	commit_refuse(commit, request->status);
	if (--commit->pending == 0)
		commit_end_taking(commit);
}

void commit_start(struct commit *commit, void (*done)(void *arg, int status), void *arg)
{
	commit->done = done;
	commit->arg = arg;
	if (commit_shares(commit)) {
		commit_start_mapping(commit);
		return;
	}

	commit->pending = 1;
	for (size_t i = 0; i < commit->per_pool_count; i++) {
		struct per_pool *per_pool = &commit->per_pools[i];

		per_pool->request.done = commit_taken;
		commit->pending++;
		int status = slabs_request(per_pool->device->slabs, &per_pool->request);
		if (status != HBM_OK) {
			commit_refuse(commit, status);
			commit->pending--;
		}
	}

	if (--commit->pending == 0)
		commit_end_taking(commit);
}

/* ---- After the end ---- */

int commit_next(struct commit *commit, struct hbm_wire_range *range)
{
	if (commit->next_run == commit->claim.count)
		return -1;

	const struct slot_run *run = &commit->claim.runs[commit->next_run];
	const struct region *region = run->region;
	uint64_t slot = commit->next_slot++;
	*range = (struct hbm_wire_range){
		.region = region->id,
		.offset = (run->first + slot) * region->slab,
		.bytes = region->slab,
	};
	if (commit->next_slot == run->count) {
		commit->next_run++;
		commit->next_slot = 0;
	}

	int *fd = &commit->fds[run->at + slot];
	int taken_fd = *fd;
	*fd = -1;

	return taken_fd;
}

struct commit *commit_free(struct commit *commit)
{
	if (!commit)
		return NULL;

	for (uint64_t i = 0; commit->fds && i < commit->claim.slots; i++)
		if (commit->fds[i] >= 0)
			close(commit->fds[i]);

	free(commit->fds);
	free(commit->sources);
	free(commit->per_pools);
	claim_drop(&commit->claim);
	free(commit);

	return NULL;
}
