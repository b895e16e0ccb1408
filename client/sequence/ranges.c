/* SPDX-License-Identifier: Apache-2.0 */
/* ranges: see ranges.h. */
#include "client/sequence/ranges.h"

#include <stdlib.h>

void hbm_ranges_begin(struct ranges *ranges)
{
	ranges->count = 0;
	ranges->bytes = 0;
	ranges->failed = false;
}

static bool ranges_make_room(struct ranges *ranges)
{
	if (ranges->count < ranges->room)
		return true;

	const size_t room = ranges->room ? 2 * ranges->room : 64;
	struct hbm_range *list = realloc(ranges->list, room * sizeof(*list));
	if (!list) {
		ranges->failed = true;
		return false;
	}

	ranges->list = list;
	ranges->room = room;

	return true;
}

void hbm_ranges_add(struct ranges *ranges, struct hbm_region *region, uint64_t offset,
		    uint64_t bytes)
{
	if (bytes == 0)
		return;

	struct hbm_range *last = ranges->count ? &ranges->list[ranges->count - 1] : NULL;

	if (last && last->region == region && last->offset + last->bytes == offset) {
		last->bytes += bytes;
	} else {
		if (!ranges_make_room(ranges))
			return;
		ranges->list[ranges->count++] = (struct hbm_range){region, offset, bytes};
	}
	ranges->bytes += bytes;
}

void hbm_ranges_clear(struct ranges *ranges)
{
	free(ranges->list);
	*ranges = (struct ranges){0};
}
