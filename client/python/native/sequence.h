/* SPDX-License-Identifier: Apache-2.0 */
/* sequence: a sequence as an object of Python, for the files that have calls on it. */
#pragma once

#include "client/python/native/native.h"

#include <hbm/sequence.h>

struct pool;

struct sequence {
	PyObject_HEAD struct pool *pool; /* counted */
	struct hbm_sequence *handle;     /* NULL: closed */
	Py_ssize_t views;
};

extern PyTypeObject *native_sequence_type;

/* Of the package's class, for a handle. NULL: an exception is set, and it was closed. */
PyObject *sequence_wrap(PyTypeObject *type, struct pool *pool, struct hbm_sequence *handle);
/* False: an exception is set: it is closed. */
bool sequence_check(const struct sequence *self);
/* Of an object that is to be a pool. NULL: an exception is set. */
struct pool *sequence_pool(PyObject *object);
/* What sequences are opened with. False: an exception is set. */
bool sequence_options(PyObject *expected, PyObject *max, int priority, const char *name,
		      struct hbm_sequence_options *options);
