/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/host.h"
#include "daemon/clock.h"

#include "daemon/config.h"
#include "daemon/host_size.h"
#include "daemon/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE HOST_SIZE_HUGE_PAGE
#define WORKERS_MAX 8
#define ATTEMPTS 4 /* to register a chunk: another process may have made the driver refuse */

#define COLLAPSE_LIMIT_NS 2000000000ull /* a chunk that took longer is the last: memory is too fragmented */

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; Debian 12's libc has it only in newer headers */
#endif

struct chunk {
	struct job job;
	struct host *host;
	struct worker *worker;
	uint64_t offset, bytes;
	unsigned attempts;
	bool registered;
	int error;       /* of touching */
	CUresult result; /* of registering */
};

struct host {
	struct tier *ddr, *staging_tier;
	struct devices *devices;
	int fd; /* of the memory */
	char *base;
	uint64_t bytes, staging;
	uint64_t end; /* of the DDR tier; what is beyond only fills the last page */
	bool hugepages;
	atomic_bool stop;
	atomic_bool fragmented;         /* transparent huge pages cannot be had, or only slowly */
	atomic_uint_fast64_t collapsed; /* bytes in transparent huge pages */
	uint64_t started_ns, ready;     /* ready: bytes in service */
	uint32_t pending;
	bool broken;
	void (*progress)(void *arg);
	void *arg;
	struct worker *workers[WORKERS_MAX];
	uint32_t chunk_count, given;
	struct chunk *chunks; /* the first `given` of them have a worker */
};

/* Asks for transparent huge pages: large I/O and copies then handle one page where there were 512. The kernel fills in
 * around the one small page there must be. Without them everything works, more slowly. */
static void collapse(struct host *host, char *at, uint64_t bytes)
{
	if (host->hugepages || atomic_load(&host->fragmented))
		return;
	uint64_t started = clock_now();
	for (uint64_t offset = 0; offset + HUGE_PAGE <= bytes; offset += HUGE_PAGE)
		*(volatile char *)(at + offset) = 0;
	uint64_t whole = bytes / HUGE_PAGE * HUGE_PAGE;
	if (whole > 0 && madvise(at, whole, MADV_COLLAPSE) == 0)
		atomic_fetch_add(&host->collapsed, whole);
	else if (whole > 0)
		atomic_store(&host->fragmented, true);
	if (clock_now() - started > COLLAPSE_LIMIT_NS)
		atomic_store(&host->fragmented, true);
}

/* Makes the pages there and then: a page that cannot be had later is a SIGBUS. Kernels before 5.14 have no call for it;
 * there the file gets its pages first, and touching them maps them. */
