/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timeline: how busy each link was in each of `width` equal slices of time. A link is
 * busy while at least one of its movements is in flight, so overlapping movements count
 * once.
 */
#pragma once

#include <hbm/wire.h>
#include <stddef.h>
#include <stdint.h>

struct timeline {
	uint64_t start_ns, end_ns;
	size_t width;
	double *busy; /* [link * width + slice], 0..1 */
};

/*
 * From `count` intervals in any order, which are sorted in place. last_ns: only so much
 * before the latest end; 0: all. 0 and *out, to be freed with timeline_clear(); -ENODATA:
 * there are no intervals; -ENOMEM.
 */
int timeline_make(struct hbm_wire_interval *intervals, size_t count, uint64_t last_ns, size_t width,
		  struct timeline *out);
void timeline_clear(struct timeline *timeline);
double timeline_busy(const struct timeline *timeline, uint32_t link, size_t slice);
