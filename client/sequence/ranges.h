/* SPDX-License-Identifier: Apache-2.0 */
/* ranges: the ranges of a request in the making. Its array is kept for the next one. */
#pragma once

#include <hbm/hbm.h>

struct ranges {
	struct hbm_range *list;
	size_t count, room;
	uint64_t bytes; /* of all */
	bool failed;    /* there was no memory for one: the request must not be sent */
};

void hbm_ranges_begin(struct ranges *ranges);
/* Adds a range; joins it to the last one where that ends. 0 bytes: nothing. */
void hbm_ranges_add(struct ranges *ranges, struct hbm_region *region, uint64_t offset,
		    uint64_t bytes);
void hbm_ranges_clear(struct ranges *ranges);
