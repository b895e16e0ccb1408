/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_direct: small copies that the loop gives to the driver itself, on a stream of their own
 * (copy_queue.h says when). Handing them to the queue's thread costs two threads that wake
 * each other, which for 64 KiB is more than the copy.
 *
 * The loop must not wait for the driver. A copy to or from registered memory is put into a
 * queue of the hardware by the calling process, without the kernel; the call waits for the
 * locks of its context, and for room when that queue is full. So the loop makes it only
 *
 * 	- when no other thread of the daemon is within a call that could hold such a lock:
 * 	  it gets both gates (struct device) at once, or lets it be;
 * 	- when what the daemon has in flight on the link is at most COPY_DIRECT_IN_FLIGHT: by
 * 	  what pieces cost (copy_piece.h) that is some 250 calls, where a queue of the
 * 	  hardware is taken to have room for about a thousand;
 * 	- of at most `most` bytes and COPY_DIRECT_SPANS spans;
 * 	- while the device is not lost.
 *
 * What a driver waits for otherwise is not known: what other processes do in the kernel should
 * not reach such a call, but nothing promises it. So each is timed. After one of more than
 * COPY_DIRECT_NS the loop makes none on the link for COPY_DIRECT_PAUSE times as long:
 * of the loop's time at most a hundredth is lost. A call in which others ran and the thread
 * did not sleep, as the kernel counts, is not the driver's doing.
 *
 * The loop asks at once whether the copy is over, then in each turn, with others' turns
 * between, and for as long as a sleep would cost. What is not over by then, and what the
 * driver fails to tell the end of, which needs a call that waits, it hands over: the stream
 * belongs to the queue's thread until nothing is in flight there.
 */
#pragma once

#include "daemon/device/copy_stream.h"
#include "daemon/loop/event.h"

#define COPY_DIRECT_SPANS 8u
#define COPY_DIRECT_IN_FLIGHT (1ull << 20) /* the cost */
#define COPY_DIRECT_NS UINT64_C(200000)    /* a call takes a few microseconds */
#define COPY_DIRECT_PAUSE 100u

struct copy_direct {
	/* set before it is opened */
	struct copy_stream stream;
	struct loop *loop;
	uint64_t slow_ns;                           /* COPY_DIRECT_NS, but for tests */
	uint64_t most;                              /* bytes of a copy; 0: none goes this way */
	void (*handed)(struct copy_direct *direct); /* tells the queue's thread */
	/* the rest is copy_direct.c's */
	struct copy_issue issue; /* the stream's */
	struct background poll;
	uint64_t paused_until_ns;
	bool slow; /* that has been said */
	bool lent; /* the stream is the thread's; atomic */
};

/* Opens the stream, where the context is current. */
CUresult copy_direct_open(struct copy_direct *direct, enum copy_direction kind,
			  const struct copy_issue_options *options);
void copy_direct_close(struct copy_direct *direct); /* also when opening failed */
/* The loop thread. Issues a copy whose first piece is all of it, and returns true; false: the
 * loop may not issue it now. `cost` is what the queue's other streams have in flight. */
bool copy_direct_issue(struct copy_direct *direct, struct copy *copy, uint64_t cost);
/* The queue's thread. Whether the stream is its own: it reaps it until it is not. */
bool copy_direct_is_lent(const struct copy_direct *direct);
bool copy_direct_reap(struct copy_direct *direct);
