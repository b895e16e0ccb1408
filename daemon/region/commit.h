/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit: backs slots of regions with slabs, all or none, also across regions, slab sizes
 * and devices.
 *
 * 	claim the slots -> take slabs from each pool -> map and export on each control worker -> committed
 * 	                        \-> give back                \-> unmap what was mapped -> give back
 *
 * Between making and starting a commit the caller reserves all that its reply needs: once
 * started, only the devices and the pools can make it fail, and it has not failed once
 * done() says so.
 */
#pragma once

#include "daemon/region/region.h"

struct commit;

/* Validates and claims: HBM_OK or a refusal (claim.h), which leaves nothing. */
int commit_new(struct commit **out, struct regions *regions, const struct hbm_wire_range *ranges,
	       uint32_t count, uint64_t max_slabs);
uint64_t commit_slabs(const struct commit *commit); /* how many it needs */
/* done() is called once, on the loop thread, maybe at once: HBM_OK, or a refusal after
 * which nothing has changed. */
void commit_start(struct commit *commit, void (*done)(void *arg, int status), void *arg);
/* After HBM_OK: the fd of the next slab, the caller's from then on, and where it lies; -1
 * after the last. */
int commit_next(struct commit *commit, struct hbm_wire_range *range);
/* One that was not started, or is done; closes fds not taken. Takes NULL, returns NULL. */
struct commit *commit_free(struct commit *commit);
