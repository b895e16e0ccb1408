/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/borrow.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/fdpass.h"
#include "daemon/cache/cache.h"
#include "daemon/device/device.h"
#include "daemon/move/move.h"
#include "daemon/move/pump.h"
#include "daemon/move/replicate.h"
#include "daemon/region/loan.h"
#include "daemon/session/outbox.h"

struct borrow;

struct borrow_item {
	struct borrow *borrow;
	struct replica_wait wait;
	uint32_t number; /* of the block, in use until it is lent; 0: none */
	int status;
	uint8_t tier;
	struct replica *replica; /* held */
	struct loan *loan;
	uint32_t slabs; /* index of its lent slabs */
};

/* Lent slabs that the reply is of. */
struct borrow_slabs {
	struct lent *lent;
	struct export *export;
	bool named;
	uint32_t first; /* index of its first slab in the reply */
};

struct borrow {
	struct hbmd *hbmd;
	struct request *request;
	const struct hbm_wire_borrow *message;
	struct device *device;
	struct work work;
	bool (*phase)(struct borrow *borrow, struct slice *slice);
	uint32_t at, pending;
	struct cache_touch touch;
	uint16_t ns;
	/* export, reply */
	struct job job;
	uint32_t slabs_count, slab_total, piece_total;
	uint32_t fd_count, fd_next, slabs_next, slab_next; /* next: how far the job is */
	CUresult result;
	bool lacks_fds;
	int fds[HBM_WIRE_FDS_MAX];
	struct borrow_slabs slabs[HBM_WIRE_FDS_MAX];
	struct borrow_item items[]; /* [message->count] */
};

uint64_t borrow_bytes(void)
{
	return sizeof(struct borrow) +
	       HBM_WIRE_FDS_MAX * (sizeof(struct borrow_item) + sizeof(struct loan) +
				   sizeof(struct hbm_wire_loan) + sizeof(struct hbm_wire_piece) +
				   sizeof(struct hbm_wire_slab) + sizeof(int) + replicate_bytes());
}

static struct borrower *borrow_borrower(const struct borrow *borrow)
{
	return &borrow->request->session->regions.borrower;
}

/* ---- the end ---- */

static void borrow_free(struct borrow *borrow)
{
	for (uint32_t i = 0; i < borrow->slabs_count; i++)
		export_end(borrow->slabs[i].export, borrow_borrower(borrow),
			   borrow->slabs[i].named);

	for (uint32_t i = 0; i < borrow->message->count; i++) {
		struct borrow_item *item = &borrow->items[i];

		if (item->replica)
			replica_unhold(item->replica);
		loan_free(item->loan);
	}

	for (uint32_t i = 0; i < borrow->fd_count; i++)
		if (borrow->fds[i] >= 0)
			close(borrow->fds[i]);

	namespaces_unref(borrow->hbmd->cache->namespaces, borrow->ns);
}

static void borrow_refuse(struct borrow *borrow, int status, const char *why)
{
	struct request *request = borrow->request;

	borrow_free(borrow);
	free(borrow);
	request_refuse(request, status, "%s", why);
}

/* ---- reply ---- */

static uint32_t borrow_item_pieces(const struct borrow_item *item)
{
	return item->replica ? item->replica->lent->slab_count : 0;
}

static size_t borrow_reply_size(const struct borrow *borrow)
{
	return sizeof(struct hbm_wire_borrowed) +
	       borrow->message->count * sizeof(struct hbm_wire_loan) +
	       borrow->piece_total * sizeof(struct hbm_wire_piece) +
	       borrow->slab_total * sizeof(struct hbm_wire_slab);
}

static void borrow_fill_pieces(const struct borrow *borrow, const struct borrow_item *item,
			       struct hbm_wire_piece *pieces)
{
	const struct lent *lent = item->replica->lent;

	for (uint32_t i = 0; i < lent->slab_count; i++)
		pieces[i] = (struct hbm_wire_piece){
			.slab = borrow->slabs[item->slabs].first + i,
			.offset = item->replica->cell * lent->cell_bytes,
			.bytes = lent->slab_count > 1 ? lent->slab_bytes : lent->block_bytes,
		};
}

