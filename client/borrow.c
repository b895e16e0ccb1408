/* SPDX-License-Identifier: Apache-2.0 */
/*
 * borrow: BORROW and RETURN.
 *
 * The slabs that come with the reply to a BORROW are imported when it arrives. If that fails,
 * all loans of the reply are returned under the same ticket, which ends when that is answered:
 * HBM_DEVICE, -ENOMEM, or -EMFILE if this process has no descriptors left.
 *
 * A RETURN lets go of its loans before it is sent: memory that the daemon has back and this
 * process keeps counts as held. While a BORROW is in flight their slabs are only unmapped, and
 * kept until the RETURN is answered: by then every reply that names them without sending them
 * has come, or is of a BORROW still in flight.
 */
#include "client/cache.h"
#include "client/device.h"
#include "client/error.h"
#include "client/loan.h"
#include "client/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct borrowing {
	struct unsent undo;              /* a RETURN of all loans */
	struct hbm_wire_return *returns; /* its message */
	struct hbm_loan **loans;         /* the caller's */
	hbm_result *results;             /* the same, or NULL */
	uint32_t device, count;
	int failure; /* 0, HBM_DEVICE, -ENOMEM, -EMFILE */
	bool undoing;
};

struct returning {
	size_t count; /* that are not dropped yet */
	struct hbm_loan *loans[];
};

static size_t borrow_returns_bytes(size_t count)
{
	return sizeof(struct hbm_wire_return) + count * sizeof(uint64_t);
}

static struct borrowing *borrowing_free(struct borrowing *borrowing)
{
	if (borrowing) {
		list_remove(&borrowing->undo.link);
		free(borrowing->returns);
		free(borrowing);
	}

	return NULL;
}

static struct borrowing *borrowing_new(size_t count)
{
	struct borrowing *borrowing = calloc(1, sizeof(*borrowing));
	struct hbm_wire_return *returns = calloc(1, borrow_returns_bytes(count));
	if (!borrowing || !returns) {
		free(returns);
		free(borrowing);
		return NULL;
	}

	list_init(&borrowing->undo.link);
	borrowing->returns = returns;
	borrowing->undo.message = &returns->header;
	borrowing->count = (uint32_t)count;

	return borrowing;
}

/* ---- The reply to a BORROW ---- */

struct borrow_reply {
	const struct hbm_wire_borrowed *head;
	const struct hbm_wire_piece *pieces;
	const struct hbm_wire_slab *slabs;
};

/* Its arrays, if it is as long as they are. */
static bool borrow_reply_read(const struct message *message, uint32_t count,
			      struct borrow_reply *reply)
{
	const struct hbm_wire_borrowed *head = (const void *)message->header;
	if (message->header->status != HBM_OK || message->header->flags & HBM_WIRE_MORE ||
	    message->size < sizeof(*head) || head->count != count || head->zero != 0 ||
	    message->size != sizeof(*head) + (uint64_t)count * sizeof(head->loans[0]) +
				     (uint64_t)head->pieces * sizeof(struct hbm_wire_piece) +
				     (uint64_t)head->slabs * sizeof(struct hbm_wire_slab))
		return false;

	reply->head = head;
	reply->pieces = (const void *)&head->loans[count];
	reply->slabs = (const void *)&reply->pieces[head->pieces];

	return true;
}

static bool borrow_piece_is_valid(const struct borrow_reply *reply,
				  const struct hbm_wire_piece *piece)
{
	if (piece->zero != 0 || piece->slab >= reply->head->slabs)
		return false;

	uint64_t bytes = reply->slabs[piece->slab].bytes;

	return piece->bytes > 0 && piece->bytes <= bytes && piece->offset <= bytes - piece->bytes;
}

static bool borrow_reply_is_valid(const struct message *message, const struct borrow_reply *reply)
{
	uint64_t pieces = 0, sent = 0;

	for (uint32_t i = 0; i < reply->head->count; i++) {
		const struct hbm_wire_loan *loan = &reply->head->loans[i];
		bool lent = loan->status == HBM_OK;

		pieces += loan->pieces;
		if (loan->zero != 0 || lent != (loan->loan != 0) || lent != (loan->pieces > 0))
			return false;
	}

	if (pieces != reply->head->pieces)
		return false;

	for (uint32_t i = 0; i < reply->head->pieces; i++)
		if (!borrow_piece_is_valid(reply, &reply->pieces[i]))
			return false;

	for (uint32_t i = 0; i < reply->head->slabs; i++) {
		sent += reply->slabs[i].sent;
		if (reply->slabs[i].sent > 1 || reply->slabs[i].zero != 0)
			return false;
	}

	return message->fds.lost || sent == message->fds.count;
}

