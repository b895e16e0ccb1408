/* SPDX-License-Identifier: Apache-2.0 */
/*
 * victim: an ordinary client that wants little, one thing at a time: PING, LOOKUP of 16
 * keys, LOAD of one block of 64 KiB that is in HBM, of which it compares every byte.
 */
#pragma once

#include "tests/support/kv.h"

#include <stdint.h>

struct victim {
	struct kv kv;
	uint64_t rounds;
};

/* How long each took, in seconds; without the comparison. */
struct victim_times {
	double ping, lookup, load;
};

/* Stores its blocks, and pins them. */
void victim_open(struct victim *victim, const struct spawn *spawn);
void victim_close(struct victim *victim);
/* Fails the test if anything is not served as it should be. */
void victim_round(struct victim *victim, struct victim_times *times);
