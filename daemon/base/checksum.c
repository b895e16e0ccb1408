/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/checksum.h"

#ifdef __x86_64__
#include <xxh_x86dispatch.h> /* XXH3_64bits chooses among SSE2, AVX2 and AVX-512 at run time */
#else
#include <xxhash.h>
#endif

uint64_t checksum(const void *bytes, size_t size)
{
	return XXH3_64bits(bytes, size);
}

/* The library's state under a name of ours. */
static XXH3_state_t *checksum_state(struct checksum_stream *stream)
{
	return (XXH3_state_t *)(void *)stream;
}

struct checksum_stream *checksum_stream_new(void)
{
	XXH3_state_t *state = XXH3_createState();
	if (state)
		XXH3_64bits_reset(state);
	return (struct checksum_stream *)(void *)state;
}

void checksum_stream_free(struct checksum_stream *stream)
{
	XXH3_freeState(checksum_state(stream));
}

void checksum_stream_add(struct checksum_stream *stream, const void *bytes, size_t size)
{
	XXH3_64bits_update(checksum_state(stream), bytes, size);
}

uint64_t checksum_stream_end(const struct checksum_stream *stream)
{
	return XXH3_64bits_digest((const XXH3_state_t *)(const void *)stream);
}
