/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/memory_setup.h"

#include "daemon/base/clock.h"
#include "daemon/base/link_stats.h"
#include "daemon/base/log.h"
#include "daemon/base/reason.h"
#include "daemon/cache/cache.h"
#include "daemon/catalog/catalog.h"
#include "daemon/config/config.h"
#include "daemon/device/copy_direct.h"
#include "daemon/device/copy_queue.h"
#include "daemon/loop/loop.h"
#include "daemon/move/idle_checksums.h"
#include "daemon/move/mover.h"
#include "daemon/move/pump.h"
#include "daemon/move/silence.h"
#include "daemon/region/lend.h"
#include "daemon/region/region_kept.h"
#include "daemon/region/reservations.h"
#include "daemon/region/slab.h"
#include "daemon/serve/hbmd.h"
#include "daemon/serve/memory_pressure.h"
#include "daemon/serve/region_limits.h"
#include "daemon/serve/resize.h"
#include "daemon/serve/restore_marks.h"
#include "daemon/service/catalog_setup.h"
#include "daemon/service/host_setup.h"
#include "daemon/service/restoration_setup.h"
#include "daemon/state/keep.h"
#include "daemon/tier/ddr.h"
#include "daemon/tier/hbm_memory.h"
#include "daemon/tier/nvme_file.h"
#include "daemon/tier/nvme_io.h"
#include "daemon/tier/nvme_name.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define RELEASE_NS UINT64_C(1000000000) /* between looks for clients that are to come back */
#define PIECE_LEAST (1ull << 20)        /* of a transfer */

struct memory_setup {
	struct hbmd *hbmd;
	struct region_kept region_kept;
	void (*progress)(void *arg);
	void *arg;
	struct hbm_memory *hbm[HBM_WIRE_DEVICES_MAX]; /* behind the HBM tiers; NULL: no tier */
	struct nvme_io *nvme_io;
	struct hash_pool *hash_pool;
	struct timer release;                  /* of namespaces of the daemon before */
	struct idle_checksums *idle_checksums; /* NULL: none are given ahead of need */
};

static uint64_t memory_setup_round_down(uint64_t bytes, uint64_t unit)
{
	return bytes / unit * unit;
}

static uint64_t memory_setup_round_up(uint64_t bytes, uint64_t unit)
{
	return memory_setup_round_down(bytes + unit - 1, unit);
}

/* The time of a load can be estimated from the moment a tier is usable. */
static void memory_setup_seed_links(const struct memory_setup *memory_setup)
{
	const struct hbmd *hbmd = memory_setup->hbmd;

	for (uint32_t i = 0; i < hbmd->devices->count; i++) {
		const struct hbm_memory *hbm = memory_setup->hbm[i];
		if (hbm && hbm_memory_rate(hbm) > 0)
			link_stats_seed(hbmd->link_stats, HBM_LINK_H2D, hbm_memory_rate(hbm));
	}

	if (hbmd->nvme)
		link_stats_seed(hbmd->link_stats, HBM_LINK_NVME_READ,
				nvme_file_read_rate(hbmd->nvme));
}

static void memory_setup_finish_marks(struct hbmd *hbmd)
{
	if (restoration_setup_has_ended(hbmd) &&
	    (!hbmd->catalog || catalog_has_settled(hbmd->catalog)))
		restore_marks_finish(hbmd);
}

static void memory_setup_grown(void *arg)
{
	struct memory_setup *memory_setup = arg;
	memory_setup_seed_links(memory_setup);
	restoration_setup_progress(memory_setup->hbmd);
	memory_setup_finish_marks(memory_setup->hbmd);
	if (memory_setup->hbmd->mover)
		pump_run(memory_setup->hbmd->mover);
	memory_setup->progress(memory_setup->arg);
}

