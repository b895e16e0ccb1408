/* SPDX-License-Identifier: Apache-2.0 */
/* hbm_memory: see hbm_memory.h. The control thread has one job at a time for it, which the loop
 * thread posts again when the tier has grown or shrunk, so that `memory` has one owner at any
 * moment. */
#include "daemon/tier/hbm_memory.h"

#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/tier/probe.h"
#include "daemon/tier/tier_resize.h"

struct hbm_memory {
	struct tier *tier;
	struct device *device;
	struct loop *loop;
	struct device_memory memory;
	uint64_t wanted;     /* bytes */
	uint64_t in_service; /* the same */
	uint64_t *pieces;    /* [count]: what is mapped, from the start; there is room for all */
	uint64_t count;
	struct hbm_kept kept;
	uint64_t piece;   /* that the job makes or takes away */
	bool of_before;   /* the daemon before has made it */
	int fd;           /* its descriptor; -1: none */
	double rate;      /* the job's, as are the following */
	uint64_t claimed; /* bytes of the daemon before: parked until they are mapped */
	CUresult result;
	bool in_flight; /* the job is posted */
	bool failed;    /* no more will come */
	bool stuck;     /* the device has refused to unmap the last piece */
	bool stopping;
	void (*progress)(void *arg);
	void *arg;
	void (*given_back)(void *arg, uint64_t bytes);
	void *given_back_arg;
	struct job job;
};

/* ---- making ---- */

static CUresult hbm_memory_take_over(struct hbm_memory *hbm)
{
	CUmemGenericAllocationHandle handle;
	CUresult r = hbm->device->driver->cuMemImportFromShareableHandle(
		&handle, (void *)(intptr_t)hbm->fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);

	return r == CUDA_SUCCESS ? device_memory_extend_with(&hbm->memory, hbm->piece, handle) : r;
}

static void hbm_memory_tell(const struct hbm_memory *hbm)
{
	uint64_t mapped = hbm->memory.mapped;

	hbm->device->tier_bytes = mapped > hbm->claimed ? mapped : hbm->claimed;
}

static void hbm_memory_run(struct job *job)
{
	struct hbm_memory *hbm = container_of(job, struct hbm_memory, job);
	bool first = hbm->memory.mapped == 0;

	hbm->result = hbm->of_before
			      ? hbm_memory_take_over(hbm)
			      : device_memory_extend_by(&hbm->memory, hbm->piece,
							hbm->kept.number != 0 ? &hbm->fd : NULL);
	if (hbm->result == CUDA_SUCCESS && first)
		hbm->rate = probe_device(hbm->device, hbm->memory.address, hbm->memory.mapped);
	if (!hbm->of_before || hbm->result != CUDA_SUCCESS)
		hbm->claimed = 0; /* no more of it comes */
	hbm_memory_tell(hbm);
}

static void hbm_memory_done(struct job *job);

/* The next one: of the daemon before, or a slab, or a smaller part that still fits. */
static void hbm_memory_post(struct hbm_memory *hbm)
{
	uint64_t left = hbm->wanted - hbm->in_service;

	hbm->fd = -1;
	hbm->piece = hbm_kept_take(&hbm->kept, &hbm->fd);
	hbm->of_before = hbm->piece > 0;
	if (!hbm->of_before)
		hbm->piece = hbm->memory.slab;
	while (hbm->piece > left)
		hbm->piece /= 2;

	hbm->job = (struct job){.run = hbm_memory_run, .done = hbm_memory_done};
	hbm->in_flight = true;
	worker_post(hbm->device->control, &hbm->job);
}

/* A lack of memory is no failure of the device. */
static void hbm_memory_report(struct hbm_memory *hbm)
{
	if (hbm->result != CUDA_ERROR_OUT_OF_MEMORY)
		device_failed(hbm->device, "allocating the HBM tier", hbm->result);

	log_error("device.cache: cannot allocate more than %llu of %llu MiB on device %u (%s), is "
		  "another process using it? The tier stays at that size",
		  (unsigned long long)(hbm->in_service >> 20),
		  (unsigned long long)(hbm->wanted >> 20), hbm->device->index,
		  driver_error_name(hbm->device->driver, hbm->result));
}

