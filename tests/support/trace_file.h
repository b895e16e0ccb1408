/* SPDX-License-Identifier: Apache-2.0 */
/* trace_file: a trace as a test sees it: per request, the numbers of its blocks, made
 * dense from 0 on. Read without any code of the product. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct trace_file {
	uint32_t *blocks; /* of all requests */
	size_t *starts;   /* [request_count + 1], in blocks */
	size_t request_count;
	uint32_t distinct;
};

/* The first `limit` requests of a file with one {"hash_ids": [...]} a line; fails the
 * test if it cannot be read. */
void trace_file_read(struct trace_file *trace, const char *path, size_t limit);
void trace_file_free(struct trace_file *trace);
