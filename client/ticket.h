/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ticket: the requests of a connection that the caller has not freed.
 *
 * A ticket is free -> unsent (its request is being sent) -> waiting (for the reply) -> ended
 * (its status is known) -> free. That of a call of several parts (parts.h) is in state parts
 * instead of waiting, and each part is a ticket of its own, of which the caller knows nothing; so
 * is that of a store from memory in no region, or a load to it (indirect.h), in state indirect. Its number is a generation and an index. The generation
 * changes whenever the entry is freed, so that a stale number, or a late reply, finds
 * nothing. The number is also the id of the request on the wire. It is never 0.
 *
 * The table grows and never shrinks. Entries move when it grows: a pointer to one is valid
 * until the next hbm_ticket_new().
 */
#pragma once

#include <hbm/hbm.h>
#include <hbm/wire.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/uio.h>

struct borrowing;
struct commit;
struct message;
struct parts;
struct returning;
struct share;
struct ticket;
struct tickets;

/* Other results of ticket_kind.reply beside a status; no errno is as large. */
enum {
	TICKET_MORE = INT_MIN, /* no status yet, more messages follow */
	TICKET_BROKEN,         /* the message is not a valid reply to the request */
};

/*
 * How to handle the replies to one kind of request, and what becomes of it when the daemon was
 * restarted before the reply (reconnect.h): lost() as soon as that is known, before this process
 * says what it has; again() when the new daemon has nothing else: TICKET_MORE: it is sent again,
 * or what it ends with. Both may be NULL: then as its opcode says.
 */
struct ticket_kind {
	/* An enum hbm_status or a negative errno ends the ticket. May steal fds of the
	 * message; the others are closed. */
	int (*reply)(struct hbm *hbm, struct ticket *ticket, struct message *message);
	/* Whether reply() handles a message whose fds were lost; else the connection ends
	 * with -EMFILE. */
	bool takes_lost_fds;
	/* Called if the connection ends before the reply. May be NULL. */
	void (*abandon)(struct hbm *hbm, struct ticket *ticket);
	void (*lost)(struct hbm *hbm, struct ticket *ticket);
	int (*again)(struct hbm *hbm, struct ticket *ticket);
};

/* Where the reply goes; the kind says which members are used. */
struct ticket_answer {
	struct hbm_lookup *lookup;
	hbm_result *results;
	uint32_t count; /* of results expected */
	void *body;     /* a reply of fixed size, or as the kind says */
	size_t size;
	struct commit *commit; /* owned while the ticket waits, as are the next */
	struct share *share;
	struct borrowing *borrowing;
	struct returning *returning;
};

/* A request as it was sent, to be sent again. The memory of a small one stays with the entry. */
struct sent {
	unsigned char *message; /* NULL: nothing is kept */
	size_t room;
	uint64_t nth; /* of all that were submitted */
	int fd;       /* that goes with it, owned; -1: none */
	bool again;   /* it was sent again */
	bool noted;   /* what its reply says is pinned is noted (pins.h) */
	bool late;    /* it was not sent yet when another daemon followed */
};

enum ticket_state {
	TICKET_FREE,
	TICKET_UNSENT,
	TICKET_WAITING,
	TICKET_PARTS,
	TICKET_INDIRECT,
	TICKET_ENDED
};

struct ticket {
	uint32_t generation, next_free, epoch;
	enum ticket_state state;
	uint16_t opcode; /* of the reply expected */
	int status;
	const char *failure;     /* why it failed, for the error line; NULL: as the status says */
	const char *device_call; /* the device call that failed, or NULL */
	int device_result;
	char *reason; /* the daemon's reason for a refusal, or NULL; owned */
	/* NULL, or those that it is one of, or in state parts those it has, then owned */
	struct parts *parts;
	/* NULL, or of a part, or one of indirect.h: called when it has ended, of which the caller is not told */
	void (*part_ended)(struct tickets *tickets, struct ticket *ticket);
	struct sent sent;
	const struct ticket_kind *kind;
	struct ticket_answer answer;
};

struct tickets {
	struct ticket *entries;
	uint32_t size, free;
	uint32_t epoch; /* advanced by every hbm_dispatch() */
	int unreported; /* tickets that ended in this epoch and are not freed */
	uint32_t waiting;
	uint64_t submitted; /* requests that are kept, so far */
};

/* Creates an unsent ticket, with its number in *id. NULL: out of memory. */
struct ticket *hbm_ticket_new(struct tickets *tickets, hbm_ticket *id);
/* NULL: no such ticket. */
struct ticket *hbm_ticket_find(const struct tickets *tickets, hbm_ticket id);
/* Keeps its request, to be sent again; the fd is borrowed, -1: none. False: no memory, or no
 * descriptors. */
bool hbm_ticket_keep(struct tickets *tickets, struct ticket *ticket, const struct iovec *pieces,
		     size_t count, int fd);
/* Of those that wait, the one that was submitted next behind the n-th. NULL: none. */
struct ticket *hbm_ticket_next(const struct tickets *tickets, uint64_t nth);
/* Another daemon has followed: what is kept and not sent yet is late. */
void hbm_tickets_mark_late(struct tickets *tickets);
/* Its request has been sent. */
void hbm_ticket_sent(struct tickets *tickets, struct ticket *ticket);
void hbm_ticket_end(struct tickets *tickets, struct ticket *ticket, int status);
/* All its parts have ended. */
void hbm_ticket_end_parts(struct tickets *tickets, struct ticket *ticket, int status);
void hbm_ticket_free(struct tickets *tickets, struct ticket *ticket);
/* The number of tickets that have ended since the last call. */
int hbm_tickets_report(struct tickets *tickets);
/* Frees the table and all tickets. */
void hbm_tickets_clear(struct tickets *tickets);
