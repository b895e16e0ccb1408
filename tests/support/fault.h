/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault: calls to the system and to the allocator that fail by count. Programs that are
 * linked with $(FAULT_WRAP) of the Makefile make these calls through fault_calls.c: the
 * daemon of $(BUILD)/tests/fault/hbmd, and tests that want it for libhbm. The linker does
 * it, not a preloaded library, so that it works beside sanitizers, and that only calls of
 * our own objects count: what the C library and the driver allocate for themselves does
 * not.
 *
 * What is to fail stands in a page of memory that a test and its daemon share, so that
 * one daemon serves for every n.
 *
 * 	faults = fault_open(&daemon_, variable);	and spawn_start() with the variable
 * 	fault_arm(faults, FAULT_MEMORY, ENOMEM, 5, 1);
 * 	...
 * 	reached = fault_disarm(faults);		whether a fifth call was made, and failed
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/support/spawn.h"

enum fault_kind {
	FAULT_MEMORY = 1,     /* malloc() and the like, mmap() */
	FAULT_SEND = 2,       /* sendmsg() */
	FAULT_RECEIVE = 4,    /* recvmsg() */
	FAULT_DESCRIPTOR = 8, /* whatever returns a new descriptor */
	FAULT_WAIT = 16,      /* poll(), epoll, submitting to io_uring */
	FAULT_THREAD = 32,    /* pthread_create() */
	FAULT_FILE = 64, /* what is done with files and folders, but the I/O of the NVMe tier */
};

struct fault_page {
	atomic_uint kinds; /* of calls that are counted */
	atomic_int error;
	atomic_uint_fast64_t first, last; /* calls that fail, counted from 1 */
	atomic_uint_fast64_t calls, failed;
};

/* The page of this process: NULL, HBM_FAULTS, or what fault_use() was given. */
void fault_use(struct fault_page *page);
/* Whether this call is to fail; sets errno if so. */
bool fault_now(enum fault_kind kind);

/* Makes a daemon that is not started yet one whose calls can fail: `variable`, an array of
 * FAULT_VARIABLE, is to be in its environment. Its page, in a file of its folder; fails the
 * test if that cannot be made. */
#define FAULT_VARIABLE 96
struct fault_page *fault_open(struct spawn *spawn, char *variable);
struct fault_page *fault_close(struct fault_page *page); /* NULL */
/* The `first` call of these kinds from now on fails with `error`, and with it `count` in
 * all. */
void fault_arm(struct fault_page *page, unsigned kinds, int error, uint64_t first, uint64_t count);
/* No call fails any more. How many have failed. */
uint64_t fault_disarm(struct fault_page *page);
