/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checksum: a 64-bit checksum of a block that a device and a host compute equally fast,
 * against accidents and not against forgers. A block has a multiple of 16 bytes, and is
 * taken as units of two little-endian words, a and b. Modulo 2^64,
 *
 * 	sum = sum over units n = 0, 1, ... of term(n, a, b)
 * 	term(n, a, b) = low(p) ^ high(p), the halves of the 128-bit product
 * 	p = (a ^ (0x9e3779b97f4a7c15 * (n + 1))) *
 * 	    (b ^ (0xbf58476d1ce4e5b9 + 0xd1b54a32d192ed03 * n))
 *
 * As it is a sum, pieces of a block may be taken in any order, by any number of threads. A
 * unit's number is in its term, so that units which change places change the sum, and so
 * does a number of zero units more. It is not the checksum that the daemon computes of
 * blocks on NVMe (XXH3).
 */
#pragma once

#include "kernels/device/kernels.h"

#include <stddef.h>

/* What a piece adds to the sum of its block: bytes at `at` of the block, both multiples of
 * 16, anywhere in host memory. Of a whole block: at 0. */
uint64_t checksum_of(const void *bytes, uint64_t size, uint64_t at);
/* On a stream: sets `sums`, device memory with a word for each of `blocks` blocks, to the sums
 * of all pieces that name it. Addresses, sizes and places in a block are multiples of 16;
 * sums of 8. */
CUresult checksum_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			 uint64_t sums, size_t blocks, const struct checksum_piece *pieces,
			 size_t count);
