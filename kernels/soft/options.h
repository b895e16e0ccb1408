/* SPDX-License-Identifier: Apache-2.0 */
/* options: what soft devices are like: how many, how large, how fast. From the caller, else the environment, else this.
 */
#pragma once

#include "kernels/soft/soft.h"

#include <stdint.h>

#define SOFT_DEVICES_MAX 16u
#define SOFT_GRANULARITY (2u << 20) /* of everything about device memory */
#define SOFT_MEMORY_DEFAULT (1ull << 30)

struct options {
	uint32_t devices;
	uint64_t memory;             /* bytes per device, a multiple of the granularity */
	double d2h_gib_s, h2d_gib_s; /* 0: no limit */
	double latency_us;
};

/* What given and the environment (HBM_SOFT, only if given is NULL) make of the defaults; -EINVAL. */
int options_resolve(struct options *out, const struct driver_soft_options *given);