static void borrow_fail(struct hbm *hbm, struct ticket *ticket, int failure)
{
	struct borrowing *borrowing = ticket->answer.borrowing;
	if (borrowing->failure)
		return;

	borrowing->failure = failure;
	if (failure == HBM_DEVICE) {
		ticket->device_call = hbm->gpu.failed_call;
		ticket->device_result = (int)hbm->gpu.failed_result;
	} else if (failure == -EMFILE) {
		ticket->failure = "BORROW undone: this process has too few descriptors left for "
				  "the slabs; raise RLIMIT_NOFILE, or borrow less at once";
	}
}

/* Imports what was sent and is not here yet. False: the daemon names what it has not sent. */
static bool borrow_import(struct hbm *hbm, struct ticket *ticket, const struct message *message,
			  const struct borrow_reply *reply)
{
	struct borrowing *borrowing = ticket->answer.borrowing;
	size_t next = 0;

	if (message->fds.lost)
		borrow_fail(hbm, ticket, -EMFILE);

	for (uint32_t i = 0; i < reply->head->slabs; i++) {
		const struct hbm_wire_slab *wire = &reply->slabs[i];
		const struct borrowed_slab *slab = hbm_slab_find(hbm, wire->slab);

		if (slab && (slab->bytes != wire->bytes || slab->device != borrowing->device))
			return false;
		if (!wire->sent && !slab)
			return false;
		if (!wire->sent || borrowing->failure)
			continue;

		int fd = message->fds.list[next++];
		hbm->gpu.failed_result = CUDA_SUCCESS;
		if (!slab && !hbm_slab_import(hbm, borrowing->device, wire, fd))
			borrow_fail(hbm, ticket,
				    fdpass_exhausted()                       ? -EMFILE
				    : hbm->gpu.failed_result == CUDA_SUCCESS ? -ENOMEM
									     : HBM_DEVICE);
	}

	return true;
}

static struct hbm_loan *borrow_loan_new(struct hbm *hbm, const struct borrow_reply *reply,
					const struct hbm_wire_loan *wire,
					const struct hbm_wire_piece *pieces)
{
	struct hbm_loan *loan = calloc(1, sizeof(*loan) + wire->pieces * sizeof(loan->pieces[0]));
	if (!loan)
		return NULL;

	loan->hbm = hbm;
	loan->id = wire->loan;
	loan->count = wire->pieces;
	for (uint32_t i = 0; i < wire->pieces; i++) {
		struct borrowed_slab *slab = hbm_slab_find(hbm, reply->slabs[pieces[i].slab].slab);

		slab->loans++;
		loan->device = slab->device;
		loan->bytes += pieces[i].bytes;
		loan->pieces[i] = (struct borrowed_piece){.slab = slab, .offset = pieces[i].offset};
	}

	list_push_back(&hbm->loans, &loan->link);

	return loan;
}

/* Makes the loans; after a failure those before it are as good as none. */
static void borrow_make_loans(struct hbm *hbm, struct ticket *ticket,
			      const struct borrow_reply *reply)
{
	struct borrowing *borrowing = ticket->answer.borrowing;
	const struct hbm_wire_piece *pieces = reply->pieces;

	for (uint32_t i = 0; i < borrowing->count; i++) {
		const struct hbm_wire_loan *wire = &reply->head->loans[i];

		borrowing->loans[i] = NULL;
		if (wire->loan != 0)
			borrowing->returns->loans[borrowing->returns->count++] = wire->loan;
		if (wire->loan != 0 && !borrowing->failure) {
			borrowing->loans[i] = borrow_loan_new(hbm, reply, wire, pieces);
			if (!borrowing->loans[i])
				borrow_fail(hbm, ticket, -ENOMEM);
		}

		pieces += wire->pieces;
		if (borrowing->results)
			borrowing->results[i] =
				(hbm_result){.status = wire->status, .tier = wire->tier};
	}
}

/* ---- The end of a BORROW ---- */

static void borrow_drop_loans(const struct borrowing *borrowing)
{
	for (uint32_t i = 0; i < borrowing->count; i++) {
		if (borrowing->loans[i])
			hbm_loan_drop(borrowing->loans[i]);
		borrowing->loans[i] = NULL;
	}
}

/* It is answered, or never will be. */
static void borrow_end(struct hbm *hbm, struct ticket *ticket)
{
	ticket->answer.borrowing = borrowing_free(ticket->answer.borrowing);
	hbm->borrows--;
	hbm_slabs_sweep(hbm);
}

static int borrow_undo(struct hbm *hbm, struct ticket *ticket, const struct message *message)
{
	struct borrowing *borrowing = ticket->answer.borrowing;
	struct hbm_wire_return *returns = borrowing->returns;

	borrow_drop_loans(borrowing);
	borrowing->undoing = true;
	ticket->opcode = HBM_WIRE_RETURN;
	returns->header =
		(struct hbm_wire_header){.size = (uint32_t)borrow_returns_bytes(returns->count),
					 .opcode = HBM_WIRE_RETURN,
					 .id = message->header->id};
	list_push_back(&hbm->unsent, &borrowing->undo.link);

	return TICKET_MORE;
}

