/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share: slots that get the slabs of other slots: the targets of a SHARE, of slots of the
 * session, or slabs that are on loan to it, and slots of attached regions, of the publication's
 * (publication.h). A slab gets a reference for each; none is allocated or charged again. One
 * that is on loan stays lent, also in slots that share it later. Only the targets are claimed:
 * their references keep the slabs, whatever becomes of the sources.
 */
#pragma once

#include "daemon/region/claim.h"

struct share_source {
	struct region *region; /* NULL: of a loan */
	const struct loan *loan;
	uint64_t first; /* slot or piece; as many follow as the claim's run has */
	bool read_only; /* the target is */
};

/*
 * Claims the targets of shares that came from a client (count >= 1), and finds the source of
 * each of the claim's runs, *sources, which the caller frees. HBM_OK, or a refusal that
 * claims nothing: those of claim_make(), and HBM_NOT_FOUND (a source is not committed),
 * HBM_INVALID (source and target are of different devices or slab sizes; a source is
 * misaligned, outside, or a target of this request), HBM_DENIED (a source is lent or attached
 * read-only, and the target is not read-only), HBM_DEVICE (a source cannot be mapped again).
 */
int share_claim(struct claim *claim, struct share_source **sources, struct regions *regions,
		const struct hbm_wire_share *shares, uint32_t count);
/* Gives the claimed slots their slabs; nothing has changed since share_claim(). */
void share_fill(const struct claim *claim, const struct share_source *sources);

/* Whether the claimed slots are of attached regions: HBM_OK, HBM_INVALID (some are and some are
 * not), HBM_DEVICE (a slab cannot be mapped again). */
int share_attached(const struct claim *claim, bool *attached);
/* The same for them; nothing has changed since share_attached(). */
void share_fill_attached(const struct claim *claim);