static void memory_setup_release_namespaces(struct timer *timer)
{
	struct memory_setup *memory_setup = container_of(timer, struct memory_setup, release);
	struct hbmd *hbmd = memory_setup->hbmd;

	if (!restoration_setup_release(hbmd))
		loop_timer_set(hbmd->loop, timer, clock_now() + RELEASE_NS);
}

static void memory_setup_restored(void *arg)
{
	struct memory_setup *memory_setup = arg;

	restoration_setup_say(memory_setup->hbmd);
	memory_setup_finish_marks(memory_setup->hbmd);
	memory_setup_release_namespaces(&memory_setup->release);
	memory_setup->progress(memory_setup->arg);
}

/* ---- HBM ---- */

/* How one device's memory is divided. */
struct division {
	uint64_t memory, lend, cache, mapped; /* mapped: cache and headroom, in whole granules */
};

static int memory_setup_divide(const struct config *config, const struct device *device,
			       struct division *division, const struct reason *reason)
{
	division->memory = memory_setup_round_down(
		config_size_of(config->device_memory, device->total), device->granularity);
	division->cache = memory_setup_round_down(
		config_size_of(config->device_cache, division->memory), EXTENT_UNIT);
	uint64_t headroom =
		division->cache > 0 ? config_size_of(config->device_headroom, division->memory) : 0;
	division->mapped = memory_setup_round_up(division->cache + headroom, device->granularity);
	division->lend = memory_setup_round_down(
		config_size_of(config->device_lend, division->memory), device->granularity);
	if (division->memory > device->total)
		return reason_set(reason, -EINVAL,
				  "device.memory: %llu bytes asked, device %u has %llu",
				  (unsigned long long)division->memory, device->index,
				  (unsigned long long)device->total);

	if (division->mapped > division->memory)
		return reason_set(
			reason, -EINVAL,
			"device.cache: cache and headroom need %llu bytes, device.memory is %llu: "
			"lower device.cache or device.headroom",
			(unsigned long long)division->mapped, (unsigned long long)division->memory);

	if (division->lend > division->memory - division->mapped)
		return reason_set(reason, -EINVAL,
				  "device.lend: %llu bytes asked, %llu of device.memory are for "
				  "regions: lower it",
				  (unsigned long long)division->lend,
				  (unsigned long long)(division->memory - division->mapped));

	return 0;
}

int memory_setup_check(const struct config *config, const struct devices *devices, char *error,
		       size_t error_size)
{
	struct reason reason = {error, error_size};
	struct division division;
	int r = 0;
	for (uint32_t i = 0; r == 0 && i < devices->count; i++)
		r = memory_setup_divide(config, &devices->list[i], &division, &reason);
	return r;
}

/* What another process has may come back later, so this is no reason to end. */
static void memory_setup_compare_with_free(struct device *device, uint64_t memory)
{
	uint64_t bytes = device_free(device);

	if (memory > bytes)
		log_warning("device.memory: %llu MiB on device %u, of which %llu MiB are free: "
			    "commits will be refused before the pool is used up; lower it, or "
			    "find who has the rest (nvidia-smi)",
			    (unsigned long long)(memory >> 20), device->index,
			    (unsigned long long)(bytes >> 20));
}

static int memory_setup_make_hbm(struct memory_setup *memory_setup, struct tier *tier,
				 const struct division *division, const struct reason *reason)
{
	const struct hbmd *hbmd = memory_setup->hbmd;
	struct device *device = tier->device;
	const struct hbm_memory_options options = {
		.tier = tier,
		.device = device,
		.loop = hbmd->loop,
		.bytes = division->mapped,
		.most = division->memory,
		.slab = memory_setup_round_up(hbmd->config->device_slab, device->granularity),
		.kept = restoration_setup_hbm(hbmd),
		.progress = memory_setup_grown,
		.arg = memory_setup};
	CUresult result = hbm_memory_open(&memory_setup->hbm[device->index], &options);
	if (result == CUDA_SUCCESS)
		return 0;

	return reason_set(reason, -ENOMEM,
			  "device.cache: cannot reserve %llu bytes of addresses on device %u (%s)",
			  (unsigned long long)division->memory, device->index,
			  driver_error_name(device->driver, result));
}

