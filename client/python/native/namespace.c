/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/namespace.h"

#include "client/python/native/borrowing.h"
#include "client/python/native/connection.h"
#include "client/python/native/core.h"
#include "client/python/native/keys.h"
#include "client/python/native/op.h"
#include "client/python/native/opening.h"
#include "client/python/native/ticket.h"
#include "client/python/native/transfer.h"

#include <stdlib.h>

PyTypeObject *native_namespace_type;

bool namespace_check(const struct namespace *self)
{
	if (!self->opening)
		native_raise_closed("namespace");
	return self->opening != NULL;
}

struct opening *namespace_use(PyObject *object)
{
	struct namespace *self = (struct namespace *)object;

	if (!PyObject_TypeCheck(object, native_namespace_type)) {
		PyErr_SetString(PyExc_TypeError, "not a namespace");
		return NULL;
	}
	if (!namespace_check(self))
		return NULL;
	self->opening->refs++;

	return self->opening;
}

/* ---- Its life ---- */

static PyObject *namespace_make(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
	struct hbm_namespace_options options = {.model = NULL};
	PyObject *connection, *weights, *block_bytes, *element_bytes, *logical_bytes;
	int encoding, ephemeral, memory_only, wipe_on_free;
	struct namespace *self;
	struct core *core;

	if (kwds && PyDict_Size(kwds) > 0) {
		PyErr_SetString(PyExc_TypeError, "no keywords");
		return NULL;
	}
	if (!PyArg_ParseTuple(args, "OsssOOiOOpppz", &connection, &options.model, &options.layout,
			      &options.salt, &weights, &block_bytes, &encoding, &element_bytes,
			      &logical_bytes, &ephemeral, &memory_only, &wipe_on_free,
			      &options.group))
		return NULL;

	core = connection_core(connection);
	if (!core || !native_u64(weights, "weights", &options.weights) ||
	    !native_u64(block_bytes, "block_bytes", &options.block_bytes) ||
	    !native_u32(element_bytes, "element_bytes", &options.element_bytes) ||
	    !native_u64(logical_bytes, "logical_bytes", &options.logical_bytes))
		return NULL;
	if (options.block_bytes == 0) {
		PyErr_SetString(PyExc_ValueError, "blocks of 0 bytes");
		return NULL;
	}

	options.encoding = (enum hbm_encoding)encoding;
	options.ephemeral = ephemeral;
	options.memory_only = memory_only;
	options.wipe_on_free = wipe_on_free;
	self = native_new(type);
	if (!self)
		return NULL;
	self->opening = opening_new(core, &options);
	if (!self->opening) {
		Py_DECREF(self);
		return NULL;
	}

	core->refs++;
	self->core = core;
	self->ns = self->opening->ns;
	self->block_bytes = options.block_bytes;

	return (PyObject *)self;
}

static int namespace_close_it(struct namespace *self)
{
	struct opening *opening = self->opening;

	self->opening = NULL;

	return opening ? opening_unref(opening) : 0;
}

static void namespace_dealloc(PyObject *object)
{
	struct namespace *self = (struct namespace *)object;
	PyObject *type, *value, *trace;

	PyErr_Fetch(&type, &value, &trace);
	if (namespace_close_it(self) < 0)
		PyErr_Clear();
	PyErr_Restore(type, value, trace);
	if (self->core)
		core_unref(self->core);
	native_free(object);
}

static PyObject *namespace_close(PyObject *object, PyObject *none)
{
	(void)none;
	if (namespace_close_it((struct namespace *)object) < 0)
		return NULL;

	Py_RETURN_NONE;
}

static PyObject *namespace_closed(PyObject *object, void *closure)
{
	const struct namespace *self = (struct namespace *)object;

	(void)closure;
	return PyBool_FromLong(!self->opening || self->core->closed);
}

static PyObject *namespace_number(PyObject *object, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLong(((struct namespace *)object)->ns);
}

static PyObject *namespace_block_bytes(PyObject *object, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLongLong(((struct namespace *)object)->block_bytes);
}

/* ---- Tickets ---- */

