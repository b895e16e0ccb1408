/* SPDX-License-Identifier: Apache-2.0 */
#include "client/parts.h"

#include "client/again.h"

#include <stdlib.h>

struct parts *hbm_parts_new(struct hbm *hbm, enum hbm_wire_opcode opcode, uint32_t count,
			    struct hbm_lookup *lookup)
{
	struct parts *parts = calloc(1, sizeof(*parts) + count * sizeof(parts->list[0]));
	struct ticket *whole = parts ? hbm_ticket_new(&hbm->tickets, &parts->whole) : NULL;

	if (!whole) {
		free(parts);
		return NULL;
	}

	whole->opcode = (uint16_t)opcode;
	parts->lookup = lookup;
	parts->count = count;

	return parts;
}

void hbm_parts_free(struct hbm *hbm, struct parts *parts)
{
	if (!parts)
		return;

	for (uint32_t i = 0; i < parts->running; i++)
		hbm_ticket_free(&hbm->tickets,
				hbm_ticket_find(&hbm->tickets, parts->list[i].ticket));
	hbm_ticket_free(&hbm->tickets, hbm_ticket_find(&hbm->tickets, parts->whole));
	free(parts);
}

/* ---- The end ---- */

/* What its blocks have come to: of those that were not answered, nothing is known. */
static void parts_set_results(const struct ticket *part)
{
	int status = part->status > 0 ? part->status : HBM_SHUTDOWN;

	for (uint32_t i = 0; part->answer.results && i < part->answer.count; i++)
		part->answer.results[i] =
			(hbm_result){.status = (uint8_t)status, .tier = HBM_TIER_NONE};
}

/* The run of resident blocks goes on in a part if all of those before it are resident. */
static void parts_add_up(const struct tickets *tickets, struct parts *parts)
{
	struct hbm_lookup sum = {0, 0};
	bool full = true;

	for (uint32_t i = 0; full && i < parts->count; i++) {
		const struct part *part = &parts->list[i];

		sum.resident += part->lookup.resident;
		sum.load_ns += part->lookup.load_ns;
		full = part->lookup.resident ==
		       hbm_ticket_find(tickets, part->ticket)->answer.count;
	}

	*parts->lookup = sum;
}

static void parts_end(struct tickets *tickets, struct parts *parts)
{
	struct ticket *whole = hbm_ticket_find(tickets, parts->whole);
	int status = HBM_OK;

	for (uint32_t i = 0; i < parts->count; i++) {
		struct ticket *part = hbm_ticket_find(tickets, parts->list[i].ticket);

		if (part->status != HBM_OK)
			parts_set_results(part);
		if (status == HBM_OK && part->status != HBM_OK) {
			status = part->status;
			whole->reason = part->reason;
			part->reason = NULL;
		}
	}

	if (status == HBM_OK && parts->lookup)
		parts_add_up(tickets, parts);
	for (uint32_t i = 0; i < parts->count; i++)
		hbm_ticket_free(tickets, hbm_ticket_find(tickets, parts->list[i].ticket));
	hbm_ticket_end_parts(tickets, whole, status);
	free(parts);
}

static void parts_one_has_ended(struct tickets *tickets, struct ticket *part)
{
	struct parts *parts = part->parts;

	if (--parts->running == 0)
		parts_end(tickets, parts);
}

/* ---- The beginning ---- */

bool hbm_parts_add(struct hbm *hbm, struct parts *parts, struct request *request)
{
	struct part *part = &parts->list[parts->running];
	struct ticket *ticket = hbm_ticket_new(&hbm->tickets, &part->ticket);
	struct hbm_wire_header *header = request->pieces[0].iov_base;
	bool last = parts->running + 1 == parts->count;
	size_t size = 0;

	if (!ticket)
		return false;

	for (size_t i = 0; i < request->piece_count; i++)
		size += request->pieces[i].iov_len;
	*header = (struct hbm_wire_header){.size = (uint32_t)size,
					   .opcode = (uint16_t)request->opcode,
					   .flags = parts->fenced && !last ? HBM_WIRE_MORE : 0,
					   .id = part->ticket};
	ticket->opcode = (uint16_t)request->opcode;
	ticket->kind = request->kind;
	ticket->answer = request->answer;
	ticket->answer.lookup = parts->lookup ? &part->lookup : NULL;
	ticket->parts = parts;
	ticket->part_ended = parts_one_has_ended;
	parts->running++;

	return hbm_ticket_keep(&hbm->tickets, ticket, request->pieces, request->piece_count, -1);
}

