/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is done by a device's copy engines, and what by its multiprocessors: copies each way,
 * copies within the device and fills, while a kernel has all multiprocessors. In the
 * kernel's own context, work that ends before the kernel does has another way to be done.
 * Beside another process's kernel, as a daemon's work is beside an engine's, work of the
 * multiprocessors waits for its process's slice of time.
 */
#include "tests/gpu/costs.h"

#include "tests/gpu/actor.h"
#include "tests/gpu/link.h"
#include "tests/gpu/record.h"
#include "tests/support/busy.h"

#include <stdio.h>
#include <time.h>

#define BESIDE_BLOCK MIB
#define BESIDE_SMALL (64ull << 10)
#define BESIDE_BATCH 16
#define BESIDE_POINT_S 0.3
#define BESIDE_LATENCIES 50
#define BESIDE_KERNEL_MS 200     /* in the same context */
#define BESIDE_PATIENCE_MS 30000 /* in another process, which is killed before */
#define BESIDE_SLAB (8 * MIB)    /* the kernel's */

enum work { WORK_H2D, WORK_D2H, WORK_D2D, WORK_FILL, WORKS };
static const char *const work_names[WORKS] = {"H2D", "D2H", "D2D", "memset"};

struct pace {
	bool works;
	double rate, latency_us; /* GB/s of blocks of 1 MiB; of one of 64 KiB and a wait */
};

static bool work_queue(const struct link *link, enum work work, size_t bytes, size_t at)
{
	const struct rig *rig = link->rig;
	const CUdeviceptr from = link->down.address + at, to = link->up.address + at;
	const CUstream stream = link->streams[0];

	switch (work) {
	case WORK_H2D:
		return COST(rig, cuMemcpyHtoDAsync, to, link->host + at, bytes, stream);
	case WORK_D2H:
		return COST(rig, cuMemcpyDtoHAsync, link->host + at, from, bytes, stream);
	case WORK_D2D:
		return COST(rig, cuMemcpyDtoDAsync, to, from, bytes, stream);
	default:
		return COST(rig, cuMemsetD8Async, to, 1, bytes, stream);
	}
}

static bool work_rounds(const struct link *link, enum work work, size_t bytes, unsigned count)
{
	bool works = true;

	for (unsigned i = 0; works && i < count; i++)
		works = work_queue(link, work, bytes, i * bytes);
	return works && COST(link->rig, cuStreamSynchronize, link->streams[0]);
}

static struct pace work_pace(const struct link *link, enum work work, double seconds)
{
	static struct samples samples;
	struct pace pace = {.works = work_rounds(link, work, BESIDE_BLOCK, 1)};
	double began = clock_s(), ended = began, copied = 0;

	samples.count = 0;

	while (pace.works && ended - began < seconds) {
		pace.works = work_rounds(link, work, BESIDE_BLOCK, BESIDE_BATCH);
		copied += (double)(BESIDE_BATCH * BESIDE_BLOCK);
		ended = clock_s();
	}

	pace.rate = copied / (ended - began) / 1e9;

	for (began = ended;
	     pace.works && samples.count < BESIDE_LATENCIES && ended - began < seconds;
	     ended = clock_s()) {
		const double before = clock_s();

		pace.works = work_rounds(link, work, BESIDE_SMALL, 1);
		samples_add(&samples, (clock_s() - before) * 1e6);
	}

	pace.latency_us = samples_percentile(&samples, 50);

	return pace;
}

/* ---- In the kernel's own context ---- */

static bool beside_own(const struct link *link, const struct busy *busy,
		       const struct slab_map *slab, enum work work, bool *before)
{
	const struct rig *rig = link->rig;
	const CUresult launched = busy_launch_on_all(busy, rig->stream, slab->address, slab->bytes,
						     1, BESIDE_KERNEL_MS);
	bool works = costs_did(rig, "cuLaunchKernel", launched) &&
		     work_rounds(link, work, BESIDE_SMALL, 1);

	*before = rig->driver->cuStreamQuery(rig->stream) == CUDA_ERROR_NOT_READY;

	return COST(rig, cuStreamSynchronize, rig->stream) && works;
}