static int borrow_reply_undo(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	if (hbm_kind_bare.reply(hbm, ticket, message) == TICKET_BROKEN)
		return TICKET_BROKEN;

	int failure = ticket->answer.borrowing->failure;
	borrow_end(hbm, ticket);

	return failure;
}

static int borrow_reply_borrow(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	struct borrowing *borrowing = ticket->answer.borrowing;
	struct borrow_reply reply;
	if (borrowing->undoing)
		return borrow_reply_undo(hbm, ticket, message);

	if (hbm_reply_is_refusal(message)) {
		borrow_end(hbm, ticket);
		return message->header->status;
	}

	if (!borrow_reply_read(message, borrowing->count, &reply) ||
	    !borrow_reply_is_valid(message, &reply) || !borrow_import(hbm, ticket, message, &reply))
		return TICKET_BROKEN;

	borrow_make_loans(hbm, ticket, &reply);
	int failure = borrowing->failure;
	if (failure && borrowing->returns->count > 0)
		return borrow_undo(hbm, ticket, message);

	borrow_end(hbm, ticket);

	return failure;
}

static void borrow_abandon(struct hbm *hbm, struct ticket *ticket)
{
	borrow_end(hbm, ticket);
}

/* What was to be returned is gone with the daemon. */
static int borrow_again(struct hbm *hbm, struct ticket *ticket)
{
	struct borrowing *borrowing = ticket->answer.borrowing;
	if (!borrowing->undoing)
		return TICKET_MORE;

	int failure = borrowing->failure;
	borrow_end(hbm, ticket);

	return failure;
}

static const struct ticket_kind kind_borrow = {
	.reply = borrow_reply_borrow,
	.takes_lost_fds = true,
	.abandon = borrow_abandon,
	.again = borrow_again,
};

static int borrow_check(struct hbm *hbm, uint32_t device, const hbm_key *keys, size_t count)
{
	int rc = hbm_use_device(hbm, device);
	if (rc)
		return rc;
	if (count == 0 || count > HBM_WIRE_FDS_MAX)
		return hbm_fail(hbm, count == 0 ? HBM_INVALID : HBM_LIMIT,
				"%zu keys: a request has 1 to %d", count, HBM_WIRE_FDS_MAX);

	for (size_t i = 0; i < count; i++)
		if (!hbm_key_is_valid(&keys[i]))
			return hbm_fail(hbm, HBM_INVALID, "key %zu is all zero, which is reserved",
					i);

	return 0;
}

static int borrow_submit(struct hbm *hbm, const struct hbm_wire_borrow *borrow, const hbm_key *keys,
			 struct hbm_loan **loans, hbm_result *results, hbm_ticket *ticket)
{
	struct borrowing *borrowing = borrowing_new(borrow->count);
	if (!borrowing)
		return hbm_fail(hbm, -ENOMEM, "cannot allocate a BORROW of %u keys", borrow->count);

	borrowing->loans = loans;
	borrowing->results = results;
	borrowing->device = borrow->device;
	struct request request = {
		.opcode = HBM_WIRE_BORROW,
		.kind = &kind_borrow,
		.answer = {.borrowing = borrowing},
		.pieces = {{(void *)borrow, sizeof(*borrow)},
			   {(void *)keys, borrow->count * sizeof(*keys)}},
		.piece_count = 2,
	};
	int rc = hbm_request_submit(hbm, &request, ticket);
	if (rc)
		borrowing_free(borrowing);
	else
		hbm->borrows++;

	return rc;
}

int hbm_submit_borrow(struct hbm *hbm, uint32_t ns, uint32_t device, uint64_t piece,
		      const hbm_key *keys, size_t count, struct hbm_loan **loans,
		      hbm_result *results, hbm_ticket *ticket)
{
	const struct hbm_wire_borrow borrow = {
		.ns = ns, .count = (uint32_t)count, .device = device, .piece = piece};

	if (hbm_check_owner(hbm))
		return -EPERM;

	int rc = borrow_check(hbm, device, keys, count);

	return rc ? rc : borrow_submit(hbm, &borrow, keys, loans, results, ticket);
}

