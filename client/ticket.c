/* SPDX-License-Identifier: Apache-2.0 */
/* The table of tickets: a growable array with a free list threaded through it. See
 * ticket.h. */
#include "client/ticket.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

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

void hbm_ticket_sent(struct tickets *tickets, struct ticket *ticket)
{
	ticket->state = TICKET_WAITING;
	tickets->waiting++;
}

void hbm_ticket_end(struct tickets *tickets, struct ticket *ticket, int status)
{
	assert(ticket->state == TICKET_WAITING);
	tickets->waiting--;
	ticket->state = TICKET_ENDED;
	ticket->status = status;
	ticket->epoch = tickets->epoch;
	tickets->unreported++;
}

void hbm_ticket_free(struct tickets *tickets, struct ticket *ticket)
{
	if (ticket->state == TICKET_ENDED && ticket->epoch == tickets->epoch)
		tickets->unreported--;

	free(ticket->reason);
	uint32_t generation = ticket->generation + 1;
	*ticket = (struct ticket){.generation = generation ? generation : 1,
				  .next_free = tickets->free};
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
	for (uint32_t i = 0; i < tickets->size; i++)
		free(tickets->entries[i].reason);
	free(tickets->entries);
	*tickets = (struct tickets){0};
}
