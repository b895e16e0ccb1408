/* SPDX-License-Identifier: Apache-2.0 */
/*
 * landing: blocks of many small segments by way of one range of a region. Planning is
 * arithmetic: which blocks land, and where. Landed blocks that follow each other are
 * scattered or gathered together, LANDING_PIECES segments a call.
 */
#include "client/error.h"
#include "client/region.h"
#include "daemon/base/checked.h"
#include "kernels/device/jobs.h"

#define LANDING_PIECES GATHER_PIECES /* what one launch takes */

/* ---- The plan ---- */

static int landing_check(struct hbm *hbm, const struct hbm_segment *segment, uint32_t device)
{
	const struct hbm_region *region = segment->region;

	if (!region || region->hbm != hbm)
		return hbm_fail(hbm, HBM_INVALID, "a segment in no region of this connection");

	if (!checked_range(segment->offset, segment->bytes, region->address_space))
		return hbm_fail(
			hbm, HBM_INVALID, "a segment of %llu bytes at %llu in a region of %llu",
			(unsigned long long)segment->bytes, (unsigned long long)segment->offset,
			(unsigned long long)region->address_space);

	if (region->host)
		return hbm_fail(hbm, HBM_UNSUPPORTED,
				"a segment of host memory: no device copies there");

	if (region->device != device)
		return hbm_fail(hbm, HBM_INVALID, "a segment on device %u, the landing is on %u",
				region->device, device);

	return 0;
}

static int landing_measure(struct hbm *hbm, const struct hbm_block *block, uint32_t device,
			   uint64_t *bytes)
{
	*bytes = 0;
	for (size_t i = 0; i < block->segment_count; i++) {
		int r = landing_check(hbm, &block->segments[i], device);

		if (r)
			return r;
		if (!checked_add(*bytes, block->segments[i].bytes, bytes))
			return hbm_fail(hbm, HBM_INVALID, "a block of more than 2^64 bytes");
	}

	return 0;
}

static bool landing_pays(const struct hbm_landing *landing, const struct hbm_block *block,
			 uint64_t bytes)
{
	const uint64_t threshold = landing->threshold ? landing->threshold : HBM_LANDING_THRESHOLD;

	return block->segment_count > 1 && bytes / block->segment_count < threshold;
}

int hbm_landing_plan(struct hbm *hbm, const struct hbm_landing *landing,
		     const struct hbm_block *blocks, size_t count, struct hbm_block *landed,
		     struct hbm_segment *segments)
{
	const struct hbm_segment range = {landing->region, landing->offset, landing->bytes};
	uint64_t used = 0, bytes;
	int r = landing_check(hbm, &range, landing->region ? landing->region->device : 0);

	for (size_t i = 0; r == 0 && i < count; i++) {
		r = landing_measure(hbm, &blocks[i], landing->region->device, &bytes);
		if (r)
			return r;

		landed[i] = blocks[i];
		if (!landing_pays(landing, &blocks[i], bytes) || bytes > landing->bytes - used)
			continue;

		segments[i] = (struct hbm_segment){landing->region, landing->offset + used, bytes};
		landed[i].segments = &segments[i];
		landed[i].segment_count = 1;
		used += bytes;
	}

	return r;
}

/* ---- The copies ---- */

/* Pieces that lie one after the other in the landing, from `flat` on. */
struct piece_run {
	struct hbm *hbm;
	void *stream;
	int (*move)(struct hbm *hbm, uint32_t device, const struct hbm_piece *pieces, size_t count,
		    uint64_t flat, void *stream);
	uint32_t device;
	uint64_t flat, end;
	size_t count;
	struct hbm_piece pieces[LANDING_PIECES];
};

static int piece_run_flush(struct piece_run *run)
{
	const size_t count = run->count;

	run->count = 0;

	return count == 0 ? 0
			  : run->move(run->hbm, run->device, run->pieces, count, run->flat,
				      run->stream);
}

static int piece_run_add(struct piece_run *run, const struct hbm_segment *segment, uint64_t flat)
{
	int r = run->count == LANDING_PIECES || flat != run->end ? piece_run_flush(run) : 0;

	if (run->count == 0)
		run->flat = flat;
	run->device = segment->region->device;
	run->pieces[run->count++] =
		(struct hbm_piece){segment->region->address + segment->offset, segment->bytes};
	run->end = flat + segment->bytes;

	return r;
}

static int landing_move(struct piece_run *run, const struct hbm_block *blocks,
			const struct hbm_block *landed, const hbm_result *results, size_t count)
{
	int r = hbm_check_owner(run->hbm);

	for (size_t i = 0; i < count; i++) {
		const struct hbm_segment *to = landed[i].segments;
		uint64_t flat;

		if (to == blocks[i].segments || (results && results[i].status != HBM_OK))
			continue;

		flat = to->region->address + to->offset;
		for (size_t k = 0; r == 0 && k < blocks[i].segment_count; k++) {
			r = piece_run_add(run, &blocks[i].segments[k], flat);
			flat += blocks[i].segments[k].bytes;
		}
	}

	return r ? r : piece_run_flush(run);
}

int hbm_landing_scatter(struct hbm *hbm, const struct hbm_block *blocks,
			const struct hbm_block *landed, const hbm_result *results, size_t count,
			void *stream)
{
	struct piece_run run = {.hbm = hbm, .stream = stream, .move = hbm_scatter};

	return landing_move(&run, blocks, landed, results, count);
}

int hbm_landing_gather(struct hbm *hbm, const struct hbm_block *blocks,
		       const struct hbm_block *landed, size_t count, void *stream)
{
	struct piece_run run = {.hbm = hbm, .stream = stream, .move = hbm_gather};

	return landing_move(&run, blocks, landed, NULL, count);
}
