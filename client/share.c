/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share: SHARE: slabs that are mapped already are mapped at further addresses.
 *
 * The driver gives the handle of a slab from its address (cuMemRetainAllocationHandle), so
 * that none is kept for the slabs that are never shared. That and its release cost about a
 * microsecond, a cuMemMap tens; cuMemSetAccess is called once for a run of targets.
 *
 * The slabs are mapped before the request is sent: the sources need not stay until it is
 * answered, and where the device refuses, nothing was asked of the daemon that is to be undone.
 * If the daemon refuses, the targets are unmapped again. Slabs on loan are mapped by the
 * handles of the loan.
 *
 * Where the session outlives the daemon, a request that gives the sources back waits for the
 * answer: the next daemon would be told neither of the sources nor of the targets.
 */
#include "client/error.h"
#include "client/loan.h"
#include "client/region.h"
#include "client/request.h"

#include "daemon/base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct share {
	struct list link; /* in hbm->shares, while it is in flight */
	size_t count;
	struct hbm_range *sources; /* behind the targets; of a loan: region is NULL */
	struct hbm_range targets[];
};

static struct share *share_new(const struct hbm_share *shares, size_t count)
{
	struct share *share = malloc(sizeof(*share) + 2 * count * sizeof(share->targets[0]));
	if (!share)
		return NULL;

	list_init(&share->link);
	share->count = count;
	share->sources = &share->targets[count];
	for (size_t i = 0; i < count; i++) {
		share->targets[i] = (struct hbm_range){shares[i].target, shares[i].target_offset,
						       shares[i].bytes};
		share->sources[i] = (struct hbm_range){shares[i].loan ? NULL : shares[i].source,
						       shares[i].source_offset, shares[i].bytes};
	}

	return share;
}

/* ---- Checks ---- */

static int share_check_pair(struct hbm *hbm, const struct hbm_share *share, size_t i)
{
	if ((share->flags & ~HBM_SHARE_READ_ONLY) != 0)
		return hbm_fail(hbm, HBM_UNSUPPORTED, "share %zu: unknown flags %#x", i,
				share->flags & ~HBM_SHARE_READ_ONLY);
	if (share->source->device != share->target->device)
		return hbm_fail(hbm, HBM_INVALID, "share %zu: from device %u to device %u", i,
				share->source->device, share->target->device);
	if (share->source->slab != share->target->slab)
		return hbm_fail(hbm, HBM_INVALID, "share %zu: from slabs of %llu bytes to %llu", i,
				(unsigned long long)share->source->slab,
				(unsigned long long)share->target->slab);

	return 0;
}

/* That the source is slabs of a loan, each of which is the loan's alone. */
static int share_check_loan(struct hbm *hbm, const struct hbm_share *share, size_t i)
{
	const struct hbm_loan *loan = share->loan;
	const uint64_t slab = share->target->slab;

	if (loan->hbm != hbm || loan->returning)
		return hbm_fail(hbm, HBM_INVALID, "share %zu: no loan of this connection", i);
	if (share->flags != HBM_SHARE_READ_ONLY)
		return hbm_fail(hbm, HBM_INVALID,
				"share %zu: a loan is mapped with HBM_SHARE_READ_ONLY", i);
	if (loan->device != share->target->device)
		return hbm_fail(hbm, HBM_INVALID, "share %zu: from device %u to device %u", i,
				loan->device, share->target->device);
	if (loan->pieces[0].slab->bytes != slab || loan->bytes != loan->count * slab)
		return hbm_fail(hbm, HBM_INVALID,
				"share %zu: a loan that was not borrowed in pieces of %llu bytes",
				i, (unsigned long long)slab);
	if (!is_aligned(share->source_offset, slab) ||
	    !checked_range(share->source_offset, share->bytes, loan->bytes))
		return hbm_fail(
			hbm, HBM_INVALID, "share %zu: %llu bytes at %llu, of a loan of %llu", i,
			(unsigned long long)share->bytes, (unsigned long long)share->source_offset,
			(unsigned long long)loan->bytes);

	return 0;
}

static int share_check_one(struct hbm *hbm, const struct hbm_share *share, size_t i)
{
	const struct hbm_range pair[] = {{share->target, share->target_offset, share->bytes},
					 {share->source, share->source_offset, share->bytes}};
	int rc = hbm_ranges_check(hbm, pair, share->loan ? 1 : 2);

	if (rc == 0)
		rc = share->loan ? share_check_loan(hbm, share, i)
				 : share_check_pair(hbm, share, i);

	return rc;
}

