/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/array.h"

#include "client/python/native/core.h"
#include "client/python/native/dlpack.h"

#include <stdlib.h>
#include <string.h>

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
	PyObject_HEAD struct array_place place;
	const struct number *number;
	uint64_t bytes;
	struct array_shape shape;
	Py_ssize_t lengths[ARRAY_DIMENSIONS], strides[ARRAY_DIMENSIONS]; /* in bytes, for buffers */
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

uint64_t array_number_bytes(const char *type)
{
	const struct number *number = array_number(type);

	return number ? number->bits / 8 : 0;
}

bool array_shape_parse(PyObject *tuple, const char *type, struct array_shape *shape,
		       uint64_t *bytes)
{
	Py_ssize_t count = PyTuple_Size(tuple);
	uint64_t each = array_number_bytes(type), elements = 1, length;

	if (!each)
		return false;
	if (count > ARRAY_DIMENSIONS) {
		PyErr_Format(PyExc_ValueError, "%zd dimensions: at most %d", count,
			     ARRAY_DIMENSIONS);
		return false;
	}

	shape->dimensions = (int)count;
	for (Py_ssize_t i = count; i-- > 0;) {
		if (!native_u64(PyTuple_GetItem(tuple, i), "shape", &length))
			return false;
		shape->lengths[i] = (int64_t)length;
		shape->strides[i] = (int64_t)elements;
		if (length > INT64_MAX || __builtin_mul_overflow(elements, length, &elements) ||
		    elements > INT64_MAX / each) {
			PyErr_SetString(PyExc_ValueError, "a shape that is too large");
			return false;
		}
	}
	*bytes = elements * each;

	return true;
}

static void array_set_shape(struct array *self, const struct array_shape *shape)
{
	int64_t each = self->number->bits / 8, elements = 1;

	self->shape = *shape;
	for (int i = 0; i < shape->dimensions; i++) {
		self->lengths[i] = (Py_ssize_t)shape->lengths[i];
		self->strides[i] = (Py_ssize_t)(shape->strides[i] * each);
		elements *= shape->lengths[i];
	}
	self->bytes = (uint64_t)(elements * each);
}

PyObject *array_new(const struct array_place *place, const char *type,
		    const struct array_shape *shape)
{
	const struct number *number = array_number(type);
	struct array *self;

	if (!number)
		return NULL;
	if (place->address % (number->bits / 8) != 0) {
		PyErr_Format(PyExc_ValueError, "its begin is no multiple of %d", number->bits / 8);
		return NULL;
	}

	self = native_new(native_array_type);
	if (!self)
		return NULL;
	self->place = *place;
	Py_INCREF(place->owner);
	++*place->views;
	if (place->also)
		++*place->also;
	self->number = number;
	array_set_shape(self, shape);

	return (PyObject *)self;
}

static void array_dealloc(PyObject *object)
{
	struct array_place *place = &((struct array *)object)->place;

	--*place->views;
	if (place->also)
		--*place->also;
	Py_DECREF(place->owner);
	native_free(object);
}

/* ---- As a buffer ---- */

static bool array_is_contiguous(const struct array *self)
{
	int64_t elements = 1;

	for (int i = self->shape.dimensions; i-- > 0;) {
		if (self->shape.lengths[i] != 1 && self->shape.strides[i] != elements)
			return false;
		elements *= self->shape.lengths[i];
	}

	return true;
}

/* Whether it can be what a consumer asks for. False: BufferError is set. */
static bool array_check_flags(const struct array *self, int flags)
{
	const char *why = NULL;

	if (!self->place.memory)
		why = "it is device memory";
	else if ((flags & PyBUF_WRITABLE) && self->place.read_only)
		why = "it is read-only";
	else if ((flags & PyBUF_FORMAT) && !self->number->format)
		why = "buffers have no such numbers: use DLPack";
	else if ((flags & PyBUF_STRIDES) != PyBUF_STRIDES && !array_is_contiguous(self))
		why = "it is not contiguous";
	else if ((flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS && !array_is_contiguous(self))
		why = "it is not contiguous";
	else if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS && self->shape.dimensions > 1)
		why = "it is not contiguous in Fortran's order";
	if (why)
		PyErr_SetString(PyExc_BufferError, why);

	return !why;
}

static int array_get_buffer(PyObject *object, Py_buffer *view, int flags)
{
	struct array *self = (struct array *)object;

	view->obj = NULL;
	if (!array_check_flags(self, flags))
		return -1;

	*view = (Py_buffer){.buf = self->place.memory,
			    .obj = Py_NewRef(object),
			    .len = (Py_ssize_t)self->bytes,
			    .itemsize = self->number->bits / 8,
			    .readonly = self->place.read_only,
			    .ndim = self->shape.dimensions};
	if (flags & PyBUF_FORMAT)
		view->format = (char *)(uintptr_t)self->number->format;
	if (flags & PyBUF_ND)
		view->shape = self->lengths;
	if ((flags & PyBUF_STRIDES) == PyBUF_STRIDES)
		view->strides = self->strides;

	return 0;
}

