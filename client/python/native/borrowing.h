/* SPDX-License-Identifier: Apache-2.0 */
/*
 * borrowing: a request for loans, and what came of it. The library puts its loans there; once the
 * request has ended they are ours, and the op has a use of each until its ticket is gone.
 */
#pragma once

#include "client/python/native/native.h"

struct borrowing;
struct core;

/* Gives up its uses of the loans; with the GIL. Returns NULL. */
struct borrowing *borrowing_free(struct borrowing *borrowing);
/* Takes the loans over; of a request that has ended, with the GIL. May be called again. */
void borrowing_arrive(struct borrowing *borrowing);

/* Of a namespace: borrow(keys, device, piece): a ticket */
PyObject *borrowing_submit(PyObject *object, PyObject *args);
/* A list of an object of a class of loans for each key, or None. NULL: an exception is set. */
PyObject *borrowing_loans(const struct borrowing *borrowing, PyObject *class);