/* How many are in the daemon's hands, of `sent`. */
static uint32_t parts_in_flight(const struct parts *parts, uint32_t sent)
{
	return sent - (parts->count - parts->running);
}

static void parts_wait_turn(struct hbm *hbm, const struct parts *parts, uint32_t sent)
{
	uint32_t half = hbm->info.requests_in_flight / 2;

	while (!hbm->broken && parts_in_flight(parts, sent) > 0 &&
	       parts_in_flight(parts, sent) >= half)
		hbm_request_poll(hbm);
}

/* Some are sent and the others cannot be: all have ended with the connection. */
static void parts_give_up(struct hbm *hbm, struct parts *parts, uint32_t sent, int rc)
{
	uint32_t count = parts->count;

	hbm_request_break(hbm, rc);
	for (uint32_t i = sent; i < count; i++) {
		/* The last frees the parts. */
		struct ticket *part = hbm_ticket_find(&hbm->tickets, parts->list[i].ticket);

		hbm_ticket_sent(&hbm->tickets, part);
		hbm_ticket_end(&hbm->tickets, part, hbm->broken);
	}
}

int hbm_parts_submit(struct hbm *hbm, struct parts *parts, hbm_ticket *ticket)
{
	const uint32_t count = parts->count;
	struct ticket *whole;
	int rc = hbm_request_send_kept(hbm, parts->list[0].ticket);

	if (rc) {
		hbm_parts_free(hbm, parts);
		return rc;
	}

	*ticket = parts->whole;
	whole = hbm_ticket_find(&hbm->tickets, parts->whole);
	whole->state = TICKET_PARTS;
	whole->parts = parts;
	for (uint32_t i = 1; rc == 0 && i < count; i++) {
		parts_wait_turn(hbm, parts, i);
		rc = hbm_request_send_kept(hbm, parts->list[i].ticket);
		if (rc)
			parts_give_up(hbm, parts, i, rc);
	}

	return 0;
}

/* Those that were answered wait again, unless all of them are over. */
static void parts_reopen(struct hbm *hbm, struct parts *parts)
{
	const struct ticket *first = hbm_ticket_find(&hbm->tickets, parts->list[0].ticket);

	if (!parts->fenced || hbm_again_is_over(hbm, (const void *)first->sent.message))
		return;

	for (uint32_t i = 0; i < parts->count; i++) {
		struct ticket *part = hbm_ticket_find(&hbm->tickets, parts->list[i].ticket);

		if (part->state != TICKET_ENDED)
			continue;
		free(part->reason);
		part->reason = NULL;
		part->status = HBM_OK;
		hbm_ticket_sent(&hbm->tickets, part);
		parts->running++;
	}
}

void hbm_parts_reopen(struct hbm *hbm)
{
	for (uint32_t i = 0; i < hbm->tickets.size; i++)
		if (hbm->tickets.entries[i].state == TICKET_PARTS)
			parts_reopen(hbm, hbm->tickets.entries[i].parts);
}

hbm_ticket hbm_parts_waiting(const struct hbm *hbm, const struct parts *parts)
{
	for (uint32_t i = 0; i < parts->count; i++) {
		const struct ticket *part = hbm_ticket_find(&hbm->tickets, parts->list[i].ticket);

		if (part->state == TICKET_WAITING)
			return parts->list[i].ticket;
	}

	return 0;
}
