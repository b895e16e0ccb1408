/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backing: maps and unmaps ranges of a pool's region, and counts what its slots have after
 * it. A request has a limited number of ranges, so many take several requests; what a
 * refused one leaves is undone.
 */
#pragma once

#include <stdint.h>

struct hbm_pool;
struct hbm_region;

/* Commits pool->grow, all or none. */
int hbm_backing_commit(struct hbm_pool *pool);
/* Decommits pool->shrink. HBM_DEVICE: only a part of it, or nothing, as copies may go on. */
int hbm_backing_decommit(struct hbm_pool *pool);
/* Bytes of a range of any region that are mapped. */
int64_t hbm_backing_mapped(const struct hbm_region *region, uint64_t offset, uint64_t bytes);
/* Maps the shares of the pool, all or none. Pages are the caller's. */
int hbm_backing_share(struct hbm_pool *pool);
