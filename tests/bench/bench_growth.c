/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_growth: iterations of an engine with one sequence of the shape of Yi-34B: a step, and
 * then the time that a GPU computes, in which this process sleeps. Three such sequences, of
 * three pools, in turns: one does not need memory, one gets it by the step that needs it, and
 * one has it mapped ahead by the pool's thread. Each of the latter needs a page group
 * (slabs in all buffers) about every PERIOD iterations. Prints "name value unit" lines.
 *
 * 	bench_growth token|layer COMPUTE_US GROUPS	GROUPS: so many page groups each
 */
#include "tests/support/measure.h"

#include <stdio.h>
#include <stdlib.h>

#define READY (1ull << 30) /* bytes that the daemon creates ahead */

enum { PERIOD = 16, GROUPS_MAX = 64 };

enum way { WAY_MAPPED, WAY_STEP, WAY_AHEAD, WAYS };

static const char *const names[WAYS] = {"mapped", "step", "ahead"};

struct run {
	struct measure_pool measure;
	struct hbm_sequence *sequence;
	uint64_t tokens, more;
	double iterations[PERIOD * GROUPS_MAX], steps[PERIOD * GROUPS_MAX];
	double growths[GROUPS_MAX]; /* the longest step of each turn */
	size_t count, turns;
};

/* Tokens of an iteration: about PERIOD of them need a page group. */
static uint64_t run_more(const char *layout)
{
	struct hbm_layout *shape;
	struct hbm_buffer buffer;

	measure_check(NULL, hbm_layout_parse(&shape, layout, NULL, 0), layout);
	hbm_layout_buffer(shape, 0, &buffer);
	hbm_layout_free(shape);

	return buffer.step_bytes / buffer.token_bytes / PERIOD;
}

static uint64_t run_ahead(const struct run *run, enum way way, uint64_t groups)
{
	switch (way) {
	case WAY_MAPPED:
		return run->more * PERIOD * (groups + 1);
	case WAY_AHEAD:
		return run->more * 4;
	default:
		return 1;
	}
}

static void run_open(struct run *run, const char *layout, enum way way, uint64_t groups)
{
	struct hbm_pool_options options = {.max_sequences = 1,
					   .map_ahead_thread = way == WAY_AHEAD};

	run->more = run_more(layout);
	options.ahead_tokens = run_ahead(run, way, groups);
	measure_pool_open(&run->measure, layout, &options);
	run->sequence = measure_sequence(&run->measure);
	run->tokens = 1;
	measure_step(&run->measure, run->sequence, run->tokens);
	if (way == WAY_MAPPED)
		measure_check(run->measure.hbm, hbm_pool_map_ahead(run->measure.pool), "map ahead");
}

static double run_iterate(struct run *run, double compute)
{
	const double start = measure_now();

	run->tokens += run->more;
	measure_step(&run->measure, run->sequence, run->tokens);

	const double step = measure_now() - start;

	measure_sleep_until(start + step + compute);
	run->steps[run->count] = step * 1e6;
	run->iterations[run->count++] = (measure_now() - start) * 1e3;

	return step * 1e6;
}

/* PERIOD iterations, of which mostly one needs a page group. */
static void run_turn(struct run *run, double compute)
{
	double longest = 0;

	for (unsigned i = 0; i < PERIOD; i++) {
		const double step = run_iterate(run, compute);

		if (step > longest)
			longest = step;
	}
	run->growths[run->turns++] = longest;
}

static void run_print(struct run *run, const char *name)
{
	printf("%s_p50 %.3f ms\n%s_p99 %.3f ms\n", name,
	       measure_quantile(run->iterations, run->count, 0.5), name,
	       measure_quantile(run->iterations, run->count, 0.99));
	printf("%s_growth %.1f us\n%s_step_p99 %.1f us\n", name,
	       measure_median(run->growths, run->turns), name,
	       measure_quantile(run->steps, run->count, 0.99));
}

int main(int argc, char **argv)
{
	static struct run runs[WAYS];
	char layout[128];

	if (argc != 4) {
		fprintf(stderr, "usage: bench_growth token|layer COMPUTE_US GROUPS\n");
		return 2;
	}

	const double compute = strtod(argv[2], NULL) / 1e6;
	uint64_t groups = strtoull(argv[3], NULL, 10);

	groups = groups < 1 ? 1 : groups > GROUPS_MAX ? GROUPS_MAX : groups;
	snprintf(layout, sizeof(layout), "layers=60 heads=8 dim=128 bytes=2 order=%s max=200000",
		 argv[1]);

	for (unsigned way = 0; way < WAYS; way++)
		run_open(&runs[way], layout, way, groups);
	measure_await_ready(&runs[WAY_MAPPED].measure, READY);

	for (uint64_t turn = 0; turn < groups; turn++)
		for (unsigned way = 0; way < WAYS; way++)
			run_turn(&runs[way], compute);

	for (unsigned way = 0; way < WAYS; way++)
		run_print(&runs[way], names[way]);
	for (unsigned way = 0; way < WAYS; way++)
		measure_pool_close(&runs[way].measure);

	return 0;
}
