/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/ddr.h"
#include "daemon/base/clock.h"

#include "daemon/base/log.h"
#include "daemon/config/config.h"
#include "daemon/tier/ddr_nodes.h"
#include "daemon/tier/ddr_size.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE DDR_SIZE_HUGE_PAGE
#define WORKERS_MAX 8
/* to register a chunk, at least, and one with each device: another process may make the driver
 * refuse one, and a device may be sick */
#define ATTEMPTS 4

/* collapsing stops after a chunk that took longer: memory is too fragmented */
#define COLLAPSE_LIMIT_NS 2000000000ull

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; Debian 12's libc has it only in newer headers */
#endif

struct chunk {
	struct job job;
	struct ddr *ddr;
	struct worker *worker;
	uint64_t offset, bytes;
	unsigned attempts;
	struct device *device; /* whose context registered it, or tried to */
	bool registered;
	int error;       /* of touching */
	CUresult result; /* of registering */
};

struct ddr {
	struct tier *tier, *staging_tier;
	struct devices *devices;
	int fd; /* of the memory */
	char *base;
	uint64_t bytes, staging;
	uint64_t end; /* of the DDR tier; bytes beyond it only fill the last page */
	bool hugepages;
	struct ddr_nodes nodes;
	atomic_bool stop;
	atomic_bool fragmented; /* transparent huge pages cannot be allocated, or only slowly */
	atomic_uint_fast64_t collapsed; /* bytes in transparent huge pages */
	uint64_t started_ns, ready;     /* ready: bytes in service */
	uint32_t pending;
	bool broken;
	void (*progress)(void *arg);
	void *arg;
	struct worker *workers[WORKERS_MAX];
	uint32_t chunk_count, started;
	struct chunk *chunks; /* the first `started` of them have a worker */
};

/* Asks for transparent huge pages: large I/O and copies then handle one page instead of
 * 512. The kernel fills in around the one small page that must exist first. Without huge
 * pages everything works, more slowly. */
static void ddr_collapse(struct ddr *ddr, char *at, uint64_t bytes)
{
	if (ddr->hugepages || atomic_load(&ddr->fragmented))
		return;

	uint64_t started = clock_now();
	for (uint64_t offset = 0; offset + HUGE_PAGE <= bytes; offset += HUGE_PAGE)
		*(volatile char *)(at + offset) = 0;
	uint64_t whole = bytes / HUGE_PAGE * HUGE_PAGE;
	if (whole > 0 && madvise(at, whole, MADV_COLLAPSE) == 0)
		atomic_fetch_add(&ddr->collapsed, whole);
	else if (whole > 0)
		atomic_store(&ddr->fragmented, true);

	if (clock_now() - started > COLLAPSE_LIMIT_NS)
		atomic_store(&ddr->fragmented, true);
}

/* Allocates the pages now: a page that cannot be allocated later is a SIGBUS. Kernels
 * before 5.14 have no call for it; there the file gets its pages first, and touching them
 * maps them. */
