/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies as a device's two copy queues issue them: a thread and a stream for each direction,
 * both in one context, whose lock they share; batches with an event behind each, a few of
 * them in flight. The same with the checksum of what came on the thread that copies, and
 * beside a thread that commits and decommits slabs.
 */
#include "tests/gpu/costs.h"

#include "tests/gpu/link.h"
#include "tests/gpu/record.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <xxhash.h>

#define QUEUE_POINT_S 0.15
#define QUEUE_RING 4                   /* batches in flight */
#define QUEUE_BATCH (512ull << 10)     /* bytes of one, or a block */
#define QUEUE_SLABS (64 * MIB)         /* of a commit */
#define QUEUE_BESIDE_BLOCK (128 << 10) /* copied meanwhile */

struct queue {
	const struct link *link;
	bool up, hashes; /* H2D; each batch, before its place is used again */
	size_t block;
	double seconds;
	pthread_t thread;
	/* what came of it */
	CUresult result;
	double rate, longest_s; /* GB/s; the longest wait for a batch */
	uint64_t sum;
};

struct committer {
	const struct rig *rig;
	size_t slab;
	atomic_bool stop;
	pthread_t thread;
	CUresult result;
	unsigned rounds;
};

static size_t queue_batch(const struct queue *queue)
{
	return queue->block > QUEUE_BATCH ? queue->block : QUEUE_BATCH;
}

static char *queue_host(const struct queue *queue, unsigned slot)
{
	return queue->link->host + (queue->up ? LINK_SPAN : 0) + slot * queue_batch(queue);
}

static CUresult queue_issue(const struct queue *queue, unsigned slot, CUevent event)
{
	const struct driver *driver = queue->link->rig->driver;
	const CUstream stream = queue->link->streams[queue->up];
	const struct slab_map *slab = queue->up ? &queue->link->up : &queue->link->down;
	const CUdeviceptr device = slab->address + slot * queue_batch(queue);
	char *host = queue_host(queue, slot);
	CUresult result = CUDA_SUCCESS;

	for (size_t at = 0; at < queue_batch(queue) && result == CUDA_SUCCESS; at += queue->block)
		result = queue->up ? driver->cuMemcpyHtoDAsync(device + at, host + at, queue->block,
							       stream)
				   : driver->cuMemcpyDtoHAsync(host + at, device + at, queue->block,
							       stream);

	return result == CUDA_SUCCESS ? driver->cuEventRecord(event, stream) : result;
}

static CUresult queue_reap(struct queue *queue, unsigned slot, CUevent event)
{
	const double began = clock_s();
	const CUresult result = queue->link->rig->driver->cuEventSynchronize(event);
	const double waited = clock_s() - began;

	if (waited > queue->longest_s)
		queue->longest_s = waited;
	if (queue->hashes)
		queue->sum ^= XXH3_64bits(queue_host(queue, slot), queue_batch(queue));

	return result;
}

static void queue_copy(struct queue *queue, const CUevent *events)
{
	const double began = clock_s();
	double ended = began;
	size_t issued = 0, reaped = 0;

	while (queue->result == CUDA_SUCCESS && ended - began < queue->seconds) {
		for (; issued < reaped + QUEUE_RING && queue->result == CUDA_SUCCESS; issued++)
			queue->result = queue_issue(queue, issued % QUEUE_RING,
						    events[issued % QUEUE_RING]);

		if (queue->result == CUDA_SUCCESS)
			queue->result =
				queue_reap(queue, reaped % QUEUE_RING, events[reaped % QUEUE_RING]);
		reaped++;
		ended = clock_s();
	}

	queue->rate = (double)(reaped * queue_batch(queue)) / (ended - began) / 1e9;
	queue->link->rig->driver->cuStreamSynchronize(queue->link->streams[queue->up]);
}

static void *queue_work(void *argument)
{
	struct queue *queue = argument;
	const struct driver *driver = queue->link->rig->driver;
	CUevent events[QUEUE_RING] = {NULL};

	queue->result = driver->cuCtxSetCurrent(queue->link->rig->context);

	for (int i = 0; i < QUEUE_RING && queue->result == CUDA_SUCCESS; i++)
		queue->result = driver->cuEventCreate(&events[i], CU_EVENT_DISABLE_TIMING |
									  CU_EVENT_BLOCKING_SYNC);

	queue_copy(queue, events);

	for (int i = 0; i < QUEUE_RING; i++) {
		if (events[i])
			driver->cuEventDestroy(events[i]);
	}

	return NULL;
}

