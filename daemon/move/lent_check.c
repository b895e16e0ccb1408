/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/lent_check.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "daemon/device/device.h"
#include "daemon/loop/loop.h"
#include "daemon/move/move.h"
#include "daemon/region/lend.h"

/* A replica that is read. */
struct lent_read {
	struct lent_check *check;
	struct list link; /* in check->vacant */
	struct lent *lent;
	struct replica *replica; /* NULL: no request finds it any more */
	uint32_t block;          /* whose own bytes are read */
	struct transfer transfer;
	struct span span;
};

struct lent_check {
	struct mover *mover;
	struct background walk;
	bool (*goes_on)(void *arg);
	void (*done)(void *arg);
	void *arg;
	uint32_t device; /* whose slabs are walked; as many as there are: the walk is over */
	bool begun;      /* the walk of that device */
	uint32_t reads;  /* on their way */
	struct list vacant;
	struct lent_read list[LENT_CHECK_READS];
	struct hbm_wire_lent results[HBM_WIRE_DEVICES_MAX];
};

static struct hbm_wire_lent *lent_check_result(const struct lent_read *read)
{
	return &read->check->results[read->lent->device->index];
}

/* ---- the end of a read ---- */

static void lent_check_end(struct lent_read *read)
{
	struct lent_check *check = read->check;
	struct lent *lent = read->lent;

	if (read->replica)
		read->replica->reader = NULL;
	read->replica = NULL;
	read->lent = NULL;
	list_push_back(&check->vacant, &read->link);
	check->reads--;
	lent_unread(lent);
	loop_background(check->mover->loop, &check->walk);
}

static void lent_check_lose(struct lent_read *read)
{
	struct replica *replica = read->replica;
	struct mover *mover = read->check->mover;

	lent_check_result(read)->mismatches++;
	mover->cache->counters.lent_mismatches++;
	if (log_quota(&mover->mismatches))
		log_error("device %u: checksum mismatch in a lent copy of a block of namespace %u, "
			  "%" PRIu64 " bytes: a process of uid %u has written to it; dropped",
			  read->lent->device->index, read->lent->ns, replica_bytes(replica),
			  (unsigned)read->lent->user->uid);

	read->replica = NULL;
	replica->reader = NULL;
	replica_lose(replica);
}

static void lent_check_copied(struct transfer *transfer)
{
	struct lent_read *read = container_of(transfer, struct lent_read, transfer);
	struct hbm_wire_lent *result = lent_check_result(read);

	if (transfer->late)
		lent_keep(read->lent);
	transfer_release(transfer);

	if (transfer->status == HBM_DEVICE)
		mover_give_up_lost_devices(read->check->mover);
	if (read->replica && transfer->status != HBM_OK && transfer->status != HBM_MISS) {
		result->unchecked++;
	} else if (read->replica) {
		result->checked++;
		result->bytes += transfer->bytes;
	}

	if (read->replica && transfer->status == HBM_MISS)
		lent_check_lose(read);
	lent_check_end(read);
}

/* ---- its begin ---- */

static void lent_check_transfer(struct lent_read *read, struct transfer_end from,
				enum transfer_checksum mode, void (*done)(struct transfer *))
{
	read->transfer = (struct transfer){
		.context = &read->check->mover->context,
		.from = from,
		.bytes = replica_bytes(read->replica),
		.nvme_bytes = replica_bytes(read->replica),
		.wipe = block_is_wiped(&read->check->mover->cache->blocks, read->replica->number),
		.checksum_mode = mode,
		.done = done,
	};
}

/* The block has a checksum, and the replica is there. */
static void lent_check_copy(struct lent_read *read)
{
	const struct blocks *blocks = &read->check->mover->cache->blocks;

	read->span = (struct span){replica_address(read->replica), replica_bytes(read->replica)};
	lent_check_transfer(read,
			    (struct transfer_end){.device = read->lent->device,
						  .spans = &read->span,
						  .span_count = 1},
			    CHECKSUM_EXPECT, lent_check_copied);
	read->transfer.checksum = block_get(blocks, read->replica->number)->checksum;
	transfer_begin(&read->transfer);
}