static void borrow_fill_slabs(const struct borrow_slabs *slabs, struct hbm_wire_slab *records)
{
	for (uint32_t i = 0; i < slabs->lent->slab_count; i++)
		records[slabs->first + i] = (struct hbm_wire_slab){
			.slab = slabs->lent->id + i,
			.bytes = slabs->lent->slab_bytes,
			.sent = !slabs->named,
		};
}

/* Makes the loans, too. */
static void borrow_fill(struct borrow *borrow, struct hbm_wire_borrowed *reply)
{
	struct hbm_wire_piece *pieces = (void *)&reply->loans[borrow->message->count];
	struct hbm_wire_slab *slabs = (void *)&pieces[borrow->piece_total];

	reply->count = borrow->message->count;
	reply->pieces = borrow->piece_total;
	reply->slabs = borrow->slab_total;
	reply->zero = 0;
	for (uint32_t i = 0; i < borrow->slabs_count; i++)
		borrow_fill_slabs(&borrow->slabs[i], slabs);

	for (uint32_t i = 0; i < borrow->message->count; i++) {
		struct borrow_item *item = &borrow->items[i];

		reply->loans[i] = (struct hbm_wire_loan){.pieces = borrow_item_pieces(item),
							 .status = (uint8_t)item->status,
							 .tier = item->tier};
		if (!item->replica)
			continue;

		loan_make(item->loan, item->replica, borrow->slabs[item->slabs].export);
		reply->loans[i].loan = item->loan->id;
		item->loan = NULL;
		borrow_fill_pieces(borrow, item, pieces);
		pieces += reply->loans[i].pieces;
	}
}

static void borrow_reply(struct borrow *borrow)
{
	struct request *request = borrow->request;
	struct list messages = LIST_INIT(messages);
	struct out_message *message = out_message_new(borrow_reply_size(borrow), borrow->fd_count);
	if (!message) {
		borrow_refuse(borrow, HBM_LIMIT, "the daemon is out of memory");
		return;
	}

	if (borrow_borrower(borrow)->ended) {
		out_message_release(message);
		borrow_refuse(borrow, HBM_SHUTDOWN, "the session has ended");
		return;
	}

	borrow_fill(borrow, (void *)message->bytes);
	for (uint32_t i = 0; i < borrow->fd_count; i++)
		message->fds[i] = borrow->fds[i];
	borrow->fd_count = 0;
	borrow_free(borrow);
	free(borrow);

	list_push_back(&messages, &message->link);
	request_reply_messages(request, &messages);
}

/* ---- export ---- */

/* The next slab that is to be exported, or NULL. */
static struct slab *borrow_next_slab(struct borrow *borrow)
{
	while (borrow->slabs_next < borrow->slabs_count) {
		const struct borrow_slabs *slabs = &borrow->slabs[borrow->slabs_next];
		if (!slabs->named && borrow->slab_next < slabs->lent->slab_count)
			return slabs->lent->slabs[borrow->slab_next++];

		borrow->slabs_next++;
		borrow->slab_next = 0;
	}

	return NULL;
}

