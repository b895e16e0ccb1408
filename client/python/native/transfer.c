/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/transfer.h"

#include "client/python/native/blocks.h"
#include "client/python/native/job.h"
#include "client/python/native/keys.h"
#include "client/python/native/namespace.h"
#include "client/python/native/op.h"

struct transfer {
	bool store;
	struct blocks blocks;
	struct hbm_sync sync;
};

static int transfer_submit(struct hbm *hbm, const struct namespace *self, struct op *op,
			   const void *what)
{
	const struct transfer *transfer = what;

	if (op->job)
		return job_begin(self->core, op);

	return (transfer->store ? hbm_submit_store : hbm_submit_load)(
		hbm, self->ns, transfer->blocks.blocks, op->count, &transfer->sync, op->results,
		&op->ticket);
}

/* None, or a tuple of a slot and a value; of a second slot, too. */
static bool transfer_fence(PyObject *fence, const char *what, uint32_t *slot, uint64_t *value,
			   uint32_t *failed)
{
	Py_ssize_t count;

	*slot = HBM_WIRE_NO_FENCE;
	if (fence == Py_None)
		return true;

	count = PyTuple_Check(fence) ? PyTuple_Size(fence) : 0;
	if (count != 2 && !(failed && count == 3)) {
		PyErr_Format(PyExc_TypeError, "%s: a tuple (slot, value%s)", what,
			     failed ? "[, slot of the number of failures]" : "");
		return false;
	}

	return native_u32(PyTuple_GetItem(fence, 0), what, slot) &&
	       native_u64(PyTuple_GetItem(fence, 1), what, value) &&
	       (count == 2 || native_u32(PyTuple_GetItem(fence, 2), what, failed));
}

/* What goes for all blocks of a store. */
struct transfer_policy {
	enum hbm_tier tier;
	bool pin, lend, durable;
};

static void transfer_set_policy(struct transfer *transfer, size_t count,
				const struct transfer_policy *policy)
{
	for (size_t i = 0; i < count; i++) {
		struct hbm_block *block = &transfer->blocks.blocks[i];

		block->tier = policy->tier;
		block->pin = policy->pin;
		block->lend = policy->lend;
		block->durable = policy->durable;
	}
}

/* As libhbm has it, which does not see these. */
static bool transfer_fences_exist(const struct hbm_sync *sync)
{
	return (sync->ready_slot == HBM_WIRE_NO_FENCE || sync->ready_slot < HBM_WIRE_FENCES) &&
	       (sync->fence_slot == HBM_WIRE_NO_FENCE || sync->fence_slot < HBM_WIRE_FENCES) &&
	       sync->failed_slot < HBM_WIRE_FENCES &&
	       (sync->failed_slot == 0 || sync->failed_slot != sync->fence_slot);
}

/* Gives blocks that are in no region to a job of the op. */
static bool transfer_use_memory(const struct namespace *self, struct transfer *transfer,
				struct op *op)
{
	const struct job_options options = {.store = transfer->store,
					    .ns = self->ns,
					    .block_bytes = self->block_bytes,
					    .blocks = transfer->blocks.blocks,
					    .memory = transfer->blocks.memory,
					    .sync = transfer->sync};

	if (!transfer->blocks.memory)
		return true;
	if (transfer->store && transfer->sync.ready_slot != HBM_WIRE_NO_FENCE) {
		PyErr_SetString(PyExc_ValueError,
				"a ready fence for a store of memory that is in no region");
		return false;
	}

	if (!transfer_fences_exist(&transfer->sync)) {
		native_raise(HBM_INVALID, "there is no such fence, or one is named twice");
		return false;
	}

	op->job = job_new(&options);
	if (!op->job)
		return false;
	transfer->blocks.blocks = NULL;
	transfer->blocks.memory = NULL;

	return true;
}

/* (keys, where, ready, done) and for a store (parents, tier, durable, pin, lend) */
struct transfer_args {
	PyObject *keys, *where, *ready, *done, *parents;
	struct transfer_policy policy;
};

static PyObject *transfer_begin(struct namespace *self, bool store,
				const struct transfer_args *args)
{
	struct transfer transfer = {.store = store};
	PyObject *ticket = NULL;
	struct op *op = NULL;
	struct keys keys;

	if (!namespace_check(self) || !keys_parse(args->keys, &keys))
		return NULL;

	if (transfer_fence(args->ready, "ready", &transfer.sync.ready_slot,
			   &transfer.sync.ready_value, NULL) &&
	    transfer_fence(args->done, "done", &transfer.sync.fence_slot,
			   &transfer.sync.fence_value, &transfer.sync.failed_slot))
		op = op_new(keys.count);
	if (op &&
	    blocks_parse(args->where, &keys, self->block_bytes, !store, self->core, op,
			 &transfer.blocks) &&
	    (!store || blocks_parents(args->parents, &transfer.blocks, keys.count))) {
		transfer_set_policy(&transfer, keys.count, &args->policy);
		if (transfer_use_memory(self, &transfer, op)) {
			ticket = namespace_submit(self, op, transfer_submit, &transfer);
			op = NULL;
		}
	}

	if (op)
		op_unref(op);
	keys_free(&keys);
	blocks_free(&transfer.blocks);

	return ticket;
}

PyObject *transfer_store(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
	struct transfer_args transfer;
	long tier;

	if (count != 9) {
		PyErr_SetString(PyExc_TypeError, "nine arguments");
		return NULL;
	}

	tier = PyLong_AsLong(args[5]);
	if (tier == -1 && PyErr_Occurred())
		return NULL;
	if (tier < HBM_TIER_NONE || tier > HBM_TIER_NVME) {
		PyErr_SetString(PyExc_ValueError, "no such tier");
		return NULL;
	}

	transfer = (struct transfer_args){.keys = args[0],
					  .where = args[1],
					  .ready = args[2],
					  .done = args[3],
					  .parents = args[4],
					  .policy = {.tier = (enum hbm_tier)tier,
						     .durable = PyObject_IsTrue(args[6]) == 1,
						     .pin = PyObject_IsTrue(args[7]) == 1,
						     .lend = PyObject_IsTrue(args[8]) == 1}};
	if (PyErr_Occurred())
		return NULL;

	return transfer_begin((struct namespace *)object, true, &transfer);
}

PyObject *transfer_load(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
	struct transfer_args transfer;

	if (count != 4) {
		PyErr_SetString(PyExc_TypeError, "four arguments");
		return NULL;
	}

	transfer = (struct transfer_args){
		.keys = args[0], .where = args[1], .ready = args[2], .done = args[3]};

	return transfer_begin((struct namespace *)object, false, &transfer);
}
