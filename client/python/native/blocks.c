/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/blocks.h"

#include "client/python/native/area.h"
#include "client/python/native/core.h"
#include "client/python/native/dlpack.h"
#include "client/python/native/keys.h"
#include "client/python/native/op.h"
#include "client/python/native/region.h"
#include "client/python/native/spans.h"

#include <stdlib.h>

/* ---- Parents ---- */

bool blocks_parents(PyObject *parents, struct blocks *blocks, size_t count)
{
	struct keys keys;
	PyObject *fast;
	bool right;

	if (parents == Py_None)
		return true;

	if (PyObject_CheckBuffer(parents)) {
		if (!keys_parse(parents, &keys))
			return false;
		right = keys.count == count;
		for (size_t i = 0; i < count && right; i++)
			blocks->blocks[i].parent = keys.keys[i];
		keys_free(&keys);
	} else {
		fast = PySequence_Tuple(parents);
		if (!fast)
			return false;
		right = (size_t)PyTuple_Size(fast) == count;
		for (size_t i = 0; i < count && right; i++) {
			PyObject *parent = PyTuple_GetItem(fast, (Py_ssize_t)i);

			if (parent != Py_None && !keys_read(parent, &blocks->blocks[i].parent)) {
				Py_DECREF(fast);
				return false;
			}
		}
		Py_DECREF(fast);
	}

	if (!right)
		PyErr_Format(PyExc_ValueError, "parents are not as many as the %zu keys", count);

	return right;
}

/* ---- Where they are ---- */

static bool blocks_room(struct blocks *blocks, size_t segments)
{
	blocks->segments = calloc(segments ? segments : 1, sizeof(struct hbm_segment));
	if (!blocks->segments)
		PyErr_NoMemory();
	return blocks->segments != NULL;
}

static bool blocks_of_spans(const struct spans *spans, uint64_t block_bytes,
			    const struct core *core, struct op *op, struct blocks *blocks)
{
	struct area *area = region_area(spans->region, core);

	if (!area)
		return false;
	if (spans->count != op->count || (spans->bytes != 0 && spans->bytes != block_bytes)) {
		PyErr_Format(PyExc_ValueError,
			     "%zu spans of %llu bytes for %zu keys of blocks of %llu", spans->count,
			     (unsigned long long)(spans->bytes ? spans->bytes : block_bytes),
			     op->count, (unsigned long long)block_bytes);
		return false;
	}

	if (!op_pin(op, area) || !blocks_room(blocks, spans->count))
		return false;
	for (size_t i = 0; i < spans->count; i++) {
		if (!area_check(area, spans->offsets[i], block_bytes))
			return false;
		blocks->segments[i] =
			(struct hbm_segment){area->region, spans->offsets[i], block_bytes};
		blocks->blocks[i].segments = &blocks->segments[i];
		blocks->blocks[i].segment_count = 1;
	}

	return true;
}

/* One segment: (region, offset, bytes). */
static bool blocks_segment(PyObject *object, const struct core *core, struct op *op,
			   struct hbm_segment *segment)
{
	struct area *area;

	if (!PyTuple_Check(object) || PyTuple_Size(object) != 3) {
		PyErr_SetString(PyExc_TypeError, "a segment is a tuple (region, offset, bytes)");
		return false;
	}

	area = region_area(PyTuple_GetItem(object, 0), core);
	if (!area || !native_u64(PyTuple_GetItem(object, 1), "offset", &segment->offset) ||
	    !native_u64(PyTuple_GetItem(object, 2), "bytes", &segment->bytes) ||
	    !area_check(area, segment->offset, segment->bytes) || !op_pin(op, area))
		return false;
	segment->region = area->region;

	return true;
}

/* How many segments there are in a tuple of lists; -1: an exception is set. */
static Py_ssize_t blocks_count_segments(PyObject *lists)
{
	Py_ssize_t total = 0;

	for (Py_ssize_t i = 0; i < PyTuple_Size(lists); i++) {
		PyObject *list = PyTuple_GetItem(lists, i);

		if (!PyList_Check(list) && !PyTuple_Check(list)) {
			PyErr_SetString(PyExc_TypeError,
					"each block is a list of (region, offset, bytes)");
			return -1;
		}
		total += PySequence_Size(list);
	}

	return total;
}

static bool blocks_list(PyObject *list, uint64_t block_bytes, const struct core *core,
			struct op *op, struct hbm_segment *segments, struct hbm_block *block)
{
	Py_ssize_t count = PySequence_Size(list);
	uint64_t bytes = 0;

	for (Py_ssize_t i = 0; i < count; i++) {
		PyObject *object = PySequence_GetItem(list, i);
		bool right = object && blocks_segment(object, core, op, &segments[i]);

		Py_XDECREF(object);
		if (!right)
			return false;
		bytes += segments[i].bytes; /* each is no more than its region has */
	}

