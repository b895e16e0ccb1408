/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loan: a borrowed block, as requests and objects of Python share it, and the type of these. It is
 * mapped when its address or its bytes are first asked for, and returned with its last use, or
 * before; all that is here is changed with the GIL.
 */
#pragma once

#include "client/python/native/native.h"

struct core;

struct loan {
	struct loan *next;     /* of its connection's, once it is there */
	struct core *core;     /* not counted: who has a use of a loan has one of its core */
	struct hbm_loan *loan; /* NULL: not there yet, or returned */
	int refs;
	int pins;                    /* calls that use it */
	Py_ssize_t views;            /* exported buffers and arrays: it cannot be returned */
	uint64_t bytes, address;     /* address: 0: it is not mapped yet */
	const unsigned char *memory; /* where its bytes are for this process; NULL: they are not */
	uint32_t device, pieces;
};

/* One that is still to come, with one use. NULL: no memory. */
struct loan *loan_new(struct core *core);
/* It has come. Of a connection that was closed meanwhile it is the library's. */
void loan_begin(struct loan *loan, struct hbm_loan *raw, uint32_t device);
void loan_unref(struct loan *loan); /* the last one returns it */
/* False: BufferError is set, as views of it are alive or calls use it. */
bool loan_is_unused(const struct loan *loan, const char *what);
/* An object of a class of loans, with a use of it. NULL: an exception is set. */
PyObject *loan_wrap(PyObject *class, struct loan *loan);
/* The loan of an object, if it is of that connection and not returned. NULL: an exception is
 * set. */
struct loan *loan_of(PyObject *object, const struct core *core);

/* return_loans(connection, loans): all in one request, or none; those that were returned are left out */
PyObject *loan_return_all(PyObject *module, PyObject *args);
