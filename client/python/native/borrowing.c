/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/borrowing.h"

#include "client/python/native/core.h"
#include "client/python/native/keys.h"
#include "client/python/native/loan.h"
#include "client/python/native/namespace.h"
#include "client/python/native/op.h"

#include <stdlib.h>

struct borrowing {
	struct core *core; /* not counted: who has the op has a use of it */
	uint32_t device;
	uint64_t piece;
	size_t count;
	struct hbm_loan **raw; /* [count], of the library */
	struct loan **loans;   /* [count], made before, so that nothing fails when they come */
	bool arrived;
};

struct borrowing *borrowing_free(struct borrowing *borrowing)
{
	if (!borrowing)
		return NULL;

	for (size_t i = 0; borrowing->loans && i < borrowing->count; i++)
		if (borrowing->loans[i])
			loan_unref(borrowing->loans[i]);
	free(borrowing->raw);
	free(borrowing->loans);
	free(borrowing);

	return NULL;
}

/* NULL: MemoryError is set. */
static struct borrowing *borrowing_new(struct core *core, size_t count)
{
	struct borrowing *borrowing = calloc(1, sizeof(*borrowing));
	bool made = borrowing != NULL;

	if (made) {
		borrowing->core = core;
		borrowing->count = count;
		borrowing->raw = calloc(count + 1, sizeof(*borrowing->raw));
		borrowing->loans = calloc(count + 1, sizeof(*borrowing->loans));
		made = borrowing->raw && borrowing->loans;
	}
	for (size_t i = 0; made && i < count; i++)
		made = (borrowing->loans[i] = loan_new(core)) != NULL;
	if (made)
		return borrowing;

	borrowing_free(borrowing);
	PyErr_NoMemory();

	return NULL;
}

void borrowing_arrive(struct borrowing *borrowing)
{
	if (borrowing->arrived)
		return;

	borrowing->arrived = true;
	for (size_t i = 0; i < borrowing->count; i++) {
		if (borrowing->raw[i]) {
			loan_begin(borrowing->loans[i], borrowing->raw[i], borrowing->device);
			continue;
		}
		loan_unref(borrowing->loans[i]);
		borrowing->loans[i] = NULL;
	}
}

PyObject *borrowing_loans(const struct borrowing *borrowing, PyObject *class)
{
	PyObject *list = PyList_New(0);

	for (size_t i = 0; list && i < borrowing->count; i++) {
		PyObject *each = borrowing->loans[i] ? loan_wrap(class, borrowing->loans[i])
						     : Py_NewRef(Py_None);

		if (!each || PyList_Append(list, each) < 0)
			Py_CLEAR(list);
		Py_XDECREF(each);
	}

	return list;
}

/* ---- The request ---- */

static int borrowing_request(struct hbm *hbm, const struct namespace *self, struct op *op,
			     const void *what)
{
	const struct keys *keys = what;

	return hbm_submit_borrow(hbm, self->ns, op->borrowing->device, op->borrowing->piece,
				 keys->keys, op->count, op->borrowing->raw, op->results,
				 &op->ticket);
}

PyObject *borrowing_submit(PyObject *object, PyObject *args)
{
	struct namespace *self = (struct namespace *)object;
	PyObject *names, *device, *piece, *ticket = NULL;
	struct keys keys;
	struct op *op;
	uint64_t bytes;
	uint32_t number;

	if (!PyArg_ParseTuple(args, "OOO", &names, &device, &piece) || !namespace_check(self) ||
	    !native_u32(device, "device", &number) || !native_u64(piece, "piece", &bytes) ||
	    !keys_parse(names, &keys))
		return NULL;

	op = op_new(keys.count);
	if (op)
		op->borrowing = borrowing_new(self->core, keys.count);
	if (op && op->borrowing) {
		op->borrowing->device = number;
		op->borrowing->piece = bytes;
		ticket = namespace_submit(self, op, borrowing_request, &keys);
	} else if (op) {
		op_unref(op);
	}
	keys_free(&keys);

	return ticket;
}
