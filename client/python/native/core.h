/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core: a connection of libhbm, shared by the threads of Python.
 *
 * Two locks order it. The GIL guards what objects of Python see: counts of uses, pins, views. `lock`
 * guards the library, which one thread at a time may call: it is taken after the GIL was released,
 * and who has it never waits for the GIL. Between core_enter() and core_leave() a thread has the
 * lock and no GIL.
 *
 * Requests in flight are ops, in the list `pending`. Whichever thread calls the library next finds
 * out which have ended, wakes who waits for them, and, with the GIL again, releases what they kept
 * and calls what was to be called. A thread that waits for one sleeps without both locks, on the
 * connection's descriptor and on one of its own.
 *
 * In a child made by fork() every call is refused.
 */
#pragma once

#include "client/python/native/native.h"

#include <pthread.h>
#include <sys/types.h>

struct allocation;
struct area;
struct landing;
struct loan;
struct op;
struct opened;
struct pool;
struct waiter;

struct core {
	int refs; /* objects that use it, and calls; with the GIL */
	pid_t pid;
	uint32_t poll_us;
	struct hbm_info info;
	struct area *areas; /* with the GIL, and the next */
	struct pool *pools;
	struct loan *loans;
	bool closed;
	pthread_mutex_t lock;
	struct hbm *hbm;                /* NULL: closed */
	struct op *pending;             /* the oldest first */
	struct waiter *listeners;       /* threads in core_dispatch(), woken when it is closed */
	struct waiter *idle;            /* to be used again */
	struct landing *landing;        /* NULL: not needed yet */
	struct allocation *allocations; /* that torch has */
	struct opened *opened;          /* namespaces */
	pthread_mutex_t fence_lock;     /* held for no longer than a system call that never waits */
	bool fences;                    /* they are mapped */
};

/* A call of the library. */
struct call {
	struct core *core;
	struct hbm *hbm;
	struct op *ended, **ended_end;
	int lost; /* what the library said when it was last heard: 0, or a negative errno */
	PyThreadState *thread;
};

/* Connects. NULL: an exception is set. */
struct core *core_connect(const struct hbm_options *options);
void core_unref(struct core *core); /* the last one closes it */
/* Closes; what is in flight is cancelled or waited for. False: an exception is set, and nothing
 * was done. */
bool core_close(struct core *core);

/* False: an exception is set: it is closed, or another process's. */
bool core_enter(struct call *call, struct core *core);
/* 0, or -1 and an exception for the status. */
int core_leave(struct call *call, int status);
/* Adds a request that was submitted, between the two. */
void core_add(struct call *call, struct op *op);

/* Waits until the op has ended, for at most timeout seconds (< 0: no limit). 1: it has; 0: not in
 * time; -1: an exception is set. */
int core_wait(struct core *core, struct op *op, double timeout);
/* Handles replies; waits at most timeout seconds for one. How many requests have ended, or -1 and
 * an exception: of a connection that has ended, once no request is left that ends with it. */
long core_dispatch(struct core *core, double timeout);
