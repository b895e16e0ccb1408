/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/pool.h"

#include "client/python/native/area.h"
#include "client/python/native/connection.h"
#include "client/python/native/core.h"

#include <stdio.h>
#include <stdlib.h>

PyTypeObject *native_pool_type;

/* ---- Its life ---- */

static void pool_leave_core(struct pool *pool)
{
	struct pool **link = &pool->core->pools;

	while (*link && *link != pool)
		link = &(*link)->next;
	if (*link)
		*link = pool->next;
}

/* 0, or -1 and an exception. It is closed all the same. */
static int pool_close_it(struct pool *pool)
{
	struct call call;
	int status;

	pool->open = false;
	if (pool->area)
		pool->area->region = NULL; /* it is the pool's */
	if (pool->core->closed)
		return 0;
	if (!core_enter(&call, pool->core))
		return -1;

	status = pool->pool ? hbm_pool_close(pool->pool) : 0;
	pool->pool = NULL;

	return core_leave(&call, status);
}

void pool_unref(struct pool *pool)
{
	PyObject *type, *value, *trace;

	if (--pool->refs > 0)
		return;

	PyErr_Fetch(&type, &value, &trace);
	if (pool_close_it(pool) < 0)
		PyErr_Clear();
	PyErr_Restore(type, value, trace);
	if (pool->area)
		area_unref(pool->area);
	pool_leave_core(pool);
	core_unref(pool->core);
	free(pool);
}

void pool_close_all(struct core *core)
{
	for (struct pool *pool = core->pools; pool; pool = pool->next) {
		if (pool->pool)
			hbm_pool_close(pool->pool);
		pool->pool = NULL;
	}
}

bool pool_check(const struct pool *pool)
{
	if (pool->open && !pool->core->closed)
		return true;
	native_raise_closed("pool");

	return false;
}

bool pool_enter(struct call *call, struct pool *pool)
{
	if (!pool_check(pool) || !core_enter(call, pool->core))
		return false;
	if (pool->pool)
		return true;

	core_leave(call, 0);
	native_raise_closed("pool");

	return false;
}

int pool_leave(struct call *call, struct pool *pool, int status)
{
	char line[320] = "";

	if (status != 0 && pool->pool)
		snprintf(line, sizeof(line), "%s", hbm_pool_error(pool->pool));
	if (core_leave(call, 0) < 0)
		return -1;
	if (status == 0)
		return 0;

	native_raise(status, line);

	return -1;
}

static struct hbm_layout *pool_layout(const char *text)
{
	struct hbm_layout *layout;
	char error[256] = "";

	if (hbm_layout_parse(&layout, text, error, sizeof(error)) == 0)
		return layout;
	PyErr_Format(PyExc_ValueError, "layout: %s", error);

	return NULL;
}

/* Takes over what was opened. False: an exception is set. */
static bool pool_adopt(struct pool_object *self, struct core *core, struct hbm_pool *opened)
{
	struct pool *pool;

	if (core->closed) { /* since it was opened: by a callback, or another thread */
		native_raise_closed("connection");
		return false;
	}

	pool = calloc(1, sizeof(*pool));
	if (!pool) {
		PyErr_NoMemory();
		return false;
	}

	core->refs++;
	pool->core = core;
	pool->refs = 1;
	pool->pool = opened;
	pool->open = true;
	pool->next = core->pools;
	core->pools = pool;
	self->pool = pool;
	pool->area = area_new(core, hbm_pool_region(opened), true);

	return pool->area != NULL;
}

/* Pool(connection, layout, device, max_sequences, ahead_tokens, thread, warm_bytes, memory_only) */
static PyObject *pool_make(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
	struct hbm_pool_options options = {.device = 0};
	PyObject *connection, *device, *most, *ahead, *warm;
	struct hbm_pool *opened = NULL;
	struct hbm_layout *layout;
	struct pool_object *self;
	struct core *core;
	struct call call;
	const char *text;
	int thread, memory_only, status;

	if (kwds && PyDict_Size(kwds) > 0) {
		PyErr_SetString(PyExc_TypeError, "no keywords");
		return NULL;
	}
	if (!PyArg_ParseTuple(args, "OsOOOpOp", &connection, &text, &device, &most, &ahead, &thread,
			      &warm, &memory_only))
		return NULL;
	core = connection_core(connection);
	if (!core || !native_u32(device, "device", &options.device) ||
	    !native_u32(most, "max_sequences", &options.max_sequences) ||
	    !native_u64(ahead, "ahead_tokens", &options.ahead_tokens) ||
	    !native_u64(warm, "warm_bytes", &options.warm_bytes))
		return NULL;

	layout = pool_layout(text);
	if (!layout)
		return NULL;
	options.layout = layout;
	options.map_ahead_thread = thread;
	options.memory_only = memory_only;
	self = native_new(type);
	status = self && core_enter(&call, core)
			 ? core_leave(&call, hbm_pool_open(call.hbm, &options, &opened))
			 : -1;
	hbm_layout_free(layout);
	if (status < 0 || !pool_adopt(self, core, opened)) {
		Py_XDECREF((PyObject *)self);
		return NULL;
	}

	return (PyObject *)self;
}

static void pool_dealloc(PyObject *object)
{
	struct pool *pool = ((struct pool_object *)object)->pool;

	if (pool)
		pool_unref(pool);
	native_free(object);
}

