/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/admission.h"

#include <stdlib.h>

struct demands {
	struct hbm_sequence_demand *list; /* owned */
	size_t count;
};

static bool admission_one(PyObject *object, struct hbm_sequence_demand *demand)
{
	if (!PyTuple_Check(object) || PyTuple_Size(object) != 4) {
		PyErr_SetString(PyExc_TypeError, "a demand is a tuple of four");
		return false;
	}

	return native_u64(PyTuple_GetItem(object, 0), "present", &demand->present) &&
	       native_u64(PyTuple_GetItem(object, 1), "to_come", &demand->to_come) &&
	       native_u64(PyTuple_GetItem(object, 2), "token_bytes", &demand->token_bytes) &&
	       native_u64(PyTuple_GetItem(object, 3), "slab_bytes", &demand->slab_bytes);
}

/* False: an exception is set. */
static bool admission_parse(PyObject *object, struct demands *demands)
{
	PyObject *tuple = PySequence_Tuple(object);
	size_t i = 0;

	if (!tuple)
		return false;
	demands->count = (size_t)PyTuple_Size(tuple);
	demands->list = calloc(demands->count + 1, sizeof(*demands->list));
	if (!demands->list)
		PyErr_NoMemory();
	while (demands->list && i < demands->count &&
	       admission_one(PyTuple_GetItem(tuple, (Py_ssize_t)i), &demands->list[i]))
		i++;
	Py_DECREF(tuple);

	return demands->list && i == demands->count;
}

/* A number, or NULL and an exception for a status. */
static PyObject *admission_answer(int status, uint64_t number)
{
	if (status == 0)
		return PyLong_FromUnsignedLongLong(number);
	native_raise(status, status == HBM_INVALID ? "sequences whose bytes overflow" : "");

	return NULL;
}

PyObject *admission_admit(PyObject *module, PyObject *args)
{
	struct demands running = {.count = 0}, candidates = {.count = 0};
	PyObject *bytes, *first, *second, *answer = NULL;
	uint64_t free_bytes;
	size_t admitted = 0;

	(void)module;
	if (!PyArg_ParseTuple(args, "OOO", &bytes, &first, &second))
		return NULL;
	if (native_u64(bytes, "free_bytes", &free_bytes) && admission_parse(first, &running) &&
	    admission_parse(second, &candidates)) {
		int status = hbm_admit(free_bytes, running.list, running.count, candidates.list,
				       candidates.count, &admitted);

		answer = admission_answer(status, admitted);
	}
	free(running.list);
	free(candidates.list);

	return answer;
}

PyObject *admission_peak(PyObject *module, PyObject *sequences)
{
	struct demands demands = {.count = 0};
	PyObject *answer = NULL;
	uint64_t bytes = 0;

	(void)module;
	if (admission_parse(sequences, &demands)) {
		int status = hbm_peak_demand(demands.list, demands.count, &bytes);

		answer = admission_answer(status, bytes);
	}
	free(demands.list);

	return answer;
}
