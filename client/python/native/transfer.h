/* SPDX-License-Identifier: Apache-2.0 */
/* transfer: stores and loads of blocks: calls of namespaces. */
#pragma once

#include "client/python/native/native.h"

/* store(keys, where, ready, done, parents, tier, durable, pin, lend): a ticket */
PyObject *transfer_store(PyObject *object, PyObject *const *args, Py_ssize_t count);
/* load(keys, where, ready, done): a ticket */
PyObject *transfer_load(PyObject *object, PyObject *const *args, Py_ssize_t count);
