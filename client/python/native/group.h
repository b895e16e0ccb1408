/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group: the calls on several sequences of a pool, each all or none.
 */
#pragma once

#include "client/python/native/native.h"

/* Class methods of the type of sequences: (pool, sequences, lengths), (pool, sequences, from), and
 * (pool, sequences, what, tier, deadline). */
PyObject *group_step(PyObject *type, PyObject *args);
PyObject *group_reorder(PyObject *type, PyObject *args);
PyObject *group_move(PyObject *type, PyObject *args);
