/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop: the one event loop. It waits for descriptors, timers, completions of file I/O and
 * work posted by other threads, and calls back on the loop thread, which owns all of the
 * daemon's state; nothing here needs a lock but loop_post(). Two engines, the same calls:
 * io_uring (polls and file I/O on one ring), and, where io_uring is not allowed, epoll with
 * a few pread/pwrite threads.
 *
 * It does not interpret descriptors or bytes. It does not handle short or failed I/O
 * either: it passes on raw results (nvme_io.c handles them).
 *
 * Nothing that the current batch of events refers to is freed during it: after loop_unwatch()
 * or loop_timer_stop() returns, the callback is never called again and the caller may
 * free the object at once.
 *
 * All calls but loop_post() and loop_stop() belong to one thread, the one that calls
 * loop_run(); before the first loop_run() they may be made from the thread that makes the
 * loop.
 */
#pragma once

#include "daemon/base/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct loop;

enum loop_engine { LOOP_AUTO, LOOP_URING, LOOP_THREADS };

struct loop_options {
	enum loop_engine engine; /* LOOP_AUTO: io_uring if the kernel lets us, else threads */
	/* file operations in flight at once, at least 1; more are queued inside */
	unsigned io_depth;
};

/* A watched descriptor: level-triggered, like poll(2). It is borrowed and must stay open
 * while watched. It must be pollable: regular files are not. Zero all members that are
 * not set. */
struct watch {
	int fd;
	uint32_t events; /* POLLIN, POLLOUT; POLLERR and POLLHUP always */
	void (*ready)(struct watch *watch, uint32_t events);
	void *private; /* the loop's */
};

/* Fires once at or after its time; may be set again from its own callback. */
struct timer {
	void (*fire)(struct timer *timer);
	uint64_t at_ns;  /* CLOCK_MONOTONIC; the loop's */
	size_t position; /* the loop's: index in its heap + 1, 0 when not set */
};

/* Work posted to the loop thread from any thread. The object is the caller's and is in
 * use until run() is called. */
struct post {
	void (*run)(struct post *post);
	struct post *next; /* the loop's */
};

/* One read or write at an offset. All members but the last three are the caller's and
 * stay valid until done(), which is never called from within loop_io(). At most IOV_MAX
 * pieces. */
struct loop_io {
	bool write;
	int fd;
	uint64_t offset;
	const struct iovec *iov;
	unsigned iov_count;
	void (*done)(struct loop_io *io);
	int64_t result;       /* bytes moved, maybe fewer than asked, or negative errno */
	struct loop_io *next; /* the loop's */
	struct loop *loop;    /* the loop's */
};

/* Negative errno if no engine can be opened. Signals must be blocked before (the threads
 * inherit the mask). */
int loop_new(struct loop **out, const struct loop_options *options);
/* No file I/O may be in flight. Remaining watches and posts are dropped without calling
 * back. Accepts NULL, returns NULL. */
struct loop *loop_free(struct loop *loop);
const char *loop_engine_name(const struct loop *loop); /* "io_uring" or "threads" */
/* Why LOOP_AUTO did not choose io_uring, a static sentence; NULL if it did. */
const char *loop_fallback_reason(const struct loop *loop);

/* Runs until loop_stop(): 0, or negative errno of the engine. May be called again. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop); /* any thread; before loop_run(): it returns at once */
/* Runs all posts, and those they post, without waiting: for the time after loop_run(). */
void loop_flush(struct loop *loop);

int loop_watch(struct loop *loop,
	       struct watch *watch); /* 0 or negative errno: -EBADF, -EEXIST, -ENOMEM */
/* Changes the events a watched descriptor is polled for; 0 keeps only errors and
 * hang-ups. */
int loop_rewatch(struct loop *loop, struct watch *watch, uint32_t events);
void loop_unwatch(struct loop *loop, struct watch *watch); /* no-op when not watched */

int loop_timer_set(struct loop *loop, struct timer *timer,
		   uint64_t at_ns); /* of clock.h; sets or moves; -ENOMEM */
void loop_timer_stop(struct loop *loop, struct timer *timer); /* no-op when not set */
static inline bool timer_is_set(const struct timer *timer)    /* and has not fired since */
{
	return timer->position != 0;
}

void loop_post(struct loop *loop, struct post *post); /* any thread; never fails; order kept */
void loop_io(struct loop *loop,
	     struct loop_io *io); /* loop thread; never fails: errors come through done() */
