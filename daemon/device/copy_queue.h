/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_queue: a thread and a stream that copy for one device in one direction. Copies are
 * issued in batches, and several batches are in flight at once, so that the copy engine
 * does not wait for the thread.
 *
 * Copies take turns between those who pay for them (fair_queue.h), and a large one is
 * issued in pieces, between which others have their turn (copy_piece.h). What has been
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

#include "daemon/base/fair_queue.h"
#include "daemon/base/link_stats.h"
#include "daemon/device/copy_piece.h"
#include "daemon/device/device.h"
#include "daemon/loop/loop.h"

enum copy_direction { COPY_D2D, COPY_D2H, COPY_H2D };

/*
 * Copies one block's bytes between scattered device memory (spans, in order) and one flat
 * range of device memory (D2D) or of host memory. Without spans nothing is copied.
 */
struct copy {
	struct fair_payer payer;
	const struct span *spans;
	uint32_t span_count;
	bool gather;   /* D2D: spans -> flat; D2H always gathers, H2D always scatters */
	uint64_t flat; /* D2D: device address */
	char *host;    /* else: host address */
	uint64_t bytes;
	int status;                      /* HBM_OK, HBM_DEVICE */
	bool late;                       /* it failed, and may go on for all that is known */
	void (*done)(struct copy *copy); /* on the loop thread */
	/* the rest is the queue's */
	struct fair_item item;
	struct copy_piece piece; /* the next one */
	bool queued, urgent;
	struct post post;
};

struct copy_queue;

struct copy_queue_options {
	struct loop *loop;
	struct link_stats *link_stats;
	/* host memory is registered in pieces of this size, counted from ddr_base: no
	 * single device copy crosses from one to the next */
	uint64_t host_chunk;
	const char *ddr_base;
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
