/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/transfer.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "daemon/device/device.h"
#include "daemon/move/pieces.h"

void transfer_fail(struct transfer *transfer, int status)
{
	if (transfer->status == HBM_OK)
		transfer->status = status;
}

void transfer_unstage(struct transfer *transfer)
{
	struct tier *staging = transfer->context->staging;
	if (!transfer->staged)
		return;

	if (transfer->host == tier_host(staging, transfer->staging_unit))
		transfer->host = NULL;
	if (transfer->wipe)
		tier_wipe(staging, transfer->staging_unit, transfer->staged_bytes, transfer->payer);
	else
		tier_free(staging, transfer->staging_unit, transfer->staged_bytes);
	transfer->staged = false;
}

void transfer_release(struct transfer *transfer)
{
	transfer->context->active--;
	transfer_unstage(transfer);
}

void transfer_hasten(struct transfer *transfer, struct fair_payer payer)
{
	if (transfer->urgent)
		return;

	transfer->urgent = true;
	transfer->payer = payer;
	if (transfer->hashing)
		hash_pool_hasten(&transfer->hash, payer);
	if (transfer->pieces)
		pieces_hasten(transfer->pieces, payer);
	else if (transfer->waits)
		tier_hasten(transfer->context->staging, &transfer->wait, payer);
	else
		step_hasten(&transfer->step, payer);
}

static void transfer_keep_place(const struct place *place, struct device *device)
{
	if (place->tier && !tier_has_io(place->tier))
		tier_keep(place->tier, place->unit, device);
}

void transfer_keep(struct transfer *transfer, struct device *device)
{
	transfer->late = device;
	transfer_keep_place(&transfer->from.place, device);
	transfer_keep_place(&transfer->to.place, device);
	if (transfer->staged)
		tier_keep(transfer->context->staging, transfer->staging_unit, device);
}

/* A step has ended. */
static void transfer_end_step(struct transfer *transfer, struct step *step)
{
	step->queue = NULL;
	if (step->late)
		transfer_keep(transfer, step->late);
}

static struct step *transfer_step_of(struct transfer *transfer, char *host, uint64_t bytes,
				     void (*done)(struct step *step))
{
	transfer->step = (struct step){
		.host = host,
		.bytes = bytes,
		.payer = transfer->payer,
		.urgent = transfer->urgent,
		.done = done,
	};
	return &transfer->step;
}

static struct step *transfer_step(struct transfer *transfer, void (*done)(struct step *step))
{
	return transfer_step_of(transfer, transfer->host, transfer->bytes, done);
}

/* ---- encoded ends ---- */

static bool transfer_decodes(const struct transfer *transfer)
{
	const struct tier *from = transfer->from.place.tier;
	return transfer->element != 0 && from && tier_has_io(from) &&
	       transfer->nvme_bytes < transfer->bytes;
}

static bool transfer_encodes(const struct transfer *transfer)
{
	const struct tier *to = transfer->to.place.tier;
	return transfer->element != 0 && to && tier_has_io(to) && transfer->bytes > EXTENT_UNIT;
}

uint64_t transfer_bytes_at(const struct transfer *transfer, const struct tier *tier)
{
	return tier_has_io(tier) ? transfer->nvme_bytes : extent_bytes(transfer->bytes);
}

/* As they are, in a step of that tier; NULL: of none. */
static uint64_t transfer_step_bytes(const struct transfer *transfer, const struct tier *tier)
{
	return tier && tier_has_io(tier) ? extent_bytes(transfer->bytes) : transfer->bytes;
}

/* Bytes that save less than a unit of their extent stay as they are. */
uint64_t transfer_coded_room(const struct transfer *transfer)
{
	uint64_t less = extent_bytes(transfer->bytes) - EXTENT_UNIT;

	if (transfer_decodes(transfer))
		return transfer->nvme_bytes;
	if (transfer_encodes(transfer))
		return transfer->nvme_bytes < less ? transfer->nvme_bytes : less;

	return 0;
}

