/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/lossless.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#define LEVEL 1
#define FIELD sizeof(uint32_t) /* how many bytes a plane has */

struct lossless {
	ZSTD_CCtx *encoder;
	ZSTD_DCtx *decoder;
	unsigned char plane[LOSSLESS_CHUNK];
	unsigned char frame[ZSTD_COMPRESSBOUND(LOSSLESS_CHUNK)];
};

/* ---- planes ---- */

static uint64_t lossless_plane_bytes(uint64_t bytes, unsigned element, unsigned plane)
{
	return (bytes + element - 1 - plane) / element;
}

/* Loops over a constant element, which the compiler makes vectors of. */
#define LOSSLESS_FOR_ELEMENT(element, loop)                                                        \
	do {                                                                                       \
		if ((element) == 2)                                                                \
			loop(2);                                                                   \
		else if ((element) == 4)                                                           \
			loop(4);                                                                   \
		else                                                                               \
			loop(1);                                                                   \
	} while (0)

static void lossless_split(unsigned char *restrict plane, const unsigned char *restrict from,
			   uint64_t count, unsigned element)
{
#define SPLIT(size)                                                                                \
	for (uint64_t i = 0; i < count; i++)                                                       \
	plane[i] = from[i * (size)]

	LOSSLESS_FOR_ELEMENT(element, SPLIT);
#undef SPLIT
}

static void lossless_join(unsigned char *restrict to, const unsigned char *restrict plane,
			  uint64_t count, unsigned element)
{
#define JOIN(size)                                                                                 \
	for (uint64_t i = 0; i < count; i++)                                                       \
	to[i * (size)] = plane[i]

	LOSSLESS_FOR_ELEMENT(element, JOIN);
#undef JOIN
}

static void lossless_put_size(unsigned char *to, uint64_t bytes)
{
	for (unsigned i = 0; i < FIELD; i++)
		to[i] = (unsigned char)(bytes >> (8 * i));
}

static uint64_t lossless_size(const unsigned char *from)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < FIELD; i++)
		bytes |= (uint64_t)from[i] << (8 * i);

	return bytes;
}

/* ---- encoding ---- */

/* How many bytes the plane takes; 0: more than there is room for. A frame is made in memory
 * with room for any: what zstd makes of a plane would depend on the room. */
static uint64_t lossless_encode_plane(struct lossless *lossless, unsigned char *to, uint64_t room,
				      uint64_t count)
{
	size_t size = ZSTD_compressCCtx(lossless->encoder, lossless->frame, sizeof(lossless->frame),
					lossless->plane, count, LEVEL);
	bool pays = !ZSTD_isError(size) && size < count;
	uint64_t bytes = pays ? size : count;
	if (bytes > room)
		return 0;

	memcpy(to, pays ? lossless->frame : lossless->plane, bytes);

	return bytes;
}

/* The same of a chunk. */
static uint64_t lossless_encode_chunk(struct lossless *lossless, unsigned char *to, uint64_t room,
				      const unsigned char *from, uint64_t bytes, unsigned element)
{
	uint64_t at = element * FIELD;
	if (room < at)
		return 0;

	for (unsigned i = 0; i < element; i++) {
		uint64_t count = lossless_plane_bytes(bytes, element, i), size = 0;

		lossless_split(lossless->plane, from + i, count, element);
		if (count > 0)
			size = lossless_encode_plane(lossless, to + at, room - at, count);
		if (size == 0 && count > 0)
			return 0;

		lossless_put_size(to + i * FIELD, size);
		at += size;
	}

	return at;
}

uint64_t lossless_encode(struct lossless *lossless, char *to, uint64_t room, const char *from,
			 uint64_t bytes, unsigned element)
{
	uint64_t at = 0;

	assert(element == 1 || element == 2 || element == LOSSLESS_ELEMENT_MAX);

	for (uint64_t done = 0, count; done < bytes; done += count) {
		count = bytes - done < LOSSLESS_CHUNK ? bytes - done : LOSSLESS_CHUNK;
		uint64_t size =
			lossless_encode_chunk(lossless, (unsigned char *)to + at, room - at,
					      (const unsigned char *)from + done, count, element);
		if (size == 0)
			return 0;

		at += size;
	}

	return at;
}

/* ---- decoding ---- */

static bool lossless_decode_plane(struct lossless *lossless, uint64_t count,
				  const unsigned char *from, uint64_t size)
{
	if (size == count) {
		memcpy(lossless->plane, from, count);
		return true;
	}

	return ZSTD_decompressDCtx(lossless->decoder, lossless->plane, count, from, size) == count;
}

/* How many encoded bytes the chunk takes; 0: it is none. */
static uint64_t lossless_decode_chunk(struct lossless *lossless, unsigned char *to, uint64_t bytes,
				      const unsigned char *from, uint64_t room, unsigned element)
{
	uint64_t at = element * FIELD;
	if (room < at)
		return 0;

	for (unsigned i = 0; i < element; i++) {
		uint64_t count = lossless_plane_bytes(bytes, element, i);
		uint64_t size = lossless_size(from + i * FIELD);
		if (size > room - at || !lossless_decode_plane(lossless, count, from + at, size))
			return 0;

		lossless_join(to + i, lossless->plane, count, element);
		at += size;
	}

	return at;
}

bool lossless_decode(struct lossless *lossless, char *to, uint64_t bytes, const char *from,
		     uint64_t room, unsigned element)
{
	uint64_t at = 0;

	assert(element == 1 || element == 2 || element == LOSSLESS_ELEMENT_MAX);

	for (uint64_t done = 0, count; done < bytes; done += count) {
		count = bytes - done < LOSSLESS_CHUNK ? bytes - done : LOSSLESS_CHUNK;
		uint64_t size =
			lossless_decode_chunk(lossless, (unsigned char *)to + done, count,
					      (const unsigned char *)from + at, room - at, element);
		if (size == 0)
			return false;

		at += size;
	}

	return true;
}

/* ---- what a thread needs ---- */

/* zstd allocates what its encoder works with when it first encodes. */
static int lossless_prepare(struct lossless *lossless)
{
	/* of the largest plane there is */
	memset(lossless->plane, 0, LOSSLESS_CHUNK);
	size_t size = ZSTD_compressCCtx(lossless->encoder, lossless->frame, sizeof(lossless->frame),
					lossless->plane, LOSSLESS_CHUNK, LEVEL);

	return ZSTD_isError(size) ? -ENOMEM : 0;
}

int lossless_new(struct lossless **out)
{
	struct lossless *lossless = malloc(sizeof(*lossless));
	if (!lossless)
		return -ENOMEM;

	lossless->encoder = ZSTD_createCCtx();
	lossless->decoder = ZSTD_createDCtx();
	if (!lossless->encoder || !lossless->decoder || lossless_prepare(lossless) < 0) {
		lossless_free(lossless);
		return -ENOMEM;
	}

	*out = lossless;

	return 0;
}

struct lossless *lossless_free(struct lossless *lossless)
{
	if (!lossless)
		return NULL;

	ZSTD_freeCCtx(lossless->encoder);
	ZSTD_freeDCtx(lossless->decoder);
	free(lossless);

	return NULL;
}
