/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/tier_resize.h"

#include <assert.h>

/* A part of the tier, or all of it: [begin, end), of which so many bytes have been grown. */
struct part {
	uint64_t begin, end, bytes;
};

static struct part tier_resize_part(const struct tier *tier, uint32_t i)
{
	struct part part = {.end = EXTENT_END};
	uint64_t from, bytes;

	if (tier->part_count > 0)
		part.begin = tier->parts[i].begin;
	if (i + 1 < tier->part_count)
		part.end = tier->parts[i + 1].begin;

	for (uint32_t n = 0; extent_piece(tier->extents, n, &from, &bytes); n++) {
		uint64_t low = from > part.begin ? from : part.begin;
		uint64_t high = from + bytes < part.end ? from + bytes : part.end;

		part.bytes += high > low ? high - low : 0;
	}

	return part;
}

static uint64_t tier_resize_grown(const struct tier *tier)
{
	uint64_t from, bytes, sum = 0;

	for (uint32_t n = 0; extent_piece(tier->extents, n, &from, &bytes); n++)
		sum += bytes;

	return sum;
}

/* Keeps the lowest `keep` bytes of a part. */
static void tier_resize_keep(struct tier *tier, const struct part *part, uint64_t keep)
{
	uint64_t from, bytes;

	for (uint32_t n = 0; extent_piece(tier->extents, n, &from, &bytes); n++) {
		uint64_t low = from > part->begin ? from : part->begin;
		uint64_t high = from + bytes < part->end ? from + bytes : part->end;
		if (low >= high)
			continue;

		uint64_t kept = high - low < keep ? high - low : keep;
		int r = 0;

		keep -= kept;
		if (kept > 0)
			r = extent_recall(tier->extents, low, kept);
		if (r == 0 && low + kept < high)
			r = extent_retire(tier->extents, low + kept, high - low - kept);
		assert(r == 0); /* of each part one range of each piece is retired, at most */
	}
}

uint64_t tier_retire_to(struct tier *tier, uint64_t bytes)
{
	uint32_t count = tier->part_count > 0 ? tier->part_count : 1;
	uint64_t grown = tier_resize_grown(tier), left = bytes < grown ? bytes : grown;
	uint64_t before = grown;

	for (uint32_t i = 0; i < count; i++) {
		struct part part = tier_resize_part(tier, i);
		/* its share of what is left for it and those that follow */
		uint64_t share = before == 0 ? 0
					     : (uint64_t)((unsigned __int128)left * part.bytes /
							  before / EXTENT_UNIT * EXTENT_UNIT);

		if (i + 1 == count || share > left)
			share = left;
		tier_resize_keep(tier, &part, share);
		if (tier->part_count > 0)
			tier->parts[i].bytes = share;
		left -= share;
		before -= part.bytes;
	}

	return bytes < grown ? 0 : bytes - grown;
}

bool tier_sort_some(struct tier *tier, uint32_t max)
{
	bool more = extent_sort_some(tier->extents, max);

	tier_set_usable(tier);
	tier_serve(tier);

	return more;
}

uint64_t tier_in_service(const struct tier *tier)
{
	return extent_capacity(tier->extents) - extent_retiring(tier->extents);
}

uint64_t tier_retired_failed(const struct tier *tier)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < tier->out.count; i++)
		bytes += extent_retired_of(tier->extents, tier_offset(tier->out.list[i].unit),
					   tier->out.list[i].bytes);

	return bytes + tier->out.unknown;
}

int tier_cut(struct tier *tier, uint64_t from, uint64_t bytes)
{
	int r = extent_cut(tier->extents, from, bytes);

	tier_set_usable(tier);

	return r;
}
