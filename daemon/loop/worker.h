/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker: a thread that runs blocking jobs in order, so that the loop thread does not
 * wait. A job's run() is called on the worker, then its done() on the loop thread. A long
 * job does a part in each run(), so that short ones need not wait for all of it. The worker
 * itself does not touch the daemon's state.
 */
#pragma once

#include "daemon/base/gate.h"
#include "daemon/loop/loop.h"

struct worker;

struct job {
	void (*run)(struct job *job); /* on the worker */
	/* On the loop thread; the job may be freed here. NULL: run() tells its owner itself,
	 * who may then free the job or post it again. */
	void (*done)(struct job *job);
	bool more;             /* set by run(), where there is a done(): run() again, after those
				  that wait by now, and done() only after the last */
	struct post post;      /* the worker's */
	struct job *next;      /* the worker's */
	struct worker *worker; /* the worker's */
};

/* name: of the thread, at most 15 bytes. enter (may be NULL) runs on the thread before
 * any job. Negative errno if the thread cannot be created. */
int worker_new(struct worker **out, struct loop *loop, const char *name, void (*enter)(void *),
	       void *arg);
/* Each job runs inside this gate. Before the first is posted. */
void worker_gate(struct worker *worker, struct gate *gate);
/* Runs the posted jobs, ends the thread and joins it. Completions still posted are run by
 * the loop later, or by loop_flush() if the loop no longer runs. Accepts NULL, returns
 * NULL. */
struct worker *worker_free(struct worker *worker);
/* Any thread, once worker_free() has been called the worker's own only; never fails. */
void worker_post(struct worker *worker, struct job *job);
