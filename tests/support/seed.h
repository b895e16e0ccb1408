/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seed: random numbers for tests that can be repeated. The seed comes from HBM_TEST_SEED,
 * or else from the clock; either way it is printed, so that a failure can be had again.
 */
#pragma once

#include <stdint.h>

struct seed {
	uint64_t state;
};

/* Prints "NAME: HBM_TEST_SEED=..." on stderr. */
void seed_open(struct seed *seed, const char *name);
uint64_t seed_next(struct seed *seed);
/* Uniform in [0, limit); limit > 0. */
uint64_t seed_below(struct seed *seed, uint64_t limit);
