/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/loan.h"

#include "client/python/native/array.h"
#include "client/python/native/connection.h"
#include "client/python/native/core.h"

#include <stdlib.h>

struct loan_object {
	PyObject_HEAD struct core *core; /* counted */
	struct loan *loan;               /* counted */
};

static PyTypeObject *loan_type;

/* ---- Its life ---- */

struct loan *loan_new(struct core *core)
{
	struct loan *loan = calloc(1, sizeof(*loan));

	if (loan) {
		loan->core = core;
		loan->refs = 1;
	}

	return loan;
}

void loan_begin(struct loan *loan, struct hbm_loan *raw, uint32_t device)
{
	if (loan->core->closed)
		return;

	loan->loan = raw;
	loan->bytes = hbm_loan_bytes(raw);
	loan->pieces = hbm_loan_pieces(raw);
	loan->device = device;
	loan->next = loan->core->loans;
	loan->core->loans = loan;
}

bool loan_is_unused(const struct loan *loan, const char *what)
{
	if (loan->views > 0)
		PyErr_Format(PyExc_BufferError, "cannot %s a loan with %zd live views", what,
			     loan->views);
	else if (loan->pins > 0)
		PyErr_Format(PyExc_BufferError, "cannot %s a loan that %d calls use", what,
			     loan->pins);
	else
		return true;

	return false;
}

/* False: an exception is set; it is returned all the same. */
static bool loan_close(struct loan *loan)
{
	struct hbm_loan *raw = loan->loan;
	struct call call;

	if (!raw)
		return true;
	loan->loan = NULL; /* with the GIL: from now on no call is given it */

	return core_enter(&call, loan->core) &&
	       core_leave(&call, hbm_return(call.hbm, &raw, 1)) == 0;
}

void loan_unref(struct loan *loan)
{
	struct loan **link;
	PyObject *type, *value, *trace;

	if (--loan->refs > 0)
		return;

	/* It may be collected while an exception is on its way. */
	PyErr_Fetch(&type, &value, &trace);
	if (!loan->core->closed && !loan_close(loan))
		PyErr_Clear();
	PyErr_Restore(type, value, trace);

	link = &loan->core->loans;
	while (*link && *link != loan)
		link = &(*link)->next;
	if (*link)
		*link = loan->next;
	free(loan);
}

PyObject *loan_wrap(PyObject *class, struct loan *loan)
{
	struct loan_object *self;

	if (!PyType_Check(class) || !PyType_IsSubtype((PyTypeObject *)class, loan_type)) {
		PyErr_SetString(PyExc_TypeError, "not a class of loans");
		return NULL;
	}

	self = native_new((PyTypeObject *)class);
	if (!self)
		return NULL;
	loan->core->refs++;
	loan->refs++;
	self->core = loan->core;
	self->loan = loan;

	return (PyObject *)self;
}

static PyObject *loan_refuse(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
	(void)type;
	(void)args;
	(void)kwds;
	PyErr_SetString(PyExc_TypeError, "loans are made by Namespace.borrow()");

	return NULL;
}

static void loan_dealloc(PyObject *object)
{
	struct loan_object *self = (struct loan_object *)object;

	if (self->loan)
		loan_unref(self->loan);
	if (self->core)
		core_unref(self->core);
	native_free(object);
}

static bool loan_check(const struct loan *loan)
{
	if (!loan->loan)
		native_raise_closed("loan");
	return loan->loan != NULL;
}

struct loan *loan_of(PyObject *object, const struct core *core)
{
	struct loan *loan;

	if (!PyObject_TypeCheck(object, loan_type)) {
		PyErr_SetString(PyExc_TypeError, "not a loan");
		return NULL;
	}

	loan = ((struct loan_object *)object)->loan;
	if (loan->core == core)
		return loan_check(loan) ? loan : NULL;
	PyErr_SetString(PyExc_ValueError, "a loan of another connection");

	return NULL;
}

/* ---- Returning ---- */

static PyObject *loan_object_close(PyObject *object, PyObject *none)
{
	struct loan *loan = ((struct loan_object *)object)->loan;

	(void)none;
	if (!loan->loan)
		Py_RETURN_NONE;
	if (!loan_is_unused(loan, "return") || !loan_close(loan))
		return NULL;

	Py_RETURN_NONE;
}

/* Whether each is a loan of the connection that nothing uses, or was returned. */
static bool loan_check_all(PyObject *tuple, const struct core *core)
{
	for (Py_ssize_t i = 0; i < PyTuple_Size(tuple); i++) {
		PyObject *object = PyTuple_GetItem(tuple, i);
		const struct loan *loan;

		if (PyObject_TypeCheck(object, loan_type) &&
		    !((struct loan_object *)object)->loan->loan)
			continue;
		loan = loan_of(object, core);
		if (!loan || !loan_is_unused(loan, "return"))
			return false;
	}

	return true;
}

PyObject *loan_return_all(PyObject *module, PyObject *args)
{
	PyObject *connection, *sequence, *tuple;
	struct hbm_loan **raw = NULL;
	size_t count = 0;
	struct core *core;
	struct call call;
	bool returned = false;

	(void)module;
	if (!PyArg_ParseTuple(args, "OO", &connection, &sequence))
		return NULL;
	core = connection_core(connection);
	tuple = core ? PySequence_Tuple(sequence) : NULL;
	if (!tuple)
		return NULL;

	raw = calloc((size_t)PyTuple_Size(tuple) + 1, sizeof(struct hbm_loan *));
	if (!raw)
		PyErr_NoMemory();
	else if (loan_check_all(tuple, core)) {
		for (Py_ssize_t i = 0; i < PyTuple_Size(tuple); i++) {
			struct loan *loan = ((struct loan_object *)PyTuple_GetItem(tuple, i))->loan;

			if (loan->loan) /* one that is named twice is not there any more */
				raw[count++] = loan->loan;
			loan->loan = NULL;
		}
		returned = count == 0 || (core_enter(&call, core) &&
					  core_leave(&call, hbm_return(call.hbm, raw, count)) == 0);
	}
	free(raw);
	Py_DECREF(tuple);

	return returned ? Py_NewRef(Py_None) : NULL;
}

