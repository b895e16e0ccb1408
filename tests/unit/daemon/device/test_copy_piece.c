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

enum { SPANS = 500 };

static void test_small_copies_are_one_piece(void **state)
{
	(void)state;
	struct copy_piece piece = {0};
	const struct span spans[] = {{1000, 100}, {5000, 200}};

	assert_int_equal(copy_piece_advance(&piece, spans, 2), 300 + 2 * COPY_SPAN_COST);
	assert_true(copy_piece_is_last(&piece, 2));
	assert_int_equal(copy_piece_cost_of_all(300, 2), 300 + 2 * COPY_SPAN_COST);

	struct copy_run run;
	assert_true(copy_piece_cut_run(&piece, spans, &run));
	assert_int_equal(run.address, 1000);
	assert_int_equal(run.bytes, 100);
	assert_true(copy_piece_cut_run(&piece, spans, &run));
	assert_int_equal(run.address, 5000);
	assert_int_equal(run.at, 100);
	assert_int_equal(run.bytes, 200);
	assert_false(copy_piece_cut_run(&piece, spans, &run));
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
	assert_true(copy_piece_cut_run(&piece, &span, &run));
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
		assert_true(copy_piece_cut_run(&rest, spans, &run));
		assert_int_equal(run.bytes, piece.to.at - piece.from.at);
		assert_false(copy_piece_cut_run(&rest, spans, &run));
		pieces++;
	} while (!copy_piece_is_last(&piece, SPANS));

	assert_int_equal(pieces, (SPANS + COPY_PIECE_SPANS - 1) / COPY_PIECE_SPANS);
}

/* Every byte once, in order, at its own address. */
static void test_random_spans(void **state)
{
	(void)state;
	struct seed seed;
	struct span spans[SPANS];

	seed_open(&seed, "test_random_spans");

	for (unsigned round = 0; round < 200; round++) {
		uint32_t count = 1 + (uint32_t)seed_below(&seed, SPANS), span = 0;
		uint64_t address = 0, at = 0, into = 0, all = 0;

		for (uint32_t i = 0; i < count; i++) {
			address += seed_below(&seed, 2) * seed_below(&seed, 1 << 20);
			spans[i] = (struct span){
				address,
				1 + seed_below(&seed, seed_below(&seed, 9) == 0 ? 3 << 20 : 99)};
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
			for (struct copy_run run; copy_piece_cut_run(&rest, spans, &run);) {
				assert_int_equal(run.at, at);
				for (uint64_t left = run.bytes; left > 0;) {
					uint64_t n = spans[span].bytes - into;
					n = n < left ? n : left;
					assert_int_equal(spans[span].address + into,
							 run.address + run.bytes - left);
					left -= n;
					into += n;
					if (into == spans[span].bytes) {
						span++;
						into = 0;
					}
				}
				at += run.bytes;
			}
		} while (!copy_piece_is_last(&piece, count));

		assert_int_equal(span, count);
		assert_in_range(all, (uint64_t)count * COPY_SPAN_COST, UINT64_MAX);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_copies_are_one_piece),
		cmocka_unit_test(test_a_long_span_is_cut),
		cmocka_unit_test(test_neighbours_are_one_run),
		cmocka_unit_test(test_random_spans),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
