/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op: a request in flight, and afterwards its results.
 *
 * PENDING -> ENDED, under the connection's lock -> FINISHED, with the GIL: what it kept alive is
 * released, and its callbacks were called. The list of its connection has a use of it until it is
 * finished, its ticket another.
 */
#pragma once

#include "client/python/native/native.h"

struct area;
struct borrowing;
struct core;
struct job;
struct opening;

enum op_state { OP_PENDING, OP_ENDED, OP_FINISHED };

/* A thread that waits for it; the list is under the connection's lock. */
struct waiter {
	struct waiter *next;
	int fd; /* an eventfd, written when the op has ended */
};

struct op {
	struct op *next;
	hbm_ticket ticket; /* 0: none; `job` goes on by itself */
	struct job *job;   /* blocks that are the caller's own memory; owned */
	struct waiter *waiters;
	int refs;
	int state;               /* enum op_state; read and written with __atomic */
	int status;              /* once it has ended */
	char *error;             /* a line about that, or NULL */
	struct opening *opening; /* the namespace; NULL: none */
	struct area **areas;
	size_t area_count;
	Py_buffer *buffers;
	size_t buffer_count;
	PyObject *kept;      /* a list of what else has its memory, or NULL */
	PyObject *callbacks; /* a list, or NULL */
	PyObject *self;      /* its ticket, if there are callbacks */
	struct hbm_amount amount;
	struct hbm_lookup lookup;
	struct borrowing *borrowing; /* owned; NULL: of a request that borrows nothing */
	size_t count;
	hbm_result results[];
};

/* With one use. NULL: MemoryError is set. */
struct op *op_new(size_t count);
void op_unref(struct op *op);
/* Pins an area until the op is finished. False: MemoryError is set. */
bool op_pin(struct op *op, struct area *area);
/* Whether it has ended; of the list `pending`, under the lock. */
bool op_has_ended(const struct op *op);
/* Marks it ended and wakes who waits for it. */
void op_end(struct op *op, int status, const char *error);
/* As hbm_cancel(); under the lock. */
int op_cancel(struct hbm *hbm, const struct op *op);
/* Finishes those of a list, the first first; with the GIL. */
void op_finish_all(struct op *ended);
/* Drops what it keeps: of one that was never submitted, too. */
void op_release(struct op *op);
