/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of a copy: together they are the copy, none is too large, and what is contiguous is
 * one run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/device/copy_piece.h"
#include "tests/support/seed.h"

enum { SPANS = 500, STRIDE = 1 << 30 };

static void test_small_copies_are_one_piece(void **state)
{
	(void)state;
	struct copy_piece piece = {0};
	const struct span spans[] = {{1000, 100}, {5000, 200}};

	assert_int_equal(copy_piece_advance(&piece, spans, 2), 300 + 2 * COPY_SPAN_COST);
	assert_true(copy_piece_is_last(&piece, 2));
	assert_int_equal(copy_piece_cost_of_all(300, 2), 300 + 2 * COPY_SPAN_COST);

	struct copy_run run;
	assert_true(copy_piece_cut_run(&piece, spans, STRIDE, &run));
	assert_int_equal(run.address, 1000);
	assert_int_equal(run.bytes, 100);
	assert_true(copy_piece_cut_run(&piece, spans, STRIDE, &run));
	assert_int_equal(run.address, 5000);
	assert_int_equal(run.at, 100);
	assert_int_equal(run.bytes, 200);
	assert_false(copy_piece_cut_run(&piece, spans, STRIDE, &run));
}

static void test_a_long_span_is_cut(void **state)
{
	(void)state;
	struct copy_piece piece = {0};
	const struct span span = {1 << 30, 2 * COPY_PIECE_BYTES + 1};

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(copy_piece_advance(&piece, &span, 1),
				 COPY_PIECE_BYTES + COPY_SPAN_COST);
		assert_false(copy_piece_is_last(&piece, 1));
		assert_int_equal(piece.from.at, i * COPY_PIECE_BYTES);
	}

	assert_int_equal(copy_piece_advance(&piece, &span, 1), 1 + COPY_SPAN_COST);
	assert_true(copy_piece_is_last(&piece, 1));
	struct copy_run run;
	assert_true(copy_piece_cut_run(&piece, &span, STRIDE, &run));
	assert_int_equal(run.address, span.address + 2 * COPY_PIECE_BYTES);
	assert_int_equal(run.bytes, 1);
}

static void test_neighbours_are_one_run(void **state)
{
	(void)state;
	struct copy_piece piece = {0};
	struct span spans[SPANS];
	struct copy_run run;
	unsigned pieces = 0;

	for (uint64_t i = 0; i < SPANS; i++)
		spans[i] = (struct span){4096 + 8 * i, 8};

	do {
		copy_piece_advance(&piece, spans, SPANS);
		struct copy_piece rest = piece;
		assert_true(copy_piece_cut_run(&rest, spans, STRIDE, &run));
		assert_int_equal(run.bytes, piece.to.at - piece.from.at);
		assert_false(copy_piece_cut_run(&rest, spans, STRIDE, &run));
		pieces++;
	} while (!copy_piece_is_last(&piece, SPANS));

	assert_int_equal(pieces, (SPANS + COPY_PIECE_SPANS - 1) / COPY_PIECE_SPANS);
}

static void cut_rows(const struct span *spans, uint32_t count, uint64_t max_stride,
		     struct copy_run *runs, unsigned expected)
{
	struct copy_piece piece = {0};
	unsigned n = 0;

	copy_piece_advance(&piece, spans, count);
	assert_true(copy_piece_is_last(&piece, count));
	while (copy_piece_cut_run(&piece, spans, max_stride, &runs[n]))
		assert_in_range(++n, 1, SPANS);
	assert_int_equal(n, expected);
}

/* A block in an engine's layers: as many rows as there are layers, for K and for V. */
static void test_rows_at_a_stride_are_one_run(void **state)
{
	(void)state;
	const uint64_t layer = 64 << 20;
	struct span spans[64];
	struct copy_run runs[SPANS];

	for (uint64_t i = 0; i < 64; i++)
		spans[i] = (struct span){(1ull << 40) + i * layer, 4096};
	cut_rows(spans, 64, layer, runs, 1);
	assert_int_equal(runs[0].address, 1ull << 40);
	assert_int_equal(runs[0].bytes, 4096);
	assert_int_equal(runs[0].stride, layer);
	assert_int_equal(runs[0].rows, 64);
	cut_rows(spans, 64, layer - 1, runs, 64);
	assert_int_equal(runs[63].rows, 1);

	/* K, and V beside it, in each layer: rows of both */
	for (uint64_t i = 0; i < 64; i++)
		spans[i].address = i / 2 * layer + i % 2 * 4096;
	cut_rows(spans, 64, layer, runs, 1);
	assert_int_equal(runs[0].bytes, 8192);
	assert_int_equal(runs[0].rows, 32);
}

