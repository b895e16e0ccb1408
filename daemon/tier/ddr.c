/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/ddr.h"

#include "daemon/base/address_space.h"
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/config/config.h"
#include "daemon/tier/ddr_memfd.h"
#include "daemon/tier/ddr_memory.h"
#include "daemon/tier/ddr_size.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define HUGE_PAGE DDR_SIZE_HUGE_PAGE
/* to register a chunk, at least, and one with each device: another process may make the driver
 * refuse one, and a device may be sick */
#define ATTEMPTS 4

/* of addresses beyond what all memory of the host takes: each is one growth that is no multiple */
#define SPARE_CHUNKS 64
/* collapsing stops after a chunk that took longer: memory is too fragmented */
#define COLLAPSE_LIMIT_NS 2000000000ull

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; Debian 12's libc has it only in newer headers */
#endif

/* So that the page exists; what is in it stays. */
static void ddr_touch(char *at)
{
	volatile char *byte = at;
	*byte = *byte;
}

/* Asks for transparent huge pages: large I/O and copies then handle one page instead of
 * 512. The kernel fills in around the one small page that must exist first. Without huge
 * pages everything works, more slowly. */
static void ddr_collapse(struct ddr *ddr, struct chunk *chunk)
{
	char *at = ddr->base + chunk->offset;
	uint64_t bytes = chunk->bytes;
	if (ddr->hugepages || atomic_load(&ddr->fragmented))
		return;

	uint64_t started = clock_now();
	for (uint64_t offset = 0; offset + HUGE_PAGE <= bytes; offset += HUGE_PAGE)
		ddr_touch(at + offset);
	uint64_t whole = bytes / HUGE_PAGE * HUGE_PAGE;
	if (whole > 0 && madvise(at, whole, MADV_COLLAPSE) == 0)
		chunk->collapsed = whole;
	else if (whole > 0)
		atomic_store(&ddr->fragmented, true);
	atomic_fetch_add(&ddr->collapsed, chunk->collapsed);

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
		ddr_touch(at + offset);

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
		ddr_collapse(ddr, chunk);
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

/* The part of [from, from + bytes) that lies in [low, high), moved so that low is 0. False: none
 * does, or the tier has too many pieces. */
static bool ddr_grow_part(struct tier *tier, uint64_t from, uint64_t bytes, uint64_t low,
			  uint64_t high)
{
	uint64_t start = from > low ? from : low;
	uint64_t end = from + bytes < high ? from + bytes : high;

	return start < end && tier_grow(tier, start - low, end - start) == 0;
}

/*
 * Grows the tiers in order, whatever the workers' speeds: usable memory then consists of
 * few pieces, and a tier can have only few.
 */
static void ddr_start_next(struct ddr *ddr, struct worker *worker)
{
	struct chunk *chunk = ddr->waiting;
	if (!chunk)
		return;

	ddr->waiting = chunk->next;
	if (!ddr->waiting)
		ddr->last_waiting = &ddr->waiting;
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
		(void)ddr_grow_part(ddr->staging_tier, chunk->offset, chunk->bytes, 0,
				    ddr->staging);
		chunk->in_tier = ddr_grow_part(ddr->tier, chunk->offset, chunk->served,
					       ddr->staging, ddr->span);
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

void ddr_prepare_later(struct ddr *ddr, struct chunk *chunk)
{
	chunk->job = (struct job){.run = ddr_prepare, .done = ddr_put_into_service};
	chunk->attempts = 0;
	chunk->error = 0;
	chunk->next = NULL;
	*ddr->last_waiting = chunk;
	ddr->last_waiting = &chunk->next;
	ddr->pending++;
}

void ddr_start(struct ddr *ddr)
{
	for (unsigned i = 0; i < DDR_WORKERS_MAX && ddr->workers[i]; i++)
		ddr_start_next(ddr, ddr->workers[i]);
}

uint64_t ddr_page(const struct ddr *ddr)
{
	return ddr->hugepages ? HUGE_PAGE : EXTENT_UNIT;
}

static uint64_t ddr_round_up(uint64_t bytes, uint64_t unit)
{
	return (bytes + unit - 1) / unit * unit;
}

/* Core dumps leave out what lies there: it is large, and clients' own. Returns NULL and
 * sets errno on failure. */
static char *ddr_map_aligned(uint64_t bytes, int fd)
{
	char *base = address_space_reserve(bytes);
	if (!base)
		return NULL;

	if (mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd,
		 0) != MAP_FAILED &&
	    madvise(base, bytes, MADV_DONTDUMP) == 0)
		return base;

	int error = errno;
	munmap(base, bytes);
	errno = error;

	return NULL;
}

/* Memory of the daemon before that cannot be used is closed. */
static int ddr_open_memory(struct ddr *ddr, int kept, char *error, size_t error_size)
{
	int r = kept >= 0 ? ddr_memfd_adopt(kept, ddr->span, ddr->bytes, ddr->hugepages) : -ENOENT;
	ddr->adopted = r == 0;
	if (ddr->adopted)
		return kept;

	if (kept >= 0) {
		log_notice("ddr: the memory of the daemon before cannot be used: %s; the DDR tier "
			   "begins empty",
			   r == -EPROTO ? "its pages are of another size" : strerror(-r));
		close(kept);
	}

	return ddr_memfd_new(ddr->span, ddr->hugepages, error, error_size);
}

static int ddr_map_memory(struct ddr *ddr, int kept, char *error, size_t error_size)
{
	ddr->fd = ddr_open_memory(ddr, kept, error, error_size);
	if (ddr->fd < 0)
		return ddr->fd;

	char *base = ddr_map_aligned(ddr->span, ddr->fd);
	int r = !base ? -errno : 0;
	if (r < 0) {
		snprintf(error, error_size, "ddr: cannot map %llu bytes%s: %s",
			 (unsigned long long)ddr->span,
			 ddr->hugepages ? " of huge pages (vm.nr_hugepages)" : "", strerror(-r));
		return r;
	}

	ddr->base = base;

	return 0;
}

/* One that is there from the start; the DDR tier ends at `end`. */
static void ddr_open_chunk(struct ddr *ddr, struct chunk *chunk, uint64_t end)
{
	uint64_t left = ddr->bytes - chunk->offset, served = end - chunk->offset;

	chunk->bytes = left < ddr->chunk ? left : ddr->chunk;
	chunk->served = served < chunk->bytes ? served : chunk->bytes;
	ddr_prepare_later(ddr, chunk);
}

/* What the tier may grow to: addresses for all memory of the host, in whole chunks, each of which
 * may be the last one of a size and have fewer bytes than there is room for. */
static uint64_t ddr_span(const struct ddr *ddr, const struct memory_limit *limit)
{
	uint64_t most = limit->host > EXTENT_END / 2 ? EXTENT_END / 2 : limit->host;

	return ddr_round_up(ddr->bytes > most ? ddr->bytes : most, ddr->chunk) +
	       SPARE_CHUNKS * ddr->chunk;
}

/* Whether this process may have only so many addresses, or files of only so many bytes: it does
 * without those that it may never need. */
static bool ddr_is_limited(void)
{
	struct rlimit addresses, file;

	return (getrlimit(RLIMIT_AS, &addresses) == 0 && addresses.rlim_cur != RLIM_INFINITY) ||
	       (getrlimit(RLIMIT_FSIZE, &file) == 0 && file.rlim_cur != RLIM_INFINITY);
}

static int ddr_start_workers(struct ddr *ddr, struct loop *loop, uint64_t end)
{
	ddr->chunk_count = (uint32_t)((ddr->span + ddr->chunk - 1) / ddr->chunk);
	ddr->chunks = calloc(ddr->chunk_count, sizeof(struct chunk));
	if (!ddr->chunks)
		return -ENOMEM;

	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned workers = cpus > DDR_WORKERS_MAX ? DDR_WORKERS_MAX : cpus < 1 ? 1 : (unsigned)cpus;
	uint64_t count = (ddr->bytes + ddr->chunk - 1) / ddr->chunk;
	if (workers > count)
		workers = (unsigned)count;

	for (unsigned i = 0; i < workers; i++) {
		int r = worker_new(&ddr->workers[i], loop, "ddr-touch", NULL, NULL);
		if (r < 0)
			return r;
	}

	for (uint32_t i = 0; i < ddr->chunk_count; i++) {
		struct chunk *chunk = &ddr->chunks[i];

		chunk->ddr = ddr;
		chunk->offset = i * ddr->chunk;
		if (i < count)
			ddr_open_chunk(ddr, chunk, end);
	}

	ddr_start(ddr);

	return 0;
}

int ddr_open(struct ddr **out, const struct config *config, int kept, struct tier *staging,
	     struct tier *tier, struct devices *devices, struct loop *loop,
	     void (*progress)(void *arg), void *arg, char *error, size_t error_size)
{
	struct ddr *ddr = calloc(1, sizeof(*ddr));
	if (!ddr) {
		if (kept >= 0)
			close(kept);
		return -ENOMEM;
	}

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
			    .chunk = config->ddr_chunk,
			    .started_ns = clock_now(),
			    .progress = progress,
			    .arg = arg};
	uint64_t end = need.staging + need.headroom + need.size;
	ddr->bytes = ddr->opened = need.bytes;
	ddr->last_waiting = &ddr->waiting;
	ddr->span = ddr_is_limited() ? need.bytes
		    : need.size > 0  ? ddr_span(ddr, &limit)
				     : ddr_round_up(need.bytes, ddr->chunk);
	need.taken = kept >= 0 ? ddr_memfd_taken(kept) : 0;
	int r = ddr_size_check(&need, config, &limit, error, error_size);
	if (r == 0)
		r = ddr_map_memory(ddr, kept, error, error_size);
	else if (kept >= 0)
		close(kept);

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
				 end);
		r = ddr_start_workers(ddr, loop, end);
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

