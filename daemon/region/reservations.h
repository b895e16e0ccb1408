/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reservations: changes of what sessions have reserved (promise.h), those that wait for
 * memory, and the page where clients read how much there is (memory_page.h).
 *
 * A change may be of several devices; it is made as a whole. One that only reserves less is
 * made at once. One that reserves more and cannot be made may wait. Those that wait are served
 * in the order of their tags:
 *
 * 	tag = max(tag of the one served last, tag of the user's one before) + bytes
 *
 * (Golestani, A self-clocked fair queueing scheme, 1994). So each user has its requests served
 * in the order they came, users have equal shares of the bytes, and each other user is served
 * at most as many bytes before a request as that one is for. None is overtaken on its
 * devices: while one waits, all behind it that are for one of the same devices wait too, and
 * so does what comes meanwhile, or a large one would wait forever behind small ones. Requests
 * for other devices go past it, which is why this is no fair_queue.h.
 *
 * What waits is looked at from the top of the loop after a change of a pool. The
 * caller limits how many wait, and how long.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/loop/loop.h"
#include "daemon/region/memory_page.h"

#include <hbm/wire.h>

struct devices;
struct regions;
struct reservations;

struct reservation {
	struct regions *regions; /* the session's */
	uint64_t user;
	const struct hbm_wire_reserve_change *changes; /* each of another device that exists */
	uint32_t count;
	bool brief; /* it waits for what is idle only (reservations_may_come) */
	/* It waits no longer: HBM_OK; HBM_LIMIT: the session's user has as much as it may, or its
	 * tenant of one device;
	 * HBM_NO_SPACE: it is brief, and nothing idle is left; or what reservations_end_waiting()
	 * was given. May free it. */
	void (*done)(struct reservation *reservation, int status);
	struct list link; /* reservations.c's, as are the following */
	uint64_t tag, more;
};

/* Of all devices, whose pools are open and tell it of changes from now on. Negative errno. */
int reservations_open(struct reservations **out, struct loop *loop, struct devices *devices);
/* Nothing waits any more; the pools are still open. Accepts NULL, returns NULL. */
struct reservations *reservations_close(struct reservations *reservations);
/* Calls it after each change of a pool, until it is NULL. */
void reservations_on_change(struct reservations *reservations,
			    void (*changed)(void *arg, uint32_t device), void *arg);
int reservations_fd(const struct reservations *reservations); /* of the page; borrowed */

/* Makes the change now if that is possible: HBM_OK; HBM_LIMIT, with the bytes in *more that
 * were refused; HBM_NO_SPACE: not now, and never if *more is UINT64_MAX. */
int reservations_make(struct reservations *reservations, struct reservation *reservation,
		      uint64_t *more);
/* The first promise of it whose tenant may not have as much more, *growth, of its device; NULL:
 * there is none. */
const struct promise *reservations_bounded(const struct reservations *reservations,
					   const struct reservation *reservation, uint64_t *growth);
/* Of one that could not be made now: whether memory that is of no client is on its way back to a
 * pool that it is for, and no other waits for that. */
bool reservations_may_come(const struct reservations *reservations,
			   const struct reservation *reservation);
/* Lets one wait that could not be made now. */
void reservations_wait(struct reservations *reservations, struct reservation *reservation);
/* Lets it wait no longer; done() is not called. */
void reservations_leave(struct reservations *reservations, struct reservation *reservation);
/* Lets none wait any longer: done() is called of each, with that status. */
void reservations_end_waiting(struct reservations *reservations, int status);
/* How many wait for more of that device. */
uint64_t reservations_waiting(const struct reservations *reservations, uint32_t device);
