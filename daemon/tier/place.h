/* SPDX-License-Identifier: Apache-2.0 */
/* place: where the bytes of a block are, or are to be: a slot of a tier. */
#pragma once

#include <stdint.h>

struct tier;

struct place {
	struct tier *tier; /* NULL: nowhere */
	uint32_t unit;     /* where in the tier, in EXTENT_UNIT */
};
