/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parking: many descriptors that are kept (keep.h) behind few. A descriptor in a message that
 * lies unread in a socket stays open as long as the socket does; so two ends of a socket pair
 * are kept, and what is parked lies between them, a message each. A pair is a group of a fixed
 * size, so that dropping one descriptor moves few others.
 *
 * 	in ──send──> [id, fd] [id, fd] ... [id, fd] ──receive──> out	both ends are kept
 *
 * A drop rotates its group until what it drops is first: the first message is sent again, from a
 * copy, and only then received. A process that is killed between any two instructions thus
 * leaves a message twice, and loses none; what is there twice, by its id, is dropped when
 * the next daemon opens the parking.
 *
 * A group is kept before it is needed: while one is half full, another is on its way to the
 * manager. So nothing waits for the manager's answer, unless that takes longer than to fill half a
 * group; then it is waited for, five seconds at most.
 *
 * Descriptors that lie in sockets count against RLIMIT_NOFILE of their user, apart from open
 * ones. Where what is kept would not come back, nothing is parked: parking_put() succeeds and
 * has done nothing. One thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define PARKING_GROUP 64 /* descriptors; a socket buffer of the usual size has room for 200 */

enum parking_kind { PARK_SLAB = 1, PARK_FENCE, PARK_DOORBELL, PARK_GUEST, PARK_TIER };

/* The number is below 2^56, and there is one descriptor of a kind and number. */
static inline uint64_t parking_id(enum parking_kind kind, uint64_t number)
{
	return (uint64_t)kind << 56 | number;
}

struct parking;

/* With what an earlier daemon has parked. Negative errno. */
int parking_open(struct parking **out);
/* What is parked stays so. */
struct parking *parking_close(struct parking *parking);

/* Parks a descriptor, which stays the caller's, under an id that has none. When it returns 0 the
 * next daemon gets it. -ENOSPC: the manager keeps no more groups; -ETOOMANYREFS, -ENOMEM,
 * -EMFILE: the limits of this process; or as keep_put_pair(). */
int parking_put(struct parking *parking, uint64_t id, int fd);
/* Nothing, where none has that id. Where this process is out of descriptors at the moment, it
 * is dropped with a later one. */
void parking_drop(struct parking *parking, uint64_t id);
/* The same in one pass for each group. */
void parking_drop_many(struct parking *parking, const uint64_t *ids, size_t count);

/* The descriptor that came back with that id, the caller's, and still parked; -1: there is none,
 * or it was claimed. */
int parking_claim(struct parking *parking, uint64_t id);
/* What came back and was not claimed is dropped. Returns how many. */
size_t parking_let_go(struct parking *parking);
size_t parking_count(const struct parking *parking);