static int namespace_submit_drop(struct hbm *hbm, const struct namespace *self, struct op *op,
				 const void *flags)
{
	return hbm_submit_namespace_drop(hbm, self->ns, *(const uint32_t *)flags, &op->amount,
					 &op->ticket);
}

PyObject *namespace_submit(struct namespace *self, struct op *op, namespace_submit_fn *submit,
			   const void *what)
{
	PyObject *ticket = namespace_check(self) ? ticket_new(self->core, op) : NULL;
	struct call call;
	int status;

	if (ticket) {
		op->opening = self->opening;
		op->opening->refs++;
	}

	if (!ticket || !core_enter(&call, self->core)) {
		op_unref(op);
		Py_XDECREF(ticket);
		return NULL;
	}

	if (op->count == 0 && submit != namespace_submit_drop) { /* of no blocks: it is over */
		op->state = OP_FINISHED;
		core_leave(&call, 0);
		op_unref(op);
		return ticket;
	}

	status = submit(call.hbm, self, op, what);
	if (status == 0)
		core_add(&call, op);
	if (core_leave(&call, status) == 0)
		return ticket;

	op_unref(op);
	Py_DECREF(ticket);

	return NULL;
}

/* ---- Keys ---- */

/* lookup(keys): (leading run, seconds, bytes: the status of each) */
static PyObject *namespace_lookup(PyObject *object, PyObject *argument)
{
	struct namespace *self = (struct namespace *)object;
	struct hbm_lookup answer = {.resident = 0};
	PyObject *statuses = NULL;
	hbm_result *results;
	struct keys keys;
	struct call call;

	if (!namespace_check(self) || !keys_parse(argument, &keys))
		return NULL;
	if (keys.count == 0) {
		keys_free(&keys);
		return Py_BuildValue("idy", 0, 0.0, "");
	}

	results = calloc(keys.count + 1, sizeof(*results));
	if (!results)
		PyErr_NoMemory();
	else if (core_enter(&call, self->core) &&
		 core_leave(&call, hbm_lookup(call.hbm, self->ns, keys.keys, keys.count, &answer,
					      results)) == 0)
		statuses = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)keys.count);
	for (size_t i = 0; statuses && i < keys.count; i++)
		PyBytes_AsString(statuses)[i] = (char)results[i].status;
	keys_free(&keys);
	free(results);

	return statuses ? Py_BuildValue("IdN", answer.resident, (double)answer.load_ns / 1e9,
					statuses)
			: NULL;
}

/* watch(position): (position, how many were missed, a list of (key, event, from, to)) */
static PyObject *namespace_watch(PyObject *object, PyObject *number)
{
	struct namespace *self = (struct namespace *)object;
	struct hbm_wire_cache_event events[HBM_WIRE_WATCH_MAX];
	uint64_t position, missed = 0;
	struct call call;
	PyObject *list;
	size_t count = 0;

	if (!native_u64(number, "position", &position) || !namespace_check(self) ||
	    !core_enter(&call, self->core) ||
	    core_leave(&call, hbm_watch(call.hbm, self->ns, &position, events, HBM_WIRE_WATCH_MAX,
					&count, &missed)) < 0)
		return NULL;

	list = PyList_New(0);
	for (size_t i = 0; list && i < count; i++) {
		PyObject *event = Py_BuildValue("y#Iii", (const char *)&events[i].key,
						(Py_ssize_t)sizeof(events[i].key), events[i].event,
						(int)events[i].from, (int)events[i].to);

		if (!event || PyList_Append(list, event) < 0)
			Py_CLEAR(list);
		Py_XDECREF(event);
	}

	return list ? Py_BuildValue("KKN", (unsigned long long)position, (unsigned long long)missed,
				    list)
		    : NULL;
}

/* What is asked for keys: an opcode and its arguments. */
struct keys_request {
	struct keys keys;
	long op;
	uint32_t device;
	uint64_t number, deadline_us;
};