static int ddr_populate(const struct ddr *ddr, const struct chunk *chunk)
{
	char *at = ddr->base + chunk->offset;
	if (madvise(at, chunk->bytes, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	if (fallocate(ddr->fd, 0, (off_t)chunk->offset, (off_t)chunk->bytes) < 0)
		return -errno;

	for (uint64_t offset = 0; offset < chunk->bytes; offset += EXTENT_UNIT)
		*(volatile char *)(at + offset) = 0;

	return 0;
}

/* The device for the next attempt: each in turn, those that are lost last. */
static struct device *ddr_choose_device(const struct ddr *ddr, unsigned attempts)
{
	const struct devices *devices = ddr->devices;
	struct device *device = NULL;

	for (uint32_t i = 0; i < devices->count; i++) {
		device = &devices->list[(attempts + i) % devices->count];
		if (!device_is_lost(device))
			break;
	}

	return device;
}

static bool ddr_may_try_again(const struct ddr *ddr, const struct chunk *chunk)
{
	return chunk->attempts < ATTEMPTS || chunk->attempts < ddr->devices->count;
}

static void ddr_prepare(struct job *job)
{
	struct chunk *chunk = container_of(job, struct chunk, job);
	struct ddr *ddr = chunk->ddr;
	char *at = ddr->base + chunk->offset;
	if (atomic_load(&ddr->stop))
		return;

	if (chunk->attempts == 0) {
		ddr_nodes_place(&ddr->nodes, ddr->staging_tier, ddr->tier, chunk->offset,
				chunk->bytes);
		ddr_collapse(ddr, at, chunk->bytes);
		chunk->error = ddr_populate(ddr, chunk);
	}

	if (chunk->error < 0)
		return;

	struct device *device = chunk->device = ddr_choose_device(ddr, chunk->attempts);
	gate_enter(device->all);
	chunk->result = device_enter(device);
	if (chunk->result == CUDA_SUCCESS)
		chunk->result = device->driver->cuMemHostRegister(
			at, chunk->bytes,
			CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP);
	gate_leave(device->all);

	chunk->registered = chunk->result == CUDA_SUCCESS;
}

/* The part of [from, from + bytes) that lies in [low, high), moved so that low is 0. */
static void ddr_grow_part(struct tier *tier, uint64_t from, uint64_t bytes, uint64_t low,
			  uint64_t high)
{
	uint64_t start = from > low ? from : low;
	uint64_t end = from + bytes < high ? from + bytes : high;
	if (start < end)
		tier_grow(tier, start - low, end - start);
}

/*
 * Grows the tiers in order, whatever the workers' speeds: usable memory then consists of
 * few pieces, and a tier can have only few.
 */
static void ddr_start_next(struct ddr *ddr, struct worker *worker)
{
	if (ddr->started == ddr->chunk_count)
		return;
	struct chunk *chunk = &ddr->chunks[ddr->started++];
	chunk->worker = worker;
	worker_post(worker, &chunk->job);
}

static void ddr_report_missing(struct ddr *ddr, const struct chunk *chunk)
{
	if (chunk->error < 0)
		log_error("ddr: cannot allocate %llu MiB: %s%s",
			  (unsigned long long)(chunk->bytes >> 20), strerror(-chunk->error),
			  ddr->hugepages ? "; reserve more huge pages (vm.nr_hugepages) or set "
					   "ddr.hugepages = no"
					 : "; lower ddr.size");
	else
		log_error("ddr: cannot register %llu MiB with the device after %u attempts",
			  (unsigned long long)(chunk->bytes >> 20), chunk->attempts);
	ddr->broken |= chunk->offset < ddr->staging;
}

static void ddr_put_into_service(struct job *job)
{
	struct chunk *chunk = container_of(job, struct chunk, job);
	struct ddr *ddr = chunk->ddr;

	if (chunk->registered) {
		ddr->ready += chunk->bytes;
		ddr_grow_part(ddr->staging_tier, chunk->offset, chunk->bytes, 0, ddr->staging);
		ddr_grow_part(ddr->tier, chunk->offset, chunk->bytes, ddr->staging, ddr->end);
	} else if (chunk->error == 0 && !atomic_load(&ddr->stop)) {
		device_failed(chunk->device, "cuMemHostRegister", chunk->result);
		chunk->attempts++;
		if (ddr_may_try_again(ddr, chunk)) {
			worker_post(chunk->worker, job);
			return;
		}
	}

	if (!chunk->registered)
		ddr_report_missing(ddr, chunk);

	ddr_start_next(ddr, chunk->worker);

	if (--ddr->pending == 0)
		log_info("ddr: %llu of %llu MiB populated and registered in %.1f s, %llu MiB in "
			 "huge pages",
			 (unsigned long long)(ddr->ready >> 20),
			 (unsigned long long)(ddr->bytes >> 20),
			 (double)(clock_now() - ddr->started_ns) / 1e9,
			 (unsigned long long)(ddr->hugepages ? ddr->ready
							     : atomic_load(&ddr->collapsed)) >>
				 20);

	ddr->progress(ddr->arg);
}

static uint64_t ddr_round_up(uint64_t bytes, uint64_t unit)
{
	return (bytes + unit - 1) / unit * unit;
}

/* Maps at an address aligned for huge pages by reserving more and unmapping the excess.
 * Core dumps leave out what lies there: it is large, and clients' own. Returns NULL and
 * sets errno on failure. */
static char *ddr_map_aligned(uint64_t bytes, int fd)
{
	uint64_t room = ddr_round_up(bytes, HUGE_PAGE) + HUGE_PAGE;
	char *start =
		mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED)
		return NULL;

	char *base = (char *)(uintptr_t)ddr_round_up((uintptr_t)start, HUGE_PAGE);
	if (base > start)
		munmap(start, (size_t)(base - start));

	munmap(base + bytes, (size_t)(start + room - (base + bytes)));
	if (mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd,
		 0) != MAP_FAILED &&
	    madvise(base, bytes, MADV_DONTDUMP) == 0)
		return base;

	int error = errno;
	munmap(base, bytes);
	errno = error;

	return NULL;
}

static int ddr_map_memory(struct ddr *ddr, char *error, size_t error_size)
{
	unsigned flags = MFD_CLOEXEC | (ddr->hugepages ? MFD_HUGETLB | (21u << MFD_HUGE_SHIFT) : 0);
	int fd = memfd_create("hbmd-ddr", flags);
	if (fd < 0 || ftruncate(fd, (off_t)ddr->bytes) < 0) {
		int r = -errno;
		snprintf(error, error_size, "ddr: cannot create a memfd of %llu bytes: %s",
			 (unsigned long long)ddr->bytes, strerror(-r));
		if (fd >= 0)
			close(fd);
		return r;
	}

	ddr->fd = fd;
	char *base = ddr_map_aligned(ddr->bytes, fd);
	int r = !base ? -errno : 0;
	if (r < 0) {
		snprintf(error, error_size, "ddr: cannot map %llu bytes%s: %s",
			 (unsigned long long)ddr->bytes,
			 ddr->hugepages ? " of huge pages (vm.nr_hugepages)" : "", strerror(-r));
		return r;
	}

	ddr->base = base;

	return 0;
}

