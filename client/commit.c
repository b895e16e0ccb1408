/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit: COMMIT and DECOMMIT of ranges of regions.
 *
 * The reply to a commit comes in parts, with an fd for each slab. Each slab is mapped when
 * its fd arrives. When the last part has arrived, access is set for each run of slabs, and
 * the ticket ends HBM_OK.
 *
 * If something fails in this process, later parts are received and not mapped, and the
 * whole request is undone: mapped slabs are unmapped, and a DECOMMIT of the same ranges is
 * sent under the same ticket. The ticket ends when that is answered, so that the caller
 * may retry at once; until then its slabs stay SLAB_ASKED. It ends HBM_DEVICE after a
 * failed device call, and -EMFILE if this process has no descriptors left for the slabs.
 *
 * A decommit unmaps before it sends the request, so that this process never maps a slab
 * that the daemon has given to another.
 */
#include "client/error.h"
#include "client/region.h"
#include "client/request.h"

#include "daemon/base/checked.h"

#include <errno.h>
#include <stdlib.h>

struct commit {
	struct unsent undo;
	uint64_t slabs, granted;
	int failure; /* 0; HBM_DEVICE: the ticket names the call; -EMFILE */
	bool undoing;
	size_t cursor; /* range of the last grant */
	size_t count;
	struct hbm_range ranges[];
};

static struct commit *commit_free(struct commit *commit)
{
	if (commit) {
		list_remove(&commit->undo.link);
		free(commit->undo.message);
		free(commit);
	}
	return NULL;
}

static size_t commit_ranges_message_bytes(size_t count)
{
	return sizeof(struct hbm_wire_ranges) + count * sizeof(struct hbm_wire_range);
}

static void commit_ranges_message_fill(struct hbm_wire_ranges *message,
				       const struct hbm_range *ranges, size_t count)
{
	*message = (struct hbm_wire_ranges){.count = (uint32_t)count};
	for (size_t i = 0; i < count; i++)
		message->ranges[i] = (struct hbm_wire_range){
			.region = ranges[i].region->id,
			.offset = ranges[i].offset,
			.bytes = ranges[i].bytes,
		};
}

/* Adds `change` to the commits in flight of every region of the commit. */
static void commit_count(const struct commit *commit, int change)
{
	for (size_t i = 0; i < commit->count; i++)
		commit->ranges[i].region->commits += change;
}

static struct commit *commit_new(const struct hbm_range *ranges, size_t count)
{
	struct commit *commit = calloc(1, sizeof(*commit) + count * sizeof(*ranges));
	if (!commit)
		return NULL;

	list_init(&commit->undo.link);
	struct hbm_wire_ranges *message = malloc(commit_ranges_message_bytes(count));
	if (!message)
		return commit_free(commit);

	commit_ranges_message_fill(message, ranges, count);
	commit->undo.message = &message->header;
	commit->count = count;
	for (size_t i = 0; i < count; i++) {
		commit->ranges[i] = ranges[i];
		commit->slabs += ranges[i].bytes / ranges[i].region->slab;
	}

	return commit;
}

/* Keeps the first failure of a commit. */
static void commit_fail_device(struct hbm *hbm, struct ticket *ticket)
{
	struct commit *commit = ticket->answer.commit;
	if (commit->failure)
		return;

	commit->failure = HBM_DEVICE;
	ticket->device_call = hbm->gpu.failed_call;
	ticket->device_result = (int)hbm->gpu.failed_result;
}

static void commit_fail_fds(struct ticket *ticket)
{
	struct commit *commit = ticket->answer.commit;
	if (commit->failure)
		return;

	commit->failure = -EMFILE;
	ticket->failure = "COMMIT undone: this process has too few descriptors left for the slabs; "
			  "raise RLIMIT_NOFILE, commit less at once, or use larger slabs";
}

/* ---- Grants ---- */