static int memory_setup_open_device(struct memory_setup *memory_setup, struct device *device,
				    const struct reason *reason)
{
	struct hbmd *hbmd = memory_setup->hbmd;
	const struct config *config = hbmd->config;
	struct division division;
	int r = memory_setup_divide(config, device, &division, reason);
	if (r < 0)
		return r;

	memory_setup_compare_with_free(device, division.memory);
	struct tier *tier = cache_hbm(hbmd->cache, device->index);
	r = tier_init(tier, HBM_TIER_HBM, tier->number, division.cache,
		      division.mapped - division.cache, config->limit_blocks);
	if (r < 0)
		return r;

	tier->ops = &tier_hbm_ops;
	tier->device = device;
	tier->device_index = device->index;
	if (division.mapped > 0)
		r = memory_setup_make_hbm(memory_setup, tier, &division, reason);
	if (r == 0)
		r = slabs_open(&device->slabs, device, hbmd->loop,
			       division.memory - division.mapped, config->device_slab,
			       hbmd->region_kept);
	if (r == 0)
		r = lend_open(&device->lend, device, hbmd->loop, &hbmd->cache->blocks,
			      division.lend);

	return r;
}

/* ---- copy queues and I/O ---- */

static int memory_setup_open_copy_queues(struct memory_setup *memory_setup)
{
	struct hbmd *hbmd = memory_setup->hbmd;
	const struct copy_queue_options options = {
		.loop = hbmd->loop,
		.link_stats = hbmd->link_stats,
		.in_flight = hbmd->config->device_copy_in_flight,
		.direct = hbmd->config->device_copy_direct,
		.direct_ns = COPY_DIRECT_NS,
		.issue = {.rows_least = (uint32_t)hbmd->config->device_copy_rows,
			  .batch_least = (uint32_t)hbmd->config->device_copy_batch,
			  .host_chunk = hbmd->config->ddr_chunk,
			  .ddr_base = ddr_base(hbmd->ddr)}};
	for (uint32_t i = 0; i < hbmd->devices->count; i++)
		for (enum copy_direction kind = COPY_D2D; kind <= COPY_H2D; kind++) {
			struct device *device = &hbmd->devices->list[i];
			int r = copy_queue_new(&device->queues[kind], device, kind, &options);
			if (r < 0)
				return r;
		}

	return 0;
}

static void memory_setup_nvme_changed(void *arg, bool silent)
{
	struct memory_setup *memory_setup = arg;
	struct hbmd *hbmd = memory_setup->hbmd;
	if (!silent) {
		silence_end(hbmd->mover, hbmd->cache->nvme);
		return;
	}

	silence_begin(hbmd->mover, hbmd->cache->nvme);
	pump_run(hbmd->mover);
}

static void memory_setup_nvme_late(void *arg)
{
	struct memory_setup *memory_setup = arg;
	pump_run(memory_setup->hbmd->mover);
}

/* nvme.required = no: what cannot be opened leaves the tier absent. */
static void memory_setup_go_without_nvme(struct hbmd *hbmd, int r, const struct reason *reason)
{
	struct tier *tier = hbmd->cache->nvme;

	log_warning("%s; starting without the NVMe tier (nvme.required = no)",
		    reason->text[0] != '\0' ? reason->text : strerror(-r));
	reason->text[0] = '\0';
	tier_clear(tier);
	*tier = (struct tier){.kind = HBM_TIER_NVME, .number = tier->number};
	hbmd->nvme_missing = true;
}

/* What the tiers above NVMe hold. */
static uint64_t memory_setup_above(struct cache *cache)
{
	uint64_t bytes = cache->ddr->capacity;

	for (uint32_t i = 0; i < cache->devices; i++)
		bytes += cache_hbm(cache, i)->capacity;

	return bytes;
}

