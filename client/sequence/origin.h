/* SPDX-License-Identifier: Apache-2.0 */
/* origin: the piece of a block of the cache that a slab is, which the cache has, too. */
#pragma once

#include <hbm/hbm.h>
#include <stdint.h>

struct origin {
	uint32_t ns;
	uint32_t closes;        /* hbm->closes of that number: others mean another namespace */
	uint32_t piece, pieces; /* of the block; pieces 0: there is no origin */
	hbm_key key;
};
