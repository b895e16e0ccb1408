/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/array.h"

#include "client/python/native/area.h"
#include "client/python/native/core.h"
#include "client/python/native/dlpack.h"
#include "client/python/native/region.h"

#include <stdlib.h>
#include <string.h>

#define DIMENSIONS 16

PyTypeObject *native_array_type;

struct number {
	const char *name;
	uint8_t code, bits;
	const char *format;  /* of the struct module; NULL: it has none */
	const char *typestr; /* of array interfaces */
};

static const struct number numbers[] = {
	{"uint8", DLPACK_UINT, 8, "B", "|u1"},
	{"uint16", DLPACK_UINT, 16, "H", "<u2"},
	{"uint32", DLPACK_UINT, 32, "I", "<u4"},
	{"uint64", DLPACK_UINT, 64, "Q", "<u8"},
	{"int8", DLPACK_INT, 8, "b", "|i1"},
	{"int16", DLPACK_INT, 16, "h", "<i2"},
	{"int32", DLPACK_INT, 32, "i", "<i4"},
	{"int64", DLPACK_INT, 64, "q", "<i8"},
	{"float16", DLPACK_FLOAT, 16, "e", "<f2"},
	{"float32", DLPACK_FLOAT, 32, "f", "<f4"},
	{"float64", DLPACK_FLOAT, 64, "d", "<f8"},
	{"bfloat16", DLPACK_BFLOAT, 16, NULL, NULL},
	{"float8_e4m3fn", DLPACK_FLOAT8_E4M3FN, 8, NULL, NULL},
	{"float8_e5m2", DLPACK_FLOAT8_E5M2, 8, NULL, NULL},
	{"bool", DLPACK_BOOL, 8, "?", "|b1"},
};

struct array {
	PyObject_HEAD struct region *region; /* counted */
	uint64_t offset, bytes;
	const struct number *number;
	int dimensions;
	int64_t shape[DIMENSIONS];
	Py_ssize_t lengths[DIMENSIONS], strides[DIMENSIONS]; /* the same for buffers, in bytes */
};

/* ---- Its life ---- */

static const struct number *array_number(const char *name)
{
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (strcmp(numbers[i].name, name) == 0)
			return &numbers[i];

	PyErr_Format(PyExc_ValueError, "no type of numbers: %s", name);

	return NULL;
}

/* Reads the shape; the bytes that it takes. */
static bool array_measure(struct array *self, PyObject *shape)
{
	Py_ssize_t count = PyTuple_Size(shape);
	uint64_t bytes = self->number->bits / 8;

	if (count > DIMENSIONS) {
		PyErr_Format(PyExc_ValueError, "%zd dimensions: at most %d", count, DIMENSIONS);
		return false;
	}

	self->dimensions = (int)count;
	for (Py_ssize_t i = count; i-- > 0;) {
		uint64_t length;

		if (!native_u64(PyTuple_GetItem(shape, i), "shape", &length))
			return false;
		self->shape[i] = (int64_t)length;
		self->lengths[i] = (Py_ssize_t)length;
		self->strides[i] = (Py_ssize_t)bytes;
		if (__builtin_mul_overflow(bytes, length, &bytes) || bytes > INT64_MAX) {
			PyErr_SetString(PyExc_ValueError, "a shape that is too large");
			return false;
		}
	}
	self->bytes = bytes;

	return true;
}

static bool array_check(const struct array *self)
{
	const struct area *area = self->region->area;

	if (!area_check(area, self->offset, self->bytes))
		return false;
	if (self->offset % (self->number->bits / 8) != 0) {
		PyErr_Format(PyExc_ValueError, "the offset is no multiple of %d",
			     self->number->bits / 8);
		return false;
	}
	if (area_is_committed(area, self->offset, self->bytes))
		return true;

	PyErr_SetString(PyExc_BufferError, "the range is not committed throughout");

	return false;
}

