/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lent: see lent.h. What closes is unmapped by a job that is posted before its slabs are
 * released, on the same worker: the release is the last of its memory but for what clients
 * hold.
 */
#include "daemon/region/lent.h"

#include <assert.h>
#include <stdlib.h>

uint64_t lent_footprint(uint64_t slabs, uint64_t cells)
{
	return sizeof(struct lent) + slabs * sizeof(struct slab *) +
	       cells * sizeof(struct replica *);
}

struct lent *lent_new(struct device *device, const struct lent_form *form)
{
	struct lent *lent = calloc(1, sizeof(*lent));
	struct slab **slabs = calloc(form->slab_count, sizeof(*slabs));
	struct replica **cells = calloc(form->cell_count, sizeof(*cells));
	if (!lent || !slabs || !cells) {
		free(cells);
		free(slabs);
		free(lent);
		return NULL;
	}

	*lent = (struct lent){
		.device = device,
		.user = user_ref(form->user),
		.slab_bytes = form->slab_bytes,
		.cell_bytes = form->cell_bytes,
		.block_bytes = form->block_bytes,
		.slab_count = form->slab_count,
		.cell_count = form->cell_count,
		.ns = form->ns,
		.cells = cells,
		.slabs = slabs,
	};
	list_init(&lent->link);
	list_init(&lent->idle);
	list_init(&lent->idle_of_user);
	list_init(&lent->packed);
	list_init(&lent->exports);
	list_init(&lent->waits);

	return lent;
}

struct lent *lent_free(struct lent *lent)
{
	if (!lent)
		return NULL;

	ledger_release(&lent->charge);
	user_close(lent->user);
	free(lent->cells);
	free(lent->slabs);
	free(lent);

	return NULL;
}

uint64_t lent_bytes(const struct lent *lent)
{
	return lent->slab_bytes * lent->slab_count;
}

/* ---- on the control worker ---- */

static void lent_unmap_some(const struct lent *lent, uint32_t slabs)
{
	const struct device *device = lent->device;

	for (uint32_t i = 0; i < slabs; i++)
		device_unmap(device, lent->address + i * lent->slab_bytes, lent->slab_bytes);
	device_unreserve(device, lent->address, lent_bytes(lent));
}

static CUresult lent_map_slabs(struct lent *lent, uint32_t *mapped)
{
	const struct device *device = lent->device;

	lent->call = "cuMemMap";
	for (; *mapped < lent->slab_count; (*mapped)++) {
		CUresult r = device->driver->cuMemMap(lent->address + *mapped * lent->slab_bytes,
						      lent->slab_bytes, 0,
						      lent->slabs[*mapped]->handle, 0);
		if (r != CUDA_SUCCESS)
			return r;
	}

	lent->call = "cuMemSetAccess";

	return device_allow(device, lent->address, lent_bytes(lent));
}

static void lent_open_run(struct job *job)
{
	struct lent *lent = container_of(job, struct lent, open_job);
	uint32_t mapped = 0;

	lent->call = "cuMemAddressReserve";
	lent->result = lent->device->driver->cuMemAddressReserve(&lent->address, lent_bytes(lent),
								 lent->slab_bytes, 0, 0);
	if (lent->result != CUDA_SUCCESS) {
		lent->address = 0;
		return;
	}

	lent->result = lent_map_slabs(lent, &mapped);
	if (lent->result != CUDA_SUCCESS) {
		lent_unmap_some(lent, mapped);
		lent->address = 0;
	}
}

static void lent_close_run(struct job *job)
{
	struct lent *lent = container_of(job, struct lent, close_job);

	if (lent->address != 0 && !lent->stuck)
		lent_unmap_some(lent, lent->slab_count);
}

static void lent_close_done(struct job *job)
{
	lent_free(container_of(job, struct lent, close_job));
}

/* ---- opening ---- */

static void lent_tell(struct lent *lent, int status)
{
	for (struct list *node; (node = list_pop_front(&lent->waits));) {
		struct lent_wait *wait = container_of(node, struct lent_wait, link);
		wait->done(wait, status);
	}
}

/* The worker may still read which they are. */
static void lent_drop_slabs(const struct lent *lent)
{
	for (uint32_t i = 0; i < lent->slab_count; i++) {
		lent->slabs[i]->lent = NULL;
		slab_unref(lent->slabs[i], false);
	}
}

/* Who waited has let go of its replicas by then. */
static void lent_refuse(struct lent *lent, int status)
{
	lent_tell(lent, status);
	lent->refused(lent);
}

