/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_indirect: stores from and loads to memory that is in no region, in one call each, and
 * memcpy of as much before and after each. Prints "name value" lines, medians: store and load in
 * GiB/s, the ratio of each to memcpy beside it, and the same of the processor time of both the
 * client and the daemon, which says what the copies cost where other work runs, too.
 *
 * 	bench_indirect BLOCK_BYTES COUNT ROUNDS
 */
#include "tests/support/measure.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#define ROUNDS_MAX 64u

/* Seconds, or what the clock said; processor: of this process and the daemon. */
struct span {
	double wall, processor;
};

/* Of each round: GiB/s, and the seconds of memcpy to its own. */
struct figures {
	double rates[ROUNDS_MAX], ratios[ROUNDS_MAX], processor[ROUNDS_MAX];
};

struct memory {
	struct hbm *hbm;
	clockid_t daemon;
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

static double processor(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);

	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct span span_begin(const struct memory *memory)
{
	return (struct span){measure_now(),
			     processor(CLOCK_PROCESS_CPUTIME_ID) + processor(memory->daemon)};
}

static struct span span_end(const struct memory *memory, struct span begin)
{
	struct span end = span_begin(memory);

	return (struct span){end.wall - begin.wall, end.processor - begin.processor};
}

static struct span store(const struct memory *memory, uint64_t round)
{
	fill_blocks(memory, round, memory->from);
	struct span span = span_begin(memory);
	measure_check(memory->hbm,
		      hbm_store_from(memory->hbm, memory->ns, memory->blocks, memory->count,
				     memory->results),
		      "store");
	span = span_end(memory, span);
	check_results(memory);

	return span;
}

static struct span load(const struct memory *memory, uint64_t round)
{
	fill_blocks(memory, round, memory->to);
	struct span span = span_begin(memory);
	measure_check(memory->hbm,
		      hbm_load_to(memory->hbm, memory->ns, memory->blocks, memory->count,
				  memory->results),
		      "load");
	span = span_end(memory, span);
	check_results(memory);

	return span;
}

static struct span copy(const struct memory *memory)
{
	struct span span = span_begin(memory);

	for (uint64_t i = 0; i < memory->count; i++)
		memcpy(memory->to + i * memory->bytes, memory->from + i * memory->bytes,
		       memory->bytes);

	return span_end(memory, span);
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

/* The ratios of a round are to the mean of the memcpy before and the one after. */
static void add(struct figures *figures, uint64_t round, double gib, struct span span,
		struct span before, struct span after)
{
	figures->rates[round] = gib / span.wall;
	figures->ratios[round] = (before.wall + after.wall) / 2 / span.wall;
	figures->processor[round] = (before.processor + after.processor) / 2 / span.processor;
}

static void print(const char *name, struct figures *figures, uint64_t rounds)
{
	printf("%s %.3f GiB/s\n%s_ratio %.2f\n%s_processor %.2f\n", name,
	       measure_median(figures->rates, rounds), name,
	       measure_median(figures->ratios, rounds), name,
	       measure_median(figures->processor, rounds));
}

static void run(struct memory *memory, uint64_t rounds)
{
	double gib = (double)(memory->bytes * memory->count) / MEASURE_GIB;
	struct figures stores, loads, copies;

	store(memory, rounds); /* what is new to both is not measured */
	load(memory, rounds);
	forget(memory);
	for (uint64_t round = 0; round < rounds; round++) {
		struct span before = copy(memory), stored = store(memory, round);
		struct span between = copy(memory), loaded = load(memory, round);
		struct span after = copy(memory);

		add(&stores, round, gib, stored, before, between);
		add(&loads, round, gib, loaded, between, after);
		copies.rates[round] = gib / between.wall;
		forget(memory);
	}

	print("store", &stores, rounds);
	print("load", &loads, rounds);
	printf("memcpy %.3f GiB/s\n", measure_median(copies.rates, rounds));
}

/* The clock of the processor time of the daemon. */
static clockid_t daemon_clock(struct hbm *hbm)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	clockid_t clock;

	if (getsockopt(hbm_fd(hbm), SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
	    clock_getcpuclockid(peer.pid, &clock) != 0) {
		fprintf(stderr, "the daemon's processor time is not known\n");
		exit(1);
	}

	return clock;
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
	memory.daemon = daemon_clock(memory.hbm);
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
