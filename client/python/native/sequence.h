/* SPDX-License-Identifier: Apache-2.0 */
/* sequence: a sequence as an object of Python, for the files that have calls on one, or on several. */
#pragma once

#include "client/python/native/pool.h"

#include <hbm/sequence.h>

struct sequence {
	PyObject_HEAD struct pool *pool; /* counted */
	struct hbm_sequence *handle;     /* NULL: closed */
	Py_ssize_t views;
};

extern PyTypeObject *native_sequence_type;

/* Of the package's class, for a handle. NULL: an exception is set, and it was closed. */
PyObject *sequence_wrap(PyTypeObject *type, struct pool *pool, struct hbm_sequence *handle);
/* Of an object that is to be a pool. NULL: an exception is set. */
struct pool *sequence_pool(PyObject *object);
/* What sequences are opened with. False: an exception is set. */
bool sequence_options(PyObject *expected, PyObject *max, int priority, const char *name,
		      struct hbm_sequence_options *options);
/* Whether it is open; and, for what unmaps memory of it, has no views. False: an exception is set. */
bool sequence_check(const struct sequence *self);
bool sequence_check_unseen(const struct sequence *self);
/* The same under the lock of the connection, without Python's: what was true before it was waited for
 * may not be any more. Who closes a sequence takes the handle away before the lock is had. */
bool sequence_is_there(const struct sequence *self, bool unseen);