/* One of the daemon before that cannot be mapped: what would be behind it is made anew. */
static void hbm_memory_lose(struct hbm_memory *hbm, uint64_t index)
{
	device_failed(hbm->device, "mapping the HBM tier of before", hbm->result);
	log_warning("device %u: of the HBM tier of the daemon before %llu MiB cannot be mapped: "
		    "they begin empty",
		    hbm->device->index,
		    (unsigned long long)((hbm->kept.before - hbm->in_service) >> 20));
	hbm_kept_cut(&hbm->kept, index);
}

static void hbm_memory_close_fd(struct hbm_memory *hbm)
{
	if (hbm->fd >= 0)
		close(hbm->fd);
	hbm->fd = -1;
}

/* It is kept before there is anything in it. */
static void hbm_memory_put_into_service(struct hbm_memory *hbm, uint64_t index)
{
	if (hbm->result == CUDA_SUCCESS && !hbm->of_before)
		hbm_kept_add(&hbm->kept, index, hbm->in_service, hbm->piece, hbm->fd);
	hbm_memory_close_fd(hbm);

	if (hbm->result == CUDA_SUCCESS &&
	    tier_grow(hbm->tier, hbm->in_service, hbm->memory.mapped - hbm->in_service) < 0)
		hbm->result = CUDA_ERROR_OUT_OF_MEMORY;
	if (hbm->result == CUDA_SUCCESS)
		hbm->in_service = hbm->memory.mapped;
}

static void hbm_memory_done(struct job *job)
{
	struct hbm_memory *hbm = container_of(job, struct hbm_memory, job);
	uint64_t index = hbm->count;

	hbm->in_flight = false;
	if (hbm->memory.mapped > hbm->in_service)
		hbm->pieces[hbm->count++] = hbm->piece;
	if (hbm->stopping) {
		hbm_memory_close_fd(hbm);
		return;
	}

	hbm_memory_put_into_service(hbm, index);
	bool lost = hbm->result != CUDA_SUCCESS && hbm->of_before;
	if (lost)
		hbm_memory_lose(hbm, index);
	else if (hbm->result != CUDA_SUCCESS)
		hbm_memory_report(hbm);
	hbm->failed = hbm->result != CUDA_SUCCESS && (!lost || hbm->count > index);

	if (!hbm_memory_settled(hbm))
		hbm_memory_post(hbm);

	hbm->progress(hbm->arg);
}

CUresult hbm_memory_open(struct hbm_memory **out, const struct hbm_memory_options *options)
{
	struct device *device = options->device;
	struct hbm_memory *hbm = calloc(1, sizeof(*hbm));
	if (!hbm)
		return CUDA_ERROR_OUT_OF_MEMORY;

	*hbm = (struct hbm_memory){.tier = options->tier,
				   .device = device,
				   .loop = options->loop,
				   .wanted = options->bytes,
				   .progress = options->progress,
				   .arg = options->arg};
	uint64_t most = options->most / device->granularity;
	hbm->pieces = calloc(most, sizeof(*hbm->pieces));
	CUresult r =
		hbm->pieces && hbm_kept_open(&hbm->kept, &options->kept, device, options->bytes,
					     most) == 0
			? device_memory_reserve(&hbm->memory, device, options->most, options->slab)
			: CUDA_ERROR_OUT_OF_MEMORY;
	if (r != CUDA_SUCCESS) {
		hbm_kept_close(&hbm->kept);
		free(hbm->pieces);
		free(hbm);
		return r;
	}

	options->tier->base = hbm->memory.address;
	options->tier->memory = hbm;
	hbm->claimed = hbm->kept.before;
	hbm_memory_tell(hbm);
	hbm_memory_post(hbm);
	*out = hbm;

	return CUDA_SUCCESS;
}

void hbm_memory_stop(struct hbm_memory *hbm)
{
	if (hbm)
		hbm->stopping = true;
}

/* From the top, so that a failure of one call does not keep the others mapped. */
static void hbm_memory_unmap_all(struct hbm_memory *hbm)
{
	(void)device_enter(hbm->device); /* unmapping may work without it */
	while (hbm->count > 0) {
		uint64_t piece = hbm->pieces[--hbm->count];
		CUresult r = device_memory_cut(&hbm->memory, piece);
		if (r == CUDA_SUCCESS)
			continue;

		device_failed(hbm->device, "cuMemUnmap", r);
		hbm->memory.mapped -= piece;
	}
}

