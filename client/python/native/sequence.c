/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sequence: the type of sequences of a pool, and the calls on them. While there are views of one,
 * what unmaps its memory is refused. A sequence that is collected is closed.
 */
#include "client/python/native/sequence.h"

#include "client/python/native/area.h"
#include "client/python/native/array.h"
#include "client/python/native/cached.h"
#include "client/python/native/core.h"
#include "client/python/native/group.h"

#include <hbm/saved.h>
#include <stdlib.h>

PyTypeObject *native_sequence_type;

/* ---- Its life ---- */

PyObject *sequence_wrap(PyTypeObject *type, struct pool *pool, struct hbm_sequence *handle)
{
	struct sequence *self = native_new(type);
	struct call call;

	if (self) {
		pool->refs++;
		self->pool = pool;
		self->handle = handle;
		return (PyObject *)self;
	}
	if (pool_enter(&call, pool))
		core_leave(&call, hbm_sequence_close(handle));

	return NULL;
}

struct pool *sequence_pool(PyObject *object)
{
	if (PyObject_TypeCheck(object, native_pool_type))
		return ((struct pool_object *)object)->pool;
	PyErr_SetString(PyExc_TypeError, "not a pool");

	return NULL;
}

bool sequence_options(PyObject *expected, PyObject *max, int priority, const char *name,
		      struct hbm_sequence_options *options)
{
	*options = (struct hbm_sequence_options){.priority = priority, .name = name};

	return native_u64(expected, "expected", &options->expected) &&
	       native_u64(max, "max", &options->max);
}

/* Sequence(pool, expected, max, priority, name) */
static PyObject *sequence_make(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
	struct hbm_sequence_options options;
	struct hbm_sequence *handle = NULL;
	PyObject *object, *expected, *max;
	const char *name;
	struct pool *pool;
	struct call call;
	int priority;

	if (kwds && PyDict_Size(kwds) > 0) {
		PyErr_SetString(PyExc_TypeError, "no keywords");
		return NULL;
	}
	if (!PyArg_ParseTuple(args, "OOOiz", &object, &expected, &max, &priority, &name))
		return NULL;
	pool = sequence_pool(object);
	if (!pool || !pool_check(pool) ||
	    !sequence_options(expected, max, priority, name, &options) ||
	    !pool_enter(&call, pool) ||
	    pool_leave(&call, pool, hbm_sequence_open(pool->pool, &options, &handle)) < 0)
		return NULL;

	return sequence_wrap(type, pool, handle);
}

static int sequence_close_it(struct sequence *self)
{
	struct hbm_sequence *handle = self->handle;
	struct call call;

	__atomic_store_n(&self->handle, NULL, __ATOMIC_RELAXED);
	if (!handle || !self->pool->open || self->pool->core->closed)
		return 0;
	if (!pool_enter(&call, self->pool))
		return -1;

	return pool_leave(&call, self->pool, self->pool->pool ? hbm_sequence_close(handle) : 0);
}

static void sequence_dealloc(PyObject *object)
{
	struct sequence *self = (struct sequence *)object;
	PyObject *type, *value, *trace;

	PyErr_Fetch(&type, &value, &trace);
	if (self->pool && sequence_close_it(self) < 0)
		PyErr_Clear();
	PyErr_Restore(type, value, trace);
	if (self->pool)
		pool_unref(self->pool);
	native_free(object);
}

bool sequence_check(const struct sequence *self)
{
	if (!pool_check(self->pool))
		return false;
	if (!self->handle)
		native_raise_closed("sequence");
	return self->handle != NULL;
}

bool sequence_check_unseen(const struct sequence *self)
{
	if (!sequence_check(self))
		return false;
	if (self->views > 0)
		PyErr_Format(PyExc_BufferError, "there are %zd live views of the sequence",
			     self->views);
	return self->views == 0;
}

bool sequence_is_there(const struct sequence *self, bool unseen)
{
	return __atomic_load_n(&self->handle, __ATOMIC_RELAXED) &&
	       !(unseen && __atomic_load_n(&self->views, __ATOMIC_RELAXED) > 0);
}

