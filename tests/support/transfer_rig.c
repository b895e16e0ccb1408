/* SPDX-License-Identifier: Apache-2.0 */
/* transfer_rig: see transfer_rig.h. */
#include "tests/support/transfer_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/cache/cache.h"
#include "daemon/move/pump.h"
#include "daemon/tier/nvme_file.h"

#define CLIENT_BYTES (2 * GRANULE) /* on each device: of sources, of targets */

struct transfer_rig *transfer_rig_new(void)
{
	struct transfer_rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig_init(&rig->rig);
	rig->rig.config.soft_devices = 2;

	return rig;
}

void transfer_rig_open(struct transfer_rig *rig)
{
	struct hbmd *hbmd = &rig->rig.hbmd;

	rig_open(&rig->rig, CLIENT_BYTES);
	tier_memory_open(&rig->memory, hbmd->cache, rig->rig.loop, MIB,
			 rig->rig.config.limit_blocks);
	pump_start(hbmd->mover, hbmd->loop);
	rig->context = (struct transfer_context){.staging = hbmd->cache->staging,
						 .hash_pool = hbmd->mover->context.hash_pool};
}

void transfer_rig_end(struct transfer_rig *rig)
{
	assert_int_equal(rig->context.active, 0);
	rig_assert_empties(&rig->rig);
	rig_close(&rig->rig);
	tier_memory_close(&rig->memory);
	rig_clear(&rig->rig);
	free(rig);
}

/* ---- ends ---- */

const char *end_name(enum end_kind kind)
{
	static const char *const names[END_KINDS] = {
		"spans of device 0",
		"spans of device 1",
		"HBM of device 0",
		"HBM of device 1",
		"DDR",
		"NVMe",
		"memory",
		"nothing",
	};
	return names[kind];
}

static struct tier *end_tier(const struct transfer_rig *rig, enum end_kind kind)
{
	struct cache *cache = rig->rig.hbmd.cache;

	switch (kind) {
	case END_HBM_0:
	case END_HBM_1:
		return cache_hbm(cache, kind - END_HBM_0);
	case END_DDR:
		return cache->ddr;
	case END_NVME:
		return cache->nvme;
	case END_MEMORY:
		return rig->memory.tier;
	default:
		return NULL;
	}
}

void end_open(struct transfer_rig *rig, struct end *end, enum end_kind kind, bool target)
{
	struct tier *tier = end_tier(rig, kind);

	*end = (struct end){.kind = kind};

	if (kind == END_SPANS_0 || kind == END_SPANS_1) {
		uint32_t index = kind - END_SPANS_0;
		uint64_t address = rig->rig.client[index].address + (target ? GRANULE : 0);
		end->spans[0] = (struct span){address, TRANSFER_BYTES};
		end->end.device = &rig->rig.hbmd.devices->list[index];
		end->end.spans = end->spans;
		end->end.span_count = 1;
	} else if (tier) {
		end->end.place = (struct place){tier, tier_alloc(tier, TRANSFER_BYTES)};
		assert_int_not_equal(end->end.place.unit, UINT32_MAX);
	}
}

void end_close(struct transfer_rig *rig, struct end *end)
{
	(void)rig;
	if (end->end.place.tier)
		tier_free(end->end.place.tier, end->end.place.unit, TRANSFER_BYTES);
}

void end_cut(struct end *end, const uint64_t *sizes, uint32_t count)
{
	uint64_t at = end->spans[0].address + TRANSFER_BYTES, left = TRANSFER_BYTES;

	for (uint32_t i = 0; i <= count; i++) {
		uint64_t bytes = i < count ? sizes[i] : left;
		at -= bytes;
		left -= bytes;
		end->spans[i] = (struct span){at, bytes};
	}

	end->end.span_count = count + 1;
}

static void end_access_device(struct transfer_rig *rig, uint32_t device, uint64_t address,
			      unsigned char *bytes, uint64_t count, bool put)
{
	const struct soft_calls *call = &rig->rig.call;
	int r = put ? call->poke(device, address, bytes, count)
		    : call->peek(bytes, device, address, count);

	assert_int_equal(r, 0);
}

static void end_access_file(struct transfer_rig *rig, uint32_t unit, unsigned char *bytes, bool put)
{
	off_t offset = (off_t)(NVME_HEAD + tier_offset(unit));
	int fd = open(rig->rig.file, O_RDWR | O_CLOEXEC);

	assert_in_range(fd, 0, INT32_MAX);
	ssize_t n = put ? pwrite(fd, bytes, TRANSFER_BYTES, offset)
			: pread(fd, bytes, TRANSFER_BYTES, offset);
	assert_int_equal(n, TRANSFER_BYTES);
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

static void end_access_host(char *host, unsigned char *bytes, bool put)
{
	if (put)
		memcpy(host, bytes, TRANSFER_BYTES);
	else
		memcpy(bytes, host, TRANSFER_BYTES);
}

static void end_access(struct transfer_rig *rig, const struct end *end, unsigned char *bytes,
		       bool put)
{
	const struct tier *tier = end->end.place.tier;
	uint32_t unit = end->end.place.unit;

	for (uint32_t i = 0; i < end->end.span_count; i++) {
		const struct span *span = &end->spans[i];
		end_access_device(rig, end->end.device->index, span->address, bytes, span->bytes,
				  put);
		bytes += span->bytes;
	}

	if (!tier)
		return;
	if (tier->device)
		end_access_device(rig, tier->device->index, tier->base + tier_offset(unit), bytes,
				  TRANSFER_BYTES, put);
	else if (tier_host(tier, unit))
		end_access_host(tier_host(tier, unit), bytes, put);
	else if (tier == rig->memory.tier)
		end_access_host(rig->memory.bytes + tier_offset(unit), bytes, put);
	else
		end_access_file(rig, unit, bytes, put);
}

void end_get(struct transfer_rig *rig, const struct end *end, unsigned char *bytes)
{
	end_access(rig, end, bytes, false);
}

void end_put(struct transfer_rig *rig, const struct end *end, const unsigned char *bytes)
{
	unsigned char copy[TRANSFER_BYTES];

	memcpy(copy, bytes, sizeof(copy));
	end_access(rig, end, copy, true);
}

/* ---- trials ---- */

static void trial_done(struct transfer *transfer)
{
	container_of(transfer, struct trial, transfer)->done++;
}

static void trial_on_host(struct transfer *transfer)
{
	container_of(transfer, struct trial, transfer)->on_host++;
	assert_true(transfer->host_valid);
}

void trial_begin(struct transfer_rig *rig, struct trial *trial)
{
	trial->rig = rig;
	trial->transfer.context = &rig->context;
	trial->transfer.bytes = TRANSFER_BYTES;
	trial->transfer.done = trial_done;
	trial->transfer.on_host = trial_on_host;
	transfer_begin(&trial->transfer);
}

/* Nobody else starts what a transfer has queued. */
static bool trial_is_done(void *arg)
{
	const struct trial *trial = arg;
	struct cache *cache = trial->rig->rig.hbmd.cache;

	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		const struct tier *tier = &cache->tiers[i];
		if (tier->ops && tier->ops->flush)
			tier->ops->flush(tier);
	}

	return trial->done > 0;
}

void trial_wait(struct trial *trial)
{
	rig_run(&trial->rig->rig, trial_is_done, trial);
	assert_int_equal(trial->done, 1);
}
