/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_encode: how fast a device encodes and decodes blocks of KV, and how many more fit
 * into the same memory. On the soft device this is one thread of the host that runs the
 * kernels' source thread by thread: it compares encodings, and says nothing of a GPU.
 *
 * For each encoding a line: its name; GiB/s of encoding and of decoding, counted in the bytes
 * of bf16 numbers; blocks that fit where one raw block does. Medians of several rounds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/kv.h"
#include "tests/support/kv_numbers.h"
#include "tests/support/measure.h"

#define ROUNDS 5
#define LAYERS 16u
#define ENCODED (16ull << 20)

/* 4 MiB of bf16: a quarter of the layers of a model with 8 KV heads. */
static const struct hbm_kv_shape shape = {
	.layers = LAYERS, .tokens = 64, .heads = 8, .head_dim = 128};

struct rig {
	struct kv kv;
	struct hbm_region *region;
	CUstream stream;
	struct hbm_kv_layer layers[LAYERS];
	uint64_t memory, raw_bytes;
};

static void bench_check(const struct rig *rig, int r, const char *what)
{
	if (r == 0)
		return;
	fprintf(stderr, "bench: %s: %s\n", what, hbm_error(rig->kv.hbm));
	exit(1);
}

static void bench_open(struct rig *rig)
{
	const uint64_t plane = (uint64_t)shape.tokens * shape.heads * shape.head_dim * 2;
	uint16_t *numbers = malloc(plane);
	struct seed seed;
	struct hbm *hbm;
	int r = hbm_connect(&hbm, NULL);

	if (r != 0 || !numbers) {
		fprintf(stderr, "bench: no daemon: %s\n", hbm_strerror(r));
		exit(1);
	}

	kv_enter(&rig->kv, hbm, 0);
	rig->raw_bytes = hbm_encoded_bytes(HBM_ENCODING_RAW, &shape);
	rig->region = kv_region(&rig->kv, 2 * ENCODED);
	rig->memory = hbm_region_address(rig->region);
	bench_check(rig, (int)rig->kv.driver->cuCtxSetCurrent(rig->kv.context), "context");
	bench_check(rig, (int)rig->kv.driver->cuStreamCreate(&rig->stream, CU_STREAM_NON_BLOCKING),
		    "stream");

	seed_open(&seed, "bench");
	for (uint64_t i = 0; i < 2 * LAYERS; i++) {
		const uint64_t address = rig->memory + i * plane;

		kv_numbers_fill(&seed, numbers, shape.tokens,
				(uint64_t)shape.heads * shape.head_dim, HBM_NUMBER_BF16, false);
		kv_write(&rig->kv, address, numbers, plane);
		*(i % 2 ? &rig->layers[i / 2].values : &rig->layers[i / 2].keys) = address;
	}

	free(numbers);
}

/* GiB/s of the block's numbers. */
static double bench_rate(struct rig *rig, enum hbm_encoding encoding, bool decodes)
{
	double rates[ROUNDS];

	for (int round = -1; round < ROUNDS; round++) { /* the first loads the device code */
		const double start = measure_now();

		bench_check(rig,
			    (decodes ? hbm_decode : hbm_encode)(rig->kv.hbm, 0, encoding, &shape,
								rig->layers, rig->memory + ENCODED,
								rig->stream),
			    "encode");
		bench_check(rig, (int)rig->kv.driver->cuStreamSynchronize(rig->stream), "stream");
		if (round >= 0)
			rates[round] =
				(double)rig->raw_bytes / (measure_now() - start) / MEASURE_GIB;
	}

	return measure_median(rates, ROUNDS);
}

int main(void)
{
	static const struct {
		const char *name;
		enum hbm_encoding encoding;
	} list[] = {{"raw", HBM_ENCODING_RAW},
		    {"fp8", HBM_ENCODING_FP8},
		    {"int8", HBM_ENCODING_INT8},
		    {"int4", HBM_ENCODING_INT4}};
	static struct rig rig;

	bench_open(&rig);
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		const uint64_t bytes = hbm_encoded_bytes(list[i].encoding, &shape);
		const double encode = bench_rate(&rig, list[i].encoding, false);
		const double decode = bench_rate(&rig, list[i].encoding, true);

		printf("%s %.3f %.3f %.2f\n", list[i].name, encode, decode,
		       (double)rig.raw_bytes / (double)bytes);
	}

	bench_check(&rig, (int)rig.kv.driver->cuStreamDestroy(rig.stream), "stream");
	kv_close(&rig.kv);

	return 0;
}