/* ---- Views ---- */

/* Maps it, if it is not. False: an exception is set. */
static bool loan_map(struct loan *loan)
{
	const unsigned char *memory = NULL;
	struct hbm_loan *raw = loan->loan;
	uint64_t address = 0;
	struct call call;
	int status;

	if (!loan_check(loan))
		return false;
	if (loan->address)
		return true;

	loan->pins++; /* it is not returned meanwhile */
	status = core_enter(&call, loan->core) ? 0 : -1;
	if (status == 0) {
		status = hbm_loan_map(call.hbm, raw, &address);
		memory = hbm_loan_host(raw);
		status = core_leave(&call, status);
	}
	loan->pins--;
	if (status < 0 || !loan_check(loan)) /* the connection may be closed now */
		return false;

	loan->memory = memory;
	loan->address = address;

	return true;
}

static int loan_get_buffer(PyObject *object, Py_buffer *view, int flags)
{
	struct loan *loan = ((struct loan_object *)object)->loan;

	view->obj = NULL;
	if (!loan_map(loan))
		return -1;
	if (!loan->memory) {
		PyErr_SetString(PyExc_BufferError, "the loan is device memory");
		return -1;
	}
	if (PyBuffer_FillInfo(view, object, (void *)(uintptr_t)loan->memory,
			      (Py_ssize_t)loan->bytes, true, flags) < 0)
		return -1;
	loan->views++;

	return 0;
}

static void loan_release_buffer(PyObject *object, Py_buffer *view)
{
	(void)view;
	((struct loan_object *)object)->loan->views--;
}

/* _array(offset, shape, type) */
static PyObject *loan_array(PyObject *object, PyObject *args)
{
	struct loan *loan = ((struct loan_object *)object)->loan;
	struct array_place place;
	struct array_shape shape;
	uint64_t offset, bytes;
	PyObject *at, *lengths;
	const char *type;

	if (!PyArg_ParseTuple(args, "OO!s", &at, &PyTuple_Type, &lengths, &type) ||
	    !native_u64(at, "offset", &offset) ||
	    !array_shape_parse(lengths, type, &shape, &bytes) || !loan_map(loan))
		return NULL;
	if (offset > loan->bytes || bytes > loan->bytes - offset) {
		PyErr_Format(PyExc_ValueError, "%llu bytes at %llu in a loan of %llu",
			     (unsigned long long)bytes, (unsigned long long)offset,
			     (unsigned long long)loan->bytes);
		return NULL;
	}

	place = (struct array_place){
		.owner = object,
		.views = &loan->views,
		.core = loan->core,
		.address = loan->address + offset,
		.memory = loan->memory ? (unsigned char *)(uintptr_t)loan->memory + offset : NULL,
		.device = loan->device,
		.read_only = true};

	return array_new(&place, type, &shape);
}

/* ---- Facts ---- */

static PyObject *loan_fact(PyObject *object, void *which)
{
	const struct loan *loan = ((struct loan_object *)object)->loan;
	uint64_t facts[] = {loan->bytes, loan->pieces, loan->device};

	return PyLong_FromUnsignedLongLong(facts[(uintptr_t)which]);
}

static PyObject *loan_address(PyObject *object, void *closure)
{
	struct loan *loan = ((struct loan_object *)object)->loan;

	(void)closure;
	return loan_map(loan) ? PyLong_FromUnsignedLongLong(loan->address) : NULL;
}

static PyObject *loan_closed(PyObject *object, void *closure)
{
	(void)closure;
	return PyBool_FromLong(((struct loan_object *)object)->loan->loan == NULL);
}

static PyObject *loan_is_host(PyObject *object, void *closure)
{
	struct loan *loan = ((struct loan_object *)object)->loan;

	(void)closure;
	return loan_map(loan) ? PyBool_FromLong(loan->memory != NULL) : NULL;
}

/* ---- The type ---- */

bool native_add_loan(PyObject *module)
{
	static PyMethodDef methods[] = {{"close", loan_object_close, METH_NOARGS, NULL},
					{"_array", loan_array, METH_VARARGS, NULL},
					{.ml_name = NULL}};
	static PyGetSetDef members[] = {
		{"bytes", loan_fact, NULL, "how many it has: those of its block", (void *)0},
		{"pieces", loan_fact, NULL, "how many slabs it is in that are its own, or 1",
		 (void *)1},
		{"device", loan_fact, NULL, "the daemon's number of the device", (void *)2},
		{"address", loan_address, NULL, "device address of its first byte", NULL},
		{"closed", loan_closed, NULL, "whether it was returned", NULL},
		{"is_host", loan_is_host, NULL, "whether this process can reach its bytes", NULL},
		{.name = NULL}};
	static PyType_Slot slots[] = {{Py_tp_new, loan_refuse},
				      {Py_tp_dealloc, loan_dealloc},
				      {Py_tp_methods, methods},
				      {Py_tp_getset, members},
				      {Py_bf_getbuffer, loan_get_buffer},
				      {Py_bf_releasebuffer, loan_release_buffer},
				      {0, NULL}};
	static PyType_Spec spec = {.name = "hbm._native.Loan",
				   .basicsize = sizeof(struct loan_object),
				   .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
				   .slots = slots};

	loan_type = native_type(module, "Loan", &spec);

	return loan_type != NULL;
}
