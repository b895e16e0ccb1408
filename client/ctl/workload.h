/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workload: the requests of a trace, in memory. A trace has one JSON object a line, as
 * published by Mooncake:
 *
 * 	{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48, 2353]}
 *
 * timestamp is in milliseconds, up to 2^53; hash_ids are the blocks of the prompt in order. An id
 * stands for the whole prefix that ends with it, so two requests with the same id have
 * the same ids before it. Other members are ignored, as are empty lines. input_length and
 * output_length may be missing.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct workload_request {
	double timestamp_ms;
	uint64_t input_length, output_length; /* tokens */
	size_t first, count;                  /* its ids: workload->ids[first .. first + count) */
};

struct workload {
	struct workload_request *requests;
	size_t request_count, request_room;
	uint64_t *ids;
	size_t id_count, id_room;
	size_t longest; /* ids of the longest request */
};

/*
 * Reads at most `limit` requests, 0 for all. 0 and *out, to be freed with workload_free();
 * -EINVAL: a line is not a request; -ENODATA: there is no request; another negative
 * errno: reading failed. In each case one line in error, which says where.
 */
int workload_read(FILE *in, const char *name, size_t limit, struct workload **out, char *error,
		  size_t error_size);
struct workload *workload_free(struct workload *workload); /* takes NULL, returns NULL */

/* Appends a request. 0 or -ENOMEM. */
int workload_add(struct workload *workload, const struct workload_request *request,
		 const uint64_t *ids, size_t count);
/* One line of the format above. */
void workload_print(const struct workload *workload, const struct workload_request *request,
		    FILE *out);
