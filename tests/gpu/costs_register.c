/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What putting a pool of host memory to use costs: touching its pages, and registering
 * them, by page size and by the number of threads that share the work; in pieces of 1 GiB
 * at most, as hbmd does it.
 */
#include "tests/gpu/costs.h"

#include "tests/gpu/record.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define THREADS_MAX 8
#define PIECE GIB

struct pool {
	const struct rig *rig;
	char *memory;
	size_t bytes;
	unsigned threads;
	int untouchable; /* errno: the pages cannot be had */
	CUresult result; /* the first that was none of success */
};

struct share {
	struct pool *pool;
	unsigned number; /* of the thread */
	void (*work)(struct pool *pool, char *from, size_t bytes);
	pthread_t thread;
};

/* Where the kernel can say it, pages that a container is not granted are an error, and no
 * signal. */
static void touch(struct pool *pool, char *from, size_t bytes)
{
	if (madvise(from, bytes, MADV_POPULATE_WRITE) == 0)
		return;
	if (errno != EINVAL) {
		__atomic_store_n(&pool->untouchable, errno, __ATOMIC_RELAXED);
		return;
	}

	for (size_t i = 0; i < bytes; i += 4096)
		((volatile char *)from)[i] = 0; /* a kernel before 5.14 */
}

static void each_piece(struct pool *pool, char *from, size_t bytes,
		       CUresult (*call)(const struct rig *, char *, size_t))
{
	for (size_t done = 0; done < bytes; done += PIECE) {
		CUresult result =
			call(pool->rig, from + done, bytes - done < PIECE ? bytes - done : PIECE);

		if (result != CUDA_SUCCESS && pool->result == CUDA_SUCCESS)
			pool->result = result;
	}
}

static CUresult pin_piece(const struct rig *rig, char *from, size_t bytes)
{
	return rig->driver->cuMemHostRegister(
		from, bytes, CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP);
}

static CUresult unpin_piece(const struct rig *rig, char *from, size_t bytes)
{
	(void)bytes;
	return rig->driver->cuMemHostUnregister(from);
}

static void pin(struct pool *pool, char *from, size_t bytes)
{
	each_piece(pool, from, bytes, pin_piece);
}

static void unpin(struct pool *pool, char *from, size_t bytes)
{
	each_piece(pool, from, bytes, unpin_piece);
}

static void *share_work(void *argument)
{
	struct share *share = argument;
	struct pool *pool = share->pool;
	size_t bytes = pool->bytes / pool->threads;

	pool->rig->driver->cuCtxSetCurrent(pool->rig->context);
	share->work(pool, pool->memory + share->number * bytes, bytes);

	return NULL;
}

/* Seconds, with all threads at it. */
static double pool_work(struct pool *pool,
			void (*work)(struct pool *pool, char *from, size_t bytes))
{
	struct share shares[THREADS_MAX];
	unsigned started = 0;
	double began = clock_s();

	for (; started < pool->threads; started++) {
		shares[started] = (struct share){.pool = pool, .number = started, .work = work};
		if (pthread_create(&shares[started].thread, NULL, share_work, &shares[started]) !=
		    0)
			break;
	}

	if (started < pool->threads)
		pool->result = CUDA_ERROR_OPERATING_SYSTEM;

	while (started > 0)
		pthread_join(shares[--started].thread, NULL);

	return clock_s() - began;
}

static void pool_measure(struct pool *pool, const char *pages)
{
	char name[80];
	double gib = (double)pool->bytes / (double)GIB;
	double touching = pool_work(pool, touch) / gib, pinning, unpinning;

	snprintf(name, sizeof(name), "register, %s pages, %u threads", pages, pool->threads);

	if (pool->untouchable != 0) {
		record(name, OUTCOME_UNSUPPORTED, "%s of such pages cannot be touched: %s",
		       size_text(pool->bytes), strerror(pool->untouchable));
		return;
	}

	pinning = pool_work(pool, pin) / gib;
	unpinning = pool_work(pool, unpin) / gib;
	if (pool->result == CUDA_SUCCESS)
		record_number(name, pinning, "s/GiB",
			      "of %s; touching %.3f, unregistering %.3f s/GiB",
			      size_text(pool->bytes), touching, unpinning);
	else
		record(name, OUTCOME_FAIL, "%s",
		       driver_error_name(pool->rig->driver, pool->result));
}

/* A new pool for each number of threads: pages are touched only once. */
static void register_pages(const struct rig *rig, size_t bytes, unsigned threads, unsigned flags,
			   const char *pages)
{
	struct pool pool = {.rig = rig, .bytes = bytes, .threads = threads};
	int memory = memfd_create("pool", MFD_CLOEXEC | flags);
	char name[80];

	pool.memory = MAP_FAILED;
	if (memory >= 0 && ftruncate(memory, (off_t)bytes) == 0)
		pool.memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);

	if (pool.memory != MAP_FAILED) {
		pool_measure(&pool, pages);
		munmap(pool.memory, bytes);
	} else {
		snprintf(name, sizeof(name), "register, %s pages, %u threads", pages, threads);
		record(name, OUTCOME_UNSUPPORTED, "no such memory of %s: %s", size_text(bytes),
		       strerror(errno));
	}

	if (memory >= 0)
		close(memory);
}

void costs_register(const struct rig *rig, const struct limits *limits)
{
	const long processors = sysconf(_SC_NPROCESSORS_ONLN);
	size_t bytes = limits->quick ? 256 * MIB : 4 * GIB;

	while (bytes > limits->ddr)
		bytes /= 2;
	for (unsigned threads = 1;
	     threads <= THREADS_MAX && (threads == 1 || threads <= processors); threads *= 2)
		register_pages(rig, bytes, threads, 0, "4 KiB");

	for (unsigned threads = 1;
	     threads <= THREADS_MAX && (threads == 1 || threads <= processors); threads *= 2)
		register_pages(rig, bytes, threads, MFD_HUGETLB, "huge");
}