PyObject *array_of_region(PyObject *region, PyObject *args)
{
	PyObject *offset, *shape;
	const char *name;
	struct array *self;

	if (!PyArg_ParseTuple(args, "OO!s", &offset, &PyTuple_Type, &shape, &name))
		return NULL;

	self = native_new(native_array_type);
	if (!self)
		return NULL;
	self->number = array_number(name);
	self->region = (struct region *)Py_NewRef(region);
	self->region->area->views++;
	if (!self->number || !native_u64(offset, "offset", &self->offset) ||
	    !array_measure(self, shape) || !array_check(self)) {
		Py_DECREF((PyObject *)self);
		return NULL;
	}

	return (PyObject *)self;
}

static void array_dealloc(PyObject *object)
{
	struct array *self = (struct array *)object;

	if (self->region)
		self->region->area->views--;
	Py_XDECREF((PyObject *)self->region);
	native_free(object);
}

/* ---- As a buffer ---- */

static int array_get_buffer(PyObject *object, Py_buffer *view, int flags)
{
	struct array *self = (struct array *)object;
	const struct area *area = self->region->area;

	view->obj = NULL;
	if (!area_can_be_seen(area, self->offset, self->bytes))
		return -1;
	if ((flags & PyBUF_WRITABLE) && area->read_only) {
		PyErr_SetString(PyExc_BufferError, "the region is read-only");
		return -1;
	}
	if ((flags & PyBUF_FORMAT) && !self->number->format) {
		PyErr_Format(PyExc_BufferError, "buffers have no %s: use DLPack",
			     self->number->name);
		return -1;
	}

	*view = (Py_buffer){.buf = area->memory + self->offset,
			    .obj = Py_NewRef(object),
			    .len = (Py_ssize_t)self->bytes,
			    .itemsize = self->number->bits / 8,
			    .readonly = area->read_only,
			    .ndim = self->dimensions};
	if (flags & PyBUF_FORMAT)
		view->format = (char *)(uintptr_t)self->number->format;
	if (flags & PyBUF_ND)
		view->shape = self->lengths;
	if ((flags & PyBUF_STRIDES) == PyBUF_STRIDES)
		view->strides = self->strides;

	return 0;
}

/* ---- As a tensor ---- */

/* (type, number), as DLPack numbers devices. */
static bool array_device(const struct array *self, int32_t *type, int32_t *id)
{
	const struct area *area = self->region->area;
	struct call call;
	int ordinal = 0;

	*type = area->memory ? DLPACK_CPU : DLPACK_CUDA;
	*id = 0;
	if (area->memory)
		return true;
	if (!core_enter(&call, self->region->core) ||
	    core_leave(&call, hbm_device_ordinal(call.hbm, area->device, &ordinal)) < 0)
		return false;
	*id = ordinal;

	return true;
}

static PyObject *array_dlpack_device(PyObject *object, PyObject *none)
{
	int32_t type, id;

	(void)none;
	if (!array_device((struct array *)object, &type, &id))
		return NULL;

	return Py_BuildValue("ii", (int)type, (int)id);
}

static PyObject *array_export(const struct array *self, bool versioned)
{
	const struct area *area = self->region->area;
	struct dlpack_tensor tensor = {.dimensions = self->dimensions,
				       .shape = (int64_t *)(uintptr_t)self->shape};

	if (!area_check(area, self->offset, self->bytes) ||
	    !array_device(self, &tensor.device.type, &tensor.device.id))
		return NULL;
	if (area->read_only && !versioned) {
		PyErr_SetString(PyExc_BufferError, "the region is read-only");
		return NULL;
	}

	tensor.data = (area->memory ? area->memory : (unsigned char *)(uintptr_t)area->address) +
		      self->offset;
	tensor.type.code = self->number->code;
	tensor.type.bits = self->number->bits;
	tensor.type.vector = 1;

	return dlpack_export(&tensor, versioned, area->read_only, (PyObject *)(uintptr_t)self);
}

/* Whether a consumer understands version 1 or later; -1: an exception is set. */
static int array_versioned(PyObject *version)
{
	long major;

	if (version == Py_None)
		return 0;
	if (!PyTuple_Check(version) || PyTuple_Size(version) != 2) {
		PyErr_SetString(PyExc_TypeError, "max_version is a tuple of two");
		return -1;
	}

	major = PyLong_AsLong(PyTuple_GetItem(version, 0));

	return major == -1 && PyErr_Occurred() ? -1 : major >= 1;
}

