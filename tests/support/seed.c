/* SPDX-License-Identifier: Apache-2.0 */
/* seed: see seed.h. The generator is splitmix64: any state is a good one. */
#include "tests/support/seed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void seed_open(struct seed *seed, const char *name)
{
	const char *given = getenv("HBM_TEST_SEED");
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	seed->state = given ? strtoull(given, NULL, 0)
			    : (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	fprintf(stderr, "%s: HBM_TEST_SEED=%" PRIu64 "\n", name, seed->state);
}

uint64_t seed_next(struct seed *seed)
{
	uint64_t mixed = seed->state += 0x9e3779b97f4a7c15u;
	mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
	mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
	return mixed ^ (mixed >> 31);
}

uint64_t seed_below(struct seed *seed, uint64_t limit)
{
	return (uint64_t)(((unsigned __int128)seed_next(seed) * limit) >> 64);
}