static int namespace_submit_keys(struct hbm *hbm, const struct namespace *self, struct op *op,
				 const void *what)
{
	const struct keys_request *request = what;
	const hbm_key *keys = request->keys.keys;

	switch (request->op) {
	case HBM_WIRE_PREFETCH:
		return hbm_submit_prefetch(hbm, self->ns, request->device, keys, op->count,
					   request->deadline_us, op->results, &op->ticket);
	case HBM_WIRE_MOVE:
		return hbm_submit_move_by(hbm, self->ns, (enum hbm_tier)request->number,
					  request->device, request->deadline_us, keys, op->count,
					  op->results, &op->ticket);
	case HBM_WIRE_LOOKUP:
		return hbm_submit_lookup(hbm, self->ns, keys, op->count, &op->lookup, op->results,
					 &op->ticket);
	case HBM_WIRE_RETAIN:
		return hbm_submit_retain(hbm, self->ns, request->device, request->number, keys,
					 op->count, op->results, &op->ticket);
	default:
		return hbm_submit_keys(hbm, (enum hbm_wire_opcode)request->op, self->ns,
				       request->device, keys, op->count, op->results, &op->ticket);
	}
}

/* keys(op, keys, device or flags or priority, number, deadline in us): a ticket */
static PyObject *namespace_keys(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
	struct namespace *self = (struct namespace *)object;
	struct keys_request request = {.op = 0};
	PyObject *ticket = NULL;
	struct op *op;

	if (count != 5) {
		PyErr_SetString(PyExc_TypeError, "five arguments");
		return NULL;
	}
	request.op = PyLong_AsLong(args[0]);
	if ((request.op == -1 && PyErr_Occurred()) || !namespace_check(self) ||
	    !native_u32(args[2], "device", &request.device) ||
	    !native_u64(args[3], "number", &request.number) ||
	    !native_u64(args[4], "deadline", &request.deadline_us) ||
	    !keys_parse(args[1], &request.keys))
		return NULL;

	op = op_new(request.keys.count);
	if (op)
		ticket = namespace_submit(self, op, namespace_submit_keys, &request);
	keys_free(&request.keys);

	return ticket;
}

/* ---- Drop ---- */

static PyObject *namespace_drop(PyObject *object, PyObject *number)
{
	struct namespace *self = (struct namespace *)object;
	uint32_t flags;
	struct op *op;

	if (!namespace_check(self) || !native_u32(number, "flags", &flags))
		return NULL;
	op = op_new(0);

	return op ? namespace_submit(self, op, namespace_submit_drop, &flags) : NULL;
}

/* ---- The type ---- */

static PyMethodDef namespace_methods[] = {
	{"close", namespace_close, METH_NOARGS, NULL},
	{"_store", (PyCFunction)(void (*)(void))transfer_store, METH_FASTCALL, NULL},
	{"_load", (PyCFunction)(void (*)(void))transfer_load, METH_FASTCALL, NULL},
	{"_lookup", namespace_lookup, METH_O, NULL},
	{"_keys", (PyCFunction)(void (*)(void))namespace_keys, METH_FASTCALL, NULL},
	{"_drop", namespace_drop, METH_O, NULL},
	{"_watch", namespace_watch, METH_O, NULL},
	{"_borrow", borrowing_submit, METH_VARARGS, NULL},
	{.ml_name = NULL}};

bool native_add_namespace(PyObject *module)
{
	static PyGetSetDef members[] = {
		{"closed", namespace_closed, NULL, "whether it was closed", NULL},
		{"number", namespace_number, NULL, "the daemon's number of it", NULL},
		{"block_bytes", namespace_block_bytes, NULL, "bytes of a block", NULL},
		{.name = NULL}};
	static PyType_Slot slots[] = {{Py_tp_new, namespace_make},
				      {Py_tp_dealloc, namespace_dealloc},
				      {Py_tp_methods, namespace_methods},
				      {Py_tp_getset, members},
				      {0, NULL}};
	static PyType_Spec spec = {.name = "hbm._native.Namespace",
				   .basicsize = sizeof(struct namespace),
				   .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
				   .slots = slots};

	native_namespace_type = native_type(module, "Namespace", &spec);

	return native_namespace_type != NULL;
}
