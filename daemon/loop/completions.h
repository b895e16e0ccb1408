/* SPDX-License-Identifier: Apache-2.0 */
/*
 * completions: what other threads have finished, delivered on the loop thread in the order
 * it came: a post for all of it, not one for each. A turn of the loop delivers for a
 * twentieth of a millisecond, and the rest in the next one. A call follows each batch, for
 * what can begin now that others have ended.
 */
#pragma once

#include <pthread.h>

#include "daemon/loop/event.h"

struct completions {
	struct loop *loop;
	void (*batch_done)(void *arg); /* or NULL */
	void *arg;
	struct post post; /* posted while there are any */
	pthread_mutex_t lock;
	struct post *first, **last; /* under the lock */
};

/* Does not move in memory once it is open. */
void completions_open(struct completions *completions, struct loop *loop);
void completions_close(struct completions *completions); /* there are none */
void completions_on_batch(struct completions *completions, void (*batch_done)(void *arg),
			  void *arg);
/* Adds one or more, linked by `next`; their run() is called. Any thread. */
void completions_add(struct completions *completions, struct post *posts);
