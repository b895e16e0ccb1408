/* SPDX-License-Identifier: Apache-2.0 */
/* spans: the type of ranges of one region, of equal size, as an array that is made once. */
#pragma once

#include "client/python/native/native.h"

struct spans {
	PyObject_HEAD PyObject *region; /* counted */
	uint64_t bytes;                 /* of each; 0: as many as a block has */
	size_t count;
	uint64_t *offsets;
};