/* Without a catalog nothing of what may be there is known. */
static void memory_setup_wipe(struct tier *tier)
{
	tier->claiming = true;
	tier_wipe_gap(tier, 0, UINT32_MAX);
	tier_end_claims(tier);
}

static int memory_setup_open_nvme_io(struct memory_setup *memory_setup, const struct reason *reason)
{
	struct hbmd *hbmd = memory_setup->hbmd;
	const struct config *config = hbmd->config;
	if (config->nvme_path[0] == '\0')
		return 0;

	struct tier *tier = hbmd->cache->nvme;
	tier->copies_max = config_size_of(config->nvme_copies, memory_setup_above(hbmd->cache));
	tier->claiming = config->nvme_catalog;
	int r = nvme_file_open(&hbmd->nvme, config, tier, hbmd->loop, memory_setup_grown,
			       memory_setup, reason->text, reason->size);
	if (r < 0 && !config->nvme_required) {
		memory_setup_go_without_nvme(hbmd, r, reason);
		return 0;
	}
	if (r < 0)
		return r;

	if (tier->dirty && !tier->claiming)
		memory_setup_wipe(tier);
	if (tier->copies_max > 0)
		r = blocks_keep_copies(&hbmd->cache->blocks, tier);
	if (r < 0)
		return r;

	struct nvme_faults faults;
	r = nvme_faults_parse(&faults, config->nvme_fail, reason);
	if (r < 0)
		return r;

	char hang_file[PATH_MAX];
	snprintf(hang_file, sizeof(hang_file), "%s.hang", config->nvme_path);
	const struct nvme_watch_options watch = {.loop = hbmd->loop,
						 .timeout_ns = config->nvme_timeout_ms * MS,
						 .late_ns = config->nvme_behind_ms * MS,
						 .changed = memory_setup_nvme_changed,
						 .late = memory_setup_nvme_late,
						 .arg = memory_setup};
	const struct nvme_io_options options = {.loop = hbmd->loop,
						.link_stats = hbmd->link_stats,
						.fd = nvme_file_fd(hbmd->nvme),
						.start = NVME_HEAD,
						.depth = (unsigned)config->nvme_depth,
						.depth_max = (unsigned)config->nvme_depth_max,
						.merge = config->nvme_merge,
						.faults = &faults,
						.hang_file = hang_file,
						.watch = watch};
	r = nvme_io_new(&memory_setup->nvme_io, &options);
	if (r < 0)
		return r;

	tier->io = memory_setup->nvme_io;
	hbmd->cache->nvme_wiped = nvme_file_expects_wipes(hbmd->nvme);
	hbmd->nvme_watch = nvme_io_watch(memory_setup->nvme_io);

	return nvme_name_new(&hbmd->nvme_name, hbmd->loop, nvme_file_fd(hbmd->nvme),
			     config->nvme_path, config->nvme_timeout_ms * MS);
}

static void memory_setup_link_tiers(struct cache *cache)
{
	for (uint32_t i = 0; i < cache->devices; i++)
		cache_hbm(cache, i)->below = cache->ddr;
	cache->ddr->below = cache->nvme;
}

/* A disk's largest I/O, unless small pieces cost more than they overlap. */
static uint64_t memory_setup_piece(const struct config *config)
{
	return config->nvme_merge > PIECE_LEAST ? config->nvme_merge : PIECE_LEAST;
}

