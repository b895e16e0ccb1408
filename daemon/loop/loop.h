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
#include "daemon/loop/event.h"
#include "daemon/loop/loop_turns.h"

struct loop;

enum loop_engine { LOOP_AUTO, LOOP_URING, LOOP_THREADS };

struct loop_options {
	enum loop_engine engine; /* LOOP_AUTO: io_uring if the kernel allows it, else threads */
	/* file operations in flight at once, at least 1; more are queued inside */
	unsigned io_depth;
};

/* Negative errno if no engine works. Signals must be blocked before (the threads
 * inherit the mask). */
int loop_new(struct loop **out, const struct loop_options *options);
/* No file I/O may be in flight. Remaining watches and posts are dropped without calling
 * back. Accepts NULL, returns NULL. */
struct loop *loop_free(struct loop *loop);
const char *loop_engine_name(const struct loop *loop); /* "io_uring" or "threads" */
/* Why LOOP_AUTO did not choose io_uring, a static sentence; NULL if it did. */
const char *loop_fallback_reason(const struct loop *loop);

struct loop_turns loop_turns(const struct loop *loop); /* of the past */

/* Runs until loop_stop(): 0, or negative errno of the engine. May be called again. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop); /* any thread; before loop_run(): it returns at once */
/* Runs all posts, and those they post, without waiting: for the time after loop_run(). */
void loop_flush(struct loop *loop);

/* 0, or negative errno: -EBADF, -EEXIST, -ENOMEM. */
int loop_watch(struct loop *loop, struct watch *watch);
/* Changes the events a watched descriptor is polled for; 0 keeps only errors and
 * hang-ups. */
int loop_rewatch(struct loop *loop, struct watch *watch, uint32_t events);
void loop_unwatch(struct loop *loop, struct watch *watch); /* no-op when not watched */

/* Sets the timer, or moves it; at_ns: as of clock.h. */
void loop_timer_set(struct loop *loop, struct timer *timer, uint64_t at_ns);
void loop_timer_stop(struct loop *loop, struct timer *timer); /* no-op when not set */

void loop_post(struct loop *loop, struct post *post); /* any thread; never fails; order kept */
/* Turns background work on; no-op when it is on. All work of this kind together takes a
 * twentieth of a millisecond of each turn, and one slice at least. */
void loop_background(struct loop *loop, struct background *background);
/* Turns it off; no-op when it is. */
void loop_background_stop(struct background *background);

/* Loop thread. Never fails: errors come through done(). */
void loop_io(struct loop *loop, struct loop_io *io);
