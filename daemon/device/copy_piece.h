/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_piece: how a copy between scattered device memory and one flat range is cut into
 * pieces, so that others have their turn between them, and what a piece costs.
 *
 * A piece has at most COPY_PIECE_BYTES and COPY_PIECE_SPANS. It costs its bytes, and
 * COPY_SPAN_COST more for each span or part of one: issuing a device copy takes about as
 * long as copying so many bytes. Spans that follow each other in device memory are issued
 * as one row; rows of the same size that are the same distance apart, as those of a block
 * in an engine's layers are, as one run.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define COPY_PIECE_BYTES (1ull << 20)
#define COPY_PIECE_SPANS 128u
#define COPY_SPAN_COST 4096u

/* A piece of device address space. */
struct span {
	uint64_t address, bytes;
};

/* A position in a copy. */
struct copy_cursor {
	uint32_t span; /* the span it is in */
	uint64_t into; /* bytes of that span before it */
	uint64_t at;   /* bytes of the copy before it */
};

struct copy_piece {
	struct copy_cursor from, to;
};

/* Rows, each contiguous in device memory, the first at `address`, the next `stride` later.
 * On the flat side, from `at`, they follow each other. */
struct copy_run {
	uint64_t address, at, bytes; /* the first row's */
	uint64_t stride;             /* with one row 0; else at least `bytes` */
	uint32_t rows;
};

/* What all of a copy costs. */
uint64_t copy_piece_cost_of_all(uint64_t bytes, uint32_t span_count);
/* Makes the piece that follows this one; a zeroed piece is before the first. Returns its
 * cost. */
uint64_t copy_piece_advance(struct copy_piece *piece, const struct span *spans,
			    uint32_t span_count);
static inline bool copy_piece_is_last(const struct copy_piece *piece, uint32_t span_count)
{
	return piece->to.span == span_count;
}
/* Cuts the first run off a piece, in *run; its stride is at most max_stride. False: there is
 * none left. */
bool copy_piece_cut_run(struct copy_piece *piece, const struct span *spans, uint64_t max_stride,
			struct copy_run *run);
