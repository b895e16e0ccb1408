/* SPDX-License-Identifier: Apache-2.0 */
/* cached: tokens of a sequence as blocks of the cache: the two calls of the type of sequences. */
#pragma once

#include "client/python/native/native.h"

/* open_cached(pool, namespace, block_tokens, tokens, keys, (expected, max, priority, name)): a
 * sequence, and how many tokens it begins with. A method of the class. */
PyObject *cached_open(PyObject *type, PyObject *args);
/* store(namespace, block_tokens, tokens, keys, first): bytes, a status for each block from `first`
 * on. */
PyObject *cached_store(PyObject *object, PyObject *args);
