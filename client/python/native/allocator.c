/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/allocator.h"

#include "client/python/native/area.h"
#include "client/python/native/connection.h"
#include "client/python/native/core.h"
#include "client/python/native/region.h"

#include <stdlib.h>
#include <unistd.h>

#define SLAB_MIN (2ull << 20)
#define SLAB_MAX (1ull << 30)

struct allocation {
	struct allocation *next;
	struct hbm_region *region;
	uint64_t address, bytes;
	unsigned uses; /* by areas */
	bool freed;
};

/* What torch is given memory of; counted. Set once, with the GIL, before torch calls. */
static struct core *allocator_core;

/* ---- For torch ---- */

static int allocator_device(struct core *core, int ordinal, uint32_t *device)
{
	for (uint32_t i = 0; i < core->info.devices; i++) {
		int here;

		if (hbm_device_ordinal(core->hbm, i, &here) == 0 && here == ordinal) {
			*device = i;
			return 0;
		}
	}

	return HBM_INVALID;
}

/* At most 64 slabs, of which little is wasted. */
static uint64_t allocator_slab(uint64_t bytes)
{
	uint64_t slab = SLAB_MIN;

	while (slab < SLAB_MAX && bytes / slab > 64)
		slab *= 2;

	return slab;
}

static struct hbm_region *allocator_region(struct core *core, uint64_t bytes, int ordinal)
{
	struct hbm_region_options options = {.address_space = bytes, .slab = allocator_slab(bytes)};
	struct hbm_range all = {.offset = 0};

	if (allocator_device(core, ordinal, &options.device) ||
	    hbm_region_create(core->hbm, &options, &all.region))
		return NULL;

	all.bytes = hbm_region_bytes(all.region);
	if (hbm_commit(core->hbm, &all, 1) == 0)
		return all.region;
	hbm_region_destroy(core->hbm, all.region);

	return NULL;
}

void *hbm_torch_alloc(ssize_t bytes, int device, void *stream)
{
	struct core *core = allocator_core;
	struct allocation *allocation;
	void *address = NULL;

	(void)stream;
	if (!core || bytes <= 0 || getpid() != core->pid)
		return NULL;
	allocation = calloc(1, sizeof(*allocation));
	if (!allocation)
		return NULL;

	pthread_mutex_lock(&core->lock);
	if (core->hbm)
		allocation->region = allocator_region(core, (uint64_t)bytes, device);
	if (allocation->region) {
		allocation->address = hbm_region_address(allocation->region);
		allocation->bytes = hbm_region_bytes(allocation->region);
		allocation->next = core->allocations;
		core->allocations = allocation;
		address = (void *)(uintptr_t)allocation->address;
	}
	pthread_mutex_unlock(&core->lock);
	if (!address)
		free(allocation);

	return address;
}

/* Of one that neither has any more; under the lock. */
static void allocator_destroy(struct core *core, struct allocation *allocation)
{
	struct allocation **link = &core->allocations;

	while (*link != allocation)
		link = &(*link)->next;
	*link = allocation->next;
	if (core->hbm)
		hbm_region_destroy(core->hbm, allocation->region);
	free(allocation);
}

void hbm_torch_free(void *address, ssize_t bytes, int device, void *stream)
{
	struct core *core = allocator_core;

	(void)bytes;
	(void)device;
	(void)stream;
	if (!core || getpid() != core->pid)
		return;

	pthread_mutex_lock(&core->lock);
	for (struct allocation *each = core->allocations; each; each = each->next) {
		if (each->freed || each->address != (uintptr_t)address)
			continue;
		each->freed = true;
		if (each->uses == 0)
			allocator_destroy(core, each);
		break;
	}
	pthread_mutex_unlock(&core->lock);
}

/* ---- For Python ---- */

void allocation_leave(struct core *core, struct allocation *allocation)
{
	struct call call;

	if (core->closed || !core_enter(&call, core))
		return;
	if (--allocation->uses == 0 && allocation->freed)
		allocator_destroy(core, allocation);
	core_leave(&call, 0);
}

void allocation_forget(struct core *core)
{
	while (core->allocations) {
		struct allocation *next = core->allocations->next;

		free(core->allocations);
		core->allocations = next;
	}
}

/* allocator_use(connection): torch gets memory of it from now on */
static PyObject *allocator_use(PyObject *module, PyObject *connection)
{
	struct core *core = connection_core(connection);

	(void)module;
	if (!core)
		return NULL;
	if (allocator_core && allocator_core != core && !allocator_core->closed) {
		PyErr_SetString(PyExc_RuntimeError, "torch has memory of another connection");
		return NULL;
	}

	if (allocator_core != core) {
		core->refs++;
		if (allocator_core)
			core_unref(allocator_core);
		allocator_core = core;
	}

	Py_RETURN_NONE;
}

/* Where an address is in one that torch has: the device's, or on the soft device the host's. */
static bool allocation_has(const struct allocation *allocation, uint64_t address, uint64_t *offset)
{
	const void *host = hbm_region_host(allocation->region);

	*offset = address - allocation->address;
	if (*offset >= allocation->bytes && host)
		*offset = address - (uintptr_t)host;

	return !allocation->freed && *offset < allocation->bytes;
}

/* allocation(class of regions, connection, address): (a region, an offset in it), or None */
static PyObject *allocator_find(PyObject *module, PyObject *args)
{
	struct allocation *found = NULL;
	PyObject *class, *connection, *number, *region;
	struct core *core;
	struct call call;
	uint64_t address, offset = 0;

	(void)module;
	if (!PyArg_ParseTuple(args, "OOO", &class, &connection, &number) ||
	    !native_u64(number, "address", &address))
		return NULL;
	core = connection_core(connection);
	if (!core || !core_enter(&call, core))
		return NULL;
	for (struct allocation *each = core->allocations; each && !found; each = each->next)
		if (allocation_has(each, address, &offset))
			found = each;
	if (found)
		found->uses++;
	if (core_leave(&call, 0) < 0)
		return NULL;
	if (!found)
		Py_RETURN_NONE;

	region = region_of_allocation(class, core, found->region, found);
	if (!region) {
		allocation_leave(core, found);
		return NULL;
	}

	return Py_BuildValue("NK", region, (unsigned long long)offset);
}

bool native_add_allocator(PyObject *module)
{
	static PyMethodDef methods[] = {{"allocator_use", allocator_use, METH_O, NULL},
					{"allocation", allocator_find, METH_VARARGS, NULL},
					{.ml_name = NULL}};

	return PyModule_AddFunctions(module, methods) == 0;
}
