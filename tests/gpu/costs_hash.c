/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the checksum of a block costs: XXH3-64 over memory that the device has just written,
 * so that it is in whatever cache the device's writes go to, by one thread and by several.
 */
#include "tests/gpu/costs.h"

#include "tests/gpu/link.h"
#include "tests/gpu/record.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#include <xxhash.h>

#define HASHERS_MAX 8
#define HASH_BLOCK (2 * MIB)
#define HASH_ROUNDS 10

struct hasher {
	const char *from;
	size_t bytes;
	uint64_t sum; /* so that the work is not left out */
	pthread_t thread;
};

static void *hasher_work(void *argument)
{
	struct hasher *hasher = argument;

	for (size_t at = 0; at < hasher->bytes; at += HASH_BLOCK)
		hasher->sum ^= XXH3_64bits(hasher->from + at, HASH_BLOCK);
	return NULL;
}

/* GB/s of all threads together; 0: a thread was refused. */
static double hash_round(const char *memory, unsigned threads)
{
	struct hasher hashers[HASHERS_MAX];
	const double began = clock_s();
	unsigned started = 0;

	for (; started < threads; started++) {
		struct hasher *hasher = &hashers[started];

		*hasher = (struct hasher){.from = memory + started * (LINK_SPAN / threads),
					  .bytes = LINK_SPAN / threads};
		if (pthread_create(&hasher->thread, NULL, hasher_work, hasher) != 0)
			break;
	}

	for (unsigned i = 0; i < started; i++)
		pthread_join(hashers[i].thread, NULL);

	return started == threads ? (double)LINK_SPAN / (clock_s() - began) / 1e9 : 0;
}

static void hash_threads(const struct link *link, unsigned rounds, unsigned threads)
{
	static struct samples samples;
	char name[64];
	bool works = true;

	samples.count = 0;

	for (unsigned round = 0; works && round < rounds; round++) {
		works = COST(link->rig, cuMemcpyDtoHAsync, link->host, link->down.address,
			     LINK_SPAN, link->streams[0]) &&
			COST(link->rig, cuStreamSynchronize, link->streams[0]);
		if (works)
			samples_add(&samples, hash_round(link->host, threads));
	}

	snprintf(name, sizeof(name), "XXH3 after D2H, %u thread%s", threads,
		 threads == 1 ? "" : "s");

	if (works)
		record_number(name, samples_percentile(&samples, 50), "GB/s",
			      "least %.1f GB/s of %zu rounds of 128 MiB",
			      samples_percentile(&samples, 0), samples.count);
	else
		costs_blame(name);
}

void costs_hash(const struct rig *rig, const struct limits *limits)
{
	const long processors = sysconf(_SC_NPROCESSORS_ONLN);
	struct link link = {.rig = rig};

	if (limits->hbm < 2 * LINK_SPAN || limits->ddr < 2 * LINK_SPAN) {
		record("XXH3 after D2H", OUTCOME_UNSUPPORTED, "it takes 256 MiB of either memory");
		return;
	}

	if (link_open(&link)) {
		for (unsigned threads = 1;
		     threads <= HASHERS_MAX && (threads == 1 || threads <= processors);
		     threads *= 2)
			hash_threads(&link, limits->quick ? 2 : HASH_ROUNDS, threads);
	} else {
		costs_blame("XXH3 after D2H");
	}

	link_close(&link);
}