static void beside_own_kernel(const struct link *link)
{
	const struct rig *rig = link->rig;
	struct slab_map slab = {0};
	struct busy busy = {0};
	bool works = costs_did(rig, "a slab", rig_slab(rig, BESIDE_SLAB, &slab)) &&
		     costs_did(rig, "the kernel", busy_open(&busy, rig->driver));

	for (int work = 0; works && work < WORKS; work++) {
		char name[80];
		bool before = false;

		snprintf(name, sizeof(name), "%s beside a kernel of its context", work_names[work]);
		works = beside_own(link, &busy, &slab, (enum work)work, &before);
		if (works)
			record(name, OUTCOME_SEEN, "%s",
			       before ? "done before the kernel: a copy engine's work"
				      : "done after the kernel: work of the multiprocessors");
	}

	if (!works)
		costs_blame("beside a kernel of its context");
	if (busy.driver)
		busy_close(&busy);

	rig_drop(rig, &slab);
}

/* ---- Beside another process's ---- */

static bool beside_start(const struct rig *rig, struct actor *actor)
{
	const struct order orders[] = {{.verb = VERB_OPEN},
				       {.verb = VERB_MAKE, .bytes = BESIDE_SLAB},
				       {.verb = VERB_RUN_KERNEL, .value = BESIDE_PATIENCE_MS}};
	bool works = costs_did(rig, "another process",
			       actor_start(actor) ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM);

	for (size_t i = 0; works && i < sizeof(orders) / sizeof(orders[0]); i++) {
		const struct answer answer = actor_tell(actor, &orders[i], -1);

		works = costs_did(rig, "another process",
				  answer.status >= 0 ? (CUresult)answer.status
						     : CUDA_ERROR_OPERATING_SYSTEM);
	}

	nanosleep(&(const struct timespec){.tv_nsec = 100000000}, NULL); /* it runs by then */

	return works;
}

static void beside_report(enum work work, const struct pace *idle, const struct pace *busy)
{
	char name[80];

	snprintf(name, sizeof(name), "%s beside another process's kernel", work_names[work]);

	if (idle->works && busy->works)
		record_number(name, busy->rate, "GB/s",
			      "idle %.2f GB/s; 64 KiB and a wait: %.0f us, idle %.0f us",
			      idle->rate, busy->latency_us, idle->latency_us);
	else
		costs_blame(name);
}

static void beside_others_kernel(const struct link *link, double seconds)
{
	struct pace idle[WORKS], busy[WORKS];
	struct actor actor = {.pid = 0};

	for (int work = 0; work < WORKS; work++)
		idle[work] = work_pace(link, (enum work)work, seconds);

	if (beside_start(link->rig, &actor)) {
		for (int work = 0; work < WORKS; work++)
			busy[work] = work_pace(link, (enum work)work, seconds);
		for (int work = 0; work < WORKS; work++)
			beside_report((enum work)work, &idle[work], &busy[work]);
	} else {
		costs_blame("beside another process's kernel");
	}

	actor_kill(&actor);
}

void costs_beside(const struct rig *rig, const struct limits *limits)
{
	struct link link = {.rig = rig};

	if (limits->hbm < 3 * LINK_SPAN || limits->ddr < 2 * LINK_SPAN) {
		record("beside another process's kernel", OUTCOME_UNSUPPORTED,
		       "it takes 384 MiB of device memory and 256 MiB of host memory");
		return;
	}

	if (link_open(&link)) {
		beside_own_kernel(&link);
		beside_others_kernel(&link, limits->quick ? BESIDE_POINT_S / 10 : BESIDE_POINT_S);
	} else {
		costs_blame("beside another process's kernel");
	}

	link_close(&link);
}
