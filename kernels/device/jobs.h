/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs: the kernels there are, and the one parameter each of them takes: a struct by value,
 * the same for a device, for the soft driver and for who launches it. Addresses are those
 * of the device. What each kernel does: kernels/README.md.
 */
#pragma once

#include <stdint.h>

/* X(entry, module): the names of the struct, without _job, and of the .cu file. */
#define DEVICE_KERNELS(X)                                                                          \
	X(gather_pieces, gather)                                                                   \
	X(gather_rows, gather)                                                                     \
	X(checksum_pieces, checksum)
/* X(module): the .cu files. */
#define DEVICE_MODULES(X) X(gather) X(checksum)

/* ---- gather: between pieces anywhere and one flat range ---- */

enum { GATHER_PIECES = 128 }; /* in one launch: parameters have at most 4096 bytes */

struct gather_piece {
	uint64_t address, bytes;
	uint64_t at; /* in the flat range */
};

/* Row y of the grid copies pieces y, y + rows of the grid, ... */
struct gather_pieces_job {
	uint64_t flat;
	uint32_t count;
	uint32_t scatter; /* 0: pieces to flat; 1: flat to pieces */
	struct gather_piece pieces[GATHER_PIECES];
};

/* The same for rows of equal size at a constant stride, in order in the flat range. */
struct gather_rows_job {
	uint64_t flat, base, stride, row_bytes, count;
	uint32_t scatter, zero;
};

/* ---- checksum: of blocks, each in one or more pieces ---- */

enum { CHECKSUM_PIECES = 120 }; /* in one launch */

struct checksum_piece {
	uint64_t address, bytes;
	uint64_t at;  /* in its block */
	uint64_t sum; /* which of the sums is its block's */
};

/* Adds the terms of every piece to its block's sum. */
struct checksum_pieces_job {
	uint64_t sums;
	uint64_t count;
	struct checksum_piece pieces[CHECKSUM_PIECES];
};
