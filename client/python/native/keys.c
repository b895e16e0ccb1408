/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/keys.h"

#include <stdlib.h>
#include <string.h>

#define KEY_BYTES ((Py_ssize_t)sizeof(hbm_key))

static bool keys_make(struct keys *keys, size_t count)
{
	keys->count = count;
	keys->keys = count <= SIZE_MAX / sizeof(hbm_key)
			     ? malloc(count ? count * sizeof(hbm_key) : 1)
			     : NULL;
	if (keys->keys)
		return true;

	PyErr_NoMemory();

	return false;
}

void keys_free(struct keys *keys)
{
	free(keys->keys);
	keys->keys = NULL;
}

bool keys_read(PyObject *object, hbm_key *key)
{
	Py_buffer view;
	bool right;

	if (PyBytes_CheckExact(object) && PyBytes_Size(object) == KEY_BYTES) {
		memcpy(key, PyBytes_AsString(object), sizeof(*key));
		return true;
	}

	if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) < 0)
		return false;
	right = view.len == KEY_BYTES;
	if (right)
		memcpy(key, view.buf, sizeof(*key));
	else
		PyErr_Format(PyExc_ValueError, "a key of %zd bytes: it has 16", view.len);
	PyBuffer_Release(&view);

	return right;
}

static bool keys_parse_buffer(PyObject *object, struct keys *keys)
{
	Py_buffer view;
	bool made;

	if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) < 0)
		return false;
	made = view.len % KEY_BYTES == 0;
	if (!made)
		PyErr_Format(PyExc_ValueError, "keys of %zd bytes: each has 16", view.len);
	made = made && keys_make(keys, (size_t)(view.len / KEY_BYTES));
	if (made)
		memcpy(keys->keys, view.buf, (size_t)view.len);
	PyBuffer_Release(&view);

	return made;
}

bool keys_parse(PyObject *object, struct keys *keys)
{
	PyObject *fast;
	Py_ssize_t count;

	*keys = (struct keys){.count = 0};
	if (PyObject_CheckBuffer(object))
		return keys_parse_buffer(object, keys);

	fast = PySequence_Tuple(object);
	if (!fast)
		return false;
	count = PyTuple_Size(fast);
	if (keys_make(keys, (size_t)count)) {
		Py_ssize_t i = 0;

		while (i < count && keys_read(PyTuple_GetItem(fast, i), &keys->keys[i]))
			i++;
		if (i < count)
			keys_free(keys);
	}
	Py_DECREF(fast);

	return keys->keys != NULL;
}
