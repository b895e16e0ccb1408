/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/ddr_resize.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/config/config.h"
#include "daemon/tier/ddr_memory.h"
#include "daemon/tier/ddr_size.h"
#include "daemon/tier/tier_resize.h"

#ifndef MADV_REMOVE
#define MADV_REMOVE 9
#endif

static uint64_t ddr_resize_round_up(uint64_t bytes, uint64_t unit)
{
	return (bytes + unit - 1) / unit * unit;
}

/* ---- growing ---- */

/* Bytes that a chunk may have. */
static uint64_t ddr_resize_room(const struct ddr *ddr, const struct chunk *chunk)
{
	uint64_t opened = ddr->opened > chunk->offset ? ddr->opened - chunk->offset : 0;
	if (ddr->tier->part_count > 0)
		return opened < ddr->chunk ? opened : ddr->chunk;

	return ddr->chunk;
}

static bool ddr_resize_is_vacant(const struct ddr *ddr, const struct chunk *chunk)
{
	return chunk->bytes == 0 && chunk->offset >= ddr->staging &&
	       ddr_resize_room(ddr, chunk) > 0;
}

/* How much of a divided tier's part is there, or coming, where a chunk begins. */
static uint64_t ddr_resize_part_bytes(const struct ddr *ddr, const struct chunk *chunk)
{
	const struct tier *tier = ddr->tier;
	int part = tier_part_of(tier, ddr->base + chunk->offset);
	uint64_t begin, end, bytes = 0;
	if (part < 0)
		return 0;

	begin = ddr->staging + tier->parts[part].begin;
	end = part + 1 < (int)tier->part_count ? ddr->staging + tier->parts[part + 1].begin
					       : ddr->span;
	for (uint32_t i = 0; i < ddr->chunk_count; i++)
		if (ddr->chunks[i].offset >= begin && ddr->chunks[i].offset < end)
			bytes += ddr->chunks[i].bytes;

	return bytes;
}

/* The lowest vacant chunk behind all that have memory; of a divided tier, the lowest of the part
 * with the least. NULL: there is none. */
static struct chunk *ddr_resize_vacant(struct ddr *ddr)
{
	bool divided = ddr->tier->part_count > 0;
	struct chunk *found = NULL;

	for (uint32_t i = ddr->chunk_count; i-- > 0;) {
		struct chunk *chunk = &ddr->chunks[i];
		if (chunk->bytes > 0 && !divided)
			break;
		if (ddr_resize_is_vacant(ddr, chunk) &&
		    (!found || !divided ||
		     ddr_resize_part_bytes(ddr, chunk) <= ddr_resize_part_bytes(ddr, found)))
			found = chunk;
	}

	return found;
}

/* Bytes of addresses that are left. */
static uint64_t ddr_resize_addresses(const struct ddr *ddr)
{
	uint64_t bytes = 0;

	for (uint32_t i = ddr->chunk_count; i-- > 0;) {
		const struct chunk *chunk = &ddr->chunks[i];
		if (chunk->bytes > 0 && ddr->tier->part_count == 0)
			break;
		if (ddr_resize_is_vacant(ddr, chunk))
			bytes += ddr_resize_room(ddr, chunk);
	}

	return bytes;
}

int ddr_resize_check(const struct ddr *ddr, const struct config *config, uint64_t size,
		     uint64_t lacking, const struct reason *why)
{
	struct memory_limit limit;
	struct ddr_size need = {.staging = ddr->staging, .headroom = ddr->tier->headroom};

	memory_limit_read(&limit, "");
	need.size = size;
	need.regions = ddr_size_regions(config, &limit);
	need.bytes =
		config->ddr_hugepages
			? ddr_resize_round_up(lacking, DDR_SIZE_HUGE_PAGE)
			: ddr_resize_round_up(need.staging + need.headroom + size, EXTENT_UNIT);
	if (lacking == 0)
		return HBM_OK;
	if (size > limit.host)
		need.bytes = size;
	if (ddr_size_check(&need, config, &limit, why->text, why->size) < 0)
		return HBM_NO_SPACE;

	if (lacking > ddr_resize_addresses(ddr) && ddr->tier->part_count > 0)
		return reason_set(why, HBM_NO_SPACE,
				  "ddr: it is divided among NUMA nodes, and grows to what it was "
				  "started with: set ddr.size and restart");
	if (lacking > ddr_resize_addresses(ddr))
		return reason_set(why, HBM_NO_SPACE,
				  "ddr: %llu bytes of addresses are left: set ddr.size and restart",
				  (unsigned long long)ddr_resize_addresses(ddr));

	return HBM_OK;
}

