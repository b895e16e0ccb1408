/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fences: the page of 64-bit timelines a session shares with its client, the doorbell the
 * client rings, and the requests that wait until a fence has been reached.
 *
 * The client may write anything there at any time, and may do to the doorbell whatever a
 * process can do to an eventfd it has: nothing here trusts either beyond "has reached"
 * comparisons and a hint that it is time to look. A fence written by a GPU rings no bell,
 * so while something waits the page is looked at every FENCES_TICK_NS as well, or, once
 * the newest wait has lasted long, each time it has lasted a sixteenth longer: sessions
 * whose fences never come, however many, do not keep the loop busy, and a fence is seen
 * at most a sixteenth of its time late.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/loop/loop.h"

#include <stdbool.h>
#include <stdint.h>

#define FENCES_TICK_NS 200000u
#define FENCES_BACKOFF 16 /* the share of a wait's length that passes between two looks */

/* A request that waits until page[slot] >= value. fire() is called on the loop, never
 * from within the call that made it wait: HBM_OK as soon as that is so, HBM_TIMEOUT after
 * timeout_ns, HBM_CANCELLED when the client takes the request back, HBM_SHUTDOWN when
 * the session is over. */
struct ready_wait {
	struct list link;
	uint64_t id; /* of the request */
	uint32_t slot;
	uint64_t value, since_ns, deadline_ns;
	void (*fire)(struct ready_wait *wait, int status);
	int status; /* the fences' */
};

struct fences {
	struct loop *loop;
	volatile uint64_t *page; /* HBM_WIRE_FENCES slots */
	int memfd, doorbell;
	struct list waiting; /* of struct ready_wait */
	uint64_t timeout_ns;
	bool ended;
	struct watch rung;
	struct timer tick; /* always set, so that setting it again cannot fail */
};

int fences_open(struct fences *fences, struct loop *loop, uint64_t timeout_ns); /* negative errno */
void fences_close(struct fences *fences); /* nothing may wait; takes a zeroed one */
/* The memfd has been handed over: it need not be kept. */
void fences_handed_over(struct fences *fences);
void fences_set(struct fences *fences, uint32_t slot,
		uint64_t value); /* HBM_WIRE_NO_FENCE: nothing */
void fences_wait(struct fences *fences, struct ready_wait *wait);
/* Fires the waits of that request, NULL: all there are, with HBM_CANCELLED. False: there
 * was none. */
bool fences_cancel(struct fences *fences, const uint64_t *id);
/* Fires all waits, and every later one, with HBM_SHUTDOWN. */
void fences_end(struct fences *fences);
