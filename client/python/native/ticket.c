/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/ticket.h"

#include "client/python/native/borrowing.h"
#include "client/python/native/core.h"
#include "client/python/native/op.h"

PyTypeObject *native_ticket_type;

struct ticket {
	PyObject_HEAD struct core *core; /* counted */
	struct op *op;                   /* counted */
};

PyObject *ticket_new(struct core *core, struct op *op)
{
	struct ticket *self;

	if (!native_ticket_class) {
		PyErr_SetString(PyExc_RuntimeError, "the package hbm is not imported");
		return NULL;
	}

	self = native_new((PyTypeObject *)native_ticket_class);
	if (!self)
		return NULL;
	core->refs++;
	op->refs++;
	self->core = core;
	self->op = op;

	return (PyObject *)self;
}

static PyObject *ticket_refuse(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
	(void)type;
	(void)args;
	(void)kwds;
	PyErr_SetString(PyExc_TypeError, "tickets are made by requests");

	return NULL;
}

static void ticket_dealloc(PyObject *object)
{
	struct ticket *self = (struct ticket *)object;

	if (self->op)
		op_unref(self->op);
	if (self->core)
		core_unref(self->core);
	native_free(object);
}

/* done(): whether it has ended, after a look at what has arrived. */
static PyObject *ticket_done(PyObject *object, PyObject *none)
{
	struct ticket *self = (struct ticket *)object;

	(void)none;
	if (!op_has_ended(self->op) && core_dispatch(self->core, 0) < 0) {
		if (!op_has_ended(self->op))
			return NULL;
		PyErr_Clear();
	}

	return PyBool_FromLong(op_has_ended(self->op));
}

/* ended(): whether that is known already. */
static PyObject *ticket_ended(PyObject *object, PyObject *none)
{
	(void)none;
	return PyBool_FromLong(op_has_ended(((struct ticket *)object)->op));
}

/* wait(timeout or None): whether it has ended. */
static PyObject *ticket_wait(PyObject *object, PyObject *timeout)
{
	struct ticket *self = (struct ticket *)object;
	double seconds = timeout == Py_None ? -1 : PyFloat_AsDouble(timeout);
	int ended;

	if (seconds == -1 && PyErr_Occurred())
		return NULL;
	if (timeout != Py_None && !(seconds >= 0)) {
		PyErr_SetString(PyExc_ValueError, "a timeout is no less than 0");
		return NULL;
	}

	ended = core_wait(self->core, self->op, seconds);

	return ended < 0 ? NULL : PyBool_FromLong(ended);
}

/* Of an op that has ended. */
static bool ticket_check(const struct op *op)
{
	if (!op_has_ended(op)) {
		PyErr_SetString(PyExc_RuntimeError, "the ticket has not ended");
		return false;
	}

	if (op->status == 0)
		return true;
	native_raise(op->status, op->error ? op->error : "");

	return false;
}

static uint8_t ticket_status(const hbm_result *result)
{
	return (uint8_t)result->status;
}

static uint8_t ticket_tier(const hbm_result *result)
{
	return (uint8_t)result->tier;
}

/* bytes, one of each block, from its result. */
static PyObject *ticket_of_each(PyObject *object, uint8_t (*of)(const hbm_result *result))
{
	const struct op *op = ((struct ticket *)object)->op;
	PyObject *bytes;
	char *at;

	if (!ticket_check(op))
		return NULL;
	bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)op->count);
	if (!bytes)
		return NULL;
	at = PyBytes_AsString(bytes);
	for (size_t i = 0; i < op->count; i++)
		at[i] = (char)of(&op->results[i]);

	return bytes;
}

/* statuses(): the status of each block. */
static PyObject *ticket_statuses(PyObject *object, PyObject *none)
{
	(void)none;
	return ticket_of_each(object, ticket_status);
}

/* tiers(): the tier of each. */
static PyObject *ticket_tiers(PyObject *object, PyObject *none)
{
	(void)none;
	return ticket_of_each(object, ticket_tier);
}

/* lookup(): (leading run, seconds), of a lookup. */
static PyObject *ticket_lookup(PyObject *object, PyObject *none)
{
	const struct op *op = ((struct ticket *)object)->op;

	(void)none;
	if (!ticket_check(op))
		return NULL;

	return Py_BuildValue("Id", op->lookup.resident, (double)op->lookup.load_ns / 1e9);
}

