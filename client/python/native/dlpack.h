/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dlpack: tensors as libraries hand them to each other, in capsules: our declarations of that ABI
 * (dmlc.github.io/dlpack), of versions 0 and 1.
 */
#pragma once

#include "client/python/native/native.h"

enum dlpack_device { DLPACK_CPU = 1, DLPACK_CUDA = 2 };
enum dlpack_code {
	DLPACK_INT = 0,
	DLPACK_UINT = 1,
	DLPACK_FLOAT = 2,
	DLPACK_BFLOAT = 4,
	DLPACK_BOOL = 6,
	DLPACK_FLOAT8_E4M3FN = 10,
	DLPACK_FLOAT8_E5M2 = 12,
};

struct dlpack_tensor {
	void *data;
	struct {
		int32_t type, id;
	} device;
	int32_t dimensions;
	struct {
		uint8_t code, bits;
		uint16_t vector;
	} type;
	int64_t *shape;
	int64_t *strides; /* in elements; NULL: contiguous */
	uint64_t byte_offset;
};

struct dlpack_managed {
	struct dlpack_tensor tensor;
	void *context;
	void (*deleter)(struct dlpack_managed *self);
};

#define DLPACK_READ_ONLY 1u

struct dlpack_versioned {
	uint32_t major, minor;
	void *context;
	void (*deleter)(struct dlpack_versioned *self);
	uint64_t flags;
	struct dlpack_tensor tensor;
};

#define DLPACK_NAME "dltensor"
#define DLPACK_VERSIONED_NAME "dltensor_versioned"

/* A capsule of a tensor that keeps `owner` until it is gone. Shape and strides are copied.
 * NULL: an exception is set. */
PyObject *dlpack_export(const struct dlpack_tensor *tensor, bool versioned, bool read_only,
			PyObject *owner);
/* The bytes of an object with __dlpack__() in host memory, contiguous: a capsule that has them
 * until it is gone. NULL: an exception is set. */
PyObject *dlpack_import(PyObject *object, unsigned char **data, uint64_t *bytes);
