/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_engine: what loop.c asks of an engine. An engine waits, and calls back for
 * descriptors and file I/O; timers, posts and stopping are loop.c's. Only loop.c and the
 * engines include this.
 *
 * Sleeping and waking: the loop sets `asleep`, then looks at its posts, then waits.
 * A poster pushes first and looks at `asleep` second. All four accesses are
 * sequentially consistent, so at least one of the two sees the other, and a wake-up costs
 * a system call only when the loop sleeps or is about to.
 */
#pragma once

#include <stdatomic.h>

#include "daemon/loop/event.h"
#include "daemon/loop/loop_background.h"
#include "daemon/loop/loop_timers.h"
#include "daemon/loop/loop_turns.h"

struct engine {
	const char *name;
	/* Creates loop->state. On failure negative errno, a static sentence in *reason,
	 * and nothing is left. */
	int (*open)(struct loop *loop, const char **reason);
	void (*close)(struct loop *loop);
	/* Called first on the thread that runs the loop, each time it does. */
	int (*enter)(struct loop *loop);
	/* Waits for events for at most timeout_ns, forever if negative. Makes no
	 * callbacks. */
	int (*wait)(struct loop *loop, int64_t timeout_ns);
	/* Calls back for what wait() found. */
	void (*dispatch)(struct loop *loop);
	int (*watch)(struct loop *loop, struct watch *watch);
	int (*rewatch)(struct loop *loop, struct watch *watch);
	void (*unwatch)(struct loop *loop, struct watch *watch);
	void (*io)(struct loop *loop, struct loop_io *io);
};

extern const struct engine engine_uring, engine_threads;

struct loop {
	const struct engine *engine;
	void *state; /* the engine's */
	const char *fallback_reason;
	unsigned io_depth;
	int wake_fd; /* a blocking eventfd: written to wake the loop, read by the engine */
	struct timers timers;
	struct backgrounds backgrounds;
	_Atomic(struct post *) posts; /* a stack: last posted first */
	atomic_bool asleep, stopping;
	struct loop_turns turns;
};
