/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bad_extents: the extents of a tier that could not be read, by their units. One failed read
 * may be the sector's last: the disk puts another in its place when it is written. So an
 * extent is bad after its second failed read, and is taken out when its block leaves it.
 *
 * It remembers the last BAD_EXTENTS_MAX: of more, the oldest are forgotten, which costs one
 * more failed read each.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { BAD_EXTENTS_MAX = 64 };

struct bad_extents {
	struct bad_extent {
		uint32_t unit, reads; /* that failed; 0: none */
	} list[BAD_EXTENTS_MAX];
	unsigned next;
	unsigned count; /* of those that are bad */
};

void bad_extents_read_failed(struct bad_extents *bad, uint32_t unit);
/* Whether the extent is bad, and forgets it. */
bool bad_extents_take(struct bad_extents *bad, uint32_t unit);
