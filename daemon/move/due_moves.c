/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/due_moves.h"

#include <stdlib.h>

#define QUANTUM (1ull << 20)

struct due_payer {
	struct list link; /* in due->payers */
	struct fair_payer payer;
	struct fair_item turn; /* queued while it has blocks that wait */
	struct list due;       /* by deadline */
	struct list late;
	uint32_t moves; /* of it, with those that are not queued yet */
};

void due_moves_open(struct due_moves *due)
{
	*due = (struct due_moves){0};
	fair_queue_open(&due->turns, QUANTUM);
	list_init(&due->payers);
}

/* ---- payers ---- */

static struct due_payer *due_moves_find_payer(const struct due_moves *due, uint64_t id)
{
	list_for_each (node, &due->payers) {
		struct due_payer *payer = container_of(node, struct due_payer, link);
		if (payer->payer.id == id)
			return payer;
	}

	return NULL;
}

static struct due_payer *due_moves_payer(struct due_moves *due, struct fair_payer who)
{
	struct due_payer *payer = due_moves_find_payer(due, who.id);
	if (payer)
		return payer;

	payer = calloc(1, sizeof(*payer));
	if (!payer)
		return NULL;

	payer->payer = who;
	list_init(&payer->due);
	list_init(&payer->late);
	list_push_back(&due->payers, &payer->link);

	return payer;
}

static bool due_moves_waits(const struct due_payer *payer)
{
	return !list_empty(&payer->due) || !list_empty(&payer->late);
}

static void due_moves_leave_payer(struct due_payer *payer)
{
	if (payer->moves > 0)
		return;

	list_remove(&payer->link);
	free(payer);
}

/* ---- requests ---- */

struct due_move *due_move_new(struct due_moves *due, struct payer *charged, struct fair_payer who,
			      uint64_t deadline_ns, uint64_t block_bytes, uint32_t count)
{
	struct due_payer *payer = due_moves_payer(due, who);
	size_t size = sizeof(struct due_move) + count * sizeof(uint32_t);
	struct due_move *move = NULL;

	if (!payer)
		return NULL;
	if (payer->moves < DUE_MOVES_MAX)
		move = malloc(size);
	if (move) {
		*move = (struct due_move){
			.payer = payer, .deadline_ns = deadline_ns, .block_bytes = block_bytes};
		list_init(&move->link);
	}
	if (move && ledger_charge(&move->charge, charged, LEDGER_REQUEST_BYTES, size) != HBM_OK) {
		free(move);
		move = NULL;
	}

	payer->moves += move != NULL;
	due_moves_leave_payer(payer);

	return move;
}

void due_move_add(struct due_move *move, uint32_t number)
{
	move->numbers[move->count++] = number;
}

static void due_moves_free(struct due_move *move)
{
	list_remove(&move->link);
	ledger_release(&move->charge);
	move->payer->moves--;
	due_moves_leave_payer(move->payer);
	free(move);
}

/* Behind those that are not later; most come in order. */
static void due_moves_insert(struct due_payer *payer, struct due_move *move)
{
	struct list *before = payer->due.prev;

	while (before != &payer->due &&
	       container_of(before, struct due_move, link)->deadline_ns > move->deadline_ns)
		before = before->prev;
	list_insert_after(before, &move->link);
}

void due_moves_push(struct due_moves *due, struct due_move *move)
{
	struct due_payer *payer = move->payer;
	bool first = !due_moves_waits(payer);

	if (move->count == 0) {
		due_moves_free(move);
		return;
	}

	due_moves_insert(payer, move);
	if (first)
		fair_queue_push(&due->turns, &payer->turn, payer->payer, move->block_bytes,
				move->block_bytes);
}

/* ---- turns ---- */

static bool due_moves_can_meet(const struct due_move *move, uint64_t now_ns, double bytes_s)
{
	double left = (double)(move->count - move->next) * (double)move->block_bytes;
	double needs_ns = bytes_s > 0 ? left / bytes_s * 1e9 : 0;

	return (double)now_ns + needs_ns <= (double)move->deadline_ns;
}

static struct due_move *due_moves_pick(struct due_payer *payer, uint64_t now_ns, double bytes_s)
{
	while (!list_empty(&payer->due)) {
		struct due_move *move = container_of(payer->due.next, struct due_move, link);
		if (due_moves_can_meet(move, now_ns, bytes_s))
			return move;

		list_remove(&move->link);
		list_push_back(&payer->late, &move->link);
	}

	return container_of(payer->late.next, struct due_move, link);
}

uint32_t due_moves_next(struct due_moves *due, uint64_t now_ns, double bytes_s)
{
	struct fair_item *item = fair_queue_next(&due->turns);
	if (!item)
		return 0;

	struct due_payer *payer = container_of(item, struct due_payer, turn);

	due->picked = due_moves_pick(payer, now_ns, bytes_s);

	return due->picked->numbers[due->picked->next];
}

void due_moves_take(struct due_moves *due)
{
	struct due_move *move = due->picked;
	struct due_payer *payer = move->payer;
	uint64_t bytes = move->block_bytes;
	bool last = ++move->next == move->count;

	due->picked = NULL;
	if (last)
		list_remove(&move->link);
	if (due_moves_waits(payer))
		fair_queue_take_piece(&due->turns, &payer->turn, bytes);
	else
		fair_queue_take(&due->turns, &payer->turn);
	if (last)
		due_moves_free(move);
}

/* ---- the end ---- */

/* One request that waits. */
static void due_moves_forget_one(struct due_moves *due, struct due_payer *payer,
				 void (*leave)(void *arg, uint32_t number), void *arg)
{
	struct list *moves = list_empty(&payer->due) ? &payer->late : &payer->due;
	struct due_move *move = container_of(moves->next, struct due_move, link);

	due->picked = NULL;
	list_remove(&move->link);
	if (!due_moves_waits(payer))
		fair_queue_remove(&due->turns, &payer->turn);
	for (; leave && move->next < move->count; move->next++)
		leave(arg, move->numbers[move->next]);
	due_moves_free(move);
}

bool due_moves_forget(struct due_moves *due, uint64_t payer_id,
		      void (*leave)(void *arg, uint32_t number), void *arg)
{
	struct due_payer *payer = due_moves_find_payer(due, payer_id);
	if (!payer || !due_moves_waits(payer))
		return false;

	due_moves_forget_one(due, payer, leave, arg);

	return true;
}

void due_moves_close(struct due_moves *due)
{
	while (due->payers.next && !list_empty(&due->payers))
		due_moves_forget_one(due, container_of(due->payers.next, struct due_payer, link),
				     NULL, NULL);
}
