/* SPDX-License-Identifier: Apache-2.0 */
/* tally: see tally.h. */
#include "client/ctl/tally.h"

#include <errno.h>

int tally_merge(struct tally *tally, const struct tally *from)
{
	tally->requests += from->requests;
	tally->block_refs += from->block_refs;
	for (int t = 0; t < HBM_TIERS; t++)
		tally->hits[t] += from->hits[t];
	tally->misses += from->misses;
	tally->late_misses += from->late_misses;
	tally->not_stored += from->not_stored;
	tally->bytes_loaded += from->bytes_loaded;
	tally->bytes_stored += from->bytes_stored;
	tally->mismatches += from->mismatches;

	if (samples_merge(&tally->lookup, &from->lookup) < 0 ||
	    samples_merge(&tally->load, &from->load) < 0 ||
	    samples_merge(&tally->store, &from->store) < 0)
		return -ENOMEM;

	return 0;
}

uint64_t tally_hits(const struct tally *tally)
{
	return tally->hits[HBM_TIER_HBM] + tally->hits[HBM_TIER_DDR] + tally->hits[HBM_TIER_NVME];
}

void tally_clear(struct tally *tally)
{
	samples_clear(&tally->lookup);
	samples_clear(&tally->load);
	samples_clear(&tally->store);
	*tally = (struct tally){0};
}
