/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/resize_backing.h"

#include "daemon/tier/ddr_resize.h"

/* ---- DDR ---- */

static int resize_backing_check_ddr(struct hbmd *hbmd, const struct tier *tier, uint64_t bytes,
				    uint64_t lacking, const struct reason *why)
{
	(void)tier;

	return ddr_resize_check(hbmd->ddr, hbmd->config, bytes, lacking, why);
}

static void resize_backing_grow_ddr(struct hbmd *hbmd, struct tier *tier, uint64_t bytes)
{
	(void)tier;
	ddr_resize_grow(hbmd->ddr, bytes);
}

static bool resize_backing_ddr_is_settled(const struct hbmd *hbmd, const struct tier *tier)
{
	(void)tier;

	return ddr_warm(hbmd->ddr);
}

static void resize_backing_give_back_ddr(struct hbmd *hbmd, struct tier *tier,
					 void (*given_back)(void *arg), void *arg)
{
	(void)tier;
	ddr_resize_give_back(hbmd->ddr, given_back, arg);
}

static const struct resize_backing resize_backing_ddr = {
	.check = resize_backing_check_ddr,
	.grow = resize_backing_grow_ddr,
	.is_settled = resize_backing_ddr_is_settled,
	.give_back = resize_backing_give_back_ddr,
};

const struct resize_backing *resize_backing_of(const struct tier *tier)
{
	return tier->kind == HBM_TIER_DDR ? &resize_backing_ddr : NULL;
}
