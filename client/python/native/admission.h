/* SPDX-License-Identifier: Apache-2.0 */
/* admission: how many sequences can run side by side: arithmetic, without a connection. */
#pragma once

#include "client/python/native/native.h"

/* admit(free bytes, running, candidates): how many of these. Each is a tuple (present, to come,
 * bytes of a token, bytes of a slab). */
PyObject *admission_admit(PyObject *module, PyObject *args);
/* peak_demand(sequences): bytes */
PyObject *admission_peak(PyObject *module, PyObject *sequences);
