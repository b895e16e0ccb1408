/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/region.h"

#include "client/python/native/area.h"
#include "client/python/native/array.h"
#include "client/python/native/connection.h"
#include "client/python/native/core.h"
#include "client/python/native/loan.h"

PyTypeObject *native_region_type;

struct area *region_area(PyObject *object, const struct core *core)
{
	struct region *self = (struct region *)object;

	if (!PyObject_TypeCheck(object, native_region_type)) {
		PyErr_SetString(PyExc_TypeError, "not a region");
		return NULL;
	}

	if (self->area && self->area->region && self->core == core)
		return self->area;
	if (!self->area || !self->area->region)
		native_raise_closed("region");
	else
		PyErr_SetString(PyExc_ValueError, "a region of another connection");

	return NULL;
}

/* ---- Its life ---- */

static int region_create(struct call *call, const struct hbm_region_options *options, bool commit,
			 struct hbm_region **out)
{
	struct hbm_range all = {.offset = 0};
	int status = hbm_region_create(call->hbm, options, out);

	if (status || !commit)
		return status;

	all.region = *out;
	all.bytes = hbm_region_bytes(*out);
	status = hbm_commit(call->hbm, &all, 1);
	if (status) {
		hbm_region_destroy(call->hbm, *out);
		*out = NULL;
	}

	return status;
}

/* Takes over what was made. NULL: an exception is set. */
static PyObject *region_wrap(PyTypeObject *type, struct core *core, struct hbm_region *region,
			     bool committed)
{
	struct region *self = native_new(type);
	struct area *area = NULL;

	if (self && core->closed) /* since it was made: by a callback, or another thread */
		native_raise_closed("connection");
	else if (self)
		area = area_new(core, region, committed);
	if (!area) {
		Py_XDECREF((PyObject *)self);
		return NULL; /* it stays the connection's */
	}

	core->refs++;
	self->core = core;
	self->area = area;

	return (PyObject *)self;
}

PyObject *region_of_allocation(PyObject *class, struct core *core, struct hbm_region *region,
			       struct allocation *allocation)
{
	PyObject *made;

	if (!PyType_Check(class) || !PyType_IsSubtype((PyTypeObject *)class, native_region_type)) {
		PyErr_SetString(PyExc_TypeError, "not a class of regions");
		return NULL;
	}

	made = region_wrap((PyTypeObject *)class, core, region, true);
	if (made)
		((struct region *)made)->area->allocation = allocation;

	return made;
}

static PyObject *region_make(PyTypeObject *type, PyObject *args, PyObject *kwds)
{
	PyObject *connection, *bytes, *device, *slab;
	struct hbm_region_options options;
	struct hbm_region *region = NULL;
	struct core *core;
	struct call call;
	int commit;

	if (kwds && PyDict_Size(kwds) > 0) {
		PyErr_SetString(PyExc_TypeError, "no keywords");
		return NULL;
	}
	if (!PyArg_ParseTuple(args, "OOOOp", &connection, &bytes, &device, &slab, &commit))
		return NULL;

	options = (struct hbm_region_options){.device = 0};
	core = connection_core(connection);
	if (!core || !native_u64(bytes, "bytes", &options.address_space) ||
	    !native_u32(device, "device", &options.device) ||
	    !native_u64(slab, "slab", &options.slab) || !core_enter(&call, core))
		return NULL;
	if (core_leave(&call, region_create(&call, &options, commit, &region)) < 0)
		return NULL;

	return region_wrap(type, core, region, commit);
}

/* attach(type, connection, uid, name, flags) */
static PyObject *region_attach(PyObject *type, PyObject *args)
{
	PyObject *connection, *user;
	unsigned int flags;
	uint32_t uid;
	const char *name;
	struct hbm_region *region = NULL;
	struct core *core;
	struct call call;
	PyObject *made;

	if (!PyArg_ParseTuple(args, "OOsI", &connection, &user, &name, &flags))
		return NULL;
	core = connection_core(connection);
	if (!core || !native_u32(user, "uid", &uid) || !core_enter(&call, core))
		return NULL;
	if (core_leave(&call, hbm_region_attach(call.hbm, uid, name, flags, &region)) < 0)
		return NULL;

	made = region_wrap((PyTypeObject *)type, core, region, true);
	if (made)
		((struct region *)made)->area->read_only = !(flags & HBM_ATTACH_WRITE);

	return made;
}

