/* SPDX-License-Identifier: Apache-2.0 */
/* namespace: the type of namespaces, and how a request on blocks of one begins. */
#pragma once

#include "client/python/native/native.h"

struct core;
struct op;
struct opening;

struct namespace
{
	PyObject_HEAD struct core *core; /* counted */
	struct opening *opening;         /* counted; NULL: closed */
	uint32_t ns;
	uint64_t block_bytes;
};

/* False: an exception is set: it is closed. */
bool namespace_check(const struct namespace *self);
/* It is open, and stays so until opening_unref(). NULL: an exception is set: it is closed, or no
 * namespace. */
struct opening *namespace_use(PyObject *object);

/* Submits an op, under the lock: as the functions of libhbm. */
typedef int namespace_submit_fn(struct hbm *hbm, const struct namespace *self, struct op *op,
				const void *what);
/* Does that, and gives the op up: its ticket; one of no blocks is over. NULL: an exception is
 * set. */
PyObject *namespace_submit(struct namespace *self, struct op *op, namespace_submit_fn *submit,
			   const void *what);
