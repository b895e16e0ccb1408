/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/spans.h"

#include "client/python/native/area.h"
#include "client/python/native/region.h"

#include <stdlib.h>
#include <string.h>

PyTypeObject *native_spans_type;

/* Offsets of a buffer of integers of 8 bytes: numpy's int64 and uint64, array('q'). */
static bool spans_of_buffer(struct spans *self, PyObject *offsets, bool *done)
{
	Py_buffer view;
	char form;

	*done = false;
	if (PyObject_GetBuffer(offsets, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) < 0) {
		PyErr_Clear();
		return true;
	}

	form = view.format ? view.format[strlen(view.format) - (view.format[0] != '\0')] : 'B';
	if (view.itemsize == sizeof(uint64_t) && strchr("qQlLnN", form) && form &&
	    !strpbrk(view.format, ">!")) { /* in this machine's order */
		self->count = (size_t)view.len / sizeof(uint64_t);
		self->offsets = malloc((size_t)view.len + 1);
		if (self->offsets)
			memcpy(self->offsets, view.buf, (size_t)view.len);
		else
			PyErr_NoMemory();
		*done = true;
	}
	PyBuffer_Release(&view);

	return !*done || self->offsets;
}

static bool spans_of_sequence(struct spans *self, PyObject *offsets)
{
	PyObject *fast = PySequence_Tuple(offsets);
	size_t i = 0;

	if (!fast)
		return false;

	self->count = (size_t)PyTuple_Size(fast);
	self->offsets = calloc(self->count + 1, sizeof(uint64_t));
	if (!self->offsets)
		PyErr_NoMemory();
	while (self->offsets && i < self->count &&
	       native_u64(PyTuple_GetItem(fast, (Py_ssize_t)i), "offset", &self->offsets[i]))
		i++;
	Py_DECREF(fast);

	return self->offsets && i == self->count;
}

static bool spans_fill(struct spans *self, PyObject *region, PyObject *offsets, PyObject *bytes)
{
	bool done;

	if (!PyObject_TypeCheck(region, native_region_type)) {
		PyErr_SetString(PyExc_TypeError, "spans are of a region");
		return false;
	}

	Py_INCREF(region);
	self->region = region;
	if (bytes != Py_None && !native_u64(bytes, "bytes", &self->bytes))
		return false;
	if (!spans_of_buffer(self, offsets, &done))
		return false;

	return done || spans_of_sequence(self, offsets);
}

static PyObject *spans_make(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
	static char *names[] = {"region", "offsets", "bytes", NULL};
	PyObject *region, *offsets, *bytes = Py_None;
	struct spans *self;

	if (!PyArg_ParseTupleAndKeywords(args, kwds, "OO|O", names, &region, &offsets, &bytes))
		return NULL;

	self = native_new(type);
	if (self && !spans_fill(self, region, offsets, bytes)) {
		Py_DECREF(self);
		return NULL;
	}

	return (PyObject *)self;
}

static void spans_dealloc(PyObject *object)
{
	struct spans *self = (struct spans *)object;

	free(self->offsets);
	Py_XDECREF(self->region);
	native_free(object);
}

static Py_ssize_t spans_length(PyObject *object)
{
	return (Py_ssize_t)((struct spans *)object)->count;
}

static PyObject *spans_region(PyObject *object, void *closure)
{
	(void)closure;
	return Py_NewRef(((struct spans *)object)->region);
}

static PyObject *spans_bytes(PyObject *object, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLongLong(((struct spans *)object)->bytes);
}

bool native_add_spans(PyObject *module)
{
	static PyGetSetDef members[] = {
		{"region", spans_region, NULL, "the region", NULL},
		{"bytes", spans_bytes, NULL, "of each span; 0: as many as a block has", NULL},
		{.name = NULL}};
	static PyType_Slot slots[] = {{Py_tp_new, spans_make},
				      {Py_tp_dealloc, spans_dealloc},
				      {Py_tp_getset, members},
				      {Py_sq_length, spans_length},
				      {0, NULL}};
	static PyType_Spec spec = {.name = "hbm._native.Spans",
				   .basicsize = sizeof(struct spans),
				   .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
				   .slots = slots};

	native_spans_type = native_type(module, "Spans", &spec);

	return native_spans_type != NULL;
}
