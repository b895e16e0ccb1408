/* SPDX-License-Identifier: Apache-2.0 */
/*
 * late_extents: the extents of a tier that a copy may still read or write although its end
 * will not be known, by their units: a device failed while the copy was in flight. They are
 * taken out of service when their blocks leave them.
 *
 * Where one cannot be remembered, every extent that is freed from then on counts as late.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct late_extents {
	uint32_t *units; /* [count], in no order */
	size_t count, capacity;
	bool all;
};

void late_extents_add(struct late_extents *late, uint32_t unit);
/* Whether the extent is late, and forgets it. */
bool late_extents_take(struct late_extents *late, uint32_t unit);
void late_extents_clear(struct late_extents *late);
