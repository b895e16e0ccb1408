/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link: what copies between a host and a device are measured with: pinned memory and a slab
 * for each direction, and a stream for each.
 */
#pragma once

#include "tests/gpu/rig.h"

#include <stdbool.h>

#define LINK_SPAN (128 * MIB) /* of host and of device memory, for each direction */

struct link {
	const struct rig *rig;
	struct slab_map down, up; /* read from, written to */
	char *host;               /* LINK_SPAN to write to, LINK_SPAN to read from */
	CUstream streams[2];      /* D2H, H2D */
};

/* False: something was refused, which costs_blame() has. What is there is to be closed. */
bool link_open(struct link *link);
void link_close(struct link *link);
