/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_switch: a context switch between two long sequences of which the device has room for
 * one: one suspended to DDR, resumed, and exchanged for the other, in turns. The daemon's
 * device has a link of so many GiB/s in each direction. Prints "name value unit" lines, medians.
 *
 * 	bench_switch TOKENS ROUNDS SLAB_MIB
 */
#include "tests/support/measure.h"

#include <stdio.h>
#include <stdlib.h>

#define ROUNDS_MAX 64u

/* 2 of the 60 layers of Yi-34B: 8 KiB a token. */
#define LAYOUT "layers=2 heads=8 dim=128 bytes=2 max=200000 slab=%sMiB"

struct times {
	double out[ROUNDS_MAX], in[ROUNDS_MAX], both[ROUNDS_MAX];
};

static uint64_t mapped_bytes(const struct hbm_sequence *sequence)
{
	struct hbm_sequence_facts facts;

	if (hbm_sequence_facts(sequence, &facts) != 0)
		exit(1);

	return facts.mapped_bytes;
}

static void suspend(const struct measure_pool *measure, struct hbm_sequence *sequence)
{
	measure_check(measure->hbm,
		      hbm_sequences_suspend(measure->pool, &sequence, 1, HBM_TIER_DDR), "suspend");
}

static void resume(const struct measure_pool *measure, struct hbm_sequence *sequence)
{
	measure_check(measure->hbm, hbm_sequences_resume(measure->pool, &sequence, 1), "resume");
}

static void exchange(const struct measure_pool *measure, struct hbm_sequence *out,
		     struct hbm_sequence *in)
{
	measure_check(measure->hbm,
		      hbm_sequences_switch(measure->pool, &out, 1, HBM_TIER_DDR, &in, 1), "switch");
}

/* `active` is mapped before and `other` after. */
static void round_run(const struct measure_pool *measure, struct hbm_sequence *active,
		      struct hbm_sequence *other, struct times *times, unsigned round)
{
	const double start = measure_now();

	suspend(measure, active);
	const double out = measure_now();

	resume(measure, active);
	const double in = measure_now();

	exchange(measure, active, other);
	const double both = measure_now();

	times->out[round] = out - start;
	times->in[round] = in - out;
	times->both[round] = both - in;
}

int main(int argc, char **argv)
{
	const struct hbm_pool_options options = {.max_sequences = 2};
	struct hbm_sequence *sequences[2];
	struct measure_pool measure;
	struct times times;
	char layout[128];

	if (argc != 4) {
		fprintf(stderr, "usage: bench_switch TOKENS ROUNDS SLAB_MIB\n");
		return 2;
	}

	const uint64_t tokens = strtoull(argv[1], NULL, 10);
	unsigned rounds = (unsigned)strtoul(argv[2], NULL, 10);

	rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
	snprintf(layout, sizeof(layout), LAYOUT, argv[3]);
	measure_pool_open(&measure, layout, &options);
	sequences[0] = measure_sequence(&measure);
	sequences[1] = measure_sequence(&measure);
	measure_step(&measure, sequences[1], tokens);
	suspend(&measure, sequences[1]);
	measure_step(&measure, sequences[0], tokens);

	const double gib = (double)mapped_bytes(sequences[0]) / MEASURE_GIB;

	for (unsigned round = 0; round < rounds; round++)
		round_run(&measure, sequences[round % 2], sequences[(round + 1) % 2], &times,
			  round);

	printf("bytes %.0f MiB\nout %.3f GiB/s\nin %.3f GiB/s\nboth %.3f GiB/s\n", gib * 1024,
	       gib / measure_median(times.out, rounds), gib / measure_median(times.in, rounds),
	       2 * gib / measure_median(times.both, rounds));
	measure_pool_close(&measure);

	return 0;
}
