/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/op.h"

#include "client/python/native/area.h"
#include "client/python/native/borrowing.h"
#include "client/python/native/job.h"
#include "client/python/native/opening.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

struct op *op_new(size_t count)
{
	struct op *op = NULL;

	if (count <= (SIZE_MAX / 2 - sizeof(*op)) / sizeof(op->results[0]))
		op = calloc(1, sizeof(*op) + count * sizeof(op->results[0]));
	if (!op) {
		PyErr_NoMemory();
		return NULL;
	}

	op->refs = 1;
	op->count = count;

	return op;
}

void op_unref(struct op *op)
{
	if (--op->refs > 0)
		return;

	op_release(op);
	borrowing_free(op->borrowing);
	free(op->error);
	free(op);
}

bool op_pin(struct op *op, struct area *area)
{
	if (op->area_count > 0 && op->areas[op->area_count - 1] == area)
		return true;

	/* grown to the next power of two */
	if ((op->area_count & (op->area_count - 1)) == 0) {
		size_t room = op->area_count ? 2 * op->area_count : 1;
		struct area **areas = realloc(op->areas, room * sizeof(struct area *));

		if (!areas) {
			PyErr_NoMemory();
			return false;
		}
		op->areas = areas;
	}

	op->areas[op->area_count++] = area;
	area->refs++;
	area->pins++;

	return true;
}

bool op_has_ended(const struct op *op)
{
	return __atomic_load_n(&op->state, __ATOMIC_ACQUIRE) != OP_PENDING;
}

void op_end(struct op *op, int status, const char *error)
{
	op->status = status;
	op->error = status != 0 && error[0] ? strdup(error) : NULL;
	__atomic_store_n(&op->state, OP_ENDED, __ATOMIC_RELEASE);

	for (struct waiter *waiter = op->waiters; waiter; waiter = waiter->next)
		eventfd_write(waiter->fd, 1);
}

int op_cancel(struct hbm *hbm, const struct op *op)
{
	hbm_ticket ticket = op->job ? job_ticket(op->job) : op->ticket;

	return ticket ? hbm_cancel(hbm, ticket) : HBM_NOT_FOUND;
}

static void op_release_areas(struct op *op)
{
	for (size_t i = 0; i < op->area_count; i++) {
		op->areas[i]->pins--;
		area_unref(op->areas[i]);
	}
	free(op->areas);
	op->areas = NULL;
	op->area_count = 0;
}

static void op_release_buffers(struct op *op)
{
	for (size_t i = 0; i < op->buffer_count; i++)
		PyBuffer_Release(&op->buffers[i]);
	free(op->buffers);
	op->buffers = NULL;
	op->buffer_count = 0;
	Py_CLEAR(op->kept);
}

void op_release(struct op *op)
{
	PyObject *type, *value, *trace;

	/* an exception may be on its way */
	PyErr_Fetch(&type, &value, &trace);
	op_release_areas(op);
	op_release_buffers(op);
	op->job = job_free(op->job);
	if (op->opening && opening_unref(op->opening) < 0)
		PyErr_Clear();
	op->opening = NULL;
	PyErr_Restore(type, value, trace);
}

static void op_call_back(PyObject *callbacks, PyObject *self)
{
	for (Py_ssize_t i = 0; i < PyList_Size(callbacks); i++) {
		PyObject *callback = PyList_GetItem(callbacks, i);
		PyObject *answer = PyObject_CallFunctionObjArgs(callback, self, NULL);

		if (!answer)
			PyErr_WriteUnraisable(callback);
		Py_XDECREF(answer);
	}
}

static void op_finish(struct op *op)
{
	PyObject *callbacks, *self;

	if (op->borrowing)
		borrowing_arrive(op->borrowing);
	op_release(op); /* other threads run meanwhile, and may add callbacks */
	callbacks = op->callbacks;
	self = op->self;
	op->callbacks = op->self = NULL;
	__atomic_store_n(&op->state, OP_FINISHED, __ATOMIC_RELEASE);
	op_unref(op);

	if (callbacks)
		op_call_back(callbacks, self);
	Py_XDECREF(callbacks);
	Py_XDECREF(self);
}

void op_finish_all(struct op *ended)
{
	while (ended) {
		struct op *next = ended->next;

		op_finish(ended);
		ended = next;
	}
}