/* Until pool_leave() it is open, and with `unseen` without views. False: an exception is set. */
static bool sequence_enter(struct call *call, const struct sequence *self, bool unseen)
{
	while ((unseen ? sequence_check_unseen(self) : sequence_check(self)) &&
	       pool_enter(call, self->pool)) {
		if (sequence_is_there(self, unseen))
			return true;
		if (core_leave(call, 0) < 0)
			break;
	}

	return false;
}

static PyObject *sequence_close(PyObject *object, PyObject *none)
{
	struct sequence *self = (struct sequence *)object;

	(void)none;
	if (!self->handle || !self->pool->open || self->pool->core->closed) {
		self->handle = NULL;
		Py_RETURN_NONE;
	}
	if (!sequence_check_unseen(self) || sequence_close_it(self) < 0)
		return NULL;

	Py_RETURN_NONE;
}

/* ---- Facts ---- */

static bool sequence_ask(const struct sequence *self, struct hbm_sequence_facts *facts)
{
	struct call call;

	return sequence_enter(&call, self, false) &&
	       pool_leave(&call, self->pool, hbm_sequence_facts(self->handle, facts)) == 0;
}

/* (number, slot, address, tokens, first, ready, mapped, shared, lent, suspended, state, tier) */
static PyObject *sequence_facts(PyObject *object, PyObject *none)
{
	struct hbm_sequence_facts facts;

	(void)none;
	if (!sequence_ask((struct sequence *)object, &facts))
		return NULL;

	return Py_BuildValue(
		"KIKKKKKKKKii", (unsigned long long)facts.number, facts.slot,
		(unsigned long long)facts.address, (unsigned long long)facts.tokens,
		(unsigned long long)facts.first, (unsigned long long)facts.ready,
		(unsigned long long)facts.mapped_bytes, (unsigned long long)facts.shared_bytes,
		(unsigned long long)facts.lent_bytes, (unsigned long long)facts.suspended_bytes,
		(int)facts.state, (int)facts.tier);
}

static PyObject *sequence_closed(PyObject *object, void *closure)
{
	const struct sequence *self = (struct sequence *)object;

	(void)closure;
	return PyBool_FromLong(!self->handle || !self->pool->open || self->pool->core->closed);
}

static PyObject *sequence_handle(PyObject *object, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLongLong((uintptr_t)((struct sequence *)object)->handle);
}

/* ---- Views ---- */

/* Where tokens [first, first + count) of a layer are. False: an exception is set. */
static bool sequence_find(const struct sequence *self, uint32_t layer, bool values, uint64_t first,
			  uint64_t count, struct hbm_sequence_facts *facts,
			  struct hbm_kv_view *view, uint64_t *address)
{
	char error[256] = "";
	struct call call;
	int status;

	if (!sequence_ask(self, facts) || !sequence_enter(&call, self, false))
		return false;
	status = hbm_layout_view(hbm_sequence_layout(self->handle), layer, 0, view, error,
				 sizeof(error));
	if (core_leave(&call, 0) < 0)
		return false;

	if (status)
		PyErr_Format(PyExc_ValueError, "layer %u: %s", layer, error);
	else if (facts->state != HBM_SEQUENCE_OPEN)
		PyErr_SetString(PyExc_BufferError, "the sequence is suspended");
	else if (first < facts->first || first > facts->tokens || count > facts->tokens - first)
		PyErr_Format(PyExc_ValueError, "tokens %llu and %llu more of a sequence of %llu",
			     (unsigned long long)first, (unsigned long long)count,
			     (unsigned long long)facts->tokens);
	else {
		*address = facts->address + (values ? view->values : view->keys) +
			   view->element_bytes * view->token_stride * first;
		return true;
	}

	return false;
}

