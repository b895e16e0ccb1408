/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/native.h"

#include "client/python/native/admission.h"
#include "client/python/native/loan.h"
#include "client/python/native/promise.h"
#include "client/python/native/query.h"

#include <string.h>

PyObject *native_ticket_class, *native_error_maker;

/* ---- Types ---- */

PyTypeObject *native_type(PyObject *module, const char *name, PyType_Spec *spec)
{
	PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);

	if (type && PyModule_AddObjectRef(module, name, type) < 0)
		Py_CLEAR(type);

	return (PyTypeObject *)type; /* one use stays the variable's */
}

void *native_new(PyTypeObject *type)
{
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);

	return alloc(type, 0);
}

void native_free(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc free_it = (freefunc)PyType_GetSlot(type, Py_tp_free);

	free_it(self);
	Py_DECREF(type);
}

/* ---- Exceptions ---- */

void native_raise(int status, const char *line)
{
	PyObject *error;

	if (!native_error_maker) {
		PyErr_Format(PyExc_RuntimeError, "%s: %s", hbm_strerror(status), line);
		return;
	}

	error = PyObject_CallFunction(native_error_maker, "is", status, line);
	if (!error)
		return;
	PyErr_SetObject((PyObject *)Py_TYPE(error), error);
	Py_DECREF(error);
}

void native_raise_closed(const char *what)
{
	PyErr_Format(PyExc_RuntimeError, "the %s is closed", what);
}

/* ---- Numbers ---- */

bool native_u64(PyObject *number, const char *what, uint64_t *value)
{
	PyObject *index = PyNumber_Index(number);
	unsigned long long read;

	if (!index)
		return false;
	read = PyLong_AsUnsignedLongLong(index);
	Py_DECREF(index);
	if (read == (unsigned long long)-1 && PyErr_Occurred()) {
		PyErr_Format(PyExc_ValueError, "%s is not from 0 to 2^64 - 1", what);
		return false;
	}

	*value = read;

	return true;
}

bool native_u32(PyObject *number, const char *what, uint32_t *value)
{
	uint64_t wide;

	if (!native_u64(number, what, &wide))
		return false;
	if (wide > UINT32_MAX) {
		PyErr_Format(PyExc_ValueError, "%s is not from 0 to 2^32 - 1", what);
		return false;
	}

	*value = (uint32_t)wide;

	return true;
}

/* ---- The module ---- */

/* use(class of tickets, maker of exceptions) */
static PyObject *module_use(PyObject *module, PyObject *args)
{
	PyObject *class, *maker;

	(void)module;
	if (!PyArg_ParseTuple(args, "OO", &class, &maker))
		return NULL;
	if (!PyType_Check(class) || !PyType_IsSubtype((PyTypeObject *)class, native_ticket_type)) {
		PyErr_SetString(PyExc_TypeError, "not a class of tickets");
		return NULL;
	}

	Py_XDECREF(native_ticket_class);
	native_ticket_class = Py_NewRef(class);
	Py_XDECREF(native_error_maker);
	native_error_maker = Py_NewRef(maker);

	Py_RETURN_NONE;
}

static PyObject *module_strerror(PyObject *module, PyObject *number)
{
	long status = PyLong_AsLong(number);

	(void)module;
	if (status == -1 && PyErr_Occurred())
		return NULL;

	return PyUnicode_FromString(hbm_strerror((int)status));
}

PyMODINIT_FUNC PyInit__native(void);

PyMODINIT_FUNC PyInit__native(void)
{
	static PyMethodDef methods[] = {{"use", module_use, METH_VARARGS, NULL},
					{"reserve", promise_reserve, METH_VARARGS, NULL},
					{"return_loans", loan_return_all, METH_VARARGS, NULL},
					{"query", query_walk, METH_VARARGS, NULL},
					{"admit", admission_admit, METH_VARARGS, NULL},
					{"peak_demand", admission_peak, METH_O, NULL},
					{"strerror", module_strerror, METH_O, NULL},
					{.ml_name = NULL}};
	static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "hbm._native",
						.m_doc = "libhbm for the package hbm.",
						.m_size = -1, .m_methods = methods};
	PyObject *module = PyModule_Create(&definition);

	if (module && PyModule_AddStringConstant(module, "VERSION", HBM_VERSION) == 0 &&
	    native_add_constants(module) && native_add_connection(module) &&
	    native_add_region(module) && native_add_array(module) && native_add_loan(module) &&
	    native_add_spans(module) && native_add_records(module) && native_add_ticket(module) &&
	    native_add_namespace(module) && native_add_pool(module) &&
	    native_add_sequence(module) && native_add_allocator(module))
		return module;
	Py_XDECREF(module);

	return NULL;
}