/* What is in the region is handed out where it is, and never copied. */
static PyObject *array_dlpack(PyObject *object, PyObject *args, PyObject *kwds)
{
	static char *names[] = {"stream", "max_version", "dl_device", "copy", NULL};
	PyObject *stream = Py_None, *version = Py_None, *device = Py_None, *copy = Py_None, *here;
	struct array *self = (struct array *)object;
	int versioned, same = 1;

	if (!PyArg_ParseTupleAndKeywords(args, kwds, "|$OOOO", names, &stream, &version, &device,
					 &copy))
		return NULL;

	versioned = array_versioned(version);
	if (versioned >= 0 && device != Py_None) {
		here = array_dlpack_device(object, NULL);
		same = here ? PyObject_RichCompareBool(here, device, Py_EQ) : -1;
		Py_XDECREF(here);
	}
	if (versioned < 0 || same < 0)
		return NULL;
	if (!same || PyObject_IsTrue(copy) == 1) {
		PyErr_SetString(PyExc_BufferError, "the memory of a region is not copied");
		return NULL;
	}

	return array_export(self, versioned);
}

/* ---- Facts ---- */

static PyObject *array_shape(PyObject *object, void *closure)
{
	struct array *self = (struct array *)object;
	PyObject *shape = PyTuple_New(self->dimensions);

	(void)closure;
	for (int i = 0; shape && i < self->dimensions; i++)
		if (PyTuple_SetItem(shape, i, PyLong_FromLongLong(self->shape[i])) < 0)
			Py_CLEAR(shape);

	return shape;
}

static PyObject *array_dtype(PyObject *object, void *closure)
{
	(void)closure;
	return PyUnicode_FromString(((struct array *)object)->number->name);
}

static PyObject *array_nbytes(PyObject *object, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLongLong(((struct array *)object)->bytes);
}

static PyObject *array_address(PyObject *object, void *closure)
{
	struct array *self = (struct array *)object;

	(void)closure;
	return PyLong_FromUnsignedLongLong(self->region->area->address + self->offset);
}

static PyObject *array_cuda_interface(PyObject *object, void *closure)
{
	struct array *self = (struct array *)object;
	const struct area *area = self->region->area;

	(void)closure;
	if (area->memory || !self->number->typestr) {
		PyErr_SetString(PyExc_AttributeError, "__cuda_array_interface__");
		return NULL;
	}
	if (!area_check(area, self->offset, self->bytes))
		return NULL;

	return Py_BuildValue(
		"{s:N,s:s,s:(KO),s:O,s:i}", "shape", array_shape(object, NULL), "typestr",
		self->number->typestr, "data", (unsigned long long)(area->address + self->offset),
		area->read_only ? Py_True : Py_False, "strides", Py_None, "version", 3);
}

/* ---- The type ---- */

bool native_add_array(PyObject *module)
{
	static PyMethodDef methods[] = {
		{"__dlpack_device__", array_dlpack_device, METH_NOARGS, NULL},
		{"__dlpack__", (PyCFunction)(void (*)(void))array_dlpack,
		 METH_VARARGS | METH_KEYWORDS, NULL},
		{.ml_name = NULL}};
	static PyGetSetDef members[] = {
		{"shape", array_shape, NULL, "elements in each dimension", NULL},
		{"dtype", array_dtype, NULL, "name of the type of its numbers", NULL},
		{"nbytes", array_nbytes, NULL, "bytes that it has", NULL},
		{"address", array_address, NULL, "device address of its first byte", NULL},
		{"__cuda_array_interface__", array_cuda_interface, NULL, NULL, NULL},
		{.name = NULL}};
	static PyType_Slot slots[] = {
		{Py_tp_dealloc, array_dealloc},
		{Py_tp_methods, methods},
		{Py_tp_getset, members},
		{Py_tp_doc, (void *)(uintptr_t) "A range of a region as numbers of a type, "
						"in a shape: Region.array()."},
		{Py_bf_getbuffer, array_get_buffer},
		{0, NULL}};
	static PyType_Spec spec = {.name = "hbm._native.Array",
				   .basicsize = sizeof(struct array),
				   .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
				   .slots = slots};

	native_array_type = native_type(module, "Array", &spec);

	return native_array_type != NULL;
}
