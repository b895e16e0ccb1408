/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_prefix: how long a client waits for the first step behind a prefix that another one has
 * stored: mapped if the daemon lends (device.lend), and loaded if not. Each round is a client of
 * its own. Prints "name value unit" lines: the median, and what the client's sequence has of its
 * own and shares, as hbmctl sequences shows it.
 *
 * 	bench_prefix TOKENS ROUNDS
 */
#include "tests/support/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_MAX 64u
#define BLOCKS_MAX 4096u

/* 2 of the 60 layers of Yi-34B: 8 KiB a token, and a block of 512 tokens is two slabs. */
#define LAYOUT "layers=2 heads=8 dim=128 bytes=2 max=200000"

static const struct hbm_pool_options options = {.max_sequences = 1};
static const struct hbm_namespace_options spec = {.model = "bench-prefix"};
static hbm_key keys[BLOCKS_MAX];

static struct hbm_token_blocks prefix_of(const struct measure_pool *measure, uint64_t tokens)
{
	struct hbm_token_blocks blocks = {.block_tokens = hbm_layout_block_tokens(measure->layout),
					  .keys = keys};

	blocks.count = tokens / blocks.block_tokens;
	if (blocks.count == 0 || blocks.count > BLOCKS_MAX)
		exit(2);
	for (uint64_t i = 0; i < blocks.count; i++) {
		const uint64_t words[2] = {i + 1, 0};

		memcpy(&keys[i], words, sizeof(keys[i]));
	}
	measure_check(measure->hbm,
		      hbm_pool_namespace(measure->pool, &spec, blocks.block_tokens, &blocks.ns),
		      "namespace");

	return blocks;
}

static void store(const struct measure_pool *measure, uint64_t tokens)
{
	const struct hbm_token_blocks blocks = prefix_of(measure, tokens);
	struct hbm_sequence *sequence = measure_sequence(measure);
	hbm_result *results = calloc(blocks.count, sizeof(*results));

	if (!results)
		exit(1);
	measure_step(measure, sequence, blocks.count * blocks.block_tokens);
	measure_check(measure->hbm, hbm_sequence_store(sequence, &blocks, 0, results), "store");
	for (size_t i = 0; i < blocks.count; i++)
		measure_check(measure->hbm, results[i].status, "store");
	free(results);
}

/* ---- What is shown ---- */

struct shown {
	uint64_t session, own, shared;
};

static int shown_take(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_sequence *sequence = record;
	struct shown *shown = arg;

	(void)bytes;
	if (sequence->session == shown->session) {
		shown->own = sequence->own;
		shown->shared = sequence->shared;
	}

	return 0;
}

static void show(const struct measure_pool *measure, struct shown *shown)
{
	shown->session = hbm_info(measure->hbm)->session;
	measure_check(measure->hbm, hbm_query(measure->hbm, HBM_QUERY_SEQUENCES, shown_take, shown),
		      "query");
}

/* ---- Rounds ---- */

static int await_take(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_device *device = record;

	(void)bytes;
	*(uint64_t *)arg = device->uncreated + device->retiring + device->held;

	return 1;
}

/* The slabs of the round before are back, and others are made: nothing else is at work. */
static void await_rest(const struct measure_pool *measure)
{
	const double until = measure_now() + 60;
	uint64_t bytes = 1;

	while (bytes > 0) {
		if (hbm_query(measure->hbm, HBM_QUERY_DEVICES, await_take, &bytes) != 1 ||
		    measure_now() > until)
			measure_check(measure->hbm, HBM_TIMEOUT, "slabs that are ready");
		measure_sleep_until(measure_now() + 0.01);
	}
}

static double first_step(uint64_t tokens, struct shown *shown)
{
	struct hbm_sequence *sequence;
	struct measure_pool measure;
	uint64_t found = 0;

	measure_pool_open(&measure, LAYOUT, &options);
	const struct hbm_token_blocks blocks = prefix_of(&measure, tokens);
	const double start = measure_now();

	measure_check(measure.hbm,
		      hbm_sequence_open_cached(measure.pool, NULL, &blocks, &sequence, &found),
		      "open");
	measure_step(&measure, sequence, found + 1);
	const double spent = measure_now() - start;

	if (found != blocks.count * blocks.block_tokens) {
		fprintf(stderr, "bench: %llu tokens are cached\n", (unsigned long long)found);
		exit(1);
	}
	show(&measure, shown);
	measure_pool_close(&measure);

	return spent;
}

int main(int argc, char **argv)
{
	struct measure_pool measure;
	struct shown shown = {0};
	double times[ROUNDS_MAX];

	if (argc != 3) {
		fprintf(stderr, "usage: bench_prefix TOKENS ROUNDS\n");
		return 2;
	}

	const uint64_t tokens = strtoull(argv[1], NULL, 10);
	unsigned rounds = (unsigned)strtoul(argv[2], NULL, 10);

	rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
	measure_pool_open(&measure, LAYOUT, &options);
	store(&measure, tokens);
	for (unsigned round = 0; round < rounds; round++) {
		await_rest(&measure);
		times[round] = first_step(tokens, &shown);
	}

	printf("first_step %.1f us\nown %llu MiB\nshared %llu MiB\n",
	       measure_median(times, rounds) * 1e6, (unsigned long long)shown.own >> 20,
	       (unsigned long long)shown.shared >> 20);
	measure_pool_close(&measure);

	return 0;
}
