/* SPDX-License-Identifier: Apache-2.0 */
/*
 * left_extents: the extents of a tier that blocks have left for others of the same tier, and that a
 * record on the disk still names (daemon/catalog/). After a crash the blocks are found there: until
 * the records say otherwise, and are flushed, the extents count as moving, and nothing uses them.
 *
 * Who keeps the records opens them, and is told of each; a tier without records has none. They are
 * given back in the order in which they came, the first first.
 */
#pragma once

#include "daemon/base/fair_queue.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEFT_EXTENTS_MOST 1024u /* at a time: then no other move begins */

struct left_extent {
	uint32_t unit;
	bool wipe; /* its bytes are overwritten before it is free */
	uint64_t bytes;
	struct fair_payer payer; /* of that */
};

struct left_extents {
	struct left_extent *list; /* a ring of LEFT_EXTENTS_MOST; NULL: there are no records */
	uint32_t first, count;
	uint64_t bytes;
	bool failing;            /* the records cannot be flushed at present */
	void (*left)(void *arg); /* called for each, afterwards */
	void *arg;
};

int left_extents_open(struct left_extents *left, void (*call)(void *arg), void *arg); /* -ENOMEM */
void left_extents_close(struct left_extents *left); /* what is in them is forgotten */
/* Whether `moves` more may come. */
bool left_extents_have_room(const struct left_extents *left, uint64_t moves);
void left_extents_add(struct left_extents *left, const struct left_extent *extent);
/* The first one; false: there is none. */
bool left_extents_take(struct left_extents *left, struct left_extent *extent);
/* Whether one of them is to be overwritten. */
bool left_extents_have_wiped(const struct left_extents *left);