	block->segments = segments;
	block->segment_count = (size_t)count;
	if (bytes == block_bytes)
		return true;
	PyErr_Format(PyExc_ValueError, "segments of %llu bytes for a block of %llu",
		     (unsigned long long)bytes, (unsigned long long)block_bytes);

	return false;
}

static bool blocks_of_lists(PyObject *lists, uint64_t block_bytes, const struct core *core,
			    struct op *op, struct blocks *blocks)
{
	Py_ssize_t total = blocks_count_segments(lists);
	size_t at = 0;

	if (total < 0 || !blocks_room(blocks, (size_t)total))
		return false;

	for (size_t i = 0; i < op->count; i++) {
		PyObject *list = PyTuple_GetItem(lists, (Py_ssize_t)i);

		if (at + (size_t)PySequence_Size(list) > (size_t)total ||
		    !blocks_list(list, block_bytes, core, op, &blocks->segments[at],
				 &blocks->blocks[i]))
			return false;
		at += blocks->blocks[i].segment_count;
	}

	return true;
}

/* Memory of a tensor that is no buffer. */
static bool blocks_tensor(PyObject *object, struct op *op, unsigned char **memory, uint64_t *bytes)
{
	PyObject *capsule = dlpack_import(object, memory, bytes);
	int kept = -1;

	if (!capsule)
		return false;
	if (!op->kept)
		op->kept = PyList_New(0);
	if (op->kept)
		kept = PyList_Append(op->kept, capsule);
	Py_DECREF(capsule);

	return kept == 0;
}

static bool blocks_buffer(PyObject *object, bool writable, struct op *op, unsigned char **memory,
			  uint64_t *bytes)
{
	Py_buffer *view = &op->buffers[op->buffer_count];

	if (!PyObject_CheckBuffer(object))
		return blocks_tensor(object, op, memory, bytes);

	if (PyObject_GetBuffer(object, view, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0)
		return false;
	op->buffer_count++;
	*memory = view->buf;
	*bytes = (uint64_t)view->len;

	return true;
}

static bool blocks_of_buffers(PyObject *buffers, uint64_t block_bytes, bool writable, struct op *op,
			      struct blocks *blocks)
{
	op->buffers = calloc(op->count ? op->count : 1, sizeof(Py_buffer));
	blocks->memory = calloc(op->count ? op->count : 1, sizeof(unsigned char *));
	if (!op->buffers || !blocks->memory) {
		PyErr_NoMemory();
		return false;
	}

	for (size_t i = 0; i < op->count; i++) {
		uint64_t bytes = 0;

		if (!blocks_buffer(PyTuple_GetItem(buffers, (Py_ssize_t)i), writable, op,
				   &blocks->memory[i], &bytes))
			return false;
		if (bytes == block_bytes)
			continue;
		PyErr_Format(PyExc_ValueError, "memory of %llu bytes for a block of %llu",
			     (unsigned long long)bytes, (unsigned long long)block_bytes);
		return false;
	}

	return true;
}

static bool blocks_of_sequence(PyObject *where, uint64_t block_bytes, bool writable,
			       const struct core *core, struct op *op, struct blocks *blocks)
{
	PyObject *first = PyTuple_Size(where) > 0 ? PyTuple_GetItem(where, 0) : NULL;

	if ((size_t)PyTuple_Size(where) != op->count) {
		PyErr_Format(PyExc_ValueError, "memory for %zd blocks, and %zu keys",
			     PyTuple_Size(where), op->count);
		return false;
	}

	if (first && (PyList_Check(first) || PyTuple_Check(first)))
		return blocks_of_lists(where, block_bytes, core, op, blocks);

	return blocks_of_buffers(where, block_bytes, writable, op, blocks);
}

bool blocks_parse(PyObject *where, const struct keys *keys, uint64_t block_bytes, bool writable,
		  const struct core *core, struct op *op, struct blocks *blocks)
{
	PyObject *fast;
	bool right;

	*blocks = (struct blocks){
		.blocks = calloc(keys->count ? keys->count : 1, sizeof(struct hbm_block))};
	if (!blocks->blocks) {
		PyErr_NoMemory();
		return false;
	}

	for (size_t i = 0; i < keys->count; i++)
		blocks->blocks[i].key = keys->keys[i];

	if (PyObject_TypeCheck(where, native_spans_type))
		return blocks_of_spans((const struct spans *)where, block_bytes, core, op, blocks);

	fast = PySequence_Tuple(where);
	if (!fast)
		return false;
	right = blocks_of_sequence(fast, block_bytes, writable, core, op, blocks);
	Py_DECREF(fast);

	return right;
}

void blocks_free(struct blocks *blocks)
{
	free(blocks->blocks);
	free(blocks->segments);
	free(blocks->memory);
	*blocks = (struct blocks){.blocks = NULL};
}
