/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_calls: what it costs the caller to submit a load of BLOCKS blocks of one segment: the call
 * alone, as it waits for a fence. calls.py does the same by way of Python. Prints "submit value us",
 * the median.
 *
 * 	bench_calls ROUNDS
 */
#include "tests/support/measure.h"

#include <stdio.h>
#include <stdlib.h>

#define BLOCKS 64u
#define BLOCK_BYTES (64u << 10)
#define ROUNDS_MAX 10000u
#define READY_SLOT 1u

struct calls {
	struct hbm *hbm;
	uint32_t ns;
	struct hbm_segment segments[BLOCKS];
	struct hbm_block blocks[BLOCKS];
	hbm_result results[BLOCKS];
};

static void prepare(struct calls *calls)
{
	const struct hbm_region_options options = {.address_space = BLOCKS * BLOCK_BYTES};
	const struct hbm_namespace_options names = {.model = "calls", .block_bytes = BLOCK_BYTES};
	struct hbm_range all = {.offset = 0};

	measure_check(NULL, hbm_connect(&calls->hbm, NULL), "connect");
	measure_check(calls->hbm, hbm_region_create(calls->hbm, &options, &all.region), "region");
	all.bytes = hbm_region_bytes(all.region);
	measure_check(calls->hbm, hbm_commit(calls->hbm, &all, 1), "commit");
	measure_check(calls->hbm, hbm_namespace_open(calls->hbm, &names, &calls->ns), "namespace");
	for (unsigned i = 0; i < BLOCKS; i++) {
		calls->segments[i] = (struct hbm_segment){all.region, i * BLOCK_BYTES, BLOCK_BYTES};
		calls->blocks[i] = (struct hbm_block){
			.key = {{(uint8_t)(i + 1)}},
			.segments = &calls->segments[i],
			.segment_count = 1,
		};
	}
}

/* Seconds. */
static double submit(struct calls *calls, uint64_t round)
{
	const struct hbm_sync sync = {
		.ready_slot = READY_SLOT, .ready_value = round, .fence_slot = HBM_WIRE_NO_FENCE};
	hbm_ticket ticket;
	double start = measure_now(), took;

	measure_check(calls->hbm,
		      hbm_submit_load(calls->hbm, calls->ns, calls->blocks, BLOCKS, &sync,
				      calls->results, &ticket),
		      "load");
	took = measure_now() - start;
	measure_check(calls->hbm, hbm_fence_signal(calls->hbm, READY_SLOT, round), "signal");
	measure_check(calls->hbm, hbm_wait(calls->hbm, ticket, -1), "wait");

	return took;
}

int main(int argc, char **argv)
{
	static double values[ROUNDS_MAX];
	static struct calls calls;
	size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;

	if (argc != 2 || rounds == 0 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: bench_calls ROUNDS\n");
		return 2;
	}

	prepare(&calls);
	for (size_t i = 0; i < rounds; i++)
		values[i] = submit(&calls, i + 1);
	printf("submit %.2f us\n", measure_median(values, rounds) * 1e6);
	hbm_close(calls.hbm);

	return 0;
}
