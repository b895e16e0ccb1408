/* SPDX-License-Identifier: Apache-2.0 */
/* promise: device memory that is reserved before it is committed: a call of connections. */
#pragma once

#include "client/python/native/native.h"

/* reserve(connection, changes, timeout in ms): changes: of each device a tuple of its number and how
 * many bytes more, or fewer. A ticket without results. */
PyObject *promise_reserve(PyObject *module, PyObject *args);