/* ---- the end ---- */

/* There is no other step. */
static void transfer_end(struct transfer *transfer)
{
	transfer->ended = true;
	if (!transfer->hashing)
		transfer->done(transfer);
}

/* ---- checksums ---- */

static void transfer_hash_as(struct transfer *transfer, enum hash_work work, bool checksum,
			     void (*done)(struct hash_job *job))
{
	transfer->hashing = true;
	transfer->hash = (struct hash_job){.payer = transfer->payer,
					   .host = transfer->host,
					   .bytes = transfer->bytes,
					   .work = work,
					   .without_checksum = !checksum,
					   .element = transfer->element,
					   .coded = transfer->coded,
					   .coded_bytes = transfer_coded_room(transfer),
					   .done = done};
	hash_pool_post(transfer->context->hash_pool, &transfer->hash, transfer->urgent);
}

static void transfer_hash(struct transfer *transfer, void (*done)(struct hash_job *job))
{
	transfer_hash_as(transfer, HASH_ONLY, true, done);
}

static void transfer_taken(struct hash_job *job)
{
	struct transfer *transfer = container_of(job, struct transfer, hash);

	transfer->hashing = false;
	transfer->checksum = job->checksum;
	if (transfer->ended)
		transfer->done(transfer);
}

/* Whether its bytes, in host memory, are to be at another place there. */
static bool transfer_copies(const struct transfer *transfer)
{
	const struct place *to = &transfer->to.place;

	return to->tier && to->tier->ops->host && transfer->host != tier_host(to->tier, to->unit);
}

/* Takes the checksum of host memory while the transfer goes on; unless who encodes or copies it
 * does. */
static void transfer_take(struct transfer *transfer)
{
	if (transfer->checksum_mode == CHECKSUM_TAKE && !transfer_encodes(transfer) &&
	    !transfer_copies(transfer))
		transfer_hash(transfer, transfer_taken);
}

/* ---- staging ---- */

/* The device that the bytes come from or go to, or NULL. */
static const struct device *transfer_device(const struct transfer *transfer)
{
	const struct transfer_end *ends[] = {&transfer->from, &transfer->to};

	for (unsigned i = 0; i < 2; i++) {
		if (ends[i]->device)
			return ends[i]->device;
		if (ends[i]->place.tier && ends[i]->place.tier->device)
			return ends[i]->place.tier->device;
	}

	return NULL;
}

/* Whether the bytes are compared once they are in host memory. */
static bool transfer_compares(const struct transfer *transfer)
{
	return transfer->checksum_mode == CHECKSUM_EXPECT ||
	       transfer->checksum_mode == CHECKSUM_VERIFY;
}

/* Room for what is in no host memory yet, and for what is encoded. */
static void transfer_stage(struct transfer *transfer,
			   void (*granted)(struct extent_request *wait, uint32_t unit))
{
	transfer->staged_bytes = (transfer->host ? 0 : extent_bytes(transfer->bytes)) +
				 transfer_coded_room(transfer);
	transfer->wait = (struct extent_request){.bytes = transfer->staged_bytes,
						 .near = transfer_device(transfer),
						 .granted = granted};
	transfer->waits = true;
	tier_request(transfer->context->staging, &transfer->wait, transfer->payer);
}

static struct transfer *transfer_staged(struct extent_request *wait, uint32_t unit)
{
	struct transfer *transfer = container_of(wait, struct transfer, wait);

	transfer->waits = false;
	transfer->staged = true;
	transfer->staging_unit = unit;

	char *staging = tier_host(transfer->context->staging, unit);
	uint64_t coded_at = transfer->host ? 0 : extent_bytes(transfer->bytes);
	if (!transfer->host)
		transfer->host = staging;
	if (coded_at < transfer->staged_bytes)
		transfer->coded = staging + coded_at;

	return transfer;
}

/* ---- out ---- */

