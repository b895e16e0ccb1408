/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_indirect: stores from and loads to memory that is in no region, in one call each, and
 * memcpy of as much beside them in the same run. Prints "name value GiB/s" lines, medians.
 *
 * 	bench_indirect BLOCK_BYTES COUNT ROUNDS
 */
#include "tests/support/measure.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ROUNDS_MAX 64u

struct memory {
	struct hbm *hbm;
	uint32_t ns;
	uint64_t bytes, count;
	char *from, *to; /* [count] blocks each */
	struct hbm_block *blocks;
	struct hbm_segment *segments;
	hbm_result *results;
};

static void fill_blocks(const struct memory *memory, uint64_t round, char *at)
{
	for (uint64_t i = 0; i < memory->count; i++) {
		uint64_t words[2] = {(round + 1) * 0x9e3779b97f4a7c15u, i + 1};

		memory->segments[i] = (struct hbm_segment){
			NULL, HBM_ADDRESS(at + i * memory->bytes), memory->bytes};
		memory->blocks[i] =
			(struct hbm_block){.segments = &memory->segments[i], .segment_count = 1};
		memcpy(&memory->blocks[i].key, words, sizeof(words));
	}
}

static void check_results(const struct memory *memory)
{
	for (uint64_t i = 0; i < memory->count; i++)
		measure_check(memory->hbm, memory->results[i].status, "a block");
}

/* Each in GiB/s. */
static double store(const struct memory *memory, uint64_t round)
{
	fill_blocks(memory, round, memory->from);
	double start = measure_now();
	measure_check(memory->hbm,
		      hbm_store_from(memory->hbm, memory->ns, memory->blocks, memory->count,
				     memory->results),
		      "store");
	double seconds = measure_now() - start;

	check_results(memory);

	return (double)(memory->bytes * memory->count) / MEASURE_GIB / seconds;
}

static double load(const struct memory *memory, uint64_t round)
{
	fill_blocks(memory, round, memory->to);
	double start = measure_now();
	measure_check(memory->hbm,
		      hbm_load_to(memory->hbm, memory->ns, memory->blocks, memory->count,
				  memory->results),
		      "load");
	double seconds = measure_now() - start;

	check_results(memory);

	return (double)(memory->bytes * memory->count) / MEASURE_GIB / seconds;
}

static double copy(const struct memory *memory)
{
	double start = measure_now();

	for (uint64_t i = 0; i < memory->count; i++)
		memcpy(memory->to + i * memory->bytes, memory->from + i * memory->bytes,
		       memory->bytes);

	return (double)(memory->bytes * memory->count) / MEASURE_GIB / (measure_now() - start);
}

static void forget(const struct memory *memory)
{
	hbm_key *keys = calloc(memory->count, sizeof(*keys));

	for (uint64_t i = 0; keys && i < memory->count; i++)
		keys[i] = memory->blocks[i].key;
	measure_check(memory->hbm,
		      keys ? hbm_keys(memory->hbm, HBM_WIRE_REMOVE, memory->ns, 0, keys,
				      memory->count, NULL)
			   : HBM_LIMIT,
		      "remove");
	free(keys);
}

static void run(struct memory *memory, uint64_t rounds)
{
	double stores[ROUNDS_MAX], loads[ROUNDS_MAX], copies[ROUNDS_MAX];

	for (uint64_t round = 0; round < rounds; round++) {
		copies[round] = copy(memory);
		stores[round] = store(memory, round);
		loads[round] = load(memory, round);
		forget(memory);
	}

	printf("store %.3f GiB/s\nload %.3f GiB/s\nmemcpy %.3f GiB/s\n",
	       measure_median(stores, rounds), measure_median(loads, rounds),
	       measure_median(copies, rounds));
}

int main(int argc, char **argv)
{
	struct memory memory = {0};
	uint64_t rounds = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;

	if (argc != 4 || rounds == 0 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: bench_indirect BLOCK_BYTES COUNT ROUNDS\n");
		return 2;
	}

	measure_check(NULL, hbm_connect(&memory.hbm, NULL), "connect");
	memory.bytes = strtoull(argv[1], NULL, 10);
	memory.count = strtoull(argv[2], NULL, 10);
	const struct hbm_namespace_options options = {.model = "indirect",
						      .block_bytes = memory.bytes};
	measure_check(memory.hbm, hbm_namespace_open(memory.hbm, &options, &memory.ns),
		      "namespace");
	memory.from = mmap(NULL, 2 * memory.bytes * memory.count, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	memory.to = memory.from + memory.bytes * memory.count;
	memory.blocks = calloc(memory.count, sizeof(*memory.blocks));
	memory.segments = calloc(memory.count, sizeof(*memory.segments));
	memory.results = calloc(memory.count, sizeof(*memory.results));
	if (memory.from == MAP_FAILED || !memory.blocks || !memory.segments || !memory.results)
		return 1;

	run(&memory, rounds);
	hbm_close(memory.hbm);

	return 0;
}