static void borrow_export_run(struct job *job)
{
	struct borrow *borrow = container_of(job, struct borrow, job);
	const struct driver *driver = borrow->device->driver;

	for (unsigned left = SLABS_PER_TURN; left > 0; left--) {
		const struct slab *slab = borrow_next_slab(borrow);
		if (!slab)
			return;

		int *fd = &borrow->fds[borrow->fd_next];
		borrow->result = driver->cuMemExportToShareableHandle(
			fd, slab->handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
		if (borrow->result != CUDA_SUCCESS) {
			borrow->lacks_fds = fdpass_exhausted();
			*fd = -1;
			return;
		}

		borrow->fd_next++;
	}

	job->more = borrow->fd_next < borrow->fd_count;
}

/* What a client has of it stays its own when the daemon is killed. */
static int borrow_keep(const struct borrow *borrow)
{
	const int *fd = borrow->fds;
	int status = HBM_OK;

	for (uint32_t i = 0; i < borrow->slabs_count; i++) {
		const struct lent *lent = borrow->slabs[i].lent;

		for (uint32_t k = 0; !borrow->slabs[i].named && k < lent->slab_count; k++)
			if (status == HBM_OK)
				status = slab_keep(lent->slabs[k], *fd++);
	}

	return status;
}

static void borrow_exported(struct job *job)
{
	static const char call[] = "cuMemExportToShareableHandle";
	struct borrow *borrow = container_of(job, struct borrow, job);
	struct device *device = borrow->device;

	if (borrow->result == CUDA_SUCCESS && borrow_keep(borrow) != HBM_OK)
		borrow_refuse(borrow, HBM_LIMIT, "the daemon's state is full");
	else if (borrow->result == CUDA_SUCCESS)
		borrow_reply(borrow);
	else if (borrow->lacks_fds)
		borrow_refuse(borrow, device_lacks_fds(device, call),
			      "the daemon has no file descriptors left");
	else
		borrow_refuse(borrow, device_failed(device, call, borrow->result),
			      "a device call failed; see the daemon's log");
}

/* Whether there is memory for it. */
static bool borrow_add_slabs(struct borrow *borrow, struct borrow_item *item)
{
	struct lent *lent = item->replica->lent;
	struct borrow_slabs *slabs = borrow->slabs;

	while (slabs < &borrow->slabs[borrow->slabs_count] && slabs->lent != lent)
		slabs++;

	item->slabs = (uint32_t)(slabs - borrow->slabs);
	borrow->piece_total += lent->slab_count;
	if (item->slabs < borrow->slabs_count)
		return true;

	slabs->lent = lent;
	slabs->export = export_begin(borrow_borrower(borrow), lent, &slabs->named);
	if (!slabs->export)
		return false;

	slabs->first = borrow->slab_total;
	borrow->slab_total += lent->slab_count;
	borrow->slabs_count++;
	for (uint32_t i = 0; i < lent->slab_count && !slabs->named; i++)
		borrow->fds[borrow->fd_count++] = -1;

	return true;
}

static void borrow_export(struct borrow *borrow)
{
	for (uint32_t i = 0; i < borrow->message->count; i++)
		if (borrow->items[i].replica && !borrow_add_slabs(borrow, &borrow->items[i])) {
			borrow_refuse(borrow, HBM_LIMIT, "the daemon is out of memory");
			return;
		}

	if (borrow->fd_count == 0) {
		borrow_reply(borrow);
		return;
	}

	if (request_charge_descriptors(borrow->request, borrow->fd_count) != HBM_OK) {
		struct request *request = borrow->request;
		uint64_t count = borrow->fd_count;

		borrow_free(borrow);
		free(borrow);
		request_refuse_limit(request, LEDGER_DESCRIPTORS, count);
		return;
	}

	borrow->job.run = borrow_export_run;
	borrow->job.done = borrow_exported;
	worker_post(borrow->device->control, &borrow->job);
}

static void borrow_one_less(struct borrow *borrow)
{
	if (--borrow->pending == 0)
		borrow_export(borrow);
}

/* ---- lend ---- */

static void borrow_made(struct replica_wait *wait, int status)
{
	struct borrow_item *item = container_of(wait, struct borrow_item, wait);
	struct borrow *borrow = item->borrow;

	item->status = status;
	if (status != HBM_OK) {
		replica_unhold(item->replica);
		item->replica = NULL;
	}

	borrow_one_less(borrow);
}

/* Whether the client takes one that is there, and no other. */
static bool borrow_is_miss(const struct borrow *borrow, const struct replica *replica)
{
	return borrow->message->flags & HBM_WIRE_BORROW_READY &&
	       (!replica || replica->state != REPLICA_READY);
}

/* Finds the replica or begins it, and holds it. */
static int borrow_find_replica(struct borrow *borrow, uint32_t number, struct replica **replica)
{
	struct session *session = borrow->request->session;
	const struct replica_form form = {
		.user = session->user, .number = number, .piece = borrow->message->piece};
	struct replica *found = replica_find(borrow->device->lend, &form);
	if (borrow_is_miss(borrow, found))
		return HBM_MISS;

	*replica = found;
	if (!found)
		return replicate(replica, borrow->hbmd->mover, borrow->device->lend, &form,
				 &session->regions.holder, session->fair_payer);

	replica_hold(*replica);

	return HBM_OK;
}

static int borrow_lend_item(struct borrow *borrow, struct borrow_item *item)
{
	int status = loan_new(&item->loan, borrow_borrower(borrow));
	if (status == HBM_OK)
		status = borrow_find_replica(borrow, item->number, &item->replica);
	if (status != HBM_OK || item->replica->state == REPLICA_READY)
		return status;

	item->wait.done = borrow_made;
	list_push_back(&item->replica->waits, &item->wait.link);
	borrow->pending++;

	return HBM_OK;
}

static bool borrow_lend(struct borrow *borrow, struct slice *slice)
{
	while (borrow->at < borrow->message->count) {
		struct borrow_item *item = &borrow->items[borrow->at++];
		if (item->number == 0)
			continue;

		item->status = borrow_lend_item(borrow, item);
		move_unuse(borrow->hbmd->mover, item->number);
		item->number = 0;
		if (slice_is_over(slice))
			return false;
	}

	borrow->phase = NULL;

	return true;
}

/* ---- find, touch, settle ---- */

static bool borrow_settle(struct borrow *borrow, struct slice *slice)
{
	if (!cache_settle_touch(borrow->hbmd->cache, &borrow->touch, slice))
		return false;

	cache_touch_end(borrow->hbmd->cache);
	borrow->at = 0;
	borrow->phase = borrow_lend;

	return true;
}

static bool borrow_touch(struct borrow *borrow, struct slice *slice)
{
	for (; borrow->at > 0; borrow->at--)
		if (!cache_touch_some(borrow->hbmd->cache, &borrow->touch,
				      borrow->items[borrow->at - 1].number, borrow->device->index,
				      slice))
			return false;

	borrow->phase = borrow_settle;

	return true;
}

static bool borrow_find(struct borrow *borrow, struct slice *slice)
{
	struct cache *cache = borrow->hbmd->cache;
	(void)slice; /* few blocks */

	for (uint32_t i = 0; i < borrow->message->count; i++) {
		struct borrow_item *item = &borrow->items[i];

		item->borrow = borrow;
		item->number = cache_find_loadable(cache, borrow->ns, &borrow->message->keys[i]);
		if (item->number == 0) {
			item->status = HBM_MISS;
			continue;
		}

		block_use(&cache->blocks, item->number);
		item->tier = (uint8_t)cache->tiers[cache_block(cache, item->number)->target].kind;
	}

	cache_touch_begin(cache, &borrow->touch);
	borrow->at = borrow->message->count;
	borrow->phase = borrow_touch;

	return true;
}

static bool borrow_run(struct work *work, struct slice *slice)
{
	struct borrow *borrow = container_of(work, struct borrow, work);
	bool over = false;

	while (borrow->phase && !over)
		over = !borrow->phase(borrow, slice);

	pump_run(borrow->hbmd->mover);

	bool done = !borrow->phase;
	if (done)
		borrow_one_less(borrow);

	return done;
}

void borrow_begin(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_borrow *message = (const void *)request->message;
	struct borrow *borrow =
		calloc(1, sizeof(*borrow) + message->count * sizeof(*borrow->items));
	if (!borrow) {
		request_refuse(request, HBM_LIMIT, "the daemon is out of memory");
		return;
	}

	borrow->hbmd = hbmd;
	borrow->request = request;
	borrow->message = message;
	borrow->device = &hbmd->devices->list[message->device];
	borrow->ns = (uint16_t)message->ns;
	borrow->pending = 1;
	borrow->phase = borrow_find;
	borrow->work.run = borrow_run;
	namespaces_ref(hbmd->cache->namespaces, borrow->ns);
	request_charge(request, borrow_bytes());
	session_work(request->session, &borrow->work);
}
