/* SPDX-License-Identifier: Apache-2.0 */
/*
 * victim: an ordinary client that wants little, one thing at a time: PING, LOOKUP of 16
 * keys, LOAD of one block of 64 KiB, of which it compares every byte. Its blocks are few
 * and stay in HBM; or so many that those it loads next are always in a tier further down.
 */
#pragma once

#include "tests/support/kv.h"

#include <stdint.h>

struct victim {
	struct kv kv;
	uint64_t blocks, rounds;
};

/* What a round was like. */
struct victim_times {
	double ping, lookup, load; /* seconds, without the comparison */
	enum hbm_tier tier;        /* that the block was in */
};

#define VICTIM_BLOCK (64u << 10)

/* Stores `blocks` blocks, a multiple of 16; 0: so few that they stay in HBM. */
void victim_open(struct victim *victim, const struct spawn *spawn, uint64_t blocks);
void victim_close(struct victim *victim);
/* Fails the test if anything is not served as it should be. */
void victim_round(struct victim *victim, struct victim_times *times);