int hbm_borrow(struct hbm *hbm, uint32_t ns, uint32_t device, uint64_t piece, const hbm_key *keys,
	       size_t count, struct hbm_loan **loans, hbm_result *results)
{
	hbm_ticket ticket;
	int rc = hbm_submit_borrow(hbm, ns, device, piece, keys, count, loans, results, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

int hbm_borrow_ready(struct hbm *hbm, uint32_t ns, uint32_t device, uint64_t piece,
		     const hbm_key *keys, size_t count, struct hbm_loan **loans)
{
	const struct hbm_wire_borrow borrow = {.ns = ns,
					       .count = (uint32_t)count,
					       .device = device,
					       .flags = HBM_WIRE_BORROW_READY,
					       .piece = piece};
	hbm_ticket ticket;
	int rc = borrow_check(hbm, device, keys, count);
	if (rc == 0)
		rc = borrow_submit(hbm, &borrow, keys, loans, NULL, &ticket);

	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

/* ---- RETURN ---- */

static void borrow_drop_returned(struct hbm *hbm, struct returning *returning)
{
	for (size_t i = 0; i < returning->count; i++)
		hbm_loan_drop(returning->loans[i]);

	returning->count = 0;
	hbm_slabs_sweep(hbm);
}

/* It is answered, or the connection is broken. */
static void borrow_returned(struct hbm *hbm, struct ticket *ticket)
{
	borrow_drop_returned(hbm, ticket->answer.returning);
	free(ticket->answer.returning);
	ticket->answer.returning = NULL;
}

static int borrow_reply_return(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	int status = hbm_kind_bare.reply(hbm, ticket, message);

	if (status != TICKET_BROKEN)
		borrow_returned(hbm, ticket);

	return status;
}

static const struct ticket_kind kind_return = {.reply = borrow_reply_return,
					       .abandon = borrow_returned};

/* Marks the loans; none, if it is refused. */
static int borrow_mark(struct hbm *hbm, struct hbm_loan *const *loans, size_t count)
{
	size_t most = (HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_return)) / sizeof(uint64_t);
	size_t i = 0;
	if (count == 0 || count > most)
		return hbm_fail(hbm, count == 0 ? HBM_INVALID : HBM_LIMIT,
				"%zu loans: a request has 1 to %zu", count, most);

	while (i < count && loans[i] && loans[i]->hbm == hbm && !loans[i]->returning)
		loans[i++]->returning = true;
	if (i == count)
		return 0;

	for (size_t k = 0; k < i; k++)
		loans[k]->returning = false;

	return hbm_fail(hbm, HBM_INVALID, "loan %zu: not one of this connection, or named twice",
			i);
}

/* Sends it. The loans are dropped before, unless a reply may name their slabs. */
static int borrow_send_return(struct hbm *hbm, struct returning *returning,
			      struct hbm_wire_return *message, hbm_ticket *ticket)
{
	struct request request = {
		.opcode = HBM_WIRE_RETURN,
		.kind = &kind_return,
		.answer = {.returning = returning},
		.pieces = {{message, borrow_returns_bytes(message->count)}},
		.piece_count = 1,
	};

	for (size_t i = 0; i < returning->count; i++)
		hbm_loan_unmap(returning->loans[i]);
	if (hbm->borrows == 0)
		borrow_drop_returned(hbm, returning);

	return hbm_request_submit(hbm, &request, ticket);
}

int hbm_submit_return(struct hbm *hbm, struct hbm_loan *const *loans, size_t count,
		      hbm_ticket *ticket)
{
	if (hbm_check_owner(hbm))
		return -EPERM;

	int rc = borrow_mark(hbm, loans, count);
	if (rc)
		return rc;

	struct returning *returning =
		calloc(1, sizeof(*returning) + count * sizeof(struct hbm_loan *));
	struct hbm_wire_return *message = calloc(1, borrow_returns_bytes(count));
	if (!returning || !message) {
		for (size_t i = 0; i < count; i++)
			hbm_loan_drop(loans[i]);
		hbm_slabs_sweep(hbm);
		free(message);
		free(returning);
		return hbm_fail(hbm, -ENOMEM, "cannot allocate a RETURN of %zu loans", count);
	}

	returning->count = message->count = (uint32_t)count;
	for (size_t i = 0; i < count; i++) {
		returning->loans[i] = loans[i];
		message->loans[i] = loans[i]->id;
	}

	rc = borrow_send_return(hbm, returning, message, ticket);
	free(message);
	if (rc) {
		borrow_drop_returned(hbm, returning);
		free(returning);
	}

	return rc;
}

int hbm_return(struct hbm *hbm, struct hbm_loan *const *loans, size_t count)
{
	hbm_ticket ticket;
	int rc = hbm_submit_return(hbm, loans, count, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

void hbm_loans_close(struct hbm *hbm)
{
	while (!list_empty(&hbm->loans)) {
		struct hbm_loan *loan = container_of(hbm->loans.next, struct hbm_loan, link);

		if (loan->returning || hbm->broken || hbm_return(hbm, &loan, 1) < 0)
			break;
	}

	while (!list_empty(&hbm->loans))
		hbm_loan_drop(container_of(hbm->loans.next, struct hbm_loan, link));
	hbm->borrows = 0;
	hbm_slabs_sweep(hbm);
}
