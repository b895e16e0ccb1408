/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/query.h"

#include "client/python/native/connection.h"
#include "client/python/native/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- What a record has ---- */

struct member {
	const char *name, *form;
	size_t offset, bytes;
};

struct kind {
	const char *name;
	long number;
	size_t bytes;
	const struct member *members;
	size_t count;
};

#define QUERY_MEMBER(R, type, member, dimension, form, ...)                                        \
	{#member, #form, offsetof(struct R, member), sizeof(((struct R *)0)->member)},
#define QUERY_MEMBERS(name, value, record, text, list)                                             \
	static const struct member record##_members[] = {list(QUERY_MEMBER, record)};
#define QUERY_KIND(name, value, record, text, list)                                                \
	{#name, value, sizeof(struct record), record##_members,                                    \
	 sizeof(record##_members) / sizeof(record##_members[0])},

HBM_QUERY_LIST(QUERY_MEMBERS)
static const struct kind kinds[] = {HBM_QUERY_LIST(QUERY_KIND)};

static const struct kind *query_kind(uint32_t number)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i].number == (long)number)
			return &kinds[i];

	return NULL;
}

static PyObject *query_members(const struct kind *kind)
{
	PyObject *list = PyList_New(0);

	for (size_t i = 0; list && i < kind->count; i++) {
		const struct member *member = &kind->members[i];
		PyObject *each;

		if (strcmp(member->form, "ZERO") == 0)
			continue;
		each = Py_BuildValue("ssnn", member->name, member->form, (Py_ssize_t)member->offset,
				     (Py_ssize_t)member->bytes);
		if (!each || PyList_Append(list, each) < 0)
			Py_CLEAR(list);
		Py_XDECREF(each);
	}

	return list;
}

struct named {
	long number;
	const char *text;
};

#define QUERY_NAMED(name, value, text, ...) {value, text},

static const struct named links[] = {HBM_LINK_LIST(QUERY_NAMED){0, NULL}};
static const struct named units[] = {HBM_UNIT_LIST(QUERY_NAMED){0, NULL}};
static const struct named phases[] = {HBM_SEQUENCE_STATE_LIST(QUERY_NAMED){0, NULL}};
static const struct named events[] = {HBM_SEQUENCE_EVENT_LIST(QUERY_NAMED){0, NULL}};
static const struct named states[] = {{0, "live"}, {1, "dead"}, {2, "away"}, {0, NULL}};

static bool query_add_names(PyObject *forms, const char *form, const struct named *names)
{
	PyObject *dict = PyDict_New();
	bool added = dict != NULL;

	for (; added && names->text; names++) {
		PyObject *number = PyLong_FromLong(names->number);
		PyObject *text = PyUnicode_FromString(names->text);

		added = number && text && PyDict_SetItem(dict, number, text) == 0;
		Py_XDECREF(number);
		Py_XDECREF(text);
	}
	added = added && PyDict_SetItemString(forms, form, dict) == 0;
	Py_XDECREF(dict);

	return added;
}

static bool query_add_forms(PyObject *module)
{
	PyObject *forms = PyDict_New();
	bool added = forms && query_add_names(forms, "LINK", links) &&
		     query_add_names(forms, "UNIT", units) &&
		     query_add_names(forms, "PHASE", phases) &&
		     query_add_names(forms, "EVENT", events) &&
		     query_add_names(forms, "STATE", states) &&
		     PyModule_AddObjectRef(module, "NAMES", forms) == 0;

	Py_XDECREF(forms);

	return added;
}

bool native_add_records(PyObject *module)
{
	PyObject *dict = PyDict_New();
	bool added = dict && query_add_forms(module);

	for (size_t i = 0; added && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		PyObject *members = query_members(&kinds[i]);
		PyObject *kind = members ? Py_BuildValue("lnN", kinds[i].number,
							 (Py_ssize_t)kinds[i].bytes, members)
					 : NULL;

		added = kind && PyDict_SetItemString(dict, kinds[i].name, kind) == 0;
		Py_XDECREF(kind);
	}
	added = added && PyModule_AddObjectRef(module, "RECORDS", dict) == 0;
	Py_XDECREF(dict);

	return added;
}

/* ---- The walk ---- */

/* Records one after the other, each of `each` bytes. */
struct records {
	unsigned char *bytes;
	size_t used, room, each;
};

static int query_keep(const void *record, size_t record_bytes, void *arg)
{
	struct records *records = arg;

	(void)record_bytes; /* what the daemon did not send is zero there */
	if (records->room - records->used < records->each) {
		size_t room = records->room ? 2 * records->room : 64 * records->each;
		unsigned char *bytes = realloc(records->bytes, room);

		if (!bytes)
			return -ENOMEM;
		records->bytes = bytes;
		records->room = room;
	}
	memcpy(records->bytes + records->used, record, records->each);
	records->used += records->each;

	return 0;
}

PyObject *query_walk(PyObject *module, PyObject *args)
{
	struct records records = {.bytes = NULL};
	PyObject *connection, *number, *answer = NULL;
	const struct kind *kind;
	struct core *core;
	struct call call;
	uint32_t which;

	(void)module;
	if (!PyArg_ParseTuple(args, "OO", &connection, &number) ||
	    !native_u32(number, "kind", &which))
		return NULL;
	core = connection_core(connection);
	kind = query_kind(which);
	if (core && !kind)
		PyErr_Format(PyExc_ValueError, "no kind of records: %u", which);
	if (!core || !kind || !core_enter(&call, core))
		return NULL;

	records.each = kind->bytes;
	if (core_leave(&call, hbm_query(call.hbm, (enum hbm_wire_query_kind)kind->number,
					query_keep, &records)) == 0)
		answer = PyBytes_FromStringAndSize((const char *)records.bytes,
						   (Py_ssize_t)records.used);
	free(records.bytes);

	return answer;
}
