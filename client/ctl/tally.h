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

#define TALLY_MISMATCHES_KEPT 4

struct mismatch {
	hbm_key key;
	uint64_t offset; /* of the first wrong byte in the block */
};

struct tally {
	uint64_t requests, block_refs;
	uint64_t hits[HBM_TIERS], misses, late_misses;
	/* blocks that a store refused, except with HBM_EXISTS */
	uint64_t not_stored;
	uint64_t bytes_loaded, bytes_stored;
	uint64_t mismatches;
	struct mismatch first[TALLY_MISMATCHES_KEPT];
	struct samples lookup, load, store;
};

void tally_mismatch(struct tally *tally, const hbm_key *key, uint64_t offset);
/* 0 or -ENOMEM. */
int tally_merge(struct tally *tally, const struct tally *from);
uint64_t tally_hits(const struct tally *tally);
void tally_clear(struct tally *tally);
