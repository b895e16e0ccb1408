/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/copy_piece.h"

#include <stddef.h>

uint64_t copy_piece_cost_of_all(uint64_t bytes, uint32_t span_count)
{
	return bytes + (uint64_t)span_count * COPY_SPAN_COST;
}

/* Moves over at most `most` bytes of the span it is in: how many. */
static uint64_t copy_piece_step(struct copy_cursor *cursor, const struct span *spans, uint64_t most)
{
	uint64_t left = spans[cursor->span].bytes - cursor->into;
	uint64_t bytes = left < most ? left : most;

	cursor->at += bytes;
	cursor->into += bytes;
	if (bytes == left) {
		cursor->span++;
		cursor->into = 0;
	}

	return bytes;
}

uint64_t copy_piece_advance(struct copy_piece *piece, const struct span *spans, uint32_t span_count)
{
	uint64_t bytes = 0;
	uint32_t count = 0;

	piece->from = piece->to;
	while (piece->to.span < span_count && bytes < COPY_PIECE_BYTES &&
	       count < COPY_PIECE_SPANS) {
		bytes += copy_piece_step(&piece->to, spans, COPY_PIECE_BYTES - bytes);
		count++;
	}

	return copy_piece_cost_of_all(bytes, count);
}

/* Cuts off spans, or what is left of one, that follow each other in device memory. */
static bool copy_piece_cut_row(struct copy_piece *piece, const struct span *spans,
			       struct copy_run *run)
{
	uint64_t left = piece->to.at - piece->from.at;
	if (left == 0)
		return false;

	*run = (struct copy_run){.at = piece->from.at, .rows = 1};
	while (run->bytes < left) {
		uint64_t address = spans[piece->from.span].address + piece->from.into;
		if (run->bytes == 0)
			run->address = address;
		else if (address != run->address + run->bytes)
			break;

		run->bytes += copy_piece_step(&piece->from, spans, left - run->bytes);
	}

	return true;
}

/* Whether the row continues the run. */
static bool copy_piece_is_next(const struct copy_run *run, const struct copy_run *row,
			       uint64_t max_stride)
{
	uint64_t last = run->address + (run->rows - 1) * run->stride;
	uint64_t stride = row->address - last; /* of a lower address: more than any stride */

	if (row->bytes != run->bytes)
		return false;
	return run->rows > 1 ? stride == run->stride : stride >= run->bytes && stride <= max_stride;
}

bool copy_piece_cut_run(struct copy_piece *piece, const struct span *spans, uint64_t max_stride,
			struct copy_run *run)
{
	struct copy_run row;
	if (!copy_piece_cut_row(piece, spans, run))
		return false;

	for (struct copy_piece rest = *piece; copy_piece_cut_row(&rest, spans, &row);
	     *piece = rest) {
		if (!copy_piece_is_next(run, &row, max_stride))
			break;

		if (run->rows == 1)
			run->stride = row.address - run->address;
		run->rows++;
	}

	return true;
}
