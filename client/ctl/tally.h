/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tally: what a replay counted, for one worker or for all. The leading
 * blocks of a request that are resident when it arrives are hits of their tier; all others
 * are misses. A late miss is a hit whose load missed or failed: another client's blocks
 * may evict it in between.
 */
#pragma once

#include "client/ctl/samples.h"

#include <hbm/hbm.h>

struct tally {
	uint64_t requests, block_refs;
	uint64_t hits[HBM_TIERS], misses, late_misses;
	/* blocks that a store refused, except with HBM_EXISTS */
	uint64_t not_stored;
	uint64_t bytes_loaded, bytes_stored;
	uint64_t mismatches;
	struct samples lookup, load, store;
};

/* 0 or -ENOMEM. */
int tally_merge(struct tally *tally, const struct tally *from);
uint64_t tally_hits(const struct tally *tally);
void tally_clear(struct tally *tally);
