/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lossless: the encoding of bytes of numbers that loses nothing. The bytes of real numbers
 * differ little in their high byte and much in the low ones, so each chunk is split into
 * planes, one for each byte of an element, and each plane is compressed with zstd by itself.
 *
 * 	chunk	of LOSSLESS_CHUNK bytes, the last one shorter
 * 	=	for each plane, in order: uint32_t, little endian: how many bytes follow
 * 		for each plane: those bytes, a zstd frame; as many as the plane has: the plane
 *
 * Byte i of a chunk is of plane i % element, so that sizes that are no multiple of an element
 * are encoded too. zstd at level 1 makes bf16 numbers smaller by a third, LZ4 by an eighth:
 * what is left in a plane is skew, which needs entropy coding, and hardly anything repeats.
 *
 * A decoder reads what a disk returns: whatever the bytes are, it writes within the room for
 * the decoded ones, reads within the encoded ones, and ends. What it has made is right if
 * its checksum is.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LOSSLESS_CHUNK (128u << 10)
#define LOSSLESS_ELEMENT_MAX 4u

/* What one thread needs, most of it of zstd. It allocates nothing afterwards. */
struct lossless;
#define LOSSLESS_BYTES (1u << 20)

int lossless_new(struct lossless **out); /* -ENOMEM */
/* Accepts NULL, returns NULL. */
struct lossless *lossless_free(struct lossless *lossless);

/* Encodes bytes of elements of `element` bytes (1, 2 or 4) into at most `room` bytes. How many
 * it took; 0: it does not fit, and `to` has any bytes. */
uint64_t lossless_encode(struct lossless *lossless, char *to, uint64_t room, const char *from,
			 uint64_t bytes, unsigned element);
/* Decodes as many bytes as were encoded, from at least as many as that took. False: `from` has
 * no encoding of so many bytes, and `to` has any. */
bool lossless_decode(struct lossless *lossless, char *to, uint64_t bytes, const char *from,
		     uint64_t room, unsigned element);
