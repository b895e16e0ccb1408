/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/cached.h"

#include "client/python/native/core.h"
#include "client/python/native/keys.h"
#include "client/python/native/namespace.h"
#include "client/python/native/opening.h"
#include "client/python/native/pool.h"
#include "client/python/native/sequence.h"

#include <stdlib.h>

/* ---- Blocks of tokens ---- */

struct cached {
	struct hbm_token_blocks blocks;
	struct keys keys;
	struct opening *opening; /* it stays open during the call */
};

static bool cached_parse(PyObject *const parts[4], const struct pool *pool, struct cached *cached)
{
	*cached = (struct cached){.blocks = {.ns = 0}};
	if (!native_u64(parts[1], "block_tokens", &cached->blocks.block_tokens) ||
	    !native_u64(parts[2], "tokens", &cached->blocks.tokens) ||
	    !keys_parse(parts[3], &cached->keys))
		return false;

	cached->opening = namespace_use(parts[0]);
	if (cached->opening && cached->opening->core != pool->core) {
		PyErr_SetString(PyExc_ValueError, "a namespace of another connection");
		opening_unref(cached->opening);
		cached->opening = NULL;
	}
	if (!cached->opening) {
		keys_free(&cached->keys);
		return false;
	}

	cached->blocks.ns = cached->opening->ns;
	cached->blocks.keys = cached->keys.keys;
	cached->blocks.count = cached->keys.count;

	return true;
}

/* What was returned so far, or NULL: an exception is set. */
static PyObject *cached_free(struct cached *cached, PyObject *result)
{
	keys_free(&cached->keys);
	if (opening_unref(cached->opening) < 0)
		Py_CLEAR(result);

	return result;
}

/* ---- Calls ---- */

PyObject *cached_open(PyObject *type, PyObject *args)
{
	struct hbm_sequence_options options;
	struct hbm_sequence *handle = NULL;
	PyObject *object, *parts[4], *expected, *max, *opened = NULL;
	struct cached cached;
	uint64_t tokens = 0;
	const char *name;
	struct pool *pool;
	struct call call;
	int priority;

	if (!PyArg_ParseTuple(args, "OOOOO(OOiz)", &object, &parts[0], &parts[1], &parts[2],
			      &parts[3], &expected, &max, &priority, &name))
		return NULL;
	pool = sequence_pool(object);
	if (!pool || !pool_check(pool) ||
	    !sequence_options(expected, max, priority, name, &options) ||
	    !cached_parse(parts, pool, &cached))
		return NULL;

	if (pool_enter(&call, pool) &&
	    pool_leave(&call, pool,
		       hbm_sequence_open_cached(pool->pool, &options, &cached.blocks, &handle,
						&tokens)) == 0)
		opened = sequence_wrap((PyTypeObject *)type, pool, handle);
	if (opened)
		opened = Py_BuildValue("NK", opened, (unsigned long long)tokens);

	return cached_free(&cached, opened);
}

/* The statuses of the blocks, a byte for each. */
static PyObject *cached_statuses(const hbm_result *results, size_t count)
{
	PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)count);
	char *each = bytes ? PyBytes_AsString(bytes) : NULL;

	for (size_t i = 0; each && i < count; i++)
		each[i] = (char)results[i].status;

	return bytes;
}

PyObject *cached_store(PyObject *object, PyObject *args)
{
	struct sequence *self = (struct sequence *)object;
	PyObject *parts[4], *first_, *statuses = NULL;
	hbm_result *results;
	struct cached cached;
	struct call call;
	uint64_t first;

	if (!PyArg_ParseTuple(args, "OOOOO", &parts[0], &parts[1], &parts[2], &parts[3], &first_) ||
	    !native_u64(first_, "first", &first) || !sequence_check(self) ||
	    !cached_parse(parts, self->pool, &cached))
		return NULL;

	results = calloc(cached.blocks.count + 1, sizeof(*results));
	if (!results)
		PyErr_NoMemory();
	else if (first > cached.blocks.count)
		PyErr_Format(PyExc_ValueError, "first is beyond %zu blocks", cached.blocks.count);
	else if (pool_enter(&call, self->pool) &&
		 pool_leave(&call, self->pool,
			    self->handle ? hbm_sequence_store(self->handle, &cached.blocks, first,
							      results)
					 : HBM_INVALID) == 0)
		statuses = cached_statuses(results, cached.blocks.count - first);
	free(results);

	return cached_free(&cached, statuses);
}