static int memory_setup_open_tiers(struct memory_setup *memory_setup, const struct reason *reason)
{
	struct hbmd *hbmd = memory_setup->hbmd;
	int r = link_stats_new(&hbmd->link_stats);
	if (r == 0)
		r = cache_open(&hbmd->cache, hbmd->config, hbmd->ledger, hbmd->devices->count);

	for (uint32_t i = 0; r == 0 && i < hbmd->devices->count; i++)
		r = memory_setup_open_device(memory_setup, &hbmd->devices->list[i], reason);
	if (r == 0)
		r = host_setup_open(hbmd);
	if (r == 0)
		r = ddr_open(&hbmd->ddr, hbmd->config, restoration_setup_take_ddr(hbmd),
			     hbmd->cache->staging, hbmd->cache->ddr, hbmd->devices, hbmd->loop,
			     memory_setup_grown, memory_setup, reason->text, reason->size);

	if (r == 0)
		r = memory_setup_open_nvme_io(memory_setup, reason);
	if (r == 0)
		r = memory_setup_open_copy_queues(memory_setup);
	if (r < 0)
		return r;

	region_limits_set(hbmd);
	r = reservations_open(&hbmd->reservations, hbmd->loop, hbmd->devices);
	if (r < 0)
		return r;

	memory_setup_link_tiers(hbmd->cache);

	return 0;
}

/* What moves blocks between them, and turns from now on. */
static int memory_setup_open_mover(struct memory_setup *memory_setup)
{
	struct hbmd *hbmd = memory_setup->hbmd;
	const struct hash_pool_options hashing = {.loop = hbmd->loop,
						  .link_stats = hbmd->link_stats,
						  .threads =
							  (unsigned)hbmd->config->checksum_threads,
						  .numa = &hbmd->devices->numa,
						  .staging = hbmd->cache->staging,
						  .ddr = hbmd->cache->ddr};
	int r = hash_pool_new(&memory_setup->hash_pool, &hashing);
	if (r < 0)
		return r;

	const struct mover_options options = {.cache = hbmd->cache,
					      .devices = hbmd->devices,
					      .staging = hbmd->cache->staging,
					      .hash_pool = memory_setup->hash_pool,
					      .piece = memory_setup_piece(hbmd->config),
					      .checksums =
						      (enum config_checksum)hbmd->config->checksum,
					      .ledger = hbmd->ledger,
					      .link_stats = hbmd->link_stats,
					      .late_ns = hbmd->config->nvme_behind_ms * MS};

	r = mover_new(&hbmd->mover, &options);
	if (r < 0)
		return r;

	pump_start(hbmd->mover, hbmd->loop);

	return 0;
}

static int memory_setup_open_idle_checksums(struct memory_setup *memory_setup)
{
	struct hbmd *hbmd = memory_setup->hbmd;
	uint64_t quiet_ns = hbmd->config->checksum_idle_ms * MS;

	if (hbmd->config->checksum != CONFIG_CHECKSUM_NVME || quiet_ns == 0)
		return 0;

	int r = idle_checksums_new(&memory_setup->idle_checksums, hbmd->mover, quiet_ns);
	if (r == 0 && keep_is_there())
		idle_checksums_hurry(memory_setup->idle_checksums);

	return r;
}

static int memory_setup_open_parts(struct memory_setup *memory_setup, const struct reason *reason)
{
	struct hbmd *hbmd = memory_setup->hbmd;
	int r = memory_setup_open_tiers(memory_setup, reason);

	if (r == 0)
		r = memory_setup_open_mover(memory_setup);
	if (r == 0)
		r = resizes_open(hbmd);
	if (r == 0)
		r = memory_pressure_open(hbmd);
	if (r == 0)
		r = restoration_setup_open(hbmd, memory_setup_restored, memory_setup);
	if (r == 0)
		r = catalog_setup_open(hbmd, memory_setup_grown, memory_setup);
	if (r == 0)
		r = memory_setup_open_idle_checksums(memory_setup);

	return r;
}