/* array(layer, values, first, count, type): [count][heads][head_dim] */
static PyObject *sequence_array(PyObject *object, PyObject *args)
{
	struct sequence *self = (struct sequence *)object;
	const struct area *area = self->pool->area;
	PyObject *layer_, *first_, *count_, *array = NULL;
	struct hbm_sequence_facts facts;
	struct array_place place;
	struct array_shape shape;
	struct hbm_kv_view view;
	uint64_t first, count, address;
	const char *type;
	uint32_t layer;
	int values;

	if (!PyArg_ParseTuple(args, "OpOOs", &layer_, &values, &first_, &count_, &type) ||
	    !native_u32(layer_, "layer", &layer) || !native_u64(first_, "first", &first) ||
	    !native_u64(count_, "count", &count))
		return NULL;

	self->views++; /* it is not suspended between the look and the view */
	if (sequence_find(self, layer, values, first, count, &facts, &view, &address)) {
		place = (struct array_place){
			.owner = object,
			.views = &self->views,
			.also = &self->pool->area->views,
			.core = self->pool->core,
			.address = address,
			.memory = area->memory ? area->memory + (address - area->address) : NULL,
			.device = area->device};
		shape = (struct array_shape){
			3,
			{(int64_t)count, view.heads, view.head_dim},
			{(int64_t)view.token_stride, (int64_t)view.head_stride, 1}};
		if (array_number_bytes(type) == view.element_bytes)
			array = array_new(&place, type, &shape);
		else if (!PyErr_Occurred())
			PyErr_Format(PyExc_ValueError, "%s for elements of %u bytes", type,
				     view.element_bytes);
	}
	self->views--;

	return array;
}

/* ---- Calls on one ---- */

typedef int sequence_number_fn(struct hbm_sequence *sequence, uint64_t number);

static PyObject *sequence_call(PyObject *object, PyObject *number, sequence_number_fn *function)
{
	struct sequence *self = (struct sequence *)object;
	struct call call;
	uint64_t value;

	if (!native_u64(number, "tokens", &value) || !sequence_enter(&call, self, true) ||
	    pool_leave(&call, self->pool, function(self->handle, value)) < 0)
		return NULL;

	Py_RETURN_NONE;
}

static PyObject *sequence_truncate(PyObject *object, PyObject *tokens)
{
	return sequence_call(object, tokens, hbm_sequence_truncate);
}

static PyObject *sequence_slide(PyObject *object, PyObject *first)
{
	return sequence_call(object, first, hbm_sequence_slide);
}

/* fork(count): a list of sequences */
static PyObject *sequence_fork(PyObject *object, PyObject *number)
{
	struct sequence *self = (struct sequence *)object;
	struct hbm_sequence **handles;
	struct call call;
	PyObject *list;
	uint32_t count;

	if (!native_u32(number, "count", &count) || !sequence_check(self))
		return NULL;
	handles = calloc((size_t)count + 1, sizeof(struct hbm_sequence *));
	if (!handles)
		return PyErr_NoMemory();
	if (!sequence_enter(&call, self, false) ||
	    pool_leave(&call, self->pool, hbm_sequence_fork(self->handle, count, handles)) < 0) {
		free(handles);
		return NULL;
	}

	list = PyList_New(0);
	for (uint32_t i = 0; i < count; i++) {
		PyObject *fork = sequence_wrap(Py_TYPE(object), self->pool, handles[i]);

		if (!fork || !list || PyList_Append(list, fork) < 0)
			Py_CLEAR(list);
		Py_XDECREF(fork);
	}
	free(handles);

	return list;
}

/* ---- By name ---- */

/* save(name, committed, (model, salt, weights, memory_only), tier, pin, durable): tokens saved */
static PyObject *sequence_save(PyObject *object, PyObject *args)
{
	struct sequence *self = (struct sequence *)object;
	struct hbm_save_options options = {.pin = false};
	struct hbm_save save = {.name = NULL};
	unsigned long long committed, weights;
	int memory_only, pin, durable, tier;
	uint64_t saved = 0;
	struct call call;

	if (!PyArg_ParseTuple(args, "sK(ssKp)ipp", &save.name, &committed, &options.space.model,
			      &options.space.salt, &weights, &memory_only, &tier, &pin, &durable) ||
	    !sequence_check(self))
		return NULL;

	save.committed = committed;
	options.space.weights = weights;
	options.space.memory_only = memory_only;
	options.tier = (enum hbm_tier)tier;
	options.pin = pin;
	options.durable = durable;
	if (!sequence_enter(&call, self, false))
		return NULL;
	save.sequence = self->handle;
	if (pool_leave(&call, self->pool,
		       hbm_sequences_save(self->pool->pool, &save, 1, &options, &saved)) < 0)
		return NULL;

	return PyLong_FromUnsignedLongLong(saved);
}

