/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/serve_lend.h"

#include "daemon/base/reason.h"
#include "daemon/cache/cache.h"
#include "daemon/device/device.h"
#include "daemon/region/loan.h"
#include "daemon/region/slab.h"
#include "daemon/serve/borrow.h"
#include "daemon/serve/serve_namespace.h"
#include "daemon/session/validate.h"

/* ---- BORROW ---- */

static int serve_lend_check_device(const struct hbmd *hbmd, uint32_t number,
				   const struct reason *why)
{
	if (number >= hbmd->devices->count)
		return reason_set(why, HBM_INVALID, "device %u: there are %u", number,
				  hbmd->devices->count);
	if (device_is_lost(&hbmd->devices->list[number]))
		return reason_set(why, HBM_DEVICE, "device %u is lost until hbmd restarts", number);
	if (hbmd->devices->list[number].lend->budget == 0)
		return reason_set(why, HBM_UNSUPPORTED, "device.lend is 0: nothing is lent");

	return HBM_OK;
}

/* Piece and count: what a reply holds. */
static int serve_lend_check_pieces(const struct hbm_wire_borrow *borrow, uint64_t bytes,
				   const struct reason *why)
{
	uint64_t piece = borrow->piece;

	if (piece != 0 && (!slabs_is_size(piece) || bytes % piece != 0))
		return reason_set(why, HBM_INVALID,
				  "piece is %llu, expected 0, or 2 MiB << k that divides %llu",
				  (unsigned long long)piece, (unsigned long long)bytes);
	if (bytes > SLAB_BYTES_MAX && piece == 0)
		return reason_set(why, HBM_UNSUPPORTED,
				  "blocks of %llu bytes fit no slab: ask for pieces",
				  (unsigned long long)bytes);

	uint64_t pieces = piece == 0 ? 1 : bytes / piece;
	if (pieces > HBM_WIRE_FDS_MAX || borrow->count > HBM_WIRE_FDS_MAX / pieces)
		return reason_set(why, HBM_LIMIT,
				  "%u blocks of %llu pieces: a request has at most %d pieces",
				  borrow->count, (unsigned long long)pieces, HBM_WIRE_FDS_MAX);

	return HBM_OK;
}

void serve_borrow(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_borrow *borrow = (const void *)request->message;
	struct refusal refusal;
	const struct reason why = refusal_reason(&refusal);
	int status = serve_lend_check_device(hbmd, borrow->device, &why);

	if (status == HBM_OK && !session_has_namespace(request->session, borrow->ns))
		status = reason_set(&why, HBM_NOT_FOUND, "namespace %u is not open in this session",
				    borrow->ns);
	if (status == HBM_OK)
		status = serve_lend_check_pieces(
			borrow, namespaces_get(hbmd->cache->namespaces, borrow->ns)->block_bytes,
			&why);

	if (status == HBM_OK)
		borrow_begin(hbmd, request);
	else
		request_refuse(request, status, "%s", refusal.reason);
}

/* ---- RETURN ---- */

/* Marks the loans: the first that there is not, or is marked already; count: all are. Those of an
 * earlier daemon are gone already. */
static uint32_t serve_lend_mark(const struct borrower *borrower,
				const struct hbm_wire_return *message)
{
	for (uint32_t i = 0; i < message->count; i++) {
		if (loan_is_earlier(borrower, message->loans[i]))
			continue;

		struct loan *loan = loan_find(borrower, message->loans[i]);
		if (!loan || loan->marked)
			return i;

		loan->marked = true;
	}

	return message->count;
}

static void serve_lend_unmark(const struct borrower *borrower,
			      const struct hbm_wire_return *message, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct loan *loan = loan_find(borrower, message->loans[i]);
		if (loan)
			loan->marked = false;
	}
}

void serve_return(struct hbmd *hbmd, struct request *request)
{
	(void)hbmd;
	const struct hbm_wire_return *message = (const void *)request->message;
	const struct borrower *borrower = &request->session->regions.borrower;
	uint32_t marked = serve_lend_mark(borrower, message);

	if (marked < message->count) {
		unsigned long long bad = message->loans[marked];

		serve_lend_unmark(borrower, message, marked);
		request_refuse(request, HBM_NOT_FOUND,
			       "loans[%u] is %llu: no loan of this session, or named twice", marked,
			       bad);
		return;
	}

	for (uint32_t i = 0; i < message->count; i++)
		loan_free(loan_find(borrower, message->loans[i]));
	request_reply(request, HBM_OK, NULL, 0);
}
