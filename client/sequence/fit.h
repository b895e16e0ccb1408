/* SPDX-License-Identifier: Apache-2.0 */
/* fit: whether a layout is the part of another that a slice says. */
#pragma once

#include "client/sequence/reshape.h"

#include <hbm/saved.h>

struct hbm_pool;

/* layout: the target's. slice: NULL: all. HBM_INVALID, with a line that names both layouts. */
int hbm_fit_check(struct hbm_pool *pool, const struct hbm_layout *layout,
		  const struct hbm_layout *saved, const struct hbm_slice *slice,
		  struct slice *part);
