/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/dlpack.h"

#include <stdlib.h>
#include <string.h>

/* Of both versions: which one is in use says the capsule's name. */
struct exported {
	union {
		struct dlpack_managed managed;
		struct dlpack_versioned versioned;
	};
	PyObject *owner;
	int64_t numbers[]; /* shape and strides */
};

/* ---- Out ---- */

/* Any thread may drop a tensor, with the GIL or without. */
static void dlpack_drop(struct exported *exported)
{
	if (Py_IsInitialized()) {
		PyGILState_STATE state = PyGILState_Ensure();

		Py_DECREF(exported->owner);
		PyGILState_Release(state);
	}
	free(exported);
}

static void dlpack_delete(struct dlpack_managed *managed)
{
	dlpack_drop(managed->context);
}

static void dlpack_delete_versioned(struct dlpack_versioned *versioned)
{
	dlpack_drop(versioned->context);
}

/* Of a capsule that is not used: who uses it gives it another name. */
static void dlpack_capsule_end(PyObject *capsule)
{
	struct exported *exported = NULL;

	if (PyCapsule_IsValid(capsule, DLPACK_NAME))
		exported = PyCapsule_GetPointer(capsule, DLPACK_NAME);
	else if (PyCapsule_IsValid(capsule, DLPACK_VERSIONED_NAME))
		exported = PyCapsule_GetPointer(capsule, DLPACK_VERSIONED_NAME);
	if (exported)
		dlpack_drop(exported);
}

PyObject *dlpack_export(const struct dlpack_tensor *tensor, bool versioned, bool read_only,
			PyObject *owner)
{
	size_t shape = (size_t)tensor->dimensions * sizeof(int64_t);
	struct exported *exported = calloc(1, sizeof(*exported) + 2 * shape);
	struct dlpack_tensor *copy;
	PyObject *capsule;

	if (!exported)
		return PyErr_NoMemory();

	if (versioned)
		exported->versioned = (struct dlpack_versioned){1,
								0,
								exported,
								dlpack_delete_versioned,
								read_only ? DLPACK_READ_ONLY : 0,
								*tensor};
	else
		exported->managed = (struct dlpack_managed){*tensor, exported, dlpack_delete};
	copy = versioned ? &exported->versioned.tensor : &exported->managed.tensor;
	copy->shape = exported->numbers;
	copy->strides = exported->numbers + tensor->dimensions;
	memcpy(copy->shape, tensor->shape, shape);
	memcpy(copy->strides, tensor->strides, shape);

	capsule = PyCapsule_New(exported, versioned ? DLPACK_VERSIONED_NAME : DLPACK_NAME,
				dlpack_capsule_end);
	if (!capsule) {
		free(exported);
		return NULL;
	}

	exported->owner = Py_NewRef(owner);

	return capsule;
}

/* ---- In ---- */

/* Its bytes, if it is contiguous. False: it is not. */
static bool dlpack_measure(const struct dlpack_tensor *tensor, uint64_t *bytes)
{
	int64_t count = 1;

	for (int32_t i = tensor->dimensions; i-- > 0;) {
		if (tensor->strides && tensor->shape[i] != 1 && tensor->strides[i] != count)
			return false;
		count *= tensor->shape[i];
	}
	*bytes = (uint64_t)count * ((tensor->type.bits * tensor->type.vector + 7u) / 8u);

	return true;
}

PyObject *dlpack_import(PyObject *object, unsigned char **data, uint64_t *bytes)
{
	PyObject *method = PyObject_GetAttrString(object, "__dlpack__"), *capsule;
	const struct dlpack_managed *managed;

	if (!method) {
		PyErr_Format(PyExc_TypeError, "neither a buffer nor a tensor: %R",
			     (PyObject *)Py_TYPE(object));
		return NULL;
	}

	capsule = PyObject_CallFunctionObjArgs(method, NULL);
	Py_DECREF(method);
	managed = capsule ? PyCapsule_GetPointer(capsule, DLPACK_NAME) : NULL;
	if (managed && managed->tensor.device.type != DLPACK_CPU)
		PyErr_SetString(PyExc_ValueError, "a tensor that is not in host memory");
	else if (managed && !dlpack_measure(&managed->tensor, bytes))
		PyErr_SetString(PyExc_ValueError, "a tensor that is not contiguous");
	else if (managed) {
		*data = (unsigned char *)managed->tensor.data + managed->tensor.byte_offset;
		return capsule;
	}
	Py_XDECREF(capsule);

	return NULL;
}
