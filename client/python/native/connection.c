/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/connection.h"

#include "client/python/native/core.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

PyTypeObject *native_connection_type;

struct core *connection_core(PyObject *object)
{
	if (PyObject_TypeCheck(object, native_connection_type))
		return ((struct connection *)object)->core;

	PyErr_SetString(PyExc_TypeError, "not a connection");

	return NULL;
}

static struct core *connection_core_of(PyObject *object)
{
	return ((struct connection *)object)->core;
}

/* ---- Its life ---- */

static PyObject *connection_make(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
	struct hbm_options options = {.socket = NULL};
	PyObject *answer_ms, *poll_us, *reconnect_ms;
	int inspect_only;
	struct connection *self;

	if (kwds && PyDict_Size(kwds) > 0) {
		PyErr_SetString(PyExc_TypeError, "no keywords");
		return NULL;
	}
	if (!PyArg_ParseTuple(args, "zzOOOp", &options.socket, &options.name, &answer_ms, &poll_us,
			      &reconnect_ms, &inspect_only) ||
	    !native_u32(answer_ms, "answer_ms", &options.answer_ms) ||
	    !native_u32(poll_us, "poll_us", &options.poll_us) ||
	    !native_u32(reconnect_ms, "reconnect_ms", &options.reconnect_ms))
		return NULL;

	options.inspect_only = inspect_only;
	self = native_new(type);
	if (!self)
		return NULL;
	self->core = core_connect(&options);
	if (!self->core) {
		Py_DECREF(self);
		return NULL;
	}

	return (PyObject *)self;
}

static void connection_dealloc(PyObject *object)
{
	struct core *core = connection_core_of(object);

	if (core)
		core_unref(core);
	native_free(object);
}

static PyObject *connection_close(PyObject *object, PyObject *none)
{
	(void)none;
	if (!core_close(connection_core_of(object)))
		return NULL;

	Py_RETURN_NONE;
}

static PyObject *connection_closed(PyObject *object, void *closure)
{
	(void)closure;
	return PyBool_FromLong(connection_core_of(object)->closed);
}

/* ---- Waiting ---- */

static PyObject *connection_fileno(PyObject *object, PyObject *none)
{
	struct call call;
	int fd;

	(void)none;
	if (!core_enter(&call, connection_core_of(object)))
		return NULL;
	fd = hbm_fd(call.hbm);
	core_leave(&call, 0);

	return PyLong_FromLong(fd);
}

static PyObject *connection_dispatch(PyObject *object, PyObject *timeout)
{
	double seconds = timeout == Py_None ? -1 : PyFloat_AsDouble(timeout);
	long count;

	if (seconds == -1 && PyErr_Occurred())
		return NULL;
	if (timeout != Py_None && !(seconds >= 0)) {
		PyErr_SetString(PyExc_ValueError, "a timeout is no less than 0");
		return NULL;
	}

	count = core_dispatch(connection_core_of(object), seconds);

	return count < 0 ? NULL : PyLong_FromLong(count);
}

static PyObject *connection_ping(PyObject *object, PyObject *none)
{
	struct call call;

	(void)none;
	if (!core_enter(&call, connection_core_of(object)) ||
	    core_leave(&call, hbm_ping(call.hbm)) < 0)
		return NULL;

	Py_RETURN_NONE;
}

/* ---- Facts ---- */

/* (session, boot_id, driver, devices, requests_in_flight, regions, survives) */
static PyObject *connection_info(PyObject *object, void *closure)
{
	const struct hbm_info *info = &connection_core_of(object)->info;

	(void)closure;
	return Py_BuildValue("Ky#iIIIO", (unsigned long long)info->session,
			     (const char *)info->boot_id, (Py_ssize_t)sizeof(info->boot_id),
			     (int)info->driver, info->devices, info->requests_in_flight,
			     info->regions, info->survives ? Py_True : Py_False);
}

static PyObject *connection_ordinal(PyObject *object, PyObject *number)
{
	uint32_t device;
	struct call call;
	int ordinal = 0;

	if (!native_u32(number, "device", &device) ||
	    !core_enter(&call, connection_core_of(object)))
		return NULL;
	if (core_leave(&call, hbm_device_ordinal(call.hbm, device, &ordinal)) < 0)
		return NULL;

	return PyLong_FromLong(ordinal);
}

/* (capacity, free, promised, available, largest_slab, returning, waiting, default_slab, lost) */
static PyObject *connection_device_memory(PyObject *object, PyObject *number)
{
	struct hbm_device_memory memory = {.capacity = 0};
	uint32_t device;
	struct call call;

	if (!native_u32(number, "device", &device) ||
	    !core_enter(&call, connection_core_of(object)))
		return NULL;
	if (core_leave(&call, hbm_device_memory(call.hbm, device, &memory)) < 0)
		return NULL;

	return Py_BuildValue(
		"KKKKKKKKO", (unsigned long long)memory.capacity, (unsigned long long)memory.free,
		(unsigned long long)memory.promised, (unsigned long long)memory.available,
		(unsigned long long)memory.largest_slab, (unsigned long long)memory.returning,
		(unsigned long long)memory.waiting, (unsigned long long)memory.default_slab,
		memory.lost ? Py_True : Py_False);
}

