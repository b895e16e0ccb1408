/* SPDX-License-Identifier: Apache-2.0 */
/* connection: the type of connections. */
#pragma once

#include "client/python/native/native.h"

struct core;

struct connection {
	PyObject_HEAD struct core *core; /* counted */
};

/* NULL: TypeError is set. */
struct core *connection_core(PyObject *object);
