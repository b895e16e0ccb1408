/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_list: copies of device memory in the making, of any size. A few are queued one by one,
 * many by two kernels: all sources are gathered to a flat range and scattered from there.
 */
#pragma once

#include <hbm/hbm.h>

struct hbm_pool;

#define COPY_LIST_ROOM 4096u

struct copy_list {
	struct hbm_pool *pool;
	uint64_t flat, room; /* the range: address and bytes */
	uint64_t bytes;      /* of all */
	size_t count;
	bool failed; /* a copy could not be queued; the connection has the line */
	struct hbm_piece sources[COPY_LIST_ROOM], targets[COPY_LIST_ROOM];
};

/* NULL: no memory. Freed with free(). */
struct copy_list *hbm_copy_list_new(struct hbm_pool *pool, uint64_t flat, uint64_t room);
/* Adds a copy; joins it to the last one where both go on. */
void hbm_copy_list_add(struct copy_list *list, uint64_t target, uint64_t source, uint64_t bytes);
/* Queues what is left on the pool's stream. */
void hbm_copy_list_flush(struct copy_list *list);
