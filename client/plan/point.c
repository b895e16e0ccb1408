/* SPDX-License-Identifier: Apache-2.0 */
/* point: see point.h. */
#include "client/plan/point.h"

const char *plan_resource_name(enum plan_resource resource)
{
	static const char *const names[PLAN_RESOURCES] = {
		[PLAN_HBM_SIZE] = "HBM size",
		[PLAN_FLOPS] = "FLOP/s",
		[PLAN_HBM_BANDWIDTH] = "HBM bandwidth",
		[PLAN_LINK] = "host link",
		[PLAN_NVME] = "NVMe",
	};
	return names[resource];
}