void ddr_resize_grow(struct ddr *ddr, uint64_t bytes)
{
	struct chunk *chunk;

	ddr->started_ns = clock_now();
	while (bytes > 0 && (chunk = ddr_resize_vacant(ddr))) {
		uint64_t room = ddr_resize_room(ddr, chunk);

		chunk->served = bytes < room ? bytes : room;
		chunk->bytes = ddr_resize_round_up(chunk->served, ddr_page(ddr));
		ddr->bytes += chunk->bytes;
		bytes -= chunk->served;
		ddr_prepare_later(ddr, chunk);
	}

	ddr_start(ddr);
}

/* ---- giving back ---- */

/* Whether it can be given back. */
static bool ddr_resize_is_idle(const struct ddr *ddr, const struct chunk *chunk)
{
	if (chunk->bytes == 0 || chunk->offset < ddr->staging || chunk->stuck)
		return false;

	return !chunk->in_tier ||
	       extent_is_away(ddr->tier->extents, chunk->offset - ddr->staging, chunk->served);
}

static void ddr_resize_release(struct job *job)
{
	struct chunk *chunk = container_of(job, struct chunk, job);
	struct ddr *ddr = chunk->ddr;
	if (atomic_load(&ddr->stop))
		return;

	if (chunk->registered) {
		gate_enter(chunk->device->all);
		chunk->stuck = !ddr_unregister(chunk);
		gate_leave(chunk->device->all);
	}

	/* Never of what is registered: a device would go on with pages that no process has. */
	if (chunk->stuck)
		return;

	atomic_fetch_sub(&ddr->collapsed, chunk->collapsed);
	chunk->collapsed = 0;
	chunk->error =
		madvise(ddr->base + chunk->offset, chunk->bytes, MADV_REMOVE) < 0 ? -errno : 0;
}

static void ddr_resize_give_next(struct ddr *ddr);

static void ddr_resize_released(struct job *job)
{
	struct chunk *chunk = container_of(job, struct chunk, job);
	struct ddr *ddr = chunk->ddr;

	if (chunk->stuck) {
		device_failed(chunk->device, "cuMemHostUnregister", chunk->result);
		log_error("ddr: the device does not forget %llu MiB: they stay allocated until "
			  "hbmd restarts",
			  (unsigned long long)(chunk->bytes >> 20));
	} else if (chunk->error < 0) {
		log_error("ddr: the kernel does not take back %llu MiB: %s",
			  (unsigned long long)(chunk->bytes >> 20), strerror(-chunk->error));
		chunk->stuck = true;
	} else {
		ddr->bytes -= chunk->bytes;
		chunk->bytes = 0;
	}

	ddr_resize_give_next(ddr);
}

/* From the top, so that what is left is in few pieces. */
static void ddr_resize_give_next(struct ddr *ddr)
{
	for (uint32_t i = ddr->chunk_count; i-- > 0;) {
		struct chunk *chunk = &ddr->chunks[i];
		if (!ddr_resize_is_idle(ddr, chunk) ||
		    (chunk->in_tier &&
		     tier_cut(ddr->tier, chunk->offset - ddr->staging, chunk->served) < 0))
			continue;

		if (chunk->in_tier)
			ddr->ready -= chunk->bytes;
		chunk->in_tier = false;
		chunk->job = (struct job){.run = ddr_resize_release, .done = ddr_resize_released};
		worker_post(ddr->workers[0], &chunk->job);
		return;
	}

	void (*given_back)(void *arg) = ddr->given_back;

	ddr->given_back = NULL;
	given_back(ddr->given_back_arg);
}

void ddr_resize_give_back(struct ddr *ddr, void (*given_back)(void *arg), void *arg)
{
	ddr->given_back = given_back;
	ddr->given_back_arg = arg;
	ddr_resize_give_next(ddr);
}
