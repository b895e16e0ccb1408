/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ticket: the requests of a connection that have not been given back to the caller.
 *
 * A ticket is free -> unsent (its request is on its way into the socket) -> waiting (for
 * the reply) -> ended (its status is known) -> free. Its number is a generation and an
 * index; the generation changes whenever the entry is freed, so that a number used twice,
 * or a reply to something long over, finds nothing. The number is also the id of the
 * request on the wire. 0 is never one.
 *
 * The table grows and never shrinks. Entries move when it does: a pointer to one holds
 * until the next hbm_ticket_new().
 */
#pragma once

#include <hbm/hbm.h>
#include <hbm/wire.h>
#include <limits.h>

struct commit;
struct message;
struct ticket;

/* What ticket_kind.reply may return beside a status; no errno is as large. */
enum {
	TICKET_MORE = INT_MIN, /* no status yet, more messages follow */
	TICKET_BROKEN,         /* this message is no answer to that request */
};

/* What to do with the replies to one kind of request. */
struct ticket_kind {
	/*
	 * An enum hbm_status or a negative errno ends the ticket. May steal fds of the
	 * message; those left are closed.
	 */
	int (*reply)(struct hbm *hbm, struct ticket *ticket, struct message *message);
	/* Whether reply() copes with a message whose fds were lost; else it ends the
	 * connection with -EMFILE. */
	bool takes_lost_fds;
	/* The connection has ended before the reply. May be NULL. */
	void (*abandon)(struct hbm *hbm, struct ticket *ticket);
};

/* Where the answer goes. Which member counts is the kind's. */
struct ticket_answer {
	struct hbm_lookup *lookup;
	hbm_result *results;
	uint32_t count; /* of the results expected */
	void *body;     /* a reply of fixed size, or what the kind wants */
	size_t size;
	struct commit *commit; /* owned while the ticket waits */
};

enum ticket_state { TICKET_FREE, TICKET_UNSENT, TICKET_WAITING, TICKET_ENDED };

struct ticket {
	uint32_t generation, next_free, epoch;
	enum ticket_state state;
	uint16_t opcode; /* of the reply expected */
	int status;
	const char *failure;     /* why it fails, for the error line; NULL: what the status says */
	const char *device_call; /* the device call that failed, or NULL */
	int device_result;
	char *reason; /* what the daemon said of a refusal, or NULL; owned */
	const struct ticket_kind *kind;
	struct ticket_answer answer;
};

struct tickets {
	struct ticket *entries;
	uint32_t size, free;
	uint32_t epoch; /* advanced by every hbm_dispatch() */
	int unreported; /* tickets that have ended in this epoch and were not given back */
	uint32_t waiting;
};

/* An unsent ticket; its number in *id. NULL: out of memory. */
struct ticket *hbm_ticket_new(struct tickets *tickets, hbm_ticket *id);
/* NULL: no such ticket. */
struct ticket *hbm_ticket_find(const struct tickets *tickets, hbm_ticket id);
/* Its request is on the way. */
void hbm_ticket_sent(struct tickets *tickets, struct ticket *ticket);
void hbm_ticket_end(struct tickets *tickets, struct ticket *ticket, int status);
void hbm_ticket_free(struct tickets *tickets, struct ticket *ticket);
/* How many have ended since the last call. */
int hbm_tickets_report(struct tickets *tickets);
/* Frees the table, whatever is in it. */
void hbm_tickets_clear(struct tickets *tickets);
