/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fences: the page of 64-bit timelines a session shares with its client, the doorbell the
 * client rings, and the requests that wait until a fence has been reached.
 *
 * The client may write anything to the page at any time, and may do to the doorbell
 * whatever a process can do to an eventfd: the daemon trusts neither beyond "has reached"
 * comparisons and a hint to poll. A GPU that writes a fence does not ring the doorbell, so
 * while a request waits the page is also polled every FENCES_TICK_NS or, once the newest
 * wait has lasted long, each time it has lasted a sixteenth longer. So any number of
 * sessions whose fences never complete do not keep the loop busy, and a completed fence
 * is seen late by at most a sixteenth of the wait.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/loop/loop.h"

#include <stdbool.h>
#include <stdint.h>

#define FENCES_TICK_NS 200000u
#define FENCES_BACKOFF 16 /* one such part of a wait's length passes between two polls */

struct parts;

/* A request that waits until page[slot] >= value. fire() is called on the loop, never
 * from within fences_wait(): HBM_OK once the fence has reached the value, HBM_TIMEOUT
 * after timeout_ns, HBM_CANCELLED when the client cancels the request, HBM_SHUTDOWN when
 * the session ends. */
struct ready_wait {
	struct list link;
	uint64_t id;         /* of the request */
	struct parts *parts; /* that it is one of, or NULL */
	uint32_t slot;
	uint64_t value, since_ns, deadline_ns;
	void (*fire)(struct ready_wait *wait, int status);
	int status; /* the fences' */
};

/* What the end of a request writes: how many of its blocks failed, then the value, so that
 * who sees the value sees the number too. */
struct completion_fence {
	uint32_t slot;        /* HBM_WIRE_NO_FENCE: none */
	uint32_t failed_slot; /* 0: none */
	uint64_t value;
};

struct fences {
	struct loop *loop;
	volatile uint64_t *page; /* HBM_WIRE_FENCES slots */
	int memfd, doorbell;
	struct list waiting; /* of struct ready_wait */
	uint64_t timeout_ns;
	bool ended;
	struct watch rung;
	struct timer tick; /* set while a request waits */
};

int fences_open(struct fences *fences, struct loop *loop, uint64_t timeout_ns); /* negative errno */
/* The same with the page and the doorbell of an earlier daemon, which it consumes on success.
 * -EPROTO: they are none. */
int fences_adopt(struct fences *fences, struct loop *loop, uint64_t timeout_ns, int memfd,
		 int doorbell);
void fences_close(struct fences *fences); /* nothing may wait; accepts a zeroed one */
/* Closes the memfd after it was sent. */
void fences_handed_over(struct fences *fences);
void fences_complete(struct fences *fences, const struct completion_fence *fence, uint64_t failed);
void fences_wait(struct fences *fences, struct ready_wait *wait);
/* Fires the wait of that request (NULL: all waits), and those of these parts, unless that is
 * NULL, with HBM_CANCELLED. False: there was none. */
bool fences_cancel(struct fences *fences, const uint64_t *id, const struct parts *parts);
/* The wait of that request, or NULL. */
const struct ready_wait *fences_find(const struct fences *fences, uint64_t id);
/* Fires all waits, and every later one, with HBM_SHUTDOWN; accepts a zeroed one. */
void fences_end(struct fences *fences);