static void transfer_out_done(struct step *step)
{
	struct transfer *transfer = container_of(step, struct transfer, step);

	transfer->at = NULL;
	transfer_end_step(transfer, step);
	transfer_fail(transfer, step->status);
	transfer_end(transfer);
}

static void transfer_write(struct transfer *transfer, char *host, uint64_t bytes)
{
	const struct place *place = &transfer->to.place;

	transfer->at = place->tier;
	place->tier->ops->write(place->tier, place->unit,
				transfer_step_of(transfer, host, bytes, transfer_out_done));
}

/* The bytes as they are; a disk has zeros behind them. */
static void transfer_write_all(struct transfer *transfer)
{
	uint64_t bytes = transfer_step_bytes(transfer, transfer->to.place.tier);

	memset(transfer->host + transfer->bytes, 0, bytes - transfer->bytes);
	transfer_write(transfer, transfer->host, bytes);
}

/* Into an extent for what it was encoded as before, bytes that are not fit nothing else. */
static void transfer_encoded(struct hash_job *job)
{
	struct transfer *transfer = container_of(job, struct transfer, hash);
	const struct place *to = &transfer->to.place;

	transfer->hashing = false;
	if (transfer->checksum_mode == CHECKSUM_TAKE)
		transfer->checksum = job->checksum;

	if (job->coded_bytes > 0) {
		tier_shrink(to->tier, to->unit, transfer->nvme_bytes, job->coded_bytes);
		transfer->nvme_bytes = job->coded_bytes;
		transfer_write(transfer, transfer->coded, job->coded_bytes);
	} else if (transfer->nvme_bytes == extent_bytes(transfer->bytes)) {
		transfer_write_all(transfer);
	} else {
		transfer_fail(transfer, HBM_NO_SPACE);
		transfer_end(transfer);
	}
}

static void transfer_begin_encoding(struct transfer *transfer)
{
	transfer_hash_as(transfer, HASH_ENCODE, transfer->checksum_mode == CHECKSUM_TAKE,
			 transfer_encoded);
}

static void transfer_staged_for_out(struct extent_request *wait, uint32_t unit)
{
	transfer_begin_encoding(transfer_staged(wait, unit));
}

static void transfer_encode(struct transfer *transfer)
{
	if (transfer->coded)
		transfer_begin_encoding(transfer);
	else
		transfer_stage(transfer, transfer_staged_for_out);
}

static void transfer_copied(struct hash_job *job)
{
	struct transfer *transfer = container_of(job, struct transfer, hash);

	transfer->hashing = false;
	if (transfer->checksum_mode == CHECKSUM_TAKE)
		transfer->checksum = job->checksum;
	transfer_end(transfer);
}

static void transfer_copy(struct transfer *transfer)
{
	const struct place *to = &transfer->to.place;

	transfer->coded = tier_host(to->tier, to->unit);
	transfer_hash_as(transfer, HASH_COPY, transfer->checksum_mode == CHECKSUM_TAKE,
			 transfer_copied);
}

static void transfer_out(struct transfer *transfer)
{
	const struct transfer_end *to = &transfer->to;
	const struct tier *tier = to->place.tier;

	if (to->device)
		step_scatter(transfer_step(transfer, transfer_out_done), to->device, to->spans,
			     to->span_count);
	else if (transfer_encodes(transfer))
		transfer_encode(transfer);
	else if (tier && !tier->ops->host)
		transfer_write_all(transfer);
	else if (transfer_copies(transfer))
		transfer_copy(transfer);
	else
		transfer_end(transfer);
}

/* ---- in ---- */

static void transfer_show(void *arg)
{
	struct transfer *transfer = arg;

	transfer->host_valid = true;
	if (transfer->on_host)
		transfer->on_host(transfer);
}

/* The bytes are in host memory and verified. */
static void transfer_go_on(struct transfer *transfer)
{
	transfer_show(transfer);
	transfer_out(transfer);
}

static void transfer_is_valid(struct transfer *transfer)
{
	transfer_take(transfer);
	transfer_go_on(transfer);
}

