/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/promise.h"

#include "client/python/native/connection.h"
#include "client/python/native/core.h"
#include "client/python/native/op.h"
#include "client/python/native/ticket.h"

#include <stdlib.h>

static bool promise_one(PyObject *object, struct hbm_reserve_change *change)
{
	PyObject *device;
	long long bytes;

	if (!PyArg_ParseTuple(object, "OL", &device, &bytes) ||
	    !native_u32(device, "device", &change->device))
		return false;
	change->bytes = bytes;

	return true;
}

/* NULL: an exception is set; else to be freed. */
static struct hbm_reserve_change *promise_parse(PyObject *tuple, size_t count)
{
	struct hbm_reserve_change *changes = calloc(count + 1, sizeof(*changes));

	if (!changes)
		PyErr_NoMemory();
	for (size_t i = 0; changes && i < count; i++) {
		PyObject *one = PyTuple_GetItem(tuple, (Py_ssize_t)i);
		bool right = PyTuple_Check(one) && promise_one(one, &changes[i]);

		if (right)
			continue;
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_TypeError, "a tuple (device, bytes) for each device");
		free(changes);
		return NULL;
	}

	return changes;
}

/* Gives up the op. NULL: an exception is set. */
static PyObject *promise_submit(struct core *core, const struct hbm_reserve_change *changes,
				size_t count, uint32_t timeout_ms, struct op *op)
{
	PyObject *ticket = ticket_new(core, op);
	struct call call;
	int status;

	if (ticket && core_enter(&call, core)) {
		status = hbm_submit_reserve(call.hbm, changes, count, timeout_ms, &op->ticket);
		if (status == 0)
			core_add(&call, op);
		if (core_leave(&call, status) == 0)
			return ticket;
	}
	op_unref(op);
	Py_XDECREF(ticket);

	return NULL;
}

PyObject *promise_reserve(PyObject *module, PyObject *args)
{
	struct hbm_reserve_change *changes;
	PyObject *connection, *list, *timeout, *tuple, *ticket = NULL;
	struct core *core;
	uint32_t timeout_ms;
	struct op *op;

	(void)module;
	if (!PyArg_ParseTuple(args, "OOO", &connection, &list, &timeout) ||
	    !native_u32(timeout, "timeout", &timeout_ms))
		return NULL;
	core = connection_core(connection);
	tuple = core ? PySequence_Tuple(list) : NULL;
	if (!tuple)
		return NULL;

	changes = promise_parse(tuple, (size_t)PyTuple_Size(tuple));
	op = changes ? op_new(0) : NULL;
	if (op)
		ticket = promise_submit(core, changes, (size_t)PyTuple_Size(tuple), timeout_ms, op);
	free(changes);
	Py_DECREF(tuple);

	return ticket;
}
