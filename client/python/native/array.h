/* SPDX-License-Identifier: Apache-2.0 */
/*
 * array: the type of arrays: memory of a region, a loan or a sequence as numbers of a type in a shape. As
 * long as one is alive, or anything that has its memory, its owner has a live view, and keeps the
 * memory. It is a buffer where this process can reach the bytes, and a tensor of DLPack anywhere.
 */
#pragma once

#include "client/python/native/native.h"

#define ARRAY_DIMENSIONS 16

struct core;

/* Whose memory it is. */
struct array_place {
	PyObject *owner;   /* the array takes a use of it */
	Py_ssize_t *views; /* of the owner: counted while the array is alive */
	Py_ssize_t *also;  /* and these; NULL: none */
	struct core *core;
	uint64_t address;      /* of the first number, on the device */
	unsigned char *memory; /* the same for this process; NULL: it cannot reach it */
	uint32_t device;
	bool read_only;
};

/* Elements and strides, in elements, of each dimension. */
struct array_shape {
	int dimensions;
	int64_t lengths[ARRAY_DIMENSIONS], strides[ARRAY_DIMENSIONS];
};

/* Bytes of a number of the type of that name. 0: an exception is set. */
uint64_t array_number_bytes(const char *type);
/* Reads a tuple; contiguous. *bytes: what it takes. False: an exception is set. */
bool array_shape_parse(PyObject *tuple, const char *type, struct array_shape *shape,
		       uint64_t *bytes);
/* NULL: an exception is set. The range is the owner's and checked. */
PyObject *array_new(const struct array_place *place, const char *type,
		    const struct array_shape *shape);
