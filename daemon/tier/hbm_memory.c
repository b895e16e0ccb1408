/* SPDX-License-Identifier: Apache-2.0 */
/* hbm_memory: see hbm_memory.h. The control thread has one job at a time for it, which the loop
 * thread posts again when the tier has grown, so that `memory` has one owner at any moment. */
#include "daemon/tier/hbm_memory.h"

#include <sched.h>
#include <stdlib.h>

#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/tier/probe.h"

struct hbm_memory {
	struct tier *tier;
	struct device *device;
	struct loop *loop;
	struct device_memory memory;
	uint64_t in_service; /* bytes */
	double rate;         /* the job's, as is the following */
	CUresult result;
	bool in_flight; /* the job is posted */
	bool failed;    /* no more will come */
	bool stopping;
	void (*progress)(void *arg);
	void *arg;
	struct job job;
};

static void hbm_memory_run(struct job *job)
{
	struct hbm_memory *hbm = container_of(job, struct hbm_memory, job);
	bool first = hbm->memory.mapped == 0;

	hbm->result = device_memory_extend(&hbm->memory);
	if (hbm->result == CUDA_SUCCESS && first)
		hbm->rate = probe_device(hbm->device, hbm->memory.address, hbm->memory.mapped);
}

static void hbm_memory_post(struct hbm_memory *hbm)
{
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
		  (unsigned long long)(hbm->memory.bytes >> 20), hbm->device->index,
		  driver_error_name(hbm->device->driver, hbm->result));
}

static void hbm_memory_done(struct job *job)
{
	struct hbm_memory *hbm = container_of(job, struct hbm_memory, job);

	hbm->in_flight = false;
	if (hbm->stopping)
		return;

	if (hbm->result == CUDA_SUCCESS &&
	    tier_grow(hbm->tier, hbm->in_service, hbm->memory.mapped - hbm->in_service) < 0)
		hbm->result = CUDA_ERROR_OUT_OF_MEMORY;

	if (hbm->result == CUDA_SUCCESS)
		hbm->in_service = hbm->memory.mapped;
	else
		hbm_memory_report(hbm);
	hbm->failed = hbm->result != CUDA_SUCCESS;

	if (!hbm_memory_settled(hbm))
		hbm_memory_post(hbm);

	hbm->progress(hbm->arg);
}

CUresult hbm_memory_open(struct hbm_memory **out, struct tier *tier, struct device *device,
			 struct loop *loop, uint64_t bytes, uint64_t slab,
			 void (*progress)(void *arg), void *arg)
{
	struct hbm_memory *hbm = calloc(1, sizeof(*hbm));
	if (!hbm)
		return CUDA_ERROR_OUT_OF_MEMORY;

	*hbm = (struct hbm_memory){.tier = tier,
				   .device = device,
				   .loop = loop,
				   .progress = progress,
				   .arg = arg,
				   .job = {.run = hbm_memory_run, .done = hbm_memory_done}};
	CUresult r = device_memory_reserve(&hbm->memory, device, bytes, slab);
	if (r != CUDA_SUCCESS) {
		free(hbm);
		return r;
	}

	tier->base = hbm->memory.address;
	hbm_memory_post(hbm);
	*out = hbm;

	return CUDA_SUCCESS;
}

void hbm_memory_stop(struct hbm_memory *hbm)
{
	if (hbm)
		hbm->stopping = true;
}

struct hbm_memory *hbm_memory_close(struct hbm_memory *hbm)
{
	if (!hbm)
		return NULL;

	hbm_memory_stop(hbm);
	while (loop_flush(hbm->loop), hbm->in_flight)
		sched_yield();

	device_memory_close(&hbm->memory);
	free(hbm);

	return NULL;
}

bool hbm_memory_settled(const struct hbm_memory *hbm)
{
	return hbm->failed || hbm->in_service == hbm->memory.bytes;
}

double hbm_memory_rate(const struct hbm_memory *hbm)
{
	return hbm->in_service > 0 ? hbm->rate : 0;
}
