/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attempt: does what may block forever, such as opening a file on a disk that hangs, on a
 * thread of its own, and waits for it only so long. A thread that blocks in the kernel
 * cannot be ended, so one that takes longer is left to itself, with the attempt:
 *
 * 	run() returns in time: the caller goes on with what it has done
 * 	it does not: the caller has -ETIMEDOUT and forgets the attempt; late() frees it
 *
 * So an attempt is part of an object on the heap, and run() uses nothing that can go away.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct attempt {
	void (*run)(struct attempt *attempt);  /* on the thread */
	void (*late)(struct attempt *attempt); /* on the thread, when run() returned too late */
	/* the rest is attempt.c's */
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool has_ended, is_left;
	const char *name;
};

/* name: of the thread, at most 15 bytes, static. 0: run() has returned. -ETIMEDOUT: the
 * attempt is no longer the caller's. Another negative errno: no thread could be created, and
 * nothing was run. */
int attempt_run(struct attempt *attempt, const char *name, uint64_t timeout_ns);