static void test_what_is_not_regular_is_several_runs(void **state)
{
	(void)state;
	struct copy_run runs[SPANS];
	const struct span another_stride[] = {{1000, 100}, {2000, 100}, {3001, 100}, {4002, 100}};
	const struct span another_size[] = {{1000, 100}, {2000, 100}, {3000, 99}};
	const struct span downwards[] = {{3000, 100}, {2000, 100}, {1000, 100}};
	const struct span overlapping[] = {{1000, 100}, {1050, 100}};

	cut_rows(another_stride, 4, STRIDE, runs, 2);
	assert_int_equal(runs[1].address, 3001);
	assert_int_equal(runs[1].at, 200);
	assert_int_equal(runs[1].rows, 2);
	cut_rows(another_size, 3, STRIDE, runs, 2);
	cut_rows(downwards, 3, STRIDE, runs, 3);
	cut_rows(overlapping, 2, STRIDE, runs, 2);
}

/* A row of a run is what the spans have next. */
static void follow(const struct span *spans, uint32_t *span, uint64_t *into,
		   const struct copy_run *run, uint32_t row)
{
	uint64_t address = run->address + row * run->stride;

	for (uint64_t left = run->bytes; left > 0;) {
		uint64_t n = spans[*span].bytes - *into;

		n = n < left ? n : left;
		assert_int_equal(spans[*span].address + *into, address);
		left -= n;
		address += n;
		*into += n;
		if (*into == spans[*span].bytes) {
			(*span)++;
			*into = 0;
		}
	}
}

/* Every byte once, in order, at its own address. */
static void test_random_spans(void **state)
{
	(void)state;
	struct seed seed;
	struct span spans[SPANS];
	unsigned many = 0;

	seed_open(&seed, "test_random_spans");

	for (unsigned round = 0; round < 200; round++) {
		uint32_t count = 1 + (uint32_t)seed_below(&seed, SPANS), span = 0;
		uint64_t address = 0, at = 0, into = 0, all = 0, gap = 0, bytes_each = 0;

		for (uint32_t i = 0; i < count; i++) {
			/* half of them as regular as the one before */
			if (i == 0 || seed_below(&seed, 2) == 0) {
				gap = seed_below(&seed, 2) * seed_below(&seed, 1 << 20);
				bytes_each =
					1 +
					seed_below(&seed, seed_below(&seed, 9) == 0 ? 3 << 20 : 99);
			}

			address += gap;
			spans[i] = (struct span){address, bytes_each};
			address += spans[i].bytes;
		}

		struct copy_piece piece = {0};
		do {
			uint64_t cost = copy_piece_advance(&piece, spans, count);
			uint64_t bytes = piece.to.at - piece.from.at;
			struct copy_piece rest = piece;

			assert_in_range(bytes, 1, COPY_PIECE_BYTES);
			assert_in_range(cost, bytes + COPY_SPAN_COST,
					bytes + COPY_PIECE_SPANS * COPY_SPAN_COST);
			all += cost - bytes;
			for (struct copy_run run; copy_piece_cut_run(&rest, spans, STRIDE, &run);) {
				assert_int_equal(run.at, at);
				assert_in_range(run.rows, 1, COPY_PIECE_SPANS);
				many += run.rows > 1;
				for (uint32_t row = 0; row < run.rows; row++)
					follow(spans, &span, &into, &run, row);
				at += run.rows * run.bytes;
			}
		} while (!copy_piece_is_last(&piece, count));

		assert_int_equal(span, count);
		assert_in_range(all, (uint64_t)count * COPY_SPAN_COST, UINT64_MAX);
	}

	assert_in_range(many, 200, UINT32_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_copies_are_one_piece),
		cmocka_unit_test(test_a_long_span_is_cut),
		cmocka_unit_test(test_neighbours_are_one_run),
		cmocka_unit_test(test_rows_at_a_stride_are_one_run),
		cmocka_unit_test(test_what_is_not_regular_is_several_runs),
		cmocka_unit_test(test_random_spans),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