/* That all are ranges of regions of this connection, or of loans. */
static int share_check(struct hbm *hbm, const struct hbm_share *shares, size_t count)
{
	size_t most = (HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_shares)) /
		      sizeof(struct hbm_wire_share);

	if (count == 0)
		return hbm_fail(hbm, HBM_INVALID, "no shares");
	if (count > most)
		return hbm_fail(hbm, HBM_LIMIT, "%zu shares: a request has at most %zu", count,
				most);

	for (size_t i = 0; i < count; i++) {
		int rc = share_check_one(hbm, &shares[i], i);
		if (rc)
			return rc;
	}

	return 0;
}

/* That all sources are mapped. The targets are marked. */
static int share_check_sources(struct hbm *hbm, const struct hbm_share *shares, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct hbm_region *source = shares[i].loan ? NULL : shares[i].source;

		for (uint64_t at = 0; source && at < shares[i].bytes; at += source->slab) {
			uint64_t offset = shares[i].source_offset + at;
			enum slab_state state = source->slabs[offset / source->slab];

			if (state == SLAB_MARKED)
				return hbm_fail(
					hbm, HBM_INVALID,
					"share %zu: the source's slab at %llu is a target of "
					"this request",
					i, (unsigned long long)offset);
			if (state != SLAB_MAPPED)
				return hbm_fail(
					hbm, HBM_NOT_FOUND,
					"share %zu: the source's slab at %llu is not committed", i,
					(unsigned long long)offset);
		}
	}

	return 0;
}

/* ---- Mapping ---- */

/* The number of leading targets that form one run of addresses with the same access, and its
 * length in bytes. */
static size_t share_run_length(const struct hbm_share *shares, size_t count, uint64_t *bytes)
{
	size_t n = 1;
	*bytes = shares[0].bytes;
	while (n < count && shares[n].target == shares[0].target &&
	       shares[n].flags == shares[0].flags &&
	       shares[n].target_offset == shares[0].target_offset + *bytes)
		*bytes += shares[n++].bytes;

	return n;
}

static bool share_map_one(const struct hbm_share *share)
{
	const uint64_t slab = share->target->slab;
	bool placed = true;

	for (uint64_t at = 0; at < share->bytes && placed; at += slab) {
		const uint64_t from = share->source_offset + at, to = share->target_offset + at;

		placed = share->loan
				 ? hbm_region_place_handle(
					   share->target, to,
					   share->loan->pieces[from / slab].slab->handle)
				 : hbm_region_place_again(share->target, to, share->source, from);
	}

	return placed;
}

static bool share_map_run(const struct hbm_share *run, size_t count, uint64_t bytes)
{
	bool mapped = hbm_region_enter(run->target);
	if (!mapped)
		return false;

	for (size_t i = 0; mapped && i < count; i++)
		mapped = share_map_one(&run[i]);
	if (mapped)
		mapped = hbm_region_open(run->target, run->target_offset, bytes,
					 run->flags & HBM_SHARE_READ_ONLY);
	hbm_region_leave(run->target);

	return mapped;
}

static int share_map(struct hbm *hbm, const struct hbm_share *shares, size_t count)
{
	for (size_t i = 0; i < count;) {
		uint64_t bytes;
		size_t n = share_run_length(&shares[i], count - i, &bytes);

		if (!share_map_run(&shares[i], n, bytes))
			return hbm_fail_device(hbm, hbm->gpu.failed_call,
					       (int)hbm->gpu.failed_result);
		i += n;
	}

	return 0;
}

/* ---- The request ---- */

/* Adds `change` to what is in flight of every target. */
static void share_count(const struct share *share, int change)
{
	for (size_t i = 0; i < share->count; i++)
		share->targets[i].region->commits += change;
}

static void share_unmap(const struct share *share)
{
	for (size_t i = 0; i < share->count; i++) {
		const struct hbm_range *target = &share->targets[i];
		bool entered = hbm_region_enter(target->region);
		hbm_region_unplace(target->region, target->offset, target->bytes, SLAB_EMPTY);
		if (entered)
			hbm_region_leave(target->region);
	}
}

static void share_end(struct ticket *ticket)
{
	share_count(ticket->answer.share, -1);
	list_remove(&ticket->answer.share->link);
	free(ticket->answer.share);
	ticket->answer.share = NULL;
}

static void share_abandon(struct hbm *hbm, struct ticket *ticket)
{
	(void)hbm;
	share_unmap(ticket->answer.share);
	share_end(ticket);
}

