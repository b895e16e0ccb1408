/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parts: a STORE or LOAD that is larger than a message comes as several requests, its parts:
 * all but the last have HBM_WIRE_MORE. Each is checked, begun and answered as a request of
 * its own; what they have together are their fences, which are set when the last of them to
 * end has ended, and that one CANCEL is for all of them.
 *
 * They are joined as they are read, before anything can refuse or cancel one: so a part that
 * never arrives at its handler is counted, too. Once one of them waits for its fence no longer, none is
 * cancelled: those before it may have ended. What is not well-formed is no part; where it would
 * have been the last, there are no more.
 */
#pragma once

#include "daemon/session/fences.h"

#include <hbm/wire.h>
#include <stdbool.h>
#include <stdint.h>

struct parts {
	uint32_t refs;    /* its requests, and the session while more of them follow */
	uint32_t running; /* requests that have not ended */
	uint64_t failed;  /* blocks of those that have */
	bool whole;       /* the last of them has come */
	bool begun;       /* one of them waits for its fence no longer */
	struct completion_fence fence;
};

struct completion_fence parts_fence(const struct hbm_wire_blocks *message);
/* For a STORE or LOAD that was read, where *open are those that it may belong to, or NULL.
 * HBM_OK, and its parts, referenced, in *joined: NULL: it is whole by itself. HBM_INVALID: its
 * fences are not theirs. HBM_LIMIT: no memory. */
int parts_join(struct parts **open, const struct hbm_wire_blocks *message, struct parts **joined);
/* One waits for its fence no longer. Takes NULL. And: whether one of them has begun; NULL: false. */
void parts_begin(struct parts *parts);
bool parts_have_begun(const struct parts *parts);
/* One has ended, so many of its blocks have failed. True: it was the last, and *failed is now
 * the number of all. NULL: one that is whole by itself. */
bool parts_end_one(struct parts *parts, uint64_t *failed);
/* The last of those that are open has come, and was none; it counts as a block that failed. True:
 * all others have ended, and *failed is the number of all. */
bool parts_cut(struct parts *open, uint64_t *failed);
struct parts *parts_ref(struct parts *parts);   /* takes NULL */
struct parts *parts_unref(struct parts *parts); /* takes and returns NULL */
