/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/adopt.h"

#include "daemon/region/loan.h"
#include "daemon/region/publication.h"

/* The slabs of all segments: how many; 0: they cannot be lent. Since the request came they may
 * have been published. */
static uint32_t adopt_slabs(const struct user *user, struct region *const *regions,
			    const struct hbm_wire_range *segments, uint32_t count,
			    struct slab *slabs[HBM_WIRE_FDS_MAX])
{
	uint32_t found = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t more = 0;

		if (region_slab(regions[i]) == region_slab(regions[0]) &&
		    !publication_bars_loan(regions[i], segments[i].offset, segments[i].bytes, user))
			more = region_slabs(regions[i], segments[i].offset, segments[i].bytes,
					    &slabs[found], HBM_WIRE_FDS_MAX - found);
		if (more == 0)
			return 0;
		found += more;
	}

	return found;
}

void adopt_block(struct session *session, struct lend *lend, uint32_t number,
		 struct region *const *regions, const struct hbm_wire_range *segments,
		 uint32_t count)
{
	struct slab *slabs[HBM_WIRE_FDS_MAX];
	uint32_t found = adopt_slabs(session->user, regions, segments, count, slabs);
	if (found == 0 || session->regions.borrower.ended)
		return;

	const struct replica_form form = {
		.user = session->user, .number = number, .piece = region_slab(regions[0])};
	struct replica *replica = replica_adopt(lend, &form, slabs, found);

	if (replica && !borrower_owns(&session->regions.borrower, replica->lent))
		replica_lose(replica);
}