struct hbm_memory *hbm_memory_close(struct hbm_memory *hbm)
{
	if (!hbm)
		return NULL;

	hbm_memory_stop(hbm);
	while (loop_flush(hbm->loop), hbm->in_flight)
		sched_yield();

	hbm_memory_unmap_all(hbm);
	device_memory_close(&hbm->memory);
	hbm_kept_close(&hbm->kept);
	hbm->tier->memory = NULL;
	free(hbm->pieces);
	free(hbm);

	return NULL;
}

bool hbm_memory_settled(const struct hbm_memory *hbm)
{
	return hbm->failed || hbm->in_service == hbm->wanted;
}

double hbm_memory_rate(const struct hbm_memory *hbm)
{
	return hbm->in_service > 0 ? hbm->rate : 0;
}

uint32_t hbm_memory_number(const struct hbm_memory *hbm)
{
	return hbm->kept.number;
}

uint64_t hbm_memory_of_before(const struct hbm_memory *hbm)
{
	return hbm->kept.before;
}

/* ---- another size ---- */

uint64_t hbm_memory_bytes(const struct hbm_memory *hbm)
{
	return hbm->wanted;
}

uint64_t hbm_memory_room(const struct hbm_memory *hbm)
{
	return hbm->stuck ? 0 : hbm->memory.bytes - hbm->wanted;
}

void hbm_memory_grow(struct hbm_memory *hbm, uint64_t bytes)
{
	if (hbm->stopping || hbm->stuck)
		return;

	hbm->failed = false;
	hbm->wanted += bytes;
	if (!hbm_memory_settled(hbm))
		hbm_memory_post(hbm);
}

static void hbm_memory_run_cut(struct job *job)
{
	struct hbm_memory *hbm = container_of(job, struct hbm_memory, job);

	hbm->result = device_memory_cut(&hbm->memory, hbm->piece);
	hbm->claimed = 0;
	hbm_memory_tell(hbm);
}

static void hbm_memory_give_next(struct hbm_memory *hbm);

static void hbm_memory_cut(struct job *job)
{
	struct hbm_memory *hbm = container_of(job, struct hbm_memory, job);

	hbm->in_flight = false;
	if (hbm->result == CUDA_SUCCESS)
		hbm_kept_cut(&hbm->kept, --hbm->count);
	if (hbm->stopping)
		return;

	if (hbm->result != CUDA_SUCCESS) {
		device_failed(hbm->device, "cuMemUnmap", hbm->result);
		log_error("device %u: %llu MiB of the HBM tier cannot be unmapped: they are in no "
			  "use until hbmd restarts",
			  hbm->device->index, (unsigned long long)(hbm->piece >> 20));
		hbm->stuck = hbm->failed = true;
	}

	hbm_memory_give_next(hbm);
}

/* Whether the last piece can go: it never came into service, or is away, and then it leaves the
 * tier. */
static bool hbm_memory_takes_last(struct hbm_memory *hbm)
{
	if (hbm->count == 0 || hbm->stuck)
		return false;

	hbm->piece = hbm->pieces[hbm->count - 1];
	uint64_t from = hbm->memory.mapped - hbm->piece;
	if (from >= hbm->in_service)
		return true;
	if (!extent_is_away(hbm->tier->extents, from, hbm->piece) ||
	    tier_cut(hbm->tier, from, hbm->piece) < 0)
		return false;

	hbm->in_service = from;

	return true;
}

/* What was wanted and never came goes back as well. */
static void hbm_memory_give_next(struct hbm_memory *hbm)
{
	if (hbm_memory_takes_last(hbm)) {
		hbm->job = (struct job){.run = hbm_memory_run_cut, .done = hbm_memory_cut};
		hbm->in_flight = true;
		worker_post(hbm->device->control, &hbm->job);
		return;
	}

	void (*given_back)(void *arg, uint64_t bytes) = hbm->given_back;
	uint64_t gone = hbm->wanted - hbm->memory.mapped;

	hbm->wanted = hbm->memory.mapped;
	hbm->given_back = NULL;
	given_back(hbm->given_back_arg, gone);
}

void hbm_memory_give_back(struct hbm_memory *hbm, void (*given_back)(void *arg, uint64_t bytes),
			  void *arg)
{
	hbm->given_back = given_back;
	hbm->given_back_arg = arg;
	hbm_memory_give_next(hbm);
}
