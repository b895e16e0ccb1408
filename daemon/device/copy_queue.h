/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_queue: a thread and streams that copy for one device in one direction. Copies are
 * issued in batches, and several batches are in flight at once, so that the copy engine
 * does not wait for the thread.
 *
 * Copies take turns between those who pay for them (fair_queue.h), and a large one is
 * issued in pieces, between which others have their turn (copy_piece.h). How pieces become
 * calls of the driver: copy_issue.h.
 *
 * Urgent copies, those a request waits for, go first, except that every eighth piece is
 * not urgent, so that eviction never stops. They have a stream of their own, on which no
 * others stand before them. What has been issued to a stream cannot be passed there: it is
 * bounded by `in_flight` and one batch more, counted at the cost of pieces, and by
 * COPY_DIRECT_IN_FLIGHT of what the loop has issued. The order of copies is not guaranteed. A copy that fails does not fail others.
 *
 * What happens when the driver fails: copy_stream.h.
 *
 * The thread makes the calls of the driver. Even one that is said to be asynchronous takes
 * locks of the driver that another call may hold for as long as it likes (a registration of
 * host memory, an unmapping), and waits when the device's queue is full: if the loop made
 * it, a client would wait for what others do. Only where no other thread of the daemon is
 * in such a call, and little is in flight, the loop issues a small urgent copy itself, if
 * none waits for its turn (copy_direct.h).
 *
 * With nothing in flight the thread sleeps until something is posted. Otherwise it asks
 * whether the oldest batch is done, for as long as a sleep would cost, and then sleeps for an
 * eighth of the time that the batch has taken so far, or until something is posted, which is
 * issued at once. One look when it wakes ends all batches that are done by then. An
 * interrupt for each would not come sooner when copies are small, nor cost less; and a thread
 * that waits for one can do nothing else.
 */
#pragma once

#include "daemon/base/link_stats.h"
#include "daemon/device/copy.h"
#include "daemon/device/copy_issue.h"
#include "daemon/device/device.h"
#include "daemon/loop/loop.h"

struct copy_queue;

struct copy_queue_options {
	struct loop *loop;
	struct link_stats *link_stats;
	struct copy_issue_options issue;
	uint64_t in_flight; /* no batch is begun with so much in flight on its stream */
	uint64_t direct;    /* bytes of a copy that the loop may issue; 0: it issues none */
	uint64_t direct_ns; /* that a call of its own may take: COPY_DIRECT_NS */
};

int copy_queue_new(struct copy_queue **out, struct device *device, enum copy_direction kind,
		   const struct copy_queue_options *options);
struct device *copy_queue_device(const struct copy_queue *queue);
struct copy_queue *copy_queue_free(struct copy_queue *queue); /* nothing may be in flight */
/* Sets the function to call on the loop thread after the done() calls of a batch. */
void copy_queue_on_batch(struct copy_queue *queue, void (*batch_done)(void *arg), void *arg);
void copy_queue_post(struct copy_queue *queue, struct copy *copy,
		     bool urgent); /* loop thread; never fails */
/* A request waits for it now: what is still queued of it becomes urgent, in that payer's
 * turns. Loop thread, before done(). */
void copy_queue_hasten(struct copy_queue *queue, struct copy *copy, struct fair_payer payer);
