/* SPDX-License-Identifier: Apache-2.0 */
/* ticket: the type of tickets. */
#pragma once

#include "client/python/native/native.h"

struct core;
struct op;

/* A ticket of the package's class for an op, which it takes a use of. NULL: an exception is set. */
PyObject *ticket_new(struct core *core, struct op *op);
