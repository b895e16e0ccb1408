/* SPDX-License-Identifier: Apache-2.0 */
/* region: the type of regions, which are buffers where this process can reach their bytes. */
#pragma once

#include "client/python/native/native.h"

struct area;
struct core;

struct region {
	PyObject_HEAD struct core *core; /* counted */
	struct area *area;               /* counted */
};

/* The area of a region that is open and of that connection. NULL: an exception is set. */
struct area *region_area(PyObject *object, const struct core *core);
