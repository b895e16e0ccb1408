/* SPDX-License-Identifier: Apache-2.0 */
/* resize_backing: the memory of a kind of tier, for resize.c: how it grows and goes back. */
#pragma once

#include "daemon/base/reason.h"
#include "daemon/serve/hbmd.h"
#include "daemon/tier/tier.h"

struct resize_backing {
	/* Whether the tier may have so many bytes, for which it lacks so many bytes of extents now:
	 * HBM_OK, or a status and a reason. */
	int (*check)(struct hbmd *hbmd, const struct tier *tier, uint64_t bytes, uint64_t lacking,
		     const struct reason *why);
	/* Adds memory for so many bytes of extents in the background, or as much as there is. */
	void (*grow)(struct hbmd *hbmd, struct tier *tier, uint64_t bytes);
	/* Whether nothing is being added, at the start or later. */
	bool (*is_settled)(const struct hbmd *hbmd, const struct tier *tier);
	/* Whether what was begun last takes too long, and is not waited for. NULL: that is not so. */
	bool (*is_late)(const struct hbmd *hbmd);
	/* Gives back the memory of what is away: given_back() is called once, maybe from within. */
	void (*give_back)(struct hbmd *hbmd, struct tier *tier, void (*given_back)(void *arg),
			  void *arg);
};

/* NULL: such a tier cannot be resized. */
const struct resize_backing *resize_backing_of(const struct tier *tier);