int memory_setup_open(struct memory_setup **out, struct hbmd *hbmd, void (*progress)(void *arg),
		      void *arg, char *error, size_t error_size)
{
	struct reason reason = {error, error_size};
	struct memory_setup *memory_setup = calloc(1, sizeof(*memory_setup));
	if (!memory_setup)
		return -ENOMEM;

	*memory_setup = (struct memory_setup){.hbmd = hbmd,
					      .progress = progress,
					      .arg = arg,
					      .release.fire = memory_setup_release_namespaces};
	memory_setup->region_kept = (struct region_kept){hbmd->kept, hbmd->parking};
	hbmd->region_kept = hbmd->kept ? &memory_setup->region_kept : NULL;
	error[0] = '\0';
	int r = memory_setup_open_parts(memory_setup, &reason);
	if (r < 0) {
		if (error[0] == '\0')
			snprintf(error, error_size, "cannot set up the tiers: %s", strerror(-r));
		memory_setup_close(memory_setup);
		return r;
	}

	*out = memory_setup;

	return 0;
}

void memory_setup_drain(struct memory_setup *memory_setup)
{
	const struct devices *devices = memory_setup->hbmd->devices;

	memory_pressure_close(memory_setup->hbmd);
	resizes_stop(memory_setup->hbmd);
	idle_checksums_stop(memory_setup->idle_checksums);
	struct device *device;
	for (uint32_t i = 0; (device = devices_nth(devices, i)); i++)
		slabs_drain(device->slabs);
}

static void memory_setup_close_device(struct memory_setup *memory_setup, struct device *device)
{
	for (unsigned i = 0; i < 3; i++)
		device->queues[i] = copy_queue_free(device->queues[i]);
	device->lend = lend_close(device->lend);
	device->slabs = slabs_close(device->slabs);
	memory_setup->hbm[device->index] = hbm_memory_close(memory_setup->hbm[device->index]);
}

struct memory_setup *memory_setup_close(struct memory_setup *memory_setup)
{
	if (!memory_setup)
		return NULL;

	struct hbmd *hbmd = memory_setup->hbmd;
	for (uint32_t i = 0; i < hbmd->devices->count; i++)
		hbm_memory_stop(memory_setup->hbm[i]);
	restoration_setup_close(hbmd);
	loop_timer_stop(hbmd->loop, &memory_setup->release);
	idle_checksums_stop(memory_setup->idle_checksums);
	memory_pressure_close(hbmd);
	resizes_stop(hbmd);
	catalog_setup_close(hbmd);
	hbmd->mover = mover_free(hbmd->mover);
	memory_setup->hash_pool = hash_pool_free(memory_setup->hash_pool);
	memory_setup->idle_checksums = idle_checksums_free(memory_setup->idle_checksums);
	hbmd->reservations = reservations_close(hbmd->reservations);
	for (uint32_t i = 0; i < hbmd->devices->count; i++)
		memory_setup_close_device(memory_setup, &hbmd->devices->list[i]);
	host_setup_close(hbmd);
	hbmd->nvme_watch = NULL;
	hbmd->nvme_name = nvme_name_free(hbmd->nvme_name);
	memory_setup->nvme_io = nvme_io_free(memory_setup->nvme_io);
	hbmd->nvme = nvme_file_close(hbmd->nvme);
	hbmd->ddr = ddr_close(hbmd->ddr);
	resizes_close(hbmd);
	hbmd->cache = cache_close(hbmd->cache);
	hbmd->link_stats = link_stats_free(hbmd->link_stats);
	free(memory_setup);

	return NULL;
}

bool memory_setup_warm(const struct memory_setup *memory_setup)
{
	const struct hbmd *hbmd = memory_setup->hbmd;

	for (uint32_t i = 0; i < hbmd->devices->count; i++)
		if (memory_setup->hbm[i] && !hbm_memory_settled(memory_setup->hbm[i]))
			return false;

	return ddr_warm(hbmd->ddr) && restoration_setup_has_ended(hbmd) &&
	       (!hbmd->nvme || nvme_file_settled(hbmd->nvme)) &&
	       (!hbmd->catalog || catalog_has_settled(hbmd->catalog));
}

bool memory_setup_broken(const struct memory_setup *memory_setup)
{
	return ddr_broken(memory_setup->hbmd->ddr);
}
