/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ddr_resize: the memory of a DDR tier that is resized: chunks are added, touched and registered in
 * the background as at the start (ddr.h), and chunks that are away from the tier (tier_resize.h) are
 * unregistered and given to the kernel, one after the other, by a worker.
 *
 * Memory is given back in whole chunks: what a size leaves of one stays the daemon's, is in no use
 * and is the first to come back. A chunk that begins in the staging buffer stays. A chunk that the
 * device does not forget stays too, and is logged.
 *
 * A tier that is divided among NUMA nodes has addresses for as much as it was opened with, and
 * grows no further.
 */
#pragma once

#include "daemon/base/reason.h"
#include "daemon/tier/ddr.h"

/* Whether the tier may have so many bytes, for which it lacks `lacking` bytes of extents: HBM_OK,
 * or HBM_NO_SPACE and a reason. */
int ddr_resize_check(const struct ddr *ddr, const struct config *config, uint64_t size,
		     uint64_t lacking, const struct reason *why);
/* Adds memory for so many bytes of extents; over when ddr_warm(), which it must be now. The tier has
 * fewer then if memory could not be allocated or registered. */
void ddr_resize_grow(struct ddr *ddr, uint64_t bytes);
/* Gives back what is away, and what never came into service: given_back() is called once, maybe
 * from within. One call at a time, when ddr_warm(). */
void ddr_resize_give_back(struct ddr *ddr, void (*given_back)(void *arg), void *arg);
