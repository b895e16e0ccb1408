/* SPDX-License-Identifier: Apache-2.0 */
/* The table of tickets: a growable array with a free list threaded through it. See
 * ticket.h. */
#include "client/ticket.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NONE UINT32_MAX
#define TICKET_ROOM 1024u /* a load of 64 KiB takes a tenth of it */

static uint32_t ticket_index(const struct tickets *tickets, const struct ticket *ticket)
{
	return (uint32_t)(ticket - tickets->entries);
}

static bool ticket_grow_table(struct tickets *tickets)
{
	uint32_t size = tickets->size ? tickets->size * 2 : 16;
	if (size >= NONE / 2)
		return false;

	struct ticket *entries = realloc(tickets->entries, size * sizeof(*entries));
	if (!entries)
		return false;

	memset(entries + tickets->size, 0, (size - tickets->size) * sizeof(*entries));
	for (uint32_t i = tickets->size; i < size; i++) {
		entries[i].generation = 1;
		entries[i].next_free = i + 1 < size ? i + 1 : NONE;
	}

	tickets->free = tickets->size;
	tickets->entries = entries;
	tickets->size = size;

	return true;
}

struct ticket *hbm_ticket_new(struct tickets *tickets, hbm_ticket *id)
{
	if ((tickets->size == 0 || tickets->free == NONE) && !ticket_grow_table(tickets))
		return NULL;

	struct ticket *ticket = &tickets->entries[tickets->free];
	tickets->free = ticket->next_free;
	ticket->state = TICKET_UNSENT;
	*id = (uint64_t)ticket->generation << 32 | ticket_index(tickets, ticket);

	return ticket;
}

struct ticket *hbm_ticket_find(const struct tickets *tickets, hbm_ticket id)
{
	uint32_t index = (uint32_t)id;
	if (index >= tickets->size)
		return NULL;
	struct ticket *ticket = &tickets->entries[index];
	return ticket->state != TICKET_FREE && ticket->generation == id >> 32 ? ticket : NULL;
}

bool hbm_ticket_keep(struct tickets *tickets, struct ticket *ticket, const struct iovec *pieces,
		     size_t count, int fd)
{
	struct sent *sent = &ticket->sent;
	size_t bytes = 0, at = 0;

	for (size_t i = 0; i < count; i++)
		bytes += pieces[i].iov_len;
	if (bytes > sent->room) {
		size_t room = bytes > TICKET_ROOM ? bytes : TICKET_ROOM;
		unsigned char *message = malloc(room);
		if (!message)
			return false;

		free(sent->message);
		sent->message = message;
		sent->room = room;
	}

	sent->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
	if (fd >= 0 && sent->fd < 0)
		return false;

	for (size_t i = 0; i < count; at += pieces[i++].iov_len)
		memcpy(sent->message + at, pieces[i].iov_base, pieces[i].iov_len);
	sent->nth = ++tickets->submitted;
	sent->again = sent->late = sent->noted = false;

	return true;
}

struct ticket *hbm_ticket_next(const struct tickets *tickets, uint64_t nth)
{
	struct ticket *next = NULL;

	for (uint32_t i = 0; i < tickets->size; i++) {
		struct ticket *ticket = &tickets->entries[i];
		if (ticket->state == TICKET_WAITING && ticket->sent.nth > nth &&
		    (!next || ticket->sent.nth < next->sent.nth))
			next = ticket;
	}

	return next;
}

void hbm_tickets_mark_late(struct tickets *tickets)
{
	for (uint32_t i = 0; i < tickets->size; i++)
		if (tickets->entries[i].state == TICKET_UNSENT)
			tickets->entries[i].sent.late = true;
}

void hbm_ticket_sent(struct tickets *tickets, struct ticket *ticket)
{
	ticket->state = TICKET_WAITING;
	tickets->waiting++;
}

/* The caller is to be told. */
static void ticket_report(struct tickets *tickets, struct ticket *ticket, int status)
{
	ticket->state = TICKET_ENDED;
	ticket->status = status;
	ticket->epoch = tickets->epoch;
	tickets->unreported++;
}

void hbm_ticket_end(struct tickets *tickets, struct ticket *ticket, int status)
{
	assert(ticket->state == TICKET_WAITING);
	tickets->waiting--;
	if (!ticket->part_ended) {
		ticket_report(tickets, ticket, status);
		return;
	}

	ticket->state = TICKET_ENDED;
	ticket->status = status;
	ticket->part_ended(tickets, ticket);
}

void hbm_ticket_end_parts(struct tickets *tickets, struct ticket *ticket, int status)
{
	assert(ticket->state == TICKET_PARTS || ticket->state == TICKET_INDIRECT);
	ticket->parts = NULL;
	ticket_report(tickets, ticket, status);
}

/* Of what was sent nothing is kept but the memory of a small one. */
static void ticket_forget(struct ticket *ticket)
{
	struct sent *sent = &ticket->sent;

	if (sent->nth > 0 && sent->fd >= 0)
		close(sent->fd);
	if (sent->message && ticket->opcode == HBM_WIRE_NAMESPACE_OPEN)
		explicit_bzero(sent->message, sent->room); /* a salt */
	if (sent->room > TICKET_ROOM) {
		free(sent->message);
		sent->message = NULL;
		sent->room = 0;
	}
	sent->nth = 0;
}

void hbm_ticket_free(struct tickets *tickets, struct ticket *ticket)
{
	if (ticket->state == TICKET_ENDED && !ticket->part_ended && ticket->epoch == tickets->epoch)
		tickets->unreported--;

	free(ticket->reason);
	ticket_forget(ticket);
	uint32_t generation = ticket->generation + 1;
	*ticket = (struct ticket){.generation = generation ? generation : 1,
				  .next_free = tickets->free,
				  .sent = ticket->sent};
	tickets->free = ticket_index(tickets, ticket);
}

int hbm_tickets_report(struct tickets *tickets)
{
	int ended = tickets->unreported;
	tickets->unreported = 0;
	tickets->epoch++;
	return ended;
}

void hbm_tickets_clear(struct tickets *tickets)
{
	for (uint32_t i = 0; i < tickets->size; i++) {
		ticket_forget(&tickets->entries[i]);
		free(tickets->entries[i].sent.message);
		free(tickets->entries[i].reason);
		if (tickets->entries[i].state == TICKET_PARTS)
			free(tickets->entries[i].parts);
	}
	free(tickets->entries);
	*tickets = (struct tickets){0};
}
