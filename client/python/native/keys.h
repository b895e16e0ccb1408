/* SPDX-License-Identifier: Apache-2.0 */
/* keys: n keys of 16 bytes, of one buffer of all or of a sequence of buffers of one. */
#pragma once

#include "client/python/native/native.h"

struct keys {
	hbm_key *keys; /* owned */
	size_t count;
};

/* False: an exception is set. */
bool keys_parse(PyObject *object, struct keys *keys);
void keys_free(struct keys *keys);
/* One key. False: an exception is set. */
bool keys_read(PyObject *object, hbm_key *key);
