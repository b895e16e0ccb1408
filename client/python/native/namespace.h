/* SPDX-License-Identifier: Apache-2.0 */
/* namespace: what other files need of an object of Python that is a namespace. */
#pragma once

#include "client/python/native/native.h"

struct opening;

/* It is open, and stays so until opening_unref(). NULL: an exception is set: it is closed, or no
 * namespace. */
struct opening *namespace_use(PyObject *object);
