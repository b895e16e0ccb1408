/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a link carries: copies between pinned host memory and device memory, by the size
 * of the block, one way and both ways at once, and within the device; one copy at a time
 * with a wait after each, and many queued with one wait. A stream for each direction. And
 * what it costs to wait for a copy, spinning on an event, as a copy
 * queue of hbmd does, or sleeping.
 */
#include "tests/gpu/costs.h"

#include "tests/gpu/link.h"
#include "tests/gpu/record.h"

#include <stdio.h>
#include <time.h>

#define SPAN LINK_SPAN
#define BATCH 64
#define POINT_S 0.15
#define WAIT_BLOCK (512ull << 10) /* the least that a copy queue puts into a batch */
#define WAITS 1000

enum way { D2H = 1, H2D = 2, BOTH = 3, D2D = 4 };

static bool link_queue(const struct link *link, enum way way, size_t block, size_t at)
{
	const struct rig *rig = link->rig;

	if (way == D2D)
		return COST(rig, cuMemcpyDtoDAsync, link->up.address + at, link->down.address + at,
			    block, link->streams[0]);

	if ((way & D2H) && !COST(rig, cuMemcpyDtoHAsync, link->host + at, link->down.address + at,
				 block, link->streams[0]))
		return false;

	return !(way & H2D) || COST(rig, cuMemcpyHtoDAsync, link->up.address + at,
				    link->host + SPAN + at, block, link->streams[1]);
}

static bool link_wait(const struct link *link)
{
	return COST(link->rig, cuStreamSynchronize, link->streams[0]) &&
	       COST(link->rig, cuStreamSynchronize, link->streams[1]);
}

/* Bytes a second in GB, both directions together; 0: a copy failed. */
static double link_rate(const struct link *link, enum way way, size_t block, unsigned batch,
			double seconds)
{
	size_t at = 0, copies = 0;
	double began = clock_s(), ended = began;

	while (ended - began < seconds) {
		for (unsigned i = 0; i < batch; i++) {
			if (!link_queue(link, way, block, at))
				return 0;
			at = at + block < SPAN ? at + block : 0;
		}

		if (!link_wait(link))
			return 0;
		copies += batch;
		ended = clock_s();
	}

	return (double)(copies * block) * (way == BOTH ? 2 : 1) / (ended - began) / 1e9;
}

/* Enough to fill the link, but no more bytes in the queue than are there to be copied. */
static unsigned batch_of(size_t block)
{
	return block * BATCH <= SPAN ? BATCH : (unsigned)(SPAN / block);
}

static void link_point(const struct link *link, const struct limits *limits, enum way way,
		       const char *way_name, size_t block)
{
	const double seconds = limits->quick ? POINT_S / 10 : POINT_S;
	char name[80];
	double single, batched;

	link_rate(link, way, block, batch_of(block),
		  seconds / 10); /* so that the first is not the slowest */
	single = link_rate(link, way, block, 1, seconds);
	batched = link_rate(link, way, block, batch_of(block), seconds);
	snprintf(name, sizeof(name), "%s, block of %s", way_name, size_text(block));

	if (single > 0 && batched > 0)
		record_number(name, batched, "GB/s", "one at a time: %.3f GB/s", single);
	else
		costs_blame(name);
}

static void link_points(const struct link *link, const struct limits *limits)
{
	static const struct {
		enum way way;
		const char *name;
	} ways[] = {{H2D, "H2D"}, {D2H, "D2H"}, {BOTH, "both ways"}, {D2D, "D2D"}};

	for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++) {
		for (size_t block = 4096; block <= 64 * MIB; block *= 4)
			link_point(link, limits, ways[w].way, ways[w].name, block);
	}
}

static double thread_s(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Copies with a wait after each; false: a call failed. */
static bool link_waits(const struct link *link, CUevent event, unsigned count,
		       struct samples *samples)
{
	for (unsigned i = 0; i < count; i++) {
		double began = clock_s();

		if (!link_queue(link, D2H, WAIT_BLOCK, 0) ||
		    !COST(link->rig, cuEventRecord, event, link->streams[0]) ||
		    !COST(link->rig, cuEventSynchronize, event))
			return false;

		samples_add(samples, (clock_s() - began) * 1e6);
	}
	return true;
}

static void link_wait_cost(const struct link *link, const struct limits *limits, unsigned flags,
			   const char *name)
{
	static struct samples samples;
	const unsigned count = limits->quick ? WAITS / 10 : WAITS;
	CUevent event;

	samples.count = 0;

	if (!COST(link->rig, cuEventCreate, &event, CU_EVENT_DISABLE_TIMING | flags)) {
		costs_blame(name);
		return;
	}

	double cpu = thread_s(), began = clock_s();
	bool works = link_waits(link, event, count, &samples);
	cpu = (thread_s() - cpu) / (clock_s() - began) * 100;
	link->rig->driver->cuEventDestroy(event);

	if (works)
		record_number(name, samples_percentile(&samples, 50), "us",
			      "p99 %.1f us of %zu; %.0f %% of a processor",
			      samples_percentile(&samples, 99), samples.count, cpu);
	else
		costs_blame(name);
}

void costs_copy(const struct rig *rig, const struct limits *limits)
{
	struct link link = {.rig = rig};

	if (limits->hbm < 2 * SPAN || limits->ddr < 2 * SPAN)
		record("copies", OUTCOME_UNSUPPORTED, "they take 256 MiB of either memory");
	else if (link_open(&link)) {
		link_points(&link, limits);
		link_wait_cost(&link, limits, 0, "512 KiB D2H and a wait, spinning");
		link_wait_cost(&link, limits, CU_EVENT_BLOCKING_SYNC,
			       "512 KiB D2H and a wait, sleeping");
	} else {
		costs_blame("copies");
	}

	link_close(&link);
}