static void region_dealloc(PyObject *object)
{
	struct region *self = (struct region *)object;

	if (self->area)
		area_unref(self->area);
	if (self->core)
		core_unref(self->core);
	native_free(object);
}

static PyObject *region_close(PyObject *object, PyObject *none)
{
	struct area *area = ((struct region *)object)->area;

	(void)none;
	if (!area || !area->region)
		Py_RETURN_NONE;
	if (!area_is_unused(area, "close") || !area_close(area))
		return NULL;

	Py_RETURN_NONE;
}

/* ---- Ranges of it ---- */

static bool region_range(struct region *self, PyObject *const *args, Py_ssize_t count,
			 uint64_t *offset, uint64_t *bytes)
{
	if (count != 2) {
		PyErr_SetString(PyExc_TypeError, "an offset and a number of bytes");
		return false;
	}

	return native_u64(args[0], "offset", offset) && native_u64(args[1], "bytes", bytes) &&
	       area_check(self->area, *offset, *bytes);
}

static PyObject *region_commit(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
	struct region *self = (struct region *)object;
	struct hbm_range range = {.offset = 0};
	struct call call;
	int status;

	if (!region_range(self, args, count, &range.offset, &range.bytes))
		return NULL;

	range.region = self->area->region;
	self->area->pins++; /* it is not closed meanwhile */
	status = core_enter(&call, self->core) ? core_leave(&call, hbm_commit(call.hbm, &range, 1))
					       : -1;
	self->area->pins--;
	if (status < 0)
		return NULL;
	area_set(self->area, range.offset, range.bytes, AREA_COMMITTED);

	Py_RETURN_NONE;
}

static PyObject *region_decommit(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
	struct region *self = (struct region *)object;
	struct hbm_range range = {.offset = 0};
	struct call call;
	int status;

	if (!region_range(self, args, count, &range.offset, &range.bytes) ||
	    !area_is_unused(self->area, "decommit"))
		return NULL;
	if (self->area->allocation) {
		PyErr_SetString(PyExc_ValueError, "the memory is torch's");
		return NULL;
	}
	if (range.offset % self->area->slab || range.bytes % self->area->slab) {
		PyErr_SetString(PyExc_ValueError, "a range that is not of whole slabs");
		return NULL;
	}
	if (!area_is_committed(self->area, range.offset, range.bytes)) {
		PyErr_SetString(PyExc_ValueError, "a range that is not committed");
		return NULL;
	}

	range.region = self->area->region;
	self->area->pins++;
	area_set(self->area, range.offset, range.bytes, AREA_EMPTY); /* no new views of it */
	status = core_enter(&call, self->core)
			 ? core_leave(&call, hbm_decommit(call.hbm, &range, 1))
			 : -1;
	self->area->pins--;
	if (status < 0)
		return NULL;

	Py_RETURN_NONE;
}

static bool region_can_share(const struct region *self, const struct region *source)
{
	if (source->core != self->core)
		PyErr_SetString(PyExc_ValueError, "a region of another connection");
	else if (source->area->read_only)
		PyErr_SetString(PyExc_ValueError, "the source may not be written");
	else if (self->area->allocation || source->area->allocation)
		PyErr_SetString(PyExc_ValueError, "the memory is torch's");

	return !PyErr_Occurred();
}

/* Finds what an object is, a region or a loan, in which neither is closed meanwhile: *pins. False:
 * an exception is set. */
static bool region_share_source(const struct region *self, PyObject *from, bool read_only,
				struct hbm_share *share, int **pins)
{
	struct region *source = (struct region *)from;
	struct loan *loan;

	if (!PyObject_TypeCheck(from, native_region_type)) {
		loan = loan_of(from, self->core);
		if (!loan)
			return false;
		share->loan = loan->loan;
		share->flags = HBM_SHARE_READ_ONLY;
		*pins = &loan->pins;
		return true;
	}

