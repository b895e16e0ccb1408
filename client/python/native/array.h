/* SPDX-License-Identifier: Apache-2.0 */
/*
 * array: the type of arrays: a range of a region as numbers of a type in a shape, contiguous. As
 * long as one is alive, or anything that has its memory, its region has a live view. It is a
 * buffer where this process can reach the bytes, and a tensor of DLPack anywhere.
 */
#pragma once

#include "client/python/native/native.h"

/* region._array(offset, shape, type): a method of regions. */
PyObject *array_of_region(PyObject *region, PyObject *args);
