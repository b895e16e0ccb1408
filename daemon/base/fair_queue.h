/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fair_queue: a queue whose items take turns between those who pay for them, by deficit
 * round robin. What is queued has a cost, in bytes; payers that always have something
 * queued are served in proportion to their weights, whatever the number and size of
 * their items.
 *
 * In each round a payer gets credit: the queue's quantum times its weight. While its
 * credit covers the cost of its next item, that item is served and paid for; then the
 * next payer has its turn. Credit that is left is kept for the next round, and forgotten
 * when the payer has nothing queued. A payer that comes joins the next round, behind
 * those that are in it. So an item waits for at most one quantum of each other payer,
 * times that one's weight, for each quantum it costs its own.
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
 * A payer is a number, so that it may go while its items are queued. What the queue knows
 * of a payer is in one of the payer's items: nothing is allocated. Every operation takes
 * constant time: a payer waits in the list of the round in which it has its next turn.
 *
 * There is no lock; a queue does not move in memory once it has been opened.
 */
#pragma once

#include "daemon/base/list.h"

#include <stdint.h>

/* How many rounds an item may cost, and one in how many items in a row is a large one. */
enum { FAIR_ROUNDS = 63, FAIR_RUN = 8, FAIR_PAYERS = 128 };

/* Who pays. Zeroed: the daemon itself. */
struct fair_payer {
	uint64_t id;     /* of the session; 0: the daemon */
	uint32_t weight; /* 0 counts as 1 */
};

/* What a queue knows of a payer. */
struct fair_flow {
	struct list turn;      /* in queue->rounds */
	struct list same_hash; /* in queue->payers */
	struct list items[2];  /* its large items, its small ones */
	uint64_t round;        /* of its next turn */
	uint64_t credit;       /* that it will have then */
	uint32_t weight;       /* never changes while the payer has something queued */
	uint32_t passed;       /* small items since the last large one */
};

/* Embedded in what is queued. */
struct fair_item {
	struct list link; /* in flow->items */
	struct fair_payer payer;
	uint64_t cost; /* of the item, or of its next piece */
	bool small, leads;
	struct fair_flow flow; /* of its payer, if it leads */
};

struct fair_queue {
	uint64_t quantum;
	uint64_t round;  /* now */
	uint64_t filled; /* bit n: rounds[n] is not empty */
	struct list rounds[FAIR_ROUNDS + 1];
	struct list payers[FAIR_PAYERS];
};

void fair_queue_open(struct fair_queue *queue, uint64_t quantum);
bool fair_queue_empty(const struct fair_queue *queue); /* a zeroed one is */

/* Queues an item at that cost, or of which that is the cost of the first piece; `whole`
 * is the cost of all of it. */
void fair_queue_push(struct fair_queue *queue, struct fair_item *item, struct fair_payer payer,
		     uint64_t cost, uint64_t whole);
/* The item whose turn it is; it stays so until it is taken, or its payer queues a small one.
 * NULL: the queue is empty. */
struct fair_item *fair_queue_next(struct fair_queue *queue);
/* Serves the item whose turn it is: takes it out. */
void fair_queue_take(struct fair_queue *queue, struct fair_item *item);
/* Serves a piece of the item whose turn it is. The next one costs `cost`. */
void fair_queue_take_piece(struct fair_queue *queue, struct fair_item *item, uint64_t cost);
/* Takes an item out, unserved. */
void fair_queue_remove(struct fair_queue *queue, struct fair_item *item);