static void transfer_checked(struct transfer *transfer, int status)
{
	transfer_fail(transfer, status);
	if (transfer->status == HBM_OK)
		transfer_is_valid(transfer);
	else
		transfer_end(transfer);
}

static void transfer_compared(struct hash_job *job)
{
	struct transfer *transfer = container_of(job, struct transfer, hash);

	transfer->hashing = false;
	transfer_checked(transfer, job->checksum == transfer->checksum ? HBM_OK : HBM_MISS);
}

static void transfer_decoded(struct hash_job *job)
{
	struct transfer *transfer = container_of(job, struct transfer, hash);
	bool right = job->coded_bytes > 0 &&
		     (!transfer_compares(transfer) || job->checksum == transfer->checksum);

	transfer->hashing = false;
	transfer_checked(transfer, right ? HBM_OK : HBM_MISS);
}

static void transfer_in_done(struct step *step)
{
	struct transfer *transfer = container_of(step, struct transfer, step);

	transfer->at = NULL;
	transfer_end_step(transfer, step);
	if (step->status == HBM_OK && transfer_decodes(transfer))
		transfer_hash_as(transfer, HASH_DECODE, transfer_compares(transfer),
				 transfer_decoded);
	else if (step->status == HBM_OK && transfer_compares(transfer))
		transfer_hash(transfer, transfer_compared);
	else
		transfer_checked(transfer, step->status);
}

/* A checksum that is wanted has been taken; a write in pieces is over. */
static void transfer_pieces_done(void *arg)
{
	struct transfer *transfer = arg;
	struct pieces *pieces = transfer->pieces;
	enum transfer_checksum mode = transfer->checksum_mode;

	transfer_fail(transfer, pieces_in_status(pieces));
	if (transfer->status == HBM_OK && mode == CHECKSUM_TAKE)
		transfer->checksum = pieces_checksum(pieces);
	else if (transfer->status == HBM_OK && transfer_compares(transfer) &&
		 transfer->checksum != pieces_checksum(pieces))
		transfer_fail(transfer, HBM_MISS);
	transfer_fail(transfer, pieces_out_status(pieces));
	transfer->pieces = pieces_free(pieces);

	if (transfer->status == HBM_OK && !transfer->host_valid)
		transfer_go_on(transfer);
	else
		transfer_end(transfer);
}

static void transfer_piece_late(void *arg, struct device *device)
{
	transfer_keep(arg, device);
}

/* Whether a write can begin before all bytes are there: to a disk, from none, and of bytes
 * that are not to be compared first. */
static bool transfer_writes_pieces(const struct transfer *transfer)
{
	const struct tier *from = transfer->from.place.tier, *to = transfer->to.place.tier;

	return !transfer_compares(transfer) && to && tier_has_io(to) &&
	       !(from && tier_has_io(from));
}

/* False: in one step. */
static bool transfer_in_pieces(struct transfer *transfer)
{
	const struct transfer_context *context = transfer->context;
	bool hash = transfer->checksum_mode != CHECKSUM_NONE;
	bool write = transfer_writes_pieces(transfer);
	if (context->piece == 0 || transfer->bytes <= context->piece || (!hash && !write) ||
	    transfer_encodes(transfer) || transfer_decodes(transfer))
		return false;

	transfer_step(transfer, NULL); /* none is begun */
	transfer->pieces = pieces_begin(
		&(struct pieces_options){.size = context->piece,
					 .host = transfer->host,
					 .bytes = transfer->bytes,
					 .from = transfer->from.place,
					 .device = transfer->from.device,
					 .spans = transfer->from.spans,
					 .span_count = transfer->from.span_count,
					 .to = write ? transfer->to.place : (struct place){0},
					 .hash_pool = hash ? context->hash_pool : NULL,
					 .payer = transfer->payer,
					 .urgent = transfer->urgent,
					 .at = &transfer->at,
					 .on_host = transfer_show,
					 .late = transfer_piece_late,
					 .done = transfer_pieces_done,
					 .arg = transfer});

	return transfer->pieces;
}