static void lent_opened(struct job *job)
{
	struct lent *lent = container_of(job, struct lent, open_job);
	struct device *device = lent->device;
	int status = HBM_OK;

	lent->mapped = lent->result == CUDA_SUCCESS;
	if (!lent->mapped)
		status = device_failed(device, lent->call, lent->result);
	if (lent->adopted) /* is lent without it, too */
		return;

	if (lent->mapped) {
		lent->state = LENT_OPEN;
		lent_tell(lent, HBM_OK);
		return;
	}

	lent_drop_slabs(lent);
	lent_refuse(lent, status);
}

static void lent_map(struct lent *lent)
{
	lent->open_job.run = lent_open_run;
	lent->open_job.done = lent_opened;
	worker_post(lent->device->control, &lent->open_job);
}

static void lent_granted(struct slab_request *request)
{
	struct lent *lent = container_of(request, struct lent, request);

	if (request->status != HBM_OK) {
		if (!lent->requesting)
			lent_refuse(lent, request->status);
		return;
	}

	for (uint32_t i = 0; i < lent->slab_count; i++) {
		struct list *node = list_pop_front(&request->taken);
		assert(node);
		lent->slabs[i] = container_of(node, struct slab, link);
		lent->slabs[i]->lent = lent;
		lent->slabs[i]->exported = true; /* it will have bytes of the user */
	}

	lent->state = LENT_MAPPING;
	lent->granted(lent);
	lent_map(lent);
}

int lent_open(struct lent *lent, struct holder *holder)
{
	lent->request = (struct slab_request){
		.bytes = lent->slab_bytes,
		.count = lent->slab_count,
		.holder = holder,
		.done = lent_granted,
	};

	lent->requesting = true;
	int status = slabs_request(lent->device->slabs, &lent->request);
	lent->requesting = false;

	return status == HBM_OK ? lent->request.status : status;
}

void lent_adopt(struct lent *lent, struct slab *const *slabs)
{
	for (uint32_t i = 0; i < lent->slab_count; i++) {
		lent->slabs[i] = slab_ref(slabs[i]);
		slabs[i]->lent = lent;
	}

	lent->adopted = true;
	lent->state = LENT_OPEN;
	lent_map(lent);
}

/* ---- closing ---- */

void lent_keep(struct lent *lent)
{
	lent->stuck = true;
	for (uint32_t i = 0; i < lent->slab_count; i++)
		lent->slabs[i]->stuck = true;
}

bool lent_is_left(const struct lent *lent)
{
	const struct list *only = lent->exports.next;

	return only != &lent->exports && only->next == &lent->exports &&
	       container_of(only, struct export, by_lent)->ended;
}

/* Who is charged for what is held of it: who was sent it last; NULL: no one. */
static struct holder *lent_last_holder(const struct lent *lent)
{
	const struct list *last = lent->exports.prev;

	return last != &lent->exports ? container_of(last, struct export, by_lent)->holder : NULL;
}

/* Nobody has it any more. Whose session has ended may go with that. */
static void lent_forget_exports(struct lent *lent)
{
	for (struct list *node; (node = list_pop_front(&lent->exports));) {
		struct export *export = container_of(node, struct export, by_lent);
		struct holder *kept = export->ended ? export->holder : NULL;

		list_remove(&export->by_borrower);
		free(export);
		if (kept)
			holder_let_go(kept);
	}
}

static void lent_close_unread(struct lent *lent)
{
	struct holder *holder = lent_last_holder(lent);

	lent->close_job.run = lent_close_run;
	lent->close_job.done = lent_close_done;
	worker_post(lent->device->control, &lent->close_job);

	/* Not only of the last reference: a block may have one slab twice. */
	for (uint32_t i = 0; i < lent->slab_count; i++)
		if (lent->slabs[i]->slots == 0)
			lent->slabs[i]->part.holder = holder;
	lent_drop_slabs(lent);
	lent_forget_exports(lent);
}

/* They come back, though not before what reads them has ended. */
static void lent_return_slabs(const struct lent *lent)
{
	for (uint32_t i = 0; i < lent->slab_count; i++)
		if (lent->slabs[i]->slots == 0)
			slab_begin_return(lent->slabs[i]);
}

void lent_close(struct lent *lent)
{
	lent->closed = true;
	ledger_release(&lent->charge);
	lent_return_slabs(lent);
	if (lent->readers == 0)
		lent_close_unread(lent);
}

void lent_read(struct lent *lent)
{
	assert(!lent->closed);
	lent->readers++;
}

void lent_unread(struct lent *lent)
{
	assert(lent->readers > 0);
	if (--lent->readers == 0 && lent->closed)
		lent_close_unread(lent);
}
