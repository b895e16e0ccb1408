/* SPDX-License-Identifier: Apache-2.0 */
#include "client/bounce.h"

#include "daemon/base/checked.h"

#include <errno.h>

static int bounce_commit(struct hbm *hbm, struct hbm_region *region)
{
	const struct hbm_range all = {region, 0, hbm_region_bytes(region)};

	return hbm_commit(hbm, &all, 1);
}

int hbm_bounce_open(struct bounce *bounce, struct hbm *hbm, uint64_t least)
{
	uint64_t slot = least > BOUNCE_SLOT_BYTES ? least : BOUNCE_SLOT_BYTES;
	/* the daemon's own slabs may be larger than all of it */
	struct hbm_region_options options = {.device = HBM_DEVICE_HOST,
					     .slab = BOUNCE_SLOT_BYTES * BOUNCE_SLOTS};
	struct hbm_region *region;

	if (!checked_mul(slot, BOUNCE_SLOTS, &options.address_space))
		return HBM_LIMIT;

	int rc = hbm_region_create(hbm, &options, &region);
	if (rc)
		return rc;

	rc = bounce_commit(hbm, region);
	if (rc) {
		hbm_region_destroy(hbm, region);
		return rc;
	}

	if (bounce->region)
		hbm_region_destroy(hbm, bounce->region);
	*bounce = (struct bounce){.region = region, .slot_bytes = slot};

	return 0;
}

uint64_t hbm_bounce_offset(const struct bounce *bounce, uint32_t slot)
{
	return slot * bounce->slot_bytes;
}

char *hbm_bounce_at(const struct bounce *bounce, uint32_t slot)
{
	return (char *)hbm_region_host(bounce->region) + hbm_bounce_offset(bounce, slot);
}