static int share_reply(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	struct share *share = ticket->answer.share;
	int status = hbm_kind_bare.reply(hbm, ticket, message);
	if (status == TICKET_BROKEN)
		return status;

	if (status == HBM_OK)
		hbm_ranges_turn(hbm, share->targets, share->count, SLAB_PLACED, SLAB_MAPPED,
				HBM_INVALID);
	else
		share_unmap(share);
	share_end(ticket);

	return status;
}

static const struct ticket_kind kind_share = {.reply = share_reply, .abandon = share_abandon};

static size_t share_message_fill(struct hbm_wire_shares *message, const struct hbm_share *shares,
				 size_t count)
{
	*message = (struct hbm_wire_shares){.count = (uint32_t)count};
	for (size_t i = 0; i < count; i++) {
		const struct hbm_share *share = &shares[i];
		const struct hbm_loan *loan = share->loan;

		message->shares[i] = (struct hbm_wire_share){
			.source = loan ? (uint32_t)(share->source_offset / share->target->slab)
				       : share->source->id,
			.target = share->target->id,
			.source_offset = loan ? loan->id : share->source_offset,
			.target_offset = share->target_offset,
			.bytes = share->bytes,
			.flags = (share->flags & HBM_SHARE_READ_ONLY ? HBM_WIRE_READ_ONLY : 0) |
				 (loan ? HBM_WIRE_OF_LOAN : 0),
		};
	}

	return sizeof(*message) + count * sizeof(message->shares[0]);
}

static int share_send(struct hbm *hbm, const struct hbm_share *shares, struct share *share,
		      hbm_ticket *ticket)
{
	struct hbm_wire_shares *message = hbm->scratch;
	size_t size = share_message_fill(message, shares, share->count);
	struct request request = {
		.opcode = HBM_WIRE_SHARE,
		.kind = &kind_share,
		.answer = {.share = share},
		.pieces = {{message, size}},
		.piece_count = 1,
	};

	return hbm_request_submit(hbm, &request, ticket);
}

/* The targets are marked: maps and sends, or undoes all. */
static int share_begin(struct hbm *hbm, const struct hbm_share *shares, struct share *share,
		       hbm_ticket *ticket)
{
	int rc = share_check_sources(hbm, shares, share->count);

	hbm_ranges_turn(hbm, share->targets, share->count, SLAB_MARKED, SLAB_ASKED, HBM_INVALID);
	if (rc == 0)
		rc = share_map(hbm, shares, share->count);
	if (rc == 0)
		rc = share_send(hbm, shares, share, ticket);

	if (rc) {
		share_unmap(share);
	} else {
		share_count(share, 1);
		list_push_back(&hbm->shares, &share->link);
	}

	return rc;
}

int hbm_submit_share(struct hbm *hbm, const struct hbm_share *shares, size_t count,
		     hbm_ticket *ticket)
{
	if (hbm_check_owner(hbm))
		return -EPERM;

	int rc = share_check(hbm, shares, count);
	if (rc)
		return rc;

	struct share *share = share_new(shares, count);
	if (!share)
		return hbm_fail(hbm, -ENOMEM, "cannot allocate a share of %zu ranges", count);

	rc = hbm_ranges_turn(hbm, share->targets, count, SLAB_EMPTY, SLAB_MARKED, HBM_EXISTS);
	if (rc == 0)
		rc = share_begin(hbm, shares, share, ticket);
	if (rc)
		free(share);

	return rc;
}

int hbm_share(struct hbm *hbm, const struct hbm_share *shares, size_t count)
{
	hbm_ticket ticket;
	int rc = hbm_submit_share(hbm, shares, count, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

/* ---- Giving sources back ---- */

static bool share_has_source(const struct share *share, const struct hbm_range *range)
{
	for (size_t i = 0; i < share->count; i++) {
		const struct hbm_range *source = &share->sources[i];

		if (source->region == range->region &&
		    source->offset < range->offset + range->bytes &&
		    range->offset < source->offset + source->bytes)
			return true;
	}

	return false;
}

static bool share_is_awaited(const struct hbm *hbm, const struct hbm_range *ranges, size_t count)
{
	list_for_each (node, &hbm->shares) {
		const struct share *share = container_of(node, struct share, link);

		for (size_t i = 0; i < count; i++)
			if (share_has_source(share, &ranges[i]))
				return true;
	}

	return false;
}

void hbm_shares_await(struct hbm *hbm, const struct hbm_range *ranges, size_t count)
{
	while (hbm->come_back && share_is_awaited(hbm, ranges, count))
		hbm_request_poll(hbm);
}
