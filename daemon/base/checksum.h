/* SPDX-License-Identifier: Apache-2.0 */
/* checksum: XXH3-64 of a block's bytes, by the fastest code this CPU supports, whole or as
 * they come. Any thread; a stream, one at a time. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct checksum_stream;

uint64_t checksum(const void *bytes, size_t size);

struct checksum_stream *checksum_stream_new(void);         /* NULL: no memory */
void checksum_stream_free(struct checksum_stream *stream); /* accepts NULL */
void checksum_stream_add(struct checksum_stream *stream, const void *bytes, size_t size);
/* The checksum of all that has been added so far. */
uint64_t checksum_stream_end(const struct checksum_stream *stream);