static int populate(const struct host *host, const struct chunk *chunk)
{
	char *at = host->base + chunk->offset;
	if (madvise(at, chunk->bytes, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	if (fallocate(host->fd, 0, (off_t)chunk->offset, (off_t)chunk->bytes) < 0)
		return -errno;
	for (uint64_t offset = 0; offset < chunk->bytes; offset += EXTENT_UNIT)
		*(volatile char *)(at + offset) = 0;
	return 0;
}

static void prepare(struct job *job)
{
	struct chunk *chunk = container_of(job, struct chunk, job);
	struct host *host = chunk->host;
	char *at = host->base + chunk->offset;
	if (atomic_load(&host->stop))
		return;
	if (chunk->attempts == 0) {
		collapse(host, at, chunk->bytes);
		chunk->error = populate(host, chunk);
	}
	if (chunk->error < 0)
		return;
	struct device *device = &host->devices->list[0];
	chunk->result = device_enter(device);
	if (chunk->result == CUDA_SUCCESS)
		chunk->result = device->driver->cuMemHostRegister(
			at, chunk->bytes, CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP);
	chunk->registered = chunk->result == CUDA_SUCCESS;
}

/* The part of [from, from + bytes) that lies in [low, high), moved so that low is 0. */
static void grow_part(struct tier *tier, uint64_t from, uint64_t bytes, uint64_t low, uint64_t high)
{
	uint64_t start = from > low ? from : low;
	uint64_t end = from + bytes < high ? from + bytes : high;
	if (start < end)
		tier_grow(tier, start - low, end - start);
}

/* In order, whatever the workers' speeds: what is in service is then of few pieces, which is all that a tier can have.
 */
static void give_next(struct host *host, struct worker *worker)
{
	if (host->given == host->chunk_count)
		return;
	struct chunk *chunk = &host->chunks[host->given++];
	chunk->worker = worker;
	worker_post(worker, &chunk->job);
}

static void give_up(struct host *host, const struct chunk *chunk)
{
	if (chunk->error < 0)
		log_error("ddr: %llu MiB could not be had: %s%s", (unsigned long long)(chunk->bytes >> 20),
			  strerror(-chunk->error),
			  host->hugepages ? "; reserve more huge pages (vm.nr_hugepages) or set ddr.hugepages = no"
					  : "; lower ddr.size");
	else
		log_error("ddr: the device refused %u times to register %llu MiB", chunk->attempts,
			  (unsigned long long)(chunk->bytes >> 20));
	host->broken |= chunk->offset < host->staging;
}

static void put_into_service(struct job *job)
{
	struct chunk *chunk = container_of(job, struct chunk, job);
	struct host *host = chunk->host;
	if (chunk->registered) {
		host->ready += chunk->bytes;
		grow_part(host->staging_tier, chunk->offset, chunk->bytes, 0, host->staging);
		grow_part(host->ddr, chunk->offset, chunk->bytes, host->staging, host->end);
	} else if (chunk->error == 0 && !atomic_load(&host->stop)) {
		device_failed(&host->devices->list[0], "cuMemHostRegister", chunk->result);
		if (++chunk->attempts < ATTEMPTS) {
			worker_post(chunk->worker, job);
			return;
		}
	}
	if (!chunk->registered)
		give_up(host, chunk);
	give_next(host, chunk->worker);
	if (--host->pending == 0)
		log_info("ddr: %llu of %llu MiB touched and registered in %.1f s, %llu MiB in huge pages",
			 (unsigned long long)(host->ready >> 20), (unsigned long long)(host->bytes >> 20),
			 (double)(clock_now() - host->started_ns) / 1e9,
			 (unsigned long long)(host->hugepages ? host->ready : atomic_load(&host->collapsed)) >> 20);
	host->progress(host->arg);
}

static uint64_t round_up(uint64_t bytes, uint64_t unit)
{
	return (bytes + unit - 1) / unit * unit;
}

/* At an address a huge page can have: room is reserved for that, and what is too much given back. NULL and errno. */
static char *map_aligned(uint64_t bytes, int fd)
{
	uint64_t room = round_up(bytes, HUGE_PAGE) + HUGE_PAGE;
	char *start = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED)
		return NULL;
	char *base = (char *)(uintptr_t)round_up((uintptr_t)start, HUGE_PAGE);
	if (base > start)
		munmap(start, (size_t)(base - start));
	munmap(base + bytes, (size_t)(start + room - (base + bytes)));
	if (mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) != MAP_FAILED)
		return base;
	int error = errno;
	munmap(base, bytes);
	errno = error;
	return NULL;
}

static int map_memory(struct host *host, char *error, size_t error_size)
{
	unsigned flags = MFD_CLOEXEC | (host->hugepages ? MFD_HUGETLB | (21u << MFD_HUGE_SHIFT) : 0);
	int fd = memfd_create("hbmd-ddr", flags);
	if (fd < 0 || ftruncate(fd, (off_t)host->bytes) < 0) {
		int r = -errno;
		snprintf(error, error_size, "ddr: no memory file of %llu bytes: %s", (unsigned long long)host->bytes,
			 strerror(-r));
		if (fd >= 0)
			close(fd);
		return r;
	}
	host->fd = fd;
	char *base = map_aligned(host->bytes, fd);
	int r = !base ? -errno : 0;
	if (r < 0) {
		snprintf(error, error_size, "ddr: cannot map %llu bytes%s: %s", (unsigned long long)host->bytes,
			 host->hugepages ? " of huge pages (vm.nr_hugepages)" : "", strerror(-r));
		return r;
	}
	host->base = base;
	return 0;
}