static bool commit_range_has(const struct hbm_range *range, const struct hbm_wire_range *slab)
{
	return range->region->id == slab->region && slab->bytes == range->region->slab &&
	       slab->zero == 0 && is_aligned(slab->offset, slab->bytes) &&
	       slab->offset >= range->offset && slab->offset - range->offset < range->bytes;
}

/* The range of the commit that contains a granted slab, or NULL. Searches from the range of
 * the last grant. */
static const struct hbm_range *commit_find(struct commit *commit, const struct hbm_wire_range *slab)
{
	for (size_t n = 0; n < commit->count; n++) {
		const struct hbm_range *range = &commit->ranges[commit->cursor];
		if (commit_range_has(range, slab))
			return range;
		commit->cursor = (commit->cursor + 1) % commit->count;
	}
	return NULL;
}

static bool commit_grant(struct hbm *hbm, struct ticket *ticket, const struct hbm_wire_range *slab,
			 int fd)
{
	struct commit *commit = ticket->answer.commit;
	const struct hbm_range *range = commit_find(commit, slab);
	if (!range || range->region->slabs[slab->offset / slab->bytes] != SLAB_ASKED)
		return false;

	/* After a failure this is the only check against a slab granted twice. */
	if (commit->granted == commit->slabs)
		return false;

	commit->granted++;
	if (commit->failure)
		return true;

	bool entered = hbm_region_enter(range->region);
	if (!entered || !hbm_region_place(range->region, slab->offset, fd)) {
		/* A driver may need another descriptor for each slab, and its error does
		 * not say so. */
		if (fdpass_exhausted())
			commit_fail_fds(ticket);
		else
			commit_fail_device(hbm, ticket);
	}

	if (entered)
		hbm_region_leave(range->region);

	return true;
}

static bool commit_part(struct hbm *hbm, struct ticket *ticket, const struct message *message)
{
	const struct hbm_wire_ranges *part = (const void *)message->header;

	/* Refuse a part without slabs: such a reply could go on without limit. */
	if (message->size < sizeof(*part) || part->zero || part->count == 0 ||
	    part->count > HBM_WIRE_FDS_MAX ||
	    message->size != commit_ranges_message_bytes(part->count))
		return false;

	if (message->fds.lost)
		commit_fail_fds(ticket);
	else if (part->count != message->fds.count)
		return false;

	for (uint32_t i = 0; i < part->count; i++) {
		int fd = message->fds.lost ? -1 : message->fds.list[i];
		if (!commit_grant(hbm, ticket, &part->ranges[i], fd))
			return false;
	}

	return true;
}

/* ---- The end of a commit ---- */

/* The number of leading ranges that form one run of addresses, and its length in bytes. */
static size_t commit_run_length(const struct hbm_range *ranges, size_t count, uint64_t *bytes)
{
	size_t n = 1;
	*bytes = ranges[0].bytes;
	while (n < count && ranges[n].region == ranges[0].region &&
	       ranges[n].offset == ranges[0].offset + *bytes)
		*bytes += ranges[n++].bytes;

	return n;
}

static void commit_open(struct hbm *hbm, struct ticket *ticket)
{
	struct commit *commit = ticket->answer.commit;
	for (size_t i = 0; i < commit->count && !commit->failure;) {
		uint64_t bytes;
		size_t n = commit_run_length(&commit->ranges[i], commit->count - i, &bytes);
		struct hbm_region *region = commit->ranges[i].region;
		bool entered = hbm_region_enter(region);
		if (!entered ||
		    !hbm_region_open(region, commit->ranges[i].offset, bytes, region->read_only))
			commit_fail_device(hbm, ticket);
		if (entered)
			hbm_region_leave(region);

		i += n;
	}
}

static void commit_unplace(const struct commit *commit, enum slab_state asked)
{
	for (size_t i = 0; i < commit->count; i++) {
		const struct hbm_range *range = &commit->ranges[i];
		bool entered = hbm_region_enter(range->region);
		hbm_region_unplace(range->region, range->offset, range->bytes, asked);
		if (entered)
			hbm_region_leave(range->region);
	}
}

