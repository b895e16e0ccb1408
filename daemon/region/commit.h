/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit: backs slots of regions with slabs, all or none, also across regions, slab sizes
 * and devices: with new ones, or with those of other slots (share.h).
 *
 * 	claim the slots -> allocate slabs in each pool -> map and export on each control worker -> committed
 * 	                        \-> free                      \-> unmap what was mapped -> free
 *
 * With slabs of other slots nothing is allocated; those of a SHARE are not exported either.
 *
 * Between making and starting a commit the caller allocates all that its reply needs:
 * once started, only the devices and the pools can make it fail, and once done()
 * says HBM_OK it can no longer fail.
 */
#pragma once

#include "daemon/region/region.h"

struct commit;

/* Validates and claims: HBM_OK, or a refusal (claim.h) that changes nothing. Slots of attached
 * regions get the slabs of their publications; to be started before anything changes. */
int commit_new(struct commit **out, struct regions *regions, const struct hbm_wire_range *ranges,
	       uint32_t count);
/* Backs the targets of shares with the slabs of their sources. To be started before anything
 * changes; has no fds. */
int commit_new_share(struct commit **out, struct regions *regions,
		     const struct hbm_wire_share *shares, uint32_t count);
uint64_t commit_slabs(const struct commit *commit); /* the number of slabs it needs */
/* The memory that a commit of so many takes. */
uint64_t commit_bytes_for(uint64_t slabs, uint64_t ranges);
uint64_t commit_bytes(const struct commit *commit); /* the memory it takes itself */
/* done() is called once, on the loop thread, maybe from within: HBM_OK, or a refusal that
 * changed nothing. */
void commit_start(struct commit *commit, void (*done)(void *arg, int status), void *arg);
/* After HBM_OK: returns the fd of the next slab, which the caller then owns, and its
 * range; -1 after the last. */
int commit_next(struct commit *commit, struct hbm_wire_range *range);
/* Frees a commit that was not started or is done, and closes the fds that were not taken.
 * Accepts NULL, returns NULL. */
struct commit *commit_free(struct commit *commit);
