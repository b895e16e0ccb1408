/* SPDX-License-Identifier: Apache-2.0 */
/* place: where the bytes of a block are or will be: a tier and an extent of it. */
#pragma once

#include <stdint.h>

struct tier;

struct place {
	struct tier *tier; /* NULL: nowhere */
	uint32_t unit;     /* the extent's offset in the tier, in EXTENT_UNIT */
};