/* Ends the commit without effect. */
static void commit_revert(struct hbm *hbm, struct ticket *ticket)
{
	struct commit *commit = ticket->answer.commit;
	(void)hbm;
	commit_unplace(commit, SLAB_EMPTY);
	commit_count(commit, -1);
	ticket->answer.commit = commit_free(commit);
}

static int commit_undo(struct hbm *hbm, struct ticket *ticket)
{
	struct commit *commit = ticket->answer.commit;

	commit_unplace(commit, SLAB_ASKED);
	commit->undoing = true;
	ticket->opcode = HBM_WIRE_DECOMMIT;
	commit->undo.message->opcode = HBM_WIRE_DECOMMIT;
	list_push_back(&hbm->unsent, &commit->undo.link);

	return TICKET_MORE;
}

static int commit_done(struct hbm *hbm, struct ticket *ticket)
{
	struct commit *commit = ticket->answer.commit;
	hbm_ranges_turn(hbm, commit->ranges, commit->count, SLAB_PLACED, SLAB_MAPPED, HBM_INVALID);
	commit_count(commit, -1);
	ticket->answer.commit = commit_free(commit);
	return HBM_OK;
}

static int commit_reply_undo(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	if (hbm_kind_bare.reply(hbm, ticket, message) == TICKET_BROKEN)
		return TICKET_BROKEN;
	int failure = ticket->answer.commit->failure;
	commit_revert(hbm, ticket);
	return failure;
}

static int commit_reply_commit(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	struct commit *commit = ticket->answer.commit;
	if (commit->undoing)
		return commit_reply_undo(hbm, ticket, message);

	if (hbm_reply_is_refusal(message)) {
		commit_revert(hbm, ticket);
		ticket->device_call = ticket->failure = NULL;
		return message->header->status;
	}

	if (message->header->status != HBM_OK || !commit_part(hbm, ticket, message))
		return TICKET_BROKEN;
	if (message->header->flags & HBM_WIRE_MORE)
		return TICKET_MORE;
	if (commit->granted != commit->slabs)
		return TICKET_BROKEN;

	commit_open(hbm, ticket);

	return commit->failure ? commit_undo(hbm, ticket) : commit_done(hbm, ticket);
}

/* The slabs that have come are not those of the next daemon. */
static void commit_lost(struct hbm *hbm, struct ticket *ticket)
{
	(void)hbm;
	ticket->answer.commit->granted = 0;
	commit_unplace(ticket->answer.commit, SLAB_ASKED);
}

/* What was to be undone is. */
static int commit_again(struct hbm *hbm, struct ticket *ticket)
{
	struct commit *commit = ticket->answer.commit;
	if (!commit->undoing)
		return TICKET_MORE;

	int failure = commit->failure;
	commit_revert(hbm, ticket);

	return failure;
}

static const struct ticket_kind kind_commit = {
	.reply = commit_reply_commit,
	.takes_lost_fds = true,
	.abandon = commit_revert,
	.lost = commit_lost,
	.again = commit_again,
};

int hbm_submit_commit(struct hbm *hbm, const struct hbm_range *ranges, size_t count,
		      hbm_ticket *ticket)
{
	if (hbm_check_owner(hbm))
		return -EPERM;

	int rc = hbm_ranges_check(hbm, ranges, count);
	if (rc == 0)
		rc = hbm_ranges_turn(hbm, ranges, count, SLAB_EMPTY, SLAB_ASKED, HBM_EXISTS);
	if (rc)
		return rc;

	struct commit *commit = commit_new(ranges, count);
	if (commit) {
		struct request request = {
			.opcode = HBM_WIRE_COMMIT,
			.kind = &kind_commit,
			.answer = {.commit = commit},
			.pieces = {{commit->undo.message, commit_ranges_message_bytes(count)}},
			.piece_count = 1,
		};
		rc = hbm_request_submit(hbm, &request, ticket);
	} else {
		rc = hbm_fail(hbm, -ENOMEM, "cannot allocate a commit of %zu ranges", count);
	}

	if (rc == 0) {
		commit_count(commit, 1);
		return 0;
	}

	commit_free(commit);
	for (size_t i = 0; i < count; i++)
		hbm_region_unplace(ranges[i].region, ranges[i].offset, ranges[i].bytes, SLAB_EMPTY);

	return rc;
}

