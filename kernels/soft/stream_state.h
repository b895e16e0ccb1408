/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream_state: a stream, for stream.c and stream_submit.c. The queue is a ring that grows,
 * under table_lock. Two words connect the two sides of a stream: `pushed` changes when there
 * is new work for the thread, `finished` counts completed operations. Each side polls the
 * other's word for a while before it sleeps on it, and announces that it sleeps, so a busy
 * stream makes no system calls.
 */
#pragma once

#include "kernels/soft/device.h"

#include <pthread.h>
#include <stdatomic.h>

struct op;

struct stream {
	struct stream *next; /* all, including destroyed ones */
	uint64_t name;
	struct device *device;
	pthread_t thread;
	struct op *ring;
	uint32_t capacity, head, queued; /* capacity: a power of two */
	uint32_t submitted;              /* ever; compared with finished */
	_Atomic uint32_t pushed, finished;
	atomic_bool asleep;       /* the thread sleeps on pushed */
	_Atomic uint32_t waiters; /* number of threads that may sleep on finished */
	atomic_bool aborted;
	bool destroyed, ended; /* ended: the thread is about to return */
	bool borrowed;         /* a call runs an operation in the thread's place */
	uint32_t references;   /* by waiters */
	uint64_t due;          /* the thread's */
};
