/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool: a pool of sequences, as it and its sequences share it. It is closed with its last use, or
 * before: by its user, or with the connection. All calls on it are calls on that, in one lock.
 */
#pragma once

#include "client/python/native/native.h"

#include <hbm/sequence.h>

struct area;
struct call;
struct core;

struct pool {
	struct pool *next; /* of its connection's; with the GIL, as all that is here */
	struct core *core; /* counted */
	struct area *area; /* its region, for views */
	int refs;
	bool open;             /* sequences and calls find it */
	struct hbm_pool *pool; /* NULL: closed; under the connection's lock */
};

/* An object of Python. */
struct pool_object {
	PyObject_HEAD struct pool *pool; /* counted */
};

extern PyTypeObject *native_pool_type;
void pool_unref(struct pool *pool);
/* False: an exception is set: it is closed. */
bool pool_check(const struct pool *pool);
/* As core_enter() and core_leave(), with the line of the pool. */
bool pool_enter(struct call *call, struct pool *pool);
int pool_leave(struct call *call, struct pool *pool, int status);
/* Closes those of a connection, under its lock. */
void pool_close_all(struct core *core);
