/* SPDX-License-Identifier: Apache-2.0 */
/* shares: see shares.h. */
#include "client/sequence/shares.h"

#include <stdlib.h>

void hbm_shares_begin(struct shares *shares)
{
	shares->count = 0;
	shares->slabs = 0;
	shares->failed = false;
}

static bool shares_make_room(struct shares *shares)
{
	if (shares->count < shares->room)
		return true;

	const size_t room = shares->room ? 2 * shares->room : 64;
	struct hbm_share *list = realloc(shares->list, room * sizeof(*list));
	if (!list) {
		shares->failed = true;
		return false;
	}

	shares->list = list;
	shares->room = room;

	return true;
}

static bool shares_go_on(const struct hbm_share *last, const struct hbm_share *share)
{
	return last->source == share->source && last->target == share->target &&
	       last->loan == share->loan && last->flags == share->flags &&
	       last->source_offset + last->bytes == share->source_offset &&
	       last->target_offset + last->bytes == share->target_offset;
}

void hbm_shares_add(struct shares *shares, const struct hbm_share *share)
{
	struct hbm_share *last = shares->count ? &shares->list[shares->count - 1] : NULL;

	if (last && shares_go_on(last, share))
		last->bytes += share->bytes;
	else if (shares_make_room(shares))
		shares->list[shares->count++] = *share;
}

void hbm_shares_clear(struct shares *shares)
{
	free(shares->list);
	*shares = (struct shares){0};
}
