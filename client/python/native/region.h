/* SPDX-License-Identifier: Apache-2.0 */
/* region: the type of regions, which are buffers where this process can reach their bytes. */
#pragma once

#include "client/python/native/native.h"

struct allocation;
struct area;
struct core;

struct region {
	PyObject_HEAD struct core *core; /* counted */
	struct area *area;               /* counted */
};

/* The area of a region that is open and of that connection. NULL: an exception is set. */
struct area *region_area(PyObject *object, const struct core *core);
/* An object of a class of regions, for one of the allocator's. NULL: an exception is set. */
PyObject *region_of_allocation(PyObject *class, struct core *core, struct hbm_region *region,
			       struct allocation *allocation);