static PyObject *pool_close(PyObject *object, PyObject *none)
{
	struct pool *pool = ((struct pool_object *)object)->pool;

	(void)none;
	if (!pool->open)
		Py_RETURN_NONE;
	if (pool->area->views > 0) {
		PyErr_Format(PyExc_BufferError, "cannot close a pool with %zd live views",
			     pool->area->views);
		return NULL;
	}
	if (pool_close_it(pool) < 0)
		return NULL;

	Py_RETURN_NONE;
}

/* ---- Calls ---- */

static PyObject *pool_map_ahead(PyObject *object, PyObject *none)
{
	struct pool *pool = ((struct pool_object *)object)->pool;
	struct call call;
	int status;

	(void)none;
	if (!pool_enter(&call, pool))
		return NULL;
	status = hbm_pool_map_ahead(pool->pool);
	/* what there is no memory for is tried again by the step that needs it */
	if (pool_leave(&call, pool, status == HBM_NO_SPACE || status == HBM_LIMIT ? 0 : status) < 0)
		return NULL;

	return PyBool_FromLong(status == 0);
}

/* (open, mapped, warm, free, free tokens, promised) */
static PyObject *pool_facts(PyObject *object, PyObject *none)
{
	struct pool *pool = ((struct pool_object *)object)->pool;
	struct hbm_pool_facts facts = {.open = 0};
	struct call call;

	(void)none;
	if (!pool_enter(&call, pool))
		return NULL;
	hbm_pool_facts(pool->pool, &facts);
	if (core_leave(&call, 0) < 0)
		return NULL;

	return Py_BuildValue(
		"IKKKKK", facts.open, (unsigned long long)facts.mapped_bytes,
		(unsigned long long)facts.warm_bytes, (unsigned long long)facts.free_slabs,
		(unsigned long long)facts.free_tokens, (unsigned long long)facts.promised_bytes);
}

/* (kind, address of the sequence's handle, tokens, expected, tier, bytes), or None */
static PyObject *pool_event(PyObject *object, PyObject *none)
{
	struct pool *pool = ((struct pool_object *)object)->pool;
	struct hbm_event event = {.bytes = 0};
	struct call call;
	int status;

	(void)none;
	if (!pool_enter(&call, pool))
		return NULL;
	status = hbm_pool_event(pool->pool, &event);
	if (pool_leave(&call, pool, status == HBM_NOT_FOUND ? 0 : status) < 0)
		return NULL;
	if (status == HBM_NOT_FOUND)
		Py_RETURN_NONE;

	return Py_BuildValue("iKKKiK", (int)event.kind,
			     (unsigned long long)(uintptr_t)event.sequence,
			     (unsigned long long)event.tokens, (unsigned long long)event.expected,
			     (int)event.tier, (unsigned long long)event.bytes);
}

/* (canonical text, fingerprint, layers, token_bytes, slot_bytes, block_tokens) */
static PyObject *pool_layout_facts(PyObject *object, PyObject *none)
{
	struct pool *pool = ((struct pool_object *)object)->pool;
	struct hbm_layout_facts facts;
	char text[4096], name[HBM_WIRE_NAME_BYTES];
	const struct hbm_layout *layout;
	struct call call;
	uint64_t block;

	(void)none;
	if (!pool_enter(&call, pool))
		return NULL;
	layout = hbm_pool_layout(pool->pool);
	hbm_layout_facts(layout, &facts);
	hbm_layout_print(layout, text, sizeof(text));
	hbm_layout_fingerprint(layout, name);
	block = hbm_layout_block_tokens(layout);
	if (core_leave(&call, 0) < 0)
		return NULL;

	return Py_BuildValue("ssIKKK", text, name, facts.layers,
			     (unsigned long long)facts.token_bytes,
			     (unsigned long long)facts.slot_bytes, (unsigned long long)block);
}

static PyObject *pool_closed(PyObject *object, void *closure)
{
	const struct pool *pool = ((struct pool_object *)object)->pool;

	(void)closure;
	return PyBool_FromLong(!pool->open || pool->core->closed);
}

/* ---- The type ---- */

bool native_add_pool(PyObject *module)
{
	static PyMethodDef methods[] = {{"close", pool_close, METH_NOARGS, NULL},
					{"map_ahead", pool_map_ahead, METH_NOARGS, NULL},
					{"_facts", pool_facts, METH_NOARGS, NULL},
					{"_event", pool_event, METH_NOARGS, NULL},
					{"_layout", pool_layout_facts, METH_NOARGS, NULL},
					{.ml_name = NULL}};
	static PyGetSetDef members[] = {
		{"closed", pool_closed, NULL, "whether it was closed", NULL}, {.name = NULL}};
	static PyType_Slot slots[] = {{Py_tp_new, pool_make},
				      {Py_tp_dealloc, pool_dealloc},
				      {Py_tp_methods, methods},
				      {Py_tp_getset, members},
				      {0, NULL}};
	static PyType_Spec spec = {.name = "hbm._native.Pool",
				   .basicsize = sizeof(struct pool_object),
				   .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
				   .slots = slots};

	native_pool_type = native_type(module, "Pool", &spec);

	return native_pool_type != NULL;
}
