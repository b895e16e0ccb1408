/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tier_ddr: places in host memory, which starts at tier->host. Devices and CPUs read and
 * write it in place, so it needs no steps of its own. The staging buffer is such a tier
 * too.
 */
#include <stddef.h>

#include "daemon/tier/tier.h"

static char *tier_ddr_host(const struct tier *tier, uint32_t unit)
{
	return tier->host + tier_offset(unit);
}

const struct tier_ops tier_ddr_ops = {
	.host = tier_ddr_host,
};
