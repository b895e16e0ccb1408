/* SPDX-License-Identifier: Apache-2.0 */
/* copy_list: see copy_list.h. */
#include "client/sequence/copy_list.h"

#include "client/sequence/copies.h"
#include "client/sequence/pool.h"

#include <assert.h>
#include <stdlib.h>

#define COPY_LIST_FEW 8 /* copies that cost less than two kernels */

struct copy_list *hbm_copy_list_new(struct hbm_pool *pool, uint64_t flat, uint64_t room)
{
	struct copy_list *list = malloc(sizeof(*list));

	if (!list)
		return NULL;
	list->pool = pool;
	list->flat = flat;
	list->room = room;
	list->bytes = 0;
	list->count = 0;
	list->failed = false;

	return list;
}

static bool copy_list_one_by_one(struct copy_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		if (!hbm_copies_queue(list->pool, list->targets[i].address,
				      list->sources[i].address, list->sources[i].bytes)) {
			hbm_copies_fail(list->pool);
			return false;
		}

	return true;
}

static bool copy_list_by_kernels(struct copy_list *list)
{
	struct hbm_pool *pool = list->pool;
	const uint32_t device = pool->region->device;

	if (!hbm_copies_prepare(pool)) {
		hbm_copies_fail(pool);
		return false;
	}

	return hbm_gather(pool->hbm, device, list->sources, list->count, list->flat,
			  pool->stream) == 0 &&
	       hbm_scatter(pool->hbm, device, list->targets, list->count, list->flat,
			   pool->stream) == 0;
}

void hbm_copy_list_flush(struct copy_list *list)
{
	const bool few = list->count <= COPY_LIST_FEW;

	if (list->count > 0 && !list->failed)
		list->failed = !(few ? copy_list_one_by_one : copy_list_by_kernels)(list);
	list->count = 0;
	list->bytes = 0;
}

void hbm_copy_list_add(struct copy_list *list, uint64_t target, uint64_t source, uint64_t bytes)
{
	struct hbm_piece *from = &list->sources[list->count], *to = &list->targets[list->count];

	assert(bytes <= list->room);
	if (bytes == 0)
		return;
	if (list->count == COPY_LIST_ROOM || bytes > list->room - list->bytes) {
		hbm_copy_list_flush(list);
		from = list->sources;
		to = list->targets;
	}

	list->bytes += bytes;
	if (list->count > 0 && from[-1].address + from[-1].bytes == source &&
	    to[-1].address + to[-1].bytes == target) {
		from[-1].bytes += bytes;
		to[-1].bytes += bytes;
		return;
	}

	*from = (struct hbm_piece){source, bytes};
	*to = (struct hbm_piece){target, bytes};
	list->count++;
}