bool ddr_unregister(struct chunk *chunk)
{
	struct device *device = chunk->device;
	if (!chunk->registered)
		return true;

	chunk->result = device_enter(device);
	if (chunk->result == CUDA_SUCCESS)
		chunk->result =
			device->driver->cuMemHostUnregister(chunk->ddr->base + chunk->offset);
	chunk->registered = chunk->result != CUDA_SUCCESS;

	return !chunk->registered;
}

struct ddr *ddr_close(struct ddr *ddr)
{
	if (!ddr)
		return NULL;

	atomic_store(&ddr->stop, true); /* each chunk that is still queued would take seconds */
	for (unsigned i = 0; i < DDR_WORKERS_MAX; i++)
		ddr->workers[i] = worker_free(ddr->workers[i]);
	for (uint32_t i = 0; i < ddr->chunk_count && ddr->chunks; i++)
		(void)ddr_unregister(&ddr->chunks[i]);

	if (ddr->base)
		munmap(ddr->base, ddr->span);
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

int ddr_fd(const struct ddr *ddr)
{
	return ddr->fd;
}

bool ddr_is_adopted(const struct ddr *ddr)
{
	return ddr->adopted;
}

bool ddr_warm(const struct ddr *ddr)
{
	return ddr->pending == 0;
}

bool ddr_broken(const struct ddr *ddr)
{
	return ddr->broken;
}

uint64_t ddr_bytes(const struct ddr *ddr)
{
	return ddr->bytes;
}
