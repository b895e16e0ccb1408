/* SPDX-License-Identifier: Apache-2.0 */
/*
 * query: walks the daemon's records page by page. Each page is copied, so that `each` may
 * use the connection. Records grow at their end: a newer daemon's are longer than ours. An
 * older one's are shorter, and so are those of which only a part is for us: these are handed
 * on with zeros for the members that are missing.
 */
#include "client/connection.h"
#include "client/error.h"
#include "client/request.h"
#include "daemon/base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_MEMBER(name, value, record, text, members) struct record name;
union any_record {
	HBM_QUERY_LIST(RECORD_MEMBER)
};

#define RECORD_SIZE(name, value, record, text, members) [value] = sizeof(struct record),
static const size_t record_sizes[HBM_QUERY_KINDS] = {HBM_QUERY_LIST(RECORD_SIZE)};

static bool query_page_is_valid(const struct message *message)
{
	const struct hbm_wire_query_reply *page = (const void *)message->header;
	return message->header->status == HBM_OK && !(message->header->flags & HBM_WIRE_MORE) &&
	       message->fds.count == 0 && message->size >= sizeof(*page) && page->kind > 0 &&
	       page->kind < HBM_QUERY_KINDS &&
	       (page->count == 0 ||
		(page->record_bytes > 0 && is_aligned(page->record_bytes, sizeof(uint64_t)))) &&
	       message->size == sizeof(*page) + (uint64_t)page->count * page->record_bytes;
}

/* answer.body: where to put the page, which is allocated with malloc() and the waiter
 * frees. */
static int query_reply_page(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	(void)hbm;
	if (hbm_reply_is_refusal(message))
		return message->header->status;
	if (!query_page_is_valid(message))
		return TICKET_BROKEN;

	struct hbm_wire_query_reply **out = ticket->answer.body;
	*out = malloc(message->size);
	if (*out)
		memcpy(*out, message->header, message->size);

	return HBM_OK;
}

static const struct ticket_kind kind_page = {.reply = query_reply_page};

/* Whether the walk ends: each page is the last or moves the cursor on. A page has no records
 * if its part of the index has no blocks; the next cursor must then be greater. */
static bool query_goes_on(const struct hbm_wire_query_reply *page, uint64_t cursor)
{
	if (page->next == 0)
		return true;
	return page->count == 0 ? page->next > cursor : page->next != cursor;
}

static int query_page(struct hbm *hbm, enum hbm_wire_query_kind kind, uint64_t cursor,
		      struct hbm_wire_query_reply **out)
{
	struct hbm_wire_query_reply *page = NULL;
	struct hbm_wire_query query = {.kind = kind, .cursor = cursor};
	struct request request = {
		.opcode = HBM_WIRE_QUERY,
		.kind = &kind_page,
		.answer = {.body = &page},
		.pieces = {{&query, sizeof(query)}},
		.piece_count = 1,
	};
	int rc = hbm_request_query(hbm, &request);
	if (rc)
		return rc;
	if (!page)
		return hbm_fail(hbm, -ENOMEM, "cannot allocate a page of records");

	if (page->kind != kind || !query_goes_on(page, cursor)) {
		free(page);
		hbm_request_break(hbm, -EPROTO);
		return hbm_fail(hbm, -EPROTO, "the daemon answered another query than was asked");
	}

	*out = page;

	return 0;
}

static int query_page_walk(const struct hbm_wire_query_reply *page, hbm_record_fn *each, void *arg)
{
	const char *record = (const char *)(page + 1);
	size_t ours = record_sizes[page->kind];
	union any_record whole;
	int rc = 0;

	memset(&whole, 0, sizeof(whole));
	for (uint32_t i = 0; rc == 0 && i < page->count; i++, record += page->record_bytes) {
		if (page->record_bytes >= ours) {
			rc = each(record, page->record_bytes, arg);
			continue;
		}

		memcpy(&whole, record, page->record_bytes);
		rc = each(&whole, page->record_bytes, arg);
	}

	return rc;
}

int hbm_query(struct hbm *hbm, enum hbm_wire_query_kind kind, hbm_record_fn *each, void *arg)
{
	if (hbm_check_owner(hbm))
		return -EPERM;
	if (kind <= 0 || kind >= HBM_QUERY_KINDS)
		return hbm_fail(hbm, HBM_UNSUPPORTED, "there is no query of kind %d", (int)kind);

	uint64_t cursor = 0;
	do {
		struct hbm_wire_query_reply *page = NULL;
		int rc = query_page(hbm, kind, cursor, &page);
		if (rc)
			return rc;

		cursor = page->next;
		rc = query_page_walk(page, each, arg);
		free(page);
		if (rc)
			return rc;
	} while (cursor);

	return 0;
}
