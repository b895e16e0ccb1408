/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bounce: the bounce buffer of a connection: memory of this process that the daemon reads and
 * writes, too, in slots of equal size. Where it comes from is this module's affair alone: it is a
 * host region, which needs no device.
 */
#pragma once

#include <hbm/hbm.h>

#define BOUNCE_SLOTS 4u                /* one is filled while the daemon has others */
#define BOUNCE_SLOT_BYTES (2ull << 20) /* small enough to stay in caches on its way */

struct bounce {
	struct hbm_region *region; /* NULL: there is none yet */
	uint64_t slot_bytes;
};

/* Makes it, with slots of BOUNCE_SLOT_BYTES or `least` bytes, if that is more; the one that was
 * there goes, and must not be in use. On failure, as of hbm_region_create() and hbm_commit(), it
 * stays. */
int hbm_bounce_open(struct bounce *bounce, struct hbm *hbm, uint64_t least);
uint64_t hbm_bounce_offset(const struct bounce *bounce, uint32_t slot); /* in the region */
char *hbm_bounce_at(const struct bounce *bounce, uint32_t slot);