/* ---- As a tensor ---- */

/* As DLPack numbers devices. False: an exception is set. */
static bool array_device(const struct array *self, int32_t *type, int32_t *id)
{
	const struct array_place *place = &self->place;
	struct call call;
	int ordinal = 0;

	*type = place->memory ? DLPACK_CPU : DLPACK_CUDA;
	*id = 0;
	if (place->memory)
		return true;
	if (!core_enter(&call, place->core) ||
	    core_leave(&call, hbm_device_ordinal(call.hbm, place->device, &ordinal)) < 0)
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
	const struct array_place *place = &self->place;
	struct dlpack_tensor tensor = {.dimensions = self->shape.dimensions,
				       .shape = (int64_t *)(uintptr_t)self->shape.lengths,
				       .strides = (int64_t *)(uintptr_t)self->shape.strides};

	if (!array_device(self, &tensor.device.type, &tensor.device.id))
		return NULL;
	if (place->read_only && !versioned) {
		PyErr_SetString(PyExc_BufferError, "it is read-only");
		return NULL;
	}

	tensor.data = place->memory ? place->memory : (void *)(uintptr_t)place->address;
	tensor.type.code = self->number->code;
	tensor.type.bits = self->number->bits;
	tensor.type.vector = 1;

	return dlpack_export(&tensor, versioned, place->read_only, (PyObject *)(uintptr_t)self);
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
		PyErr_SetString(PyExc_BufferError, "the memory is not copied");
		return NULL;
	}

	return array_export(self, versioned);
}

/* ---- Facts ---- */

static PyObject *array_tuple(const int64_t *numbers_, int count, int64_t times)
{
	PyObject *tuple = PyTuple_New(count);

	for (int i = 0; tuple && i < count; i++)
		if (PyTuple_SetItem(tuple, i, PyLong_FromLongLong(numbers_[i] * times)) < 0)
			Py_CLEAR(tuple);

	return tuple;
}

static PyObject *array_shape_of(PyObject *object, void *closure)
{
	struct array *self = (struct array *)object;

	(void)closure;
	return array_tuple(self->shape.lengths, self->shape.dimensions, 1);
}

static PyObject *array_strides(PyObject *object, void *closure)
{
	struct array *self = (struct array *)object;

	(void)closure;
	return array_tuple(self->shape.strides, self->shape.dimensions, self->number->bits / 8);
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
	(void)closure;
	return PyLong_FromUnsignedLongLong(((struct array *)object)->place.address);
}

static PyObject *array_read_only(PyObject *object, void *closure)
{
	(void)closure;
	return PyBool_FromLong(((struct array *)object)->place.read_only);
}

static PyObject *array_cuda_interface(PyObject *object, void *closure)
{
	struct array *self = (struct array *)object;
	const struct array_place *place = &self->place;

	(void)closure;
	if (place->memory || !self->number->typestr) {
		PyErr_SetString(PyExc_AttributeError, "__cuda_array_interface__");
		return NULL;
	}

	return Py_BuildValue("{s:N,s:s,s:(KO),s:N,s:i}", "shape", array_shape_of(object, NULL),
			     "typestr", self->number->typestr, "data",
			     (unsigned long long)place->address,
			     place->read_only ? Py_True : Py_False, "strides",
			     array_strides(object, NULL), "version", 3);
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
		{"shape", array_shape_of, NULL, "elements in each dimension", NULL},
		{"strides", array_strides, NULL, "bytes from one to the next, in each dimension",
		 NULL},
		{"dtype", array_dtype, NULL, "name of the type of its numbers", NULL},
		{"nbytes", array_nbytes, NULL, "bytes that it has", NULL},
		{"address", array_address, NULL, "device address of its first byte", NULL},
		{"read_only", array_read_only, NULL, "whether it may not be written", NULL},
		{"__cuda_array_interface__", array_cuda_interface, NULL, NULL, NULL},
		{.name = NULL}};
	static PyType_Slot slots[] = {
		{Py_tp_dealloc, array_dealloc},
		{Py_tp_methods, methods},
		{Py_tp_getset, members},
		{Py_tp_doc, (void *)(uintptr_t) "A range of a region, a loan or a sequence as "
						"numbers of a type, in a shape."},
		{Py_bf_getbuffer, array_get_buffer},
		{0, NULL}};
	static PyType_Spec spec = {.name = "hbm._native.Array",
				   .basicsize = sizeof(struct array),
				   .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
				   .slots = slots};

	native_array_type = native_type(module, "Array", &spec);

	return native_array_type != NULL;
}