static PyObject *connection_unpublish(PyObject *object, PyObject *args)
{
	uint32_t uid;
	PyObject *user;
	const char *name;
	struct call call;

	if (!PyArg_ParseTuple(args, "Os", &user, &name) || !native_u32(user, "uid", &uid) ||
	    !core_enter(&call, connection_core_of(object)) ||
	    core_leave(&call, hbm_region_unpublish(call.hbm, uid, name)) < 0)
		return NULL;

	Py_RETURN_NONE;
}

/* ---- Fences ---- */

/* They are read and set without the lock of calls. NULL: an exception is set; else unlock. */
static volatile uint64_t *connection_fence(struct core *core, PyObject *number, uint32_t *slot)
{
	if (!native_u32(number, "slot", slot))
		return NULL;

	if (*slot >= HBM_WIRE_FENCES) {
		PyErr_Format(PyExc_ValueError, "fence %u: there are %d", *slot, HBM_WIRE_FENCES);
		return NULL;
	}
	if (getpid() != core->pid) {
		native_raise(-EPERM, "the connection is that of the process before fork()");
		return NULL;
	}

	pthread_mutex_lock(&core->fence_lock);
	if (core->fences)
		return hbm_fence(core->hbm, *slot);

	pthread_mutex_unlock(&core->fence_lock);
	native_raise_closed("connection");

	return NULL;
}

static PyObject *connection_fence_value(PyObject *object, PyObject *number)
{
	struct core *core = connection_core_of(object);
	uint32_t slot;
	volatile uint64_t *fence = connection_fence(core, number, &slot);
	uint64_t value;

	if (!fence)
		return NULL;
	value = __atomic_load_n(fence, __ATOMIC_ACQUIRE);
	pthread_mutex_unlock(&core->fence_lock);

	return PyLong_FromUnsignedLongLong(value);
}

static PyObject *connection_fence_signal(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
	struct core *core = connection_core_of(object);
	uint64_t value;
	uint32_t slot;
	int status;

	if (count != 2) {
		PyErr_SetString(PyExc_TypeError, "a slot and a value");
		return NULL;
	}
	if (!native_u64(args[1], "value", &value) || !connection_fence(core, args[0], &slot))
		return NULL;
	status = hbm_fence_signal(core->hbm, slot, value);
	pthread_mutex_unlock(&core->fence_lock);
	if (status) {
		native_raise(status, "");
		return NULL;
	}

	Py_RETURN_NONE;
}

static PyObject *connection_fence_device(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
	uint32_t device, slot;
	uint64_t address = 0;
	struct call call;

	if (count != 2) {
		PyErr_SetString(PyExc_TypeError, "a device and a slot");
		return NULL;
	}
	if (!native_u32(args[0], "device", &device) || !native_u32(args[1], "slot", &slot) ||
	    !core_enter(&call, connection_core_of(object)) ||
	    core_leave(&call, hbm_fence_device(call.hbm, device, slot, &address)) < 0)
		return NULL;

	return PyLong_FromUnsignedLongLong(address);
}

/* ---- The type ---- */

static PyMethodDef connection_methods[] = {
	{"close", connection_close, METH_NOARGS, NULL},
	{"fileno", connection_fileno, METH_NOARGS, NULL},
	{"_dispatch", connection_dispatch, METH_O, NULL},
	{"ping", connection_ping, METH_NOARGS, NULL},
	{"_ordinal", connection_ordinal, METH_O, NULL},
	{"_device_memory", connection_device_memory, METH_O, NULL},
	{"_unpublish", connection_unpublish, METH_VARARGS, NULL},
	{"_fence_value", connection_fence_value, METH_O, NULL},
	{"_fence_signal", (PyCFunction)(void (*)(void))connection_fence_signal, METH_FASTCALL,
	 NULL},
	{"_fence_device", (PyCFunction)(void (*)(void))connection_fence_device, METH_FASTCALL,
	 NULL},
	{.ml_name = NULL}};

bool native_add_connection(PyObject *module)
{
	static PyGetSetDef members[] = {{"closed", connection_closed, NULL, NULL, NULL},
					{"_info", connection_info, NULL, NULL, NULL},
					{.name = NULL}};
	static PyType_Slot slots[] = {{Py_tp_new, connection_make},
				      {Py_tp_dealloc, connection_dealloc},
				      {Py_tp_methods, connection_methods},
				      {Py_tp_getset, members},
				      {0, NULL}};
	static PyType_Spec spec = {.name = "hbm._native.Connection",
				   .basicsize = sizeof(struct connection),
				   .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
				   .slots = slots};

	native_connection_type = native_type(module, "Connection", &spec);

	return native_connection_type != NULL;
}
