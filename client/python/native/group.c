/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/group.h"

#include "client/python/native/core.h"
#include "client/python/native/sequence.h"

#include <stdlib.h>

struct group {
	PyObject *tuple; /* counted, as they are */
	struct sequence **sequences;
	struct hbm_sequence **handles;
	size_t count;
	bool unseen; /* without views */
};

static void group_free(struct group *group)
{
	Py_CLEAR(group->tuple);
	free(group->sequences);
	free(group->handles);
	group->sequences = NULL;
	group->handles = NULL;
}

static bool group_check(const struct group *group)
{
	bool right = true;

	for (size_t i = 0; right && i < group->count; i++)
		right = group->unseen ? sequence_check_unseen(group->sequences[i])
				      : sequence_check(group->sequences[i]);

	return right;
}

static bool group_take(struct group *group, const struct pool *pool)
{
	for (size_t i = 0; i < group->count; i++) {
		PyObject *object = PyTuple_GetItem(group->tuple, (Py_ssize_t)i);

		group->sequences[i] = (struct sequence *)object;
		if (!PyObject_TypeCheck(object, native_sequence_type) ||
		    group->sequences[i]->pool != pool) {
			PyErr_SetString(PyExc_ValueError, "not a sequence of this pool");
			return false;
		}
		group->handles[i] = group->sequences[i]->handle;
	}

	return group_check(group);
}

/* Sequences of a pool; `unseen`: without views. False: an exception is set. */
static bool group_parse(PyObject *objects, const struct pool *pool, bool unseen,
			struct group *group)
{
	*group = (struct group){.tuple = PySequence_Tuple(objects), .unseen = unseen};
	if (!group->tuple)
		return false;
	group->count = (size_t)PyTuple_Size(group->tuple);
	group->sequences = calloc(group->count + 1, sizeof(struct sequence *));
	group->handles = calloc(group->count + 1, sizeof(struct hbm_sequence *));
	if (!group->sequences || !group->handles)
		PyErr_NoMemory();
	else if (group_take(group, pool))
		return true;
	group_free(group);

	return false;
}

/* As sequence_enter(), for all of them: since they were parsed, other code of Python may have run. */
static bool group_enter(struct call *call, struct pool *pool, const struct group *group)
{
	while (pool_enter(call, pool)) {
		bool there = true;

		for (size_t i = 0; there && i < group->count; i++)
			there = sequence_is_there(group->sequences[i], group->unseen);
		if (there)
			return true;
		if (core_leave(call, 0) < 0 || !group_check(group))
			break;
	}

	return false;
}

/* A number for each of them. NULL: an exception is set. */
static uint64_t *group_numbers(const struct group *group, PyObject *objects, const char *name)
{
	PyObject *tuple = PySequence_Tuple(objects);
	uint64_t *numbers = calloc(group->count + 1, sizeof(*numbers));
	size_t i = 0;

	if (!numbers)
		PyErr_NoMemory();
	else if (tuple && (size_t)PyTuple_Size(tuple) != group->count)
		PyErr_Format(PyExc_ValueError, "%s: one for each sequence", name);
	else if (tuple)
		while (i < group->count &&
		       native_u64(PyTuple_GetItem(tuple, (Py_ssize_t)i), name, &numbers[i]))
			i++;
	Py_XDECREF(tuple);
	if (!PyErr_Occurred())
		return numbers;
	free(numbers);

	return NULL;
}

/* ---- The calls ---- */

/* step(pool, sequences, lengths) */
PyObject *group_step(PyObject *type, PyObject *args)
{
	PyObject *object, *sequences, *lengths;
	struct group group;
	struct pool *pool;
	struct call call;
	uint64_t *numbers;
	int r = -1;

	(void)type;
	if (!PyArg_ParseTuple(args, "OOO", &object, &sequences, &lengths))
		return NULL;
	pool = sequence_pool(object);
	if (!pool || !pool_check(pool) || !group_parse(sequences, pool, false, &group))
		return NULL;

	numbers = group_numbers(&group, lengths, "lengths");
	if (numbers && group_enter(&call, pool, &group))
		r = pool_leave(&call, pool,
			       hbm_step(pool->pool, group.handles, numbers, group.count));
	free(numbers);
	group_free(&group);
	if (r < 0)
		return NULL;

	Py_RETURN_NONE;
}

/* reorder(pool, sequences, from): sequence i takes over the tokens of sequence from[i] */
PyObject *group_reorder(PyObject *type, PyObject *args)
{
	PyObject *object, *sequences, *froms;
	struct group group;
	struct pool *pool;
	struct call call;
	uint64_t *numbers;
	uint32_t *from;
	int r = -1;

	(void)type;
	if (!PyArg_ParseTuple(args, "OOO", &object, &sequences, &froms))
		return NULL;
	pool = sequence_pool(object);
	if (!pool || !pool_check(pool) || !group_parse(sequences, pool, true, &group))
		return NULL;

	numbers = group_numbers(&group, froms, "from");
	from = calloc(group.count + 1, sizeof(*from));
	for (size_t i = 0; numbers && from && i < group.count; i++) /* too large is out of range */
		from[i] = numbers[i] < UINT32_MAX ? (uint32_t)numbers[i] : UINT32_MAX;
	if (!from)
		PyErr_NoMemory();
	else if (numbers && group_enter(&call, pool, &group))
		r = pool_leave(&call, pool,
			       hbm_sequences_reorder(pool->pool, group.handles, from, group.count));
	free(from);
	free(numbers);
	group_free(&group);
	if (r < 0)
		return NULL;

	Py_RETURN_NONE;
}

/* move(pool, sequences, tier or None, whether they stay suspended, deadline in us): suspends,
 * resumes, or prefetches */
PyObject *group_move(PyObject *type, PyObject *args)
{
	PyObject *object, *sequences;
	unsigned long long deadline;
	struct group group;
	struct pool *pool;
	struct call call;
	int what, tier, status, r;

	(void)type;
	if (!PyArg_ParseTuple(args, "OOiiK", &object, &sequences, &what, &tier, &deadline))
		return NULL;
	pool = sequence_pool(object);
	if (!pool || !pool_check(pool) || !group_parse(sequences, pool, what == 0, &group))
		return NULL;

	r = -1;
	if (group_enter(&call, pool, &group)) {
		if (what == 0)
			status = hbm_sequences_suspend(pool->pool, group.handles, group.count,
						       (enum hbm_tier)tier);
		else if (what == 1)
			status = hbm_sequences_resume(pool->pool, group.handles, group.count);
		else
			status = hbm_sequences_prefetch(pool->pool, group.handles, group.count,
							(enum hbm_tier)tier, deadline);
		r = pool_leave(&call, pool, status);
	}
	group_free(&group);
	if (r < 0)
		return NULL;

	Py_RETURN_NONE;
}
