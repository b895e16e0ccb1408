/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fair_queue: a queue whose items take turns between the tenants that pay for them, and within
 * a tenant between its payers, by deficit round robin. What is queued has a
 * cost, in bytes. Tenants that always have something queued are served in proportion to their
 * weights, and the payers of one tenant alike, whatever the number and size of their items:
 * a tenant has no more for having more payers.
 *
 * Tenants wait in a ring, and the payers of each in one of theirs. Each time around a tenant gets
 * credit: the queue's quantum times its weight; and so does a payer, a quantum each time around
 * its tenant's ring. While both can pay for the payer's next item, that item is served; then the
 * next payer, or the next tenant, has its turn. Credit that is left is kept for the next time,
 * and forgotten when there is nothing queued. One that comes does so at the end of its ring. So
 * an item waits for at most one quantum of each other payer of its tenant for each quantum it
 * costs its own; and its tenant for at most one quantum of each other tenant, times that one's
 * weight.
 *
 * Whoever serves a large item in pieces says so (fair_queue_take_piece): the rest stays
 * the payer's first, and others have their turn before it. Where that is not possible an
 * item may cost more than a quantum, and its payer saves for as many rounds as it takes,
 * but at most FAIR_ROUNDS: no item is charged more than that many rounds of credit.
 *
 * Within a payer's turn small items go before large ones, which are those of more than a
 * quarter of a quantum in all, and otherwise in the order they came in; but of FAIR_RUN
 * items in a row at least one is a large one or a piece of one, if there is any.
 *
 * Payers and tenants are numbers, so that they may go while their items are queued. What the
 * queue knows of a payer is in one of the payer's items, and what it knows of a tenant in one of
 * the tenant's: nothing is allocated. The time for an item is constant, and as much again for
 * each quantum it costs, up to FAIR_ROUNDS.
 *
 * There is no lock; a queue does not move in memory once it has been opened.
 */
#pragma once

#include "daemon/base/list.h"

#include <stdbool.h>
#include <stdint.h>

/* How many rounds an item may cost, and one in how many items in a row is a large one. */
enum { FAIR_ROUNDS = 63, FAIR_RUN = 8, FAIR_PAYERS = 128, FAIR_TENANTS = 32 };

/* Who pays. Zeroed: the daemon itself, which is a tenant alone. */
struct fair_payer {
	uint64_t id;     /* of the session; 0: the daemon. A payer is always of one tenant */
	uint32_t tenant; /* its number, or the uid of a user that is one alone */
	uint16_t weight; /* of the tenant, as its last item says; 0 counts as 1 */
	bool is_user;
};

struct fair_turn {
	struct list link; /* in its ring */
	uint64_t credit;
};

/* What a queue knows of a payer. */
struct fair_flow {
	struct fair_turn turn;  /* in tenant->ring */
	struct list items[2];   /* its large items, its small ones */
	struct fair_item *next; /* that leads a payer with the same hash */
};

/* What a queue knows of a tenant. */
struct fair_tenant {
	struct fair_turn turn;  /* in queue->ring */
	struct list ring;       /* its payers: struct fair_flow */
	struct fair_item *next; /* that leads a tenant with the same hash */
};

/* Embedded in what is queued. */
struct fair_item {
	struct list link; /* in flow->items */
	struct fair_payer payer;
	uint64_t cost; /* of the item, or of its next piece */
	bool small;
	uint8_t passed;            /* of its payer: small items since the last large one */
	struct fair_flow flow;     /* and the rest of its payer, if it leads that */
	struct fair_tenant tenant; /* of its tenant, if it leads that */
};

struct fair_queue {
	uint64_t quantum;
	struct list ring;                                              /* of tenants */
	struct fair_item *payers[FAIR_PAYERS], *tenants[FAIR_TENANTS]; /* leaders, by hash */
};

void fair_queue_open(struct fair_queue *queue, uint64_t quantum);
bool fair_queue_empty(const struct fair_queue *queue); /* a zeroed one is */

/* Queues an item at that cost, or of which that is the cost of the first piece; `whole`
 * is the cost of all of it. */
void fair_queue_push(struct fair_queue *queue, struct fair_item *item, struct fair_payer payer,
		     uint64_t cost, uint64_t whole);
/* The item whose turn it is; it stays so until it is taken, or its tenant queues another one.
 * NULL: the queue is empty. */
struct fair_item *fair_queue_next(struct fair_queue *queue);
/* Serves the item whose turn it is: takes it out. */
void fair_queue_take(struct fair_queue *queue, struct fair_item *item);
/* Serves a piece of the item whose turn it is. The next one costs `cost`. */
void fair_queue_take_piece(struct fair_queue *queue, struct fair_item *item, uint64_t cost);
/* Takes an item out, unserved. */
void fair_queue_remove(struct fair_queue *queue, struct fair_item *item);