static int start_workers(struct host *host, struct loop *loop)
{
	host->chunk_count = (uint32_t)((host->bytes + HOST_CHUNK - 1) / HOST_CHUNK);
	host->chunks = calloc(host->chunk_count, sizeof(struct chunk));
	if (!host->chunks)
		return -ENOMEM;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned workers = cpus > WORKERS_MAX ? WORKERS_MAX : cpus < 1 ? 1 : (unsigned)cpus;
	if (workers > host->chunk_count)
		workers = host->chunk_count;
	for (unsigned i = 0; i < workers; i++) {
		int r = worker_new(&host->workers[i], loop, "ddr-touch", NULL, NULL);
		if (r < 0)
			return r;
	}
	host->pending = host->chunk_count;
	for (uint32_t i = 0; i < host->chunk_count; i++) {
		struct chunk *chunk = &host->chunks[i];
		uint64_t offset = i * HOST_CHUNK, left = host->bytes - offset;
		*chunk = (struct chunk){.job = {.run = prepare, .done = put_into_service},
					.host = host,
					.offset = offset,
					.bytes = left < HOST_CHUNK ? left : HOST_CHUNK};
	}
	for (unsigned i = 0; i < workers; i++)
		give_next(host, host->workers[i]);
	return 0;
}

int host_open(struct host **out, const struct config *config, struct tier *staging, struct tier *ddr,
	      struct devices *devices, struct loop *loop, void (*progress)(void *arg), void *arg, char *error, size_t error_size)
{
	struct host *host = calloc(1, sizeof(*host));
	if (!host)
		return -ENOMEM;
	struct memory_limit limit;
	struct host_size need;
	memory_limit_read(&limit, "");
	host_size_of(&need, config, &limit);
	*host = (struct host){.ddr = ddr,
			      .staging_tier = staging,
			      .devices = devices,
			      .fd = -1,
			      .hugepages = config->ddr_hugepages,
			      .staging = need.staging,
			      .started_ns = clock_now(),
			      .progress = progress,
			      .arg = arg};
	host->end = need.staging + need.reserve + need.size;
	host->bytes = need.bytes;
	int r = host_size_check(&need, config, &limit, error, error_size);
	if (r == 0)
		r = map_memory(host, error, error_size);
	if (r == 0)
		r = tier_init(staging, HBM_TIER_NONE, staging->number, host->staging, 0, config->limit_blocks);
	if (r == 0)
		r = tier_init(ddr, HBM_TIER_DDR, ddr->number, need.size, need.reserve,
			      config->limit_blocks);
	if (r == 0) {
		staging->ops = ddr->ops = &tier_ddr_ops;
		staging->host = host->base;
		ddr->host = host->base + host->staging;
		r = start_workers(host, loop);
	}
	if (r < 0) {
		if (error[0] == '\0')
			snprintf(error, error_size, "ddr: cannot start: %s", strerror(-r));
		host_close(host);
		return r;
	}
	*out = host;
	return 0;
}

struct host *host_close(struct host *host)
{
	if (!host)
		return NULL;
	atomic_store(&host->stop, true); /* the chunks that are still waiting take seconds each */
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		host->workers[i] = worker_free(host->workers[i]);
	if (host->devices->count > 0)
		device_enter(&host->devices->list[0]);
	for (uint32_t i = 0; i < host->chunk_count && host->chunks; i++)
		if (host->chunks[i].registered)
			host->devices->driver->cuMemHostUnregister(host->base + host->chunks[i].offset);
	if (host->base)
		munmap(host->base, host->bytes);
	if (host->fd >= 0)
		close(host->fd);
	free(host->chunks);
	free(host);
	return NULL;
}

const char *host_base(const struct host *host)
{
	return host->base;
}

bool host_warm(const struct host *host)
{
	return host->pending == 0;
}

bool host_broken(const struct host *host)
{
	return host->broken;
}
