/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_sequence: what calls on sequences cost, of a running daemon. Prints "name value unit"
 * lines, medians of several rounds.
 *
 * 	step COUNT THREAD	hbm_step() on a batch of COUNT, each a token longer, where all is
 * 				mapped; THREAD 1: in a pool that maps ahead by itself. Also the
 * 				memory of this process for each sequence, open and then mapped
 * 	fork			hbm_sequence_fork() of prefixes of three lengths, in turns, and
 * 				the step that first names the fork, which maps what it shares
 * 	allocate SLAB		a step of a sequence from nothing to 1 GiB: with slabs that the
 * 				daemon has ready, and where none is
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/support/kv.h"
#include "tests/support/measure.h"

#define ROUNDS 21

/* ---- step ---- */

/* One buffer, and a slab of it has room for all tokens. */
#define STEP_TOKENS 131072
#define STEP_LAYOUT "layers=1 heads=1 dim=8 bytes=2 keys=only max=131072"
#define STEP_WORK 1048576 /* lengths of a round */
#define STEP_PART 1000

/* Of this process, with what it shares. */
static double batch_resident(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (!file || fscanf(file, "%*u %lu", &pages) != 1)
		exit(1);
	fclose(file);

	return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

struct batch {
	struct measure_pool measure;
	size_t count;
	struct hbm_sequence **sequences;
	uint64_t *lengths;
};

static void batch_step(struct batch *batch)
{
	for (size_t i = 0; i < batch->count; i++)
		batch->lengths[i]++;
	measure_check(batch->measure.hbm,
		      hbm_step(batch->measure.pool, batch->sequences, batch->lengths, batch->count),
		      "step");
}

/* ns of a step, for each sequence, without the loop that makes the lengths. */
static double batch_round(struct batch *batch, unsigned steps)
{
	double spent = 0;

	for (unsigned n = 0; n < steps; n++) {
		const double start = measure_now();

		batch_step(batch);
		spent += measure_now() - start;
	}

	return spent / steps / (double)batch->count * 1e9;
}

static void batch_open(struct batch *batch, size_t count, bool thread)
{
	const struct hbm_pool_options options = {
		.max_sequences = (uint32_t)count, .ahead_tokens = 1, .map_ahead_thread = thread};

	batch->count = count;
	batch->sequences = calloc(count, sizeof(struct hbm_sequence *));
	batch->lengths = calloc(count, sizeof(*batch->lengths));
	if (count == 0 || !batch->sequences || !batch->lengths)
		exit(1);
	memset(batch->lengths, 0, count * sizeof(*batch->lengths));

	measure_pool_open(&batch->measure, STEP_LAYOUT, &options);
}

/* The first slabs, some at a time: a request has its limits. */
static void batch_begin(struct batch *batch)
{
	const size_t all = batch->count;
	struct hbm_sequence **sequences = batch->sequences;
	uint64_t *lengths = batch->lengths;

	for (size_t done = 0; done < all; done += batch->count) {
		batch->count = all - done < STEP_PART ? all - done : STEP_PART;
		batch->sequences = sequences + done;
		batch->lengths = lengths + done;
		batch_step(batch);
	}
	batch->count = all;
	batch->sequences = sequences;
	batch->lengths = lengths;
}

/* Connecting loads what all pools of a process share. */
static double batch_open_all(struct batch *batch, size_t count, bool thread)
{
	struct hbm *hbm;

	measure_check(NULL, hbm_connect(&hbm, NULL), "connect");
	const double before = batch_resident();

	batch_open(batch, count, thread);
	for (size_t i = 0; i < count; i++)
		batch->sequences[i] = measure_sequence(&batch->measure);
	const double open = batch_resident();

	hbm_close(hbm);

	return open - before;
}

static void bench_step(char **argv)
{
	struct batch batch;
	double times[ROUNDS];
	const size_t count = strtoul(argv[0], NULL, 10);
	const double open = batch_open_all(&batch, count, argv[1][0] == '1');
	const double before = batch_resident();

	batch_begin(&batch);
	const double mapped = batch_resident() - before + open;
	const unsigned most = STEP_TOKENS / ROUNDS - 16;
	const unsigned wanted = (unsigned)(STEP_WORK / count);
	const unsigned steps = wanted < most ? wanted : most;

	for (unsigned round = 0; round < ROUNDS; round++)
		times[round] = batch_round(&batch, steps);

	printf("step %.2f ns\nopen %.0f bytes\nmapped %.0f bytes\n", measure_median(times, ROUNDS),
	       open / (double)count, mapped / (double)count);
	measure_pool_close(&batch.measure);
	free(batch.sequences);
	free(batch.lengths);
}

/* ---- fork ---- */

/* 4 KiB a token: 262,144 of them are 1 GiB, 512 slabs. Each prefix has as many tokens in its last
 * slabs. */
#define FORK_LAYOUT "layers=4 heads=2 dim=128 bytes=2 max=263168"
#define FORK_TAIL 100

static const uint64_t fork_prefixes[] = {1024, 32768, 262144};

enum { PREFIXES = sizeof(fork_prefixes) / sizeof(fork_prefixes[0]) };

struct fork {
	struct hbm_sequence *parent;
	double calls[ROUNDS], maps[ROUNDS];
};

static void fork_round(const struct measure_pool *measure, const struct kv *kv, CUstream stream,
		       struct fork *fork, uint64_t prefix, unsigned round)
{
	const uint64_t tokens = prefix + FORK_TAIL;
	struct hbm_sequence *child = NULL;
	double start = measure_now();

	measure_check(measure->hbm, hbm_sequence_fork(fork->parent, 1, &child), "fork");
	fork->calls[round] = (measure_now() - start) * 1e6;
	kv->driver->cuStreamSynchronize(stream);

	start = measure_now();
	measure_step(measure, child, tokens);
	fork->maps[round] = (measure_now() - start) * 1e6;
	measure_check(measure->hbm, hbm_sequence_close(child), "close");
}

static void bench_fork(void)
{
	struct measure_pool measure;
	struct fork forks[PREFIXES];
	struct kv kv;
	struct hbm *hbm;
	CUstream stream;

	measure_check(NULL, hbm_connect(&hbm, NULL), "connect");
	kv_enter(&kv, hbm, 0);
	kv.driver->cuCtxSetCurrent(kv.context);
	if (kv.driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS)
		exit(1);

	const struct hbm_pool_options options = {.max_sequences = PREFIXES + 1, .stream = stream};

	measure_pool_open(&measure, FORK_LAYOUT, &options);
	for (unsigned i = 0; i < PREFIXES; i++) {
		forks[i].parent = measure_sequence(&measure);
		measure_step(&measure, forks[i].parent, fork_prefixes[i] + FORK_TAIL);
	}

	for (unsigned round = 0; round < ROUNDS; round++)
		for (unsigned i = 0; i < PREFIXES; i++)
			fork_round(&measure, &kv, stream, &forks[i], fork_prefixes[i], round);

	for (unsigned i = 0; i < PREFIXES; i++)
		printf("fork_%llu %.1f us\nmap_%llu %.1f us\n",
		       (unsigned long long)fork_prefixes[i], measure_median(forks[i].calls, ROUNDS),
		       (unsigned long long)fork_prefixes[i], measure_median(forks[i].maps, ROUNDS));

	measure_pool_close(&measure);
	kv.driver->cuStreamDestroy(stream);
	kv_leave(&kv);
	hbm_close(hbm);
}

/* ---- allocate ---- */

enum { ALLOCATE_ROUNDS = 5 };

/* Two buffers of 4 KiB a token, one after the other in a slot. */
#define ALLOCATE_LAYOUT "layers=4 heads=4 dim=128 bytes=2 max=131072 slab=%lluMiB"
#define ALLOCATE_TOKENS 131072 /* 1 GiB */

static double allocate_rate(const struct measure_pool *measure, struct hbm_sequence *sequence)
{
	const double start = measure_now();

	measure_step(measure, sequence, ALLOCATE_TOKENS);

	return 1 / (measure_now() - start);
}

static void bench_allocate(char **argv)
{
	const uint64_t slab = strtoull(argv[0], NULL, 10);
	const struct hbm_pool_options options = {.max_sequences = 2};
	double ready[ALLOCATE_ROUNDS], created[ALLOCATE_ROUNDS];
	struct measure_pool measure;
	char layout[128];

	snprintf(layout, sizeof(layout), ALLOCATE_LAYOUT, (unsigned long long)(slab >> 20));
	measure_pool_open(&measure, layout, &options);

	for (unsigned round = 0; round < ALLOCATE_ROUNDS; round++) {
		struct hbm_sequence *first = measure_sequence(&measure),
				    *second = measure_sequence(&measure);

		measure_await_ready(&measure, 1073741824);
		ready[round] = allocate_rate(&measure, first);
		created[round] = allocate_rate(&measure, second);
		measure_check(measure.hbm, hbm_sequence_close(first), "close");
		measure_check(measure.hbm, hbm_sequence_close(second), "close");
	}

	printf("ready %.2f GiB/s\ncreated %.2f GiB/s\n", measure_median(ready, ALLOCATE_ROUNDS),
	       measure_median(created, ALLOCATE_ROUNDS));
	measure_pool_close(&measure);
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "step") == 0) {
		bench_step(argv + 2);
	} else if (argc == 2 && strcmp(argv[1], "fork") == 0) {
		bench_fork();
	} else if (argc == 3 && strcmp(argv[1], "allocate") == 0) {
		bench_allocate(argv + 2);
	} else {
		fprintf(stderr, "usage: bench_sequence step COUNT THREAD | fork | allocate SLAB\n");
		return 2;
	}

	return 0;
}