static void transfer_in(struct transfer *transfer)
{
	if (transfer_in_pieces(transfer))
		return;

	const struct transfer_end *from = &transfer->from;
	const struct tier *tier = from->place.tier;
	bool coded = transfer_decodes(transfer);
	struct step *step =
		transfer_step_of(transfer, coded ? transfer->coded : transfer->host,
				 coded ? transfer->nvme_bytes : transfer_step_bytes(transfer, tier),
				 transfer_in_done);

	transfer->at = tier;
	if (from->device)
		step_gather(step, from->device, from->spans, from->span_count);
	else
		tier->ops->read(tier, from->place.unit, step);
}

/* ---- direct ---- */

static void transfer_read_back(struct step *step)
{
	struct transfer *transfer = container_of(step, struct transfer, step);

	transfer_end_step(transfer, step);
	transfer_fail(transfer, step->status);
	if (transfer->status == HBM_OK)
		transfer_take(transfer);
	transfer_end(transfer);
}

static void transfer_begin_read_back(struct transfer *transfer)
{
	const struct place *place = &transfer->to.place;
	place->tier->ops->read(place->tier, place->unit,
			       transfer_step(transfer, transfer_read_back));
}

/* ---- staged ---- */

static void transfer_staged_for_in(struct extent_request *wait, uint32_t unit)
{
	transfer_in(transfer_staged(wait, unit));
}

static void transfer_staged_for_read_back(struct extent_request *wait, uint32_t unit)
{
	transfer_begin_read_back(transfer_staged(wait, unit));
}

/* The CPU does not see bytes that a device copies within its memory: for their checksum
 * they are read back through a staging buffer. */
static void transfer_direct_done(struct step *step)
{
	struct transfer *transfer = container_of(step, struct transfer, step);

	transfer_end_step(transfer, step);
	transfer_fail(transfer, step->status);

	if (transfer->status == HBM_OK && transfer->checksum_mode == CHECKSUM_TAKE)
		transfer_stage(transfer, transfer_staged_for_read_back);
	else
		transfer_end(transfer);
}

/* ---- begin ---- */

static bool transfer_end_reaches(const struct transfer_end *end, const struct device *device)
{
	const struct tier *tier = end->place.tier;
	return tier && device && tier->ops->reaches && tier->ops->reaches(tier, device);
}

static bool transfer_begin_direct(struct transfer *transfer)
{
	const struct transfer_end *from = &transfer->from, *to = &transfer->to;
	if (transfer->checksum_mode == CHECKSUM_VERIFY)
		return false;

	if (transfer_end_reaches(to, from->device)) {
		to->place.tier->ops->gather(to->place.tier, to->place.unit,
					    transfer_step(transfer, transfer_direct_done),
					    from->spans, from->span_count);
		return true;
	}

	if (transfer_end_reaches(from, to->device)) {
		from->place.tier->ops->scatter(from->place.tier, from->place.unit,
					       transfer_step(transfer, transfer_direct_done),
					       to->spans, to->span_count);
		return true;
	}

	return false;
}

static char *transfer_end_host(const struct transfer_end *end)
{
	if (end->place.tier)
		return tier_host(end->place.tier, end->place.unit);
	return end->host;
}

void transfer_begin(struct transfer *transfer)
{
	transfer->context->active++;
	if (transfer_begin_direct(transfer))
		return;

	transfer->host = transfer_end_host(&transfer->from);
	if (transfer->host) {
		if (transfer->checksum_mode == CHECKSUM_VERIFY)
			transfer_hash(transfer, transfer_compared);
		else
			transfer_is_valid(transfer);
		return;
	}

	transfer->host = transfer_end_host(&transfer->to);
	if (transfer->host && !transfer_decodes(transfer))
		transfer_in(transfer);
	else
		transfer_stage(transfer, transfer_staged_for_in);
}
