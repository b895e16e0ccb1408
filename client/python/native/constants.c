/* SPDX-License-Identifier: Apache-2.0 */
/* constants: the names and numbers of wire_lists.h, as dicts of the module. */
#include "client/python/native/native.h"

struct constant {
	const char *name;
	long value;
};

static bool constants_add(PyObject *module, const char *name, const struct constant *constants)
{
	PyObject *dict = PyDict_New();
	bool added = dict != NULL;

	for (; added && constants->name; constants++) {
		PyObject *value = PyLong_FromLong(constants->value);

		added = value && PyDict_SetItemString(dict, constants->name, value) == 0;
		Py_XDECREF(value);
	}
	added = added && PyModule_AddObjectRef(module, name, dict) == 0;
	Py_XDECREF(dict);

	return added;
}

#define CONSTANT(name, value, ...) {#name, value},

bool native_add_constants(PyObject *module)
{
	static const struct constant status[] = {HBM_STATUS_LIST(CONSTANT){NULL, 0}};
	static const struct constant tier[] = {HBM_TIER_LIST(CONSTANT){NULL, 0}};
	static const struct constant driver[] = {HBM_DRIVER_LIST(CONSTANT){NULL, 0}};
	static const struct constant encoding[] = {HBM_ENCODING_LIST(CONSTANT){NULL, 0}};
	static const struct constant opcode[] = {HBM_OPCODE_LIST(CONSTANT){NULL, 0}};
	static const struct constant cache_event[] = {HBM_CACHE_EVENT_LIST(CONSTANT){NULL, 0}};
	static const struct constant limits[] = {
		{"KEY_BYTES", HBM_WIRE_KEY_BYTES}, {"FENCES", HBM_WIRE_FENCES},
		{"KEEP", HBM_WIRE_KEEP},           {"NAME_BYTES", HBM_WIRE_NAME_BYTES},
		{"DEVICE_HOST", HBM_DEVICE_HOST},  {NULL, 0}};

	return constants_add(module, "STATUS", status) && constants_add(module, "TIER", tier) &&
	       constants_add(module, "DRIVER", driver) &&
	       constants_add(module, "ENCODING", encoding) &&
	       constants_add(module, "CACHE_EVENT", cache_event) &&
	       constants_add(module, "OPCODE", opcode) && constants_add(module, "LIMITS", limits);
}
