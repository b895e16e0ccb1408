/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slice: a piece of long work on the loop thread. The work counts what it does in units
 * of about the same cost (a key, a block, a step up a chain) and stops between two of
 * them when the slice is over; it goes on in a later one. A slice is as long as it says
 * and what SLICE_UNITS units take: the clock is not read more often.
 */
#pragma once

#include "daemon/base/clock.h"

#include <stdbool.h>
#include <stdint.h>

#define SLICE_UNITS 4

struct slice {
	uint64_t until_ns; /* of clock.h; UINT64_MAX: it never ends */
	unsigned units;
};

/* Whether the work has to stop now, after a unit that is as large as several. */
static inline bool slice_is_past(const struct slice *slice)
{
	return slice->until_ns != UINT64_MAX && clock_now() >= slice->until_ns;
}

/* Counts one unit that has been done. Whether the work has to stop now. */
static inline bool slice_is_over(struct slice *slice)
{
	return ++slice->units % SLICE_UNITS == 0 && slice_is_past(slice);
}
