/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native: the extension hbm._native: libhbm for the package's Python modules, which are all that
 * call it. It is written to the stable ABI of Python 3.11, so that one build runs on each later
 * one.
 *
 * Its types are bases of the package's classes and check what they are given, so that no misuse is
 * more than an exception. Objects of Python refer to structs of C, which are counted and refer to
 * no object of Python in turn, but for what a request in flight keeps alive: whatever order things
 * are collected in is right.
 */
#pragma once

#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030b0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hbm/hbm.h>

/* The types, made by the module's start. */
extern PyTypeObject *native_connection_type, *native_region_type, *native_array_type,
	*native_namespace_type, *native_spans_type, *native_ticket_type;
/* Of the package: its class of tickets, and what makes an exception of a status and a line. */
extern PyObject *native_ticket_class, *native_error_maker;

/* Each adds its types to the module. False: an exception is set. */
bool native_add_connection(PyObject *module);
bool native_add_region(PyObject *module);
bool native_add_array(PyObject *module);
bool native_add_namespace(PyObject *module);
bool native_add_pool(PyObject *module);
bool native_add_sequence(PyObject *module);
bool native_add_loan(PyObject *module);
bool native_add_spans(PyObject *module);
bool native_add_ticket(PyObject *module);
bool native_add_allocator(PyObject *module);
bool native_add_constants(PyObject *module);
bool native_add_records(PyObject *module);

/* Makes a type of the module, with its name there. NULL: an exception is set. */
PyTypeObject *native_type(PyObject *module, const char *name, PyType_Spec *spec);
/* An object of a type or a subclass, all zero behind its head. */
void *native_new(PyTypeObject *type);
/* Frees what native_new() made; the last that a dealloc does. */
void native_free(PyObject *self);

/* Sets an exception for a status or a negative errno, with a line about it ("": none). */
void native_raise(int status, const char *line);
/* Sets RuntimeError: what is closed. */
void native_raise_closed(const char *what);
/* A number from 0 to 2^64 - 1; False: an exception is set. `what` is named in it. */
bool native_u64(PyObject *number, const char *what, uint64_t *value);
bool native_u32(PyObject *number, const char *what, uint32_t *value);