/* loans(class): a list of an object of it for each key, or None; of a request that borrows. */
static PyObject *ticket_loans(PyObject *object, PyObject *class)
{
	struct op *op = ((struct ticket *)object)->op;

	if (!ticket_check(op))
		return NULL;
	if (!op->borrowing) {
		PyErr_SetString(PyExc_RuntimeError, "the ticket is of no request that borrows");
		return NULL;
	}
	borrowing_arrive(op->borrowing);

	return borrowing_loans(op->borrowing, class);
}

/* amount(): (blocks, bytes), of a drop. */
static PyObject *ticket_amount(PyObject *object, PyObject *none)
{
	const struct op *op = ((struct ticket *)object)->op;

	(void)none;
	if (!ticket_check(op))
		return NULL;

	return Py_BuildValue("KK", (unsigned long long)op->amount.blocks,
			     (unsigned long long)op->amount.bytes);
}

/* cancel(): whether it will end as cancelled, or has. */
static PyObject *ticket_cancel(PyObject *object, PyObject *none)
{
	struct ticket *self = (struct ticket *)object;
	struct call call;
	int status;

	(void)none;
	if (op_has_ended(self->op))
		return PyBool_FromLong(self->op->status == HBM_CANCELLED);
	if (!core_enter(&call, self->core))
		return NULL;
	status = op_has_ended(self->op) ? HBM_NOT_FOUND : op_cancel(call.hbm, self->op);
	if (core_leave(&call, status == HBM_NOT_FOUND ? 0 : status) < 0)
		return NULL;

	return PyBool_FromLong(status == 0);
}

static PyObject *ticket_call_later(PyObject *object, PyObject *callback)
{
	struct ticket *self = (struct ticket *)object;
	struct op *op = self->op;

	if (!PyCallable_Check(callback)) {
		PyErr_SetString(PyExc_TypeError, "a callback is callable");
		return NULL;
	}

	/* with the GIL: it is finished, or its callbacks are still to be called */
	if (__atomic_load_n(&op->state, __ATOMIC_ACQUIRE) == OP_FINISHED) {
		PyObject *answer = PyObject_CallFunctionObjArgs(callback, object, NULL);

		if (!answer)
			PyErr_WriteUnraisable(callback);
		Py_XDECREF(answer);
		Py_RETURN_NONE;
	}

	if (!op->callbacks) {
		op->callbacks = PyList_New(0);
		if (!op->callbacks)
			return NULL;
		op->self = Py_NewRef(object);
	}
	if (PyList_Append(op->callbacks, callback) < 0)
		return NULL;

	Py_RETURN_NONE;
}

static PyObject *ticket_count(PyObject *object, PyObject *none)
{
	(void)none;
	return PyLong_FromSize_t(((struct ticket *)object)->op->count);
}

bool native_add_ticket(PyObject *module)
{
	static PyMethodDef methods[] = {{"done", ticket_done, METH_NOARGS, NULL},
					{"_ended", ticket_ended, METH_NOARGS, NULL},
					{"_wait", ticket_wait, METH_O, NULL},
					{"_statuses", ticket_statuses, METH_NOARGS, NULL},
					{"_tiers", ticket_tiers, METH_NOARGS, NULL},
					{"_amount", ticket_amount, METH_NOARGS, NULL},
					{"_lookup", ticket_lookup, METH_NOARGS, NULL},
					{"_loans", ticket_loans, METH_O, NULL},
					{"cancel", ticket_cancel, METH_NOARGS, NULL},
					{"_call_later", ticket_call_later, METH_O, NULL},
					{"_count", ticket_count, METH_NOARGS, NULL},
					{.ml_name = NULL}};
	static PyType_Slot slots[] = {{Py_tp_new, ticket_refuse},
				      {Py_tp_dealloc, ticket_dealloc},
				      {Py_tp_methods, methods},
				      {0, NULL}};
	static PyType_Spec spec = {.name = "hbm._native.Ticket",
				   .basicsize = sizeof(struct ticket),
				   .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
				   .slots = slots};

	native_ticket_type = native_type(module, "Ticket", &spec);

	return native_ticket_type != NULL;
}
