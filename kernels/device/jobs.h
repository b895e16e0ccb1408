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
	X(compact_rows, gather)                                                                    \
	X(checksum_pieces, checksum)                                                               \
	X(int_encode, integer)                                                                     \
	X(int_decode, integer)                                                                     \
	X(fp8_amax, fp8)                                                                           \
	X(fp8_encode, fp8)                                                                         \
	X(fp8_decode, fp8)
/* X(module): the .cu files. */
#define DEVICE_MODULES(X) X(gather) X(checksum) X(integer) X(fp8)

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

enum { COMPACT_PLANES = 240 }; /* in one launch */

struct compact_plane {
	uint64_t target, source;
};

/* A plane has `outer` tables: row k of each of `kept` rows becomes row indices[k] (32 bits
 * each, in device memory) of the same table of `rows`; an index beyond them leaves the row
 * as it is. */
struct compact_rows_job {
	uint64_t indices;
	uint64_t outer, rows, kept, row_bytes;
	uint32_t planes, zero;
	struct compact_plane plane[COMPACT_PLANES];
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

/* ---- Encodings: of 16-bit numbers ---- */

enum number_form { NUMBER_BF16, NUMBER_FP16 };
enum { ENCODE_PLANES = 480 }; /* in one launch */

/* Planes of [tokens][channels], each anywhere; their codes and steps at a constant stride.
 * A group is `group` numbers, the last one of a token or channel fewer: of one token
 * (by_channel 0), or of one channel (1). It has a lowest number and a step, of 16 bits
 * each, in the form of the numbers: `steps` is [tokens][groups of a token][2], or [groups
 * of a channel][channels][2]. */
struct int_encode_job {
	uint64_t codes, code_stride, steps, step_stride;
	uint64_t tokens, channels;
	uint32_t group, bits; /* 8 or 4; group is even */
	uint32_t by_channel, form;
	uint32_t planes, zero;
	uint64_t numbers[ENCODE_PLANES];
};
#define int_decode_job int_encode_job

/* Planes of [tokens][heads][head], each anywhere; their codes at a constant stride. `amax`
 * is [planes][heads], of 32 bits: the largest magnitude of each head. */
struct fp8_encode_job {
	uint64_t codes, code_stride, amax;
	uint64_t tokens, heads, head;
	uint32_t form, planes;
	uint64_t numbers[ENCODE_PLANES];
};
#define fp8_decode_job fp8_encode_job
#define fp8_amax_job fp8_encode_job