/* The block's own bytes have been read, and it cannot have gone meanwhile: it is in use. */
static void lent_check_hashed(struct transfer *transfer)
{
	struct lent_read *read = container_of(transfer, struct lent_read, transfer);
	struct mover *mover = read->check->mover;
	uint32_t number = read->block;
	bool hashed = transfer->status == HBM_OK;

	transfer_release(transfer);
	if (hashed)
		hashed = block_settle_checksum(&mover->cache->blocks, number, transfer->checksum);
	else
		mover_failed(mover, transfer, number);
	move_unuse(mover, number);

	if (read->replica && hashed && replica_address(read->replica) != 0) {
		lent_check_copy(read);
		return;
	}

	if (read->replica)
		lent_check_result(read)->unchecked++;
	lent_check_end(read);
}

/* Of a block that has none: whether it can get a checksum now. */
static bool lent_check_may_hash(const struct lent_check *check, uint32_t number)
{
	const struct cache *cache = check->mover->cache;
	struct place place = block_place(&cache->blocks, number);

	return check->mover->checksums != CONFIG_CHECKSUM_OFF && cache_is_loadable(cache, number) &&
	       place.tier && !tier_has_io(place.tier);
}

static void lent_check_hash(struct lent_read *read)
{
	struct blocks *blocks = &read->check->mover->cache->blocks;

	read->block = read->replica->number;
	block_use(blocks, read->block);
	lent_check_transfer(read, (struct transfer_end){.place = block_place(blocks, read->block)},
			    CHECKSUM_TAKE, lent_check_hashed);
	transfer_begin(&read->transfer);
}

static void lent_check_begin(struct lent_check *check, struct replica *replica)
{
	const struct block *block = cache_block(check->mover->cache, replica->number);
	struct lent_read *read;

	if (replica_address(replica) == 0 || device_is_lost(replica->lent->device) ||
	    (!block->checksummed && !lent_check_may_hash(check, replica->number))) {
		check->results[check->device].unchecked++;
		return;
	}

	read = container_of(list_pop_front(&check->vacant), struct lent_read, link);
	read->lent = replica->lent;
	read->replica = replica;
	replica->reader = &read->replica;
	check->reads++;
	lent_read(read->lent);
	if (block->checksummed)
		lent_check_copy(read);
	else
		lent_check_hash(read);
}

/* ---- the walk ---- */

/* The next replica that is ready, of those of one slice; NULL: that is over, or the walk. */
static struct replica *lent_check_next(struct lent_check *check, uint32_t *left)
{
	const struct devices *devices = check->mover->devices;

	while (*left > 0 && check->device < devices->count) {
		struct lend *lend = devices->list[check->device].lend;
		if (!check->begun)
			lend_walk_begin(lend);
		check->begun = true;

		struct replica *replica = lend_walk_next(lend, left);
		if (replica)
			return replica;
		if (*left > 0) {
			check->device++;
			check->begun = false;
		}
	}

	return NULL;
}

static bool lent_check_walk(struct background *background)
{
	struct lent_check *check = container_of(background, struct lent_check, walk);
	uint32_t left = LENT_CHECK_SLICE;
	struct replica *replica;

	if (!check->goes_on(check->arg))
		check->device = check->mover->devices->count;
	while (!list_empty(&check->vacant) && (replica = lent_check_next(check, &left)))
		lent_check_begin(check, replica);

	if (check->device < check->mover->devices->count)
		return !list_empty(&check->vacant);
	if (check->reads == 0)
		check->done(check->arg);

	return false;
}

/* ---- all of it ---- */

int lent_check_new(struct lent_check **out, const struct lent_check_options *options)
{
	struct mover *mover = options->mover;
	struct lent_check *check = calloc(1, sizeof(*check));
	if (!check)
		return -ENOMEM;

	check->mover = mover;
	check->walk.run = lent_check_walk;
	check->goes_on = options->goes_on;
	check->done = options->done;
	check->arg = options->arg;
	list_init(&check->vacant);
	for (unsigned i = 0; i < LENT_CHECK_READS; i++) {
		check->list[i].check = check;
		list_push_back(&check->vacant, &check->list[i].link);
	}
	for (uint32_t i = 0; i < mover->devices->count; i++)
		check->results[i].device = i;
	loop_background(mover->loop, &check->walk);
	*out = check;

	return 0;
}

const struct hbm_wire_lent *lent_check_results(const struct lent_check *check)
{
	return check->results;
}

struct lent_check *lent_check_free(struct lent_check *check)
{
	assert(!check || check->reads == 0);
	free(check);

	return NULL;
}