int hbm_commit(struct hbm *hbm, const struct hbm_range *ranges, size_t count)
{
	hbm_ticket ticket;
	int rc = hbm_submit_commit(hbm, ranges, count, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

/* ---- Decommit ---- */

/* The reply to a decommit of which only a part could be unmapped. */
static int commit_reply_partial(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	int status = hbm_kind_bare.reply(hbm, ticket, message);
	return status == HBM_OK ? HBM_DEVICE : status;
}

/* What was unmapped has been given back. */
static int commit_again_partial(struct hbm *hbm, struct ticket *ticket)
{
	(void)hbm;
	(void)ticket;
	return HBM_DEVICE;
}

static const struct ticket_kind kind_partial = {.reply = commit_reply_partial,
						.again = commit_again_partial};

/* Unmaps the ranges until one fails; the number unmapped. */
static size_t commit_ranges_unmap(const struct hbm_range *ranges, size_t count)
{
	size_t done = 0;
	while (done < count) {
		uint64_t bytes;
		size_t n = commit_run_length(ranges + done, count - done, &bytes);
		bool entered = hbm_region_enter(ranges[done].region);
		bool unmapped = entered &&
				hbm_region_unmap(ranges[done].region, ranges[done].offset, bytes);
		if (entered)
			hbm_region_leave(ranges[done].region);
		if (!unmapped)
			break;

		done += n;
	}

	return done;
}

int hbm_submit_decommit(struct hbm *hbm, const struct hbm_range *ranges, size_t count,
			hbm_ticket *id)
{
	if (hbm_check_owner(hbm))
		return -EPERM;

	int rc = hbm_ranges_check(hbm, ranges, count);
	if (rc == 0)
		hbm_shares_await(hbm, ranges, count);
	if (hbm->broken)
		return hbm_fail(hbm, -ENOTCONN, "DECOMMIT not sent: %s", hbm_strerror(-ENOTCONN));
	if (rc == 0)
		rc = hbm_ranges_turn(hbm, ranges, count, SLAB_MAPPED, SLAB_MAPPED, HBM_NOT_FOUND);
	if (rc)
		return rc;

	size_t done = commit_ranges_unmap(ranges, count);
	const char *call = done < count ? hbm->gpu.failed_call : NULL;
	int result = (int)hbm->gpu.failed_result;
	if (done == 0)
		return hbm_fail_device(hbm, call, result);

	struct hbm_wire_ranges *message = hbm->scratch;
	commit_ranges_message_fill(message, ranges, done);
	struct request request = {
		.opcode = HBM_WIRE_DECOMMIT,
		.kind = done < count ? &kind_partial : &hbm_kind_bare,
		.pieces = {{message, commit_ranges_message_bytes(done)}},
		.piece_count = 1,
	};
	hbm_ticket ticket;
	rc = hbm_request_submit(hbm, &request, &ticket);
	if (rc) {
		/* The daemon was not told that these slabs are unmapped: end the
		 * connection. */
		hbm_request_break(hbm, rc);
		return rc;
	}

	struct ticket *entry = hbm_ticket_find(&hbm->tickets, ticket);
	entry->device_call = call;
	entry->device_result = result;
	*id = ticket;

	return 0;
}

int hbm_decommit(struct hbm *hbm, const struct hbm_range *ranges, size_t count)
{
	hbm_ticket ticket;
	int rc = hbm_submit_decommit(hbm, ranges, count, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}