	if (!region_can_share(self, source) ||
	    !area_check(source->area, share->source_offset, share->bytes))
		return false;
	share->source = source->area->region;
	if (read_only || area_is_read_only(source->area, share->source_offset, share->bytes))
		share->flags = HBM_SHARE_READ_ONLY;
	*pins = &source->area->pins;

	return true;
}

/* share(a region or a loan, its offset, offset, bytes, read-only) */
static PyObject *region_share(PyObject *object, PyObject *args)
{
	struct region *self = (struct region *)object;
	struct hbm_share share = {.flags = 0};
	PyObject *from, *source_offset, *offset, *bytes;
	int read_only, status, *pins = NULL;
	struct call call;

	if (!PyArg_ParseTuple(args, "OOOOp", &from, &source_offset, &offset, &bytes, &read_only) ||
	    !native_u64(source_offset, "source_offset", &share.source_offset) ||
	    !native_u64(offset, "offset", &share.target_offset) ||
	    !native_u64(bytes, "bytes", &share.bytes) ||
	    !region_share_source(self, from, read_only, &share, &pins) ||
	    !area_check(self->area, share.target_offset, share.bytes))
		return NULL;

	share.target = self->area->region;
	self->area->pins++; /* they are not closed meanwhile */
	++*pins;
	status = core_enter(&call, self->core) ? core_leave(&call, hbm_share(call.hbm, &share, 1))
					       : -1;
	--*pins;
	self->area->pins--;
	if (status < 0)
		return NULL;
	area_set(self->area, share.target_offset, share.bytes,
		 share.flags ? AREA_READ_ONLY : AREA_COMMITTED);

	Py_RETURN_NONE;
}

/* register(device): all of it */
static PyObject *region_register(PyObject *object, PyObject *number)
{
	struct region *self = (struct region *)object;
	struct hbm_range all = {.offset = 0};
	struct call call;
	uint32_t device;
	int status;

	if (!native_u32(number, "device", &device) || !area_check(self->area, 0, 0))
		return NULL;

	all.region = self->area->region;
	all.bytes = self->area->bytes;
	self->area->pins++; /* it is not closed meanwhile */
	status = core_enter(&call, self->core)
			 ? core_leave(&call, hbm_region_register(call.hbm, &all, device, NULL))
			 : -1;
	self->area->pins--;
	if (status < 0)
		return NULL;

	Py_RETURN_NONE;
}

/* publish(name, offset, bytes, gid or None) */
static PyObject *region_publish(PyObject *object, PyObject *args)
{
	struct region *self = (struct region *)object;
	struct hbm_publish_options options = {.for_group = false};
	struct hbm_region *region;
	PyObject *offset, *bytes, *gid;
	uint64_t at, size;
	struct call call;
	int status;

	if (!PyArg_ParseTuple(args, "sOOO", &options.name, &offset, &bytes, &gid) ||
	    !native_u64(offset, "offset", &at) || !native_u64(bytes, "bytes", &size) ||
	    !area_check(self->area, at, size))
		return NULL;
	options.for_group = gid != Py_None;
	if (options.for_group && !native_u32(gid, "gid", &options.gid))
		return NULL;

	region = self->area->region;
	self->area->pins++;
	status = core_enter(&call, self->core)
			 ? core_leave(&call,
				      hbm_region_publish(call.hbm, region, at, size, &options))
			 : -1;
	self->area->pins--;
	if (status < 0)
		return NULL;

	Py_RETURN_NONE;
}

/* ---- Facts ---- */

static PyObject *region_fact(PyObject *object, void *which)
{
	struct area *area = ((struct region *)object)->area;
	uint64_t facts[] = {area->address, area->bytes, area->slab, area->device};

	if (!area->region) {
		native_raise_closed("region");
		return NULL;
	}

	return PyLong_FromUnsignedLongLong(facts[(uintptr_t)which]);
}

static PyObject *region_closed(PyObject *object, void *closure)
{
	(void)closure;
	return PyBool_FromLong(((struct region *)object)->area->region == NULL);
}

