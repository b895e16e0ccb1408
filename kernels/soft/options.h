/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options: what soft devices are like: how many, how large, how fast. From the caller,
 * else the environment, else this. What the driver is like in its process, littering and
 * slow in single calls, is only ever said by the environment, and holds for callers with
 * options too: it is for tests, which have daemon and clients under it alike.
 */
#pragma once

#include "kernels/soft/calls.h"
#include "kernels/soft/soft.h"

#include <stdbool.h>
#include <stdint.h>

#define SOFT_DEVICES_MAX 16u
#define SOFT_GRANULARITY (2u << 20) /* of everything about device memory */
#define SOFT_MEMORY_DEFAULT (1ull << 30)

struct options {
	uint32_t devices;
	uint64_t memory;             /* bytes per device, a multiple of the granularity */
	double d2h_gib_s, h2d_gib_s; /* 0: no limit */
	double latency_us;
	bool litter; /* litter.h */
	/* what each call of an entry point takes longer; cuInit only the first in a
	 * process */
	uint32_t slow_us[CALLS];
};

/* What given and the environment (HBM_SOFT) make of the defaults; -EINVAL. */
int options_resolve(struct options *out, const struct driver_soft_options *given);
