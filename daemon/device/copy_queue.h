/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_queue: a thread and a stream that copy for one device in one direction. Copies are
 * issued in batches, and several batches are in flight at once, so that the copy engine
 * does not wait for the thread.
 *
 * Copies take turns between those who pay for them (fair_queue.h), and a large one is
 * issued in pieces, between which others have their turn (copy_piece.h). How pieces become
 * calls of the driver: copy_issue.h. What has been
 * issued cannot be passed: it is less than 10 MiB, counted at the cost of pieces, in at
 * most 8 batches.
 *
 * Urgent copies, those a request waits for, go first, except that every eighth piece is
 * not urgent, so that eviction never stops. The order of copies is not guaranteed. A copy
 * that fails does not fail others.
 *
 * When the driver fails to say that copies have ended, they are late: it may write their
 * targets and read their sources at any time, so that neither may be used again. A sticky
 * error says so: it has ended all work of the context.
 *
 * With copies in flight the thread of a real device spins: its events are created without
 * blocking sync, which would cost an interrupt for each batch. With none in flight it
 * sleeps.
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
};

int copy_queue_new(struct copy_queue **out, struct device *device, enum copy_direction kind,
		   const struct copy_queue_options *options);
struct copy_queue *copy_queue_free(struct copy_queue *queue); /* nothing may be in flight */
/* Sets the function to call on the loop thread after the done() calls of a batch. */
void copy_queue_on_batch(struct copy_queue *queue, void (*batch_done)(void *arg), void *arg);
void copy_queue_post(struct copy_queue *queue, struct copy *copy,
		     bool urgent); /* loop thread; never fails */
/* A request waits for it now: what is still queued of it becomes urgent, in that payer's
 * turns. Loop thread, before done(). */
void copy_queue_hasten(struct copy_queue *queue, struct copy *copy, struct fair_payer payer);