static int ddr_start_workers(struct ddr *ddr, struct loop *loop)
{
	ddr->chunk_count = (uint32_t)((ddr->bytes + DDR_CHUNK - 1) / DDR_CHUNK);
	ddr->chunks = calloc(ddr->chunk_count, sizeof(struct chunk));
	if (!ddr->chunks)
		return -ENOMEM;

	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned workers = cpus > WORKERS_MAX ? WORKERS_MAX : cpus < 1 ? 1 : (unsigned)cpus;
	if (workers > ddr->chunk_count)
		workers = ddr->chunk_count;

	for (unsigned i = 0; i < workers; i++) {
		int r = worker_new(&ddr->workers[i], loop, "ddr-touch", NULL, NULL);
		if (r < 0)
			return r;
	}

	ddr->pending = ddr->chunk_count;
	for (uint32_t i = 0; i < ddr->chunk_count; i++) {
		struct chunk *chunk = &ddr->chunks[i];
		uint64_t offset = i * DDR_CHUNK, left = ddr->bytes - offset;
		*chunk = (struct chunk){.job = {.run = ddr_prepare, .done = ddr_put_into_service},
					.ddr = ddr,
					.offset = offset,
					.bytes = left < DDR_CHUNK ? left : DDR_CHUNK};
	}

	for (unsigned i = 0; i < workers; i++)
		ddr_start_next(ddr, ddr->workers[i]);

	return 0;
}

int ddr_open(struct ddr **out, const struct config *config, struct tier *staging, struct tier *tier,
	     struct devices *devices, struct loop *loop, void (*progress)(void *arg), void *arg,
	     char *error, size_t error_size)
{
	struct ddr *ddr = calloc(1, sizeof(*ddr));
	if (!ddr)
		return -ENOMEM;

	struct memory_limit limit;
	struct ddr_size need;
	memory_limit_read(&limit, "");
	ddr_size_of(&need, config, &limit);
	*ddr = (struct ddr){.tier = tier,
			    .staging_tier = staging,
			    .devices = devices,
			    .fd = -1,
			    .hugepages = config->ddr_hugepages,
			    .staging = need.staging,
			    .started_ns = clock_now(),
			    .progress = progress,
			    .arg = arg};
	ddr->end = need.staging + need.headroom + need.size;
	ddr->bytes = need.bytes;
	int r = ddr_size_check(&need, config, &limit, error, error_size);
	if (r == 0)
		r = ddr_map_memory(ddr, error, error_size);

	if (r == 0)
		r = tier_init(staging, HBM_TIER_NONE, staging->number, ddr->staging, 0,
			      config->limit_blocks);

	if (r == 0)
		r = tier_init(tier, HBM_TIER_DDR, tier->number, need.size, need.headroom,
			      config->limit_blocks);

	if (r == 0) {
		staging->ops = tier->ops = &tier_ddr_ops;
		staging->host = ddr->base;
		tier->host = ddr->base + ddr->staging;
		ddr_nodes_divide(&ddr->nodes, config, &devices->numa, staging, tier, ddr->staging,
				 ddr->end);
		r = ddr_start_workers(ddr, loop);
	}

	if (r < 0) {
		if (error[0] == '\0')
			snprintf(error, error_size, "ddr: cannot start: %s", strerror(-r));
		ddr_close(ddr);
		return r;
	}

	*out = ddr;

	return 0;
}

static void ddr_unregister(const struct ddr *ddr, const struct chunk *chunk)
{
	if (!chunk->registered)
		return;
	device_enter(chunk->device);
	chunk->device->driver->cuMemHostUnregister(ddr->base + chunk->offset);
}

struct ddr *ddr_close(struct ddr *ddr)
{
	if (!ddr)
		return NULL;

	atomic_store(&ddr->stop, true); /* each chunk that is still queued would take seconds */
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		ddr->workers[i] = worker_free(ddr->workers[i]);
	for (uint32_t i = 0; i < ddr->chunk_count && ddr->chunks; i++)
		ddr_unregister(ddr, &ddr->chunks[i]);

	if (ddr->base)
		munmap(ddr->base, ddr->bytes);
	if (ddr->fd >= 0)
		close(ddr->fd);

	free(ddr->chunks);
	free(ddr);

	return NULL;
}

const char *ddr_base(const struct ddr *ddr)
{
	return ddr->base;
}

bool ddr_warm(const struct ddr *ddr)
{
	return ddr->pending == 0;
}

bool ddr_broken(const struct ddr *ddr)
{
	return ddr->broken;
}
