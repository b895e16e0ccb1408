/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/io_share.h"

#include "daemon/tier/tier.h"

#include <stddef.h>

static bool io_share_has_host(const struct tier *tier)
{
	return tier && tier->ops->host;
}

struct io_claim io_share_claim(const struct tier *from, const struct tier *to, uint64_t bytes,
			       bool for_loads)
{
	struct io_claim claim = {.bytes = bytes, .for_loads = for_loads};
	bool reads = tier_has_io(from), writes = to && tier_has_io(to);

	claim.any = reads || writes;
	if (claim.any && !io_share_has_host(from) && !io_share_has_host(to))
		claim.staged = bytes;
	if (writes && !reads)
		claim.left = (struct tier *)from;

	return claim;
}

/* Whether so much more stays within the share, or is the first. */
static bool io_share_fits(uint64_t used, uint64_t more, uint64_t share)
{
	return used == 0 || used + more <= share;
}

bool io_share_allows(const struct io_share *share, const struct io_claim *claim,
		     const struct tier *staging, uint64_t moves_max)
{
	if (!claim->any)
		return true;
	if (claim->staged > 0 &&
	    !io_share_fits(share->staged, claim->staged, extent_capacity(staging->extents) / 4 * 3))
		return false;
	if (claim->left &&
	    !io_share_fits(claim->left->leaving, claim->bytes, claim->left->headroom / 2))
		return false;

	return io_share_fits(share->moves[claim->for_loads], 1, moves_max / 2);
}

void io_share_take(struct io_share *share, const struct io_claim *claim)
{
	if (!claim->any)
		return;

	share->moves[claim->for_loads]++;
	share->staged += claim->staged;
	if (claim->left)
		claim->left->leaving += claim->bytes;
}

void io_share_give(struct io_share *share, const struct io_claim *claim)
{
	if (!claim->any)
		return;

	share->moves[claim->for_loads]--;
	share->staged -= claim->staged;
	if (claim->left)
		claim->left->leaving -= claim->bytes;
}