/* saved(pool, what, name, space, options): restore: a sequence; find: what it is; drop: None */
static PyObject *sequence_saved(PyObject *type, PyObject *args)
{
	struct hbm_sequence_options options = {.name = NULL};
	struct hbm_saved_space space = {.model = NULL};
	struct hbm_sequence *handle = NULL;
	struct hbm_saved saved = {.first = 0};
	unsigned long long weights, expected, max;
	int what, memory_only, status;
	struct pool *pool;
	PyObject *object;
	const char *name;
	struct call call;

	if (!PyArg_ParseTuple(args, "Ois(ssKp)(KKiz)", &object, &what, &name, &space.model,
			      &space.salt, &weights, &memory_only, &expected, &max,
			      &options.priority, &options.name))
		return NULL;
	pool = sequence_pool(object);
	space.weights = weights;
	space.memory_only = memory_only;
	options.expected = expected;
	options.max = max;
	if (!pool || !pool_check(pool) || !pool_enter(&call, pool))
		return NULL;

	if (what == 0)
		status = hbm_sequence_restore(pool->pool, &space, name, &options, &handle);
	else if (what == 1)
		status = hbm_saved_find(pool->pool, &space, name, &saved);
	else
		status = hbm_saved_drop(pool->pool, &space, name);
	if (pool_leave(&call, pool, status) < 0)
		return NULL;

	if (what == 0)
		return sequence_wrap((PyTypeObject *)type, pool, handle);
	if (what == 1)
		return Py_BuildValue(
			"KKKK", (unsigned long long)saved.first, (unsigned long long)saved.tokens,
			(unsigned long long)saved.present, (unsigned long long)saved.committed);
	Py_RETURN_NONE;
}

/* ---- The type ---- */

bool native_add_sequence(PyObject *module)
{
	static PyMethodDef methods[] = {
		{"close", sequence_close, METH_NOARGS, NULL},
		{"_facts", sequence_facts, METH_NOARGS, NULL},
		{"_array", sequence_array, METH_VARARGS, NULL},
		{"_truncate", sequence_truncate, METH_O, NULL},
		{"_slide", sequence_slide, METH_O, NULL},
		{"_fork", sequence_fork, METH_O, NULL},
		{"_step", group_step, METH_VARARGS | METH_CLASS, NULL},
		{"_reorder", group_reorder, METH_VARARGS | METH_CLASS, NULL},
		{"_move", group_move, METH_VARARGS | METH_CLASS, NULL},
		{"_save", sequence_save, METH_VARARGS, NULL},
		{"_saved", sequence_saved, METH_VARARGS | METH_CLASS, NULL},
		{"_open_cached", cached_open, METH_VARARGS | METH_CLASS, NULL},
		{"_store", cached_store, METH_VARARGS, NULL},
		{.ml_name = NULL}};
	static PyGetSetDef members[] = {
		{"closed", sequence_closed, NULL, "whether it was closed", NULL},
		{"_handle", sequence_handle, NULL, NULL, NULL},
		{.name = NULL}};
	static PyType_Slot slots[] = {{Py_tp_new, sequence_make},
				      {Py_tp_dealloc, sequence_dealloc},
				      {Py_tp_methods, methods},
				      {Py_tp_getset, members},
				      {0, NULL}};
	static PyType_Spec spec = {.name = "hbm._native.Sequence",
				   .basicsize = sizeof(struct sequence),
				   .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
				   .slots = slots};

	native_sequence_type = native_type(module, "Sequence", &spec);

	return native_sequence_type != NULL;
}