static PyObject *region_is_host(PyObject *object, void *closure)
{
	(void)closure;
	return PyBool_FromLong(((struct region *)object)->area->memory != NULL);
}

static PyObject *region_read_only(PyObject *object, void *closure)
{
	(void)closure;
	return PyBool_FromLong(((struct region *)object)->area->read_only);
}

/* ---- Views ---- */

static int region_get_buffer(PyObject *object, Py_buffer *view, int flags)
{
	struct area *area = ((struct region *)object)->area;

	view->obj = NULL;
	if (!area_can_be_seen(area, 0, area->bytes) ||
	    PyBuffer_FillInfo(view, object, area->memory, (Py_ssize_t)area->bytes,
			      area_is_read_only(area, 0, area->bytes), flags) < 0)
		return -1;
	area->views++;

	return 0;
}

/* _array(offset, shape, type) */
static PyObject *region_array(PyObject *object, PyObject *args)
{
	struct region *self = (struct region *)object;
	struct area *area = self->area;
	struct array_place place;
	struct array_shape shape;
	uint64_t offset, bytes;
	PyObject *at, *lengths;
	const char *type;

	if (!PyArg_ParseTuple(args, "OO!s", &at, &PyTuple_Type, &lengths, &type) ||
	    !native_u64(at, "offset", &offset) ||
	    !array_shape_parse(lengths, type, &shape, &bytes) || !area_check(area, offset, bytes))
		return NULL;
	if (!area_is_committed(area, offset, bytes)) {
		PyErr_SetString(PyExc_BufferError, "the range is not committed throughout");
		return NULL;
	}

	place = (struct array_place){.owner = object,
				     .views = &area->views,
				     .core = self->core,
				     .address = area->address + offset,
				     .memory = area->memory ? area->memory + offset : NULL,
				     .device = area->device,
				     .read_only = area_is_read_only(area, offset, bytes)};

	return array_new(&place, type, &shape);
}

static void region_release_buffer(PyObject *object, Py_buffer *view)
{
	(void)view;
	((struct region *)object)->area->views--;
}

/* ---- The type ---- */

static PyMethodDef region_methods[] = {
	{"close", region_close, METH_NOARGS, NULL},
	{"_commit", (PyCFunction)(void (*)(void))region_commit, METH_FASTCALL, NULL},
	{"_decommit", (PyCFunction)(void (*)(void))region_decommit, METH_FASTCALL, NULL},
	{"_share", region_share, METH_VARARGS, NULL},
	{"_register", region_register, METH_O, NULL},
	{"_array", region_array, METH_VARARGS, NULL},
	{"_publish", region_publish, METH_VARARGS, NULL},
	{"_attach", region_attach, METH_VARARGS | METH_CLASS, NULL},
	{.ml_name = NULL}};

static PyGetSetDef region_members[] = {
	{"address", region_fact, NULL, "device address of its first byte", (void *)0},
	{"bytes", region_fact, NULL, "how many it has: whole slabs", (void *)1},
	{"slab", region_fact, NULL, "bytes of a slab", (void *)2},
	{"device", region_fact, NULL, "the daemon's number of the device", (void *)3},
	{"closed", region_closed, NULL, "whether it was closed", NULL},
	{"read_only", region_read_only, NULL, "whether none of it may be written", NULL},
	{"is_host", region_is_host, NULL, "whether this process can reach its bytes", NULL},
	{.name = NULL}};

bool native_add_region(PyObject *module)
{
	static PyType_Slot slots[] = {{Py_tp_new, region_make},
				      {Py_tp_dealloc, region_dealloc},
				      {Py_tp_methods, region_methods},
				      {Py_tp_getset, region_members},
				      {Py_bf_getbuffer, region_get_buffer},
				      {Py_bf_releasebuffer, region_release_buffer},
				      {0, NULL}};
	static PyType_Spec spec = {.name = "hbm._native.Region",
				   .basicsize = sizeof(struct region),
				   .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
				   .slots = slots};

	native_region_type = native_type(module, "Region", &spec);

	return native_region_type != NULL;
}