/* queues[0] is D2H. False: something was refused, which costs_blame() has. */
static bool queues_run(const struct link *link, struct queue queues[2], size_t block, bool hashes,
		       double seconds)
{
	int started = 0;
	bool works;

	for (; started < 2; started++) {
		queues[started] = (struct queue){.link = link,
						 .up = started == 1,
						 .hashes = hashes && started == 0,
						 .block = block,
						 .seconds = seconds};
		if (pthread_create(&queues[started].thread, NULL, queue_work, &queues[started]) !=
		    0)
			break;
	}

	works = costs_did(link->rig, "pthread_create",
			  started == 2 ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM);
	while (started-- > 0) {
		pthread_join(queues[started].thread, NULL);
		works = costs_did(link->rig, started ? "H2D" : "D2H", queues[started].result) &&
			works;
	}

	return works;
}

static void queues_point(const struct link *link, size_t block, bool hashes, double seconds)
{
	struct queue queues[2];
	char name[80];

	snprintf(name, sizeof(name), "two threads both ways%s, block of %s",
		 hashes ? ", hashing" : "", size_text(block));

	if (queues_run(link, queues, block, hashes, seconds))
		record_number(name, queues[0].rate + queues[1].rate, "GB/s",
			      "D2H %.2f GB/s, H2D %.2f GB/s", queues[0].rate, queues[1].rate);
	else
		costs_blame(name);
}

/* ---- Beside commits ---- */

/* Makes, maps, opens and gives back a slab as often as a commit does. */
static void *committer_work(void *argument)
{
	struct committer *committer = argument;

	committer->result = committer->rig->driver->cuCtxSetCurrent(committer->rig->context);

	while (!committer->stop && committer->result == CUDA_SUCCESS) {
		struct slab_map slabs[QUEUE_SLABS / (2 * MIB)] = {{0}};
		const size_t count = QUEUE_SLABS / committer->slab;

		for (size_t i = 0; i < count && committer->result == CUDA_SUCCESS; i++)
			committer->result = rig_slab(committer->rig, committer->slab, &slabs[i]);
		for (size_t i = 0; i < count; i++)
			rig_drop(committer->rig, &slabs[i]);
		committer->rounds++;
	}

	return NULL;
}

static void queues_beside_commits(const struct link *link, size_t slab, double seconds)
{
	struct committer committer = {.rig = link->rig, .slab = slab};
	struct queue alone[2], beside[2];
	char name[80];
	bool works = queues_run(link, alone, QUEUE_BESIDE_BLOCK, false, seconds);

	snprintf(name, sizeof(name), "copies beside commits, slabs of %s", size_text(slab));

	if (works && pthread_create(&committer.thread, NULL, committer_work, &committer) == 0) {
		works = queues_run(link, beside, QUEUE_BESIDE_BLOCK, false, seconds);
		committer.stop = true;
		pthread_join(committer.thread, NULL);
		works = costs_did(link->rig, "commits", committer.result) && works;
	} else {
		works = works &&
			costs_did(link->rig, "pthread_create", CUDA_ERROR_OPERATING_SYSTEM);
	}

	if (works)
		record_number(name, beside[0].rate + beside[1].rate, "GB/s",
			      "alone %.2f GB/s; longest wait for a batch %.2f ms, alone %.2f ms; "
			      "%u commits of 64 MiB",
			      alone[0].rate + alone[1].rate, beside[0].longest_s * 1e3,
			      alone[0].longest_s * 1e3, committer.rounds);
	else
		costs_blame(name);
}

void costs_queues(const struct rig *rig, const struct limits *limits)
{
	const double seconds = limits->quick ? QUEUE_POINT_S / 10 : QUEUE_POINT_S;
	struct link link = {.rig = rig};

	if (limits->hbm < 3 * LINK_SPAN || limits->ddr < 2 * LINK_SPAN) {
		record("two threads both ways", OUTCOME_UNSUPPORTED,
		       "they take 384 MiB of device memory and 256 MiB of host memory");
		return;
	}

	if (link_open(&link)) {
		for (size_t block = 4096; block <= 4 * MIB; block *= 4) {
			queues_point(&link, block, false, seconds);
			queues_point(&link, block, true, seconds);
		}

		queues_beside_commits(&link, 2 * MIB, 4 * seconds);
		queues_beside_commits(&link, 64 * MIB, 4 * seconds);
	} else {
		costs_blame("two threads both ways");
	}

	link_close(&link);
}
