/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/fair_queue.h"

#include <assert.h>

static_assert(FAIR_ROUNDS == 63, "queue->filled has a bit for each list of rounds");

void fair_queue_open(struct fair_queue *queue, uint64_t quantum)
{
	assert(quantum > 0);
	*queue = (struct fair_queue){.quantum = quantum};

	for (unsigned i = 0; i <= FAIR_ROUNDS; i++)
		list_init(&queue->rounds[i]);
	for (unsigned i = 0; i < FAIR_PAYERS; i++)
		list_init(&queue->payers[i]);
}

bool fair_queue_empty(const struct fair_queue *queue)
{
	return queue->filled == 0;
}

/* ---- payers ---- */

/* The item that the payer is served next. */
static struct fair_item *fair_queue_first(const struct fair_flow *flow)
{
	const struct list *large = &flow->items[false], *small = &flow->items[true];
	bool large_first = flow->passed >= FAIR_RUN - 1 && !list_empty(large);
	const struct list *items = list_empty(small) || large_first ? large : small;

	return container_of(items->next, struct fair_item, link);
}

static struct list *fair_queue_hash(struct fair_queue *queue, uint64_t id)
{
	return &queue->payers[id % FAIR_PAYERS];
}

static struct fair_flow *fair_queue_find(struct fair_queue *queue, uint64_t id)
{
	list_for_each (node, fair_queue_hash(queue, id)) {
		struct fair_flow *flow = container_of(node, struct fair_flow, same_hash);
		if (container_of(flow, struct fair_item, flow)->payer.id == id)
			return flow;
	}

	return NULL;
}

/* ---- turns ---- */

/* What a payer gets in each round. */
static uint64_t fair_queue_share(const struct fair_queue *queue, const struct fair_flow *flow)
{
	return queue->quantum * flow->weight;
}

/* What the payer's next item is charged. */
static uint64_t fair_queue_charge(const struct fair_queue *queue, const struct fair_flow *flow)
{
	uint64_t cost = fair_queue_first(flow)->cost;
	uint64_t most = FAIR_ROUNDS * fair_queue_share(queue, flow);

	return cost < most ? cost : most;
}

static void fair_queue_leave_round(struct fair_queue *queue, struct fair_flow *flow)
{
	unsigned at = flow->round % (FAIR_ROUNDS + 1);

	list_remove(&flow->turn);
	if (list_empty(&queue->rounds[at]))
		queue->filled &= ~(1ull << at);
}

/* Joins the first round, not this one, in which the payer can pay for its next item. */
static void fair_queue_join_round(struct fair_queue *queue, struct fair_flow *flow)
{
	uint64_t cost = fair_queue_charge(queue, flow), share = fair_queue_share(queue, flow);
	uint64_t missing = cost > flow->credit ? cost - flow->credit : 0;
	uint64_t rounds = missing > share ? (missing + share - 1) / share : 1;
	unsigned at = (queue->round + rounds) % (FAIR_ROUNDS + 1);

	flow->round = queue->round + rounds;
	flow->credit += rounds * share;
	list_push_back(&queue->rounds[at], &flow->turn);
	queue->filled |= 1ull << at;
}

/* The payer has another next item than it joined its round for. */
static void fair_queue_rejoin_round(struct fair_queue *queue, struct fair_flow *flow)
{
	if (flow->round == queue->round && flow->credit >= fair_queue_charge(queue, flow))
		return;

	fair_queue_leave_round(queue, flow);
	flow->credit -= (flow->round - queue->round) * fair_queue_share(queue, flow);
	fair_queue_join_round(queue, flow);
}

/* ---- items ---- */

static void fair_queue_begin_flow(struct fair_queue *queue, struct fair_item *item)
{
	struct fair_flow *flow = &item->flow;

	*flow = (struct fair_flow){.weight = item->payer.weight > 0 ? item->payer.weight : 1};
	list_init(&flow->items[false]);
	list_init(&flow->items[true]);
	list_push_back(&flow->items[item->small], &item->link);
	list_push_back(fair_queue_hash(queue, item->payer.id), &flow->same_hash);
	item->leads = true;
	fair_queue_join_round(queue, flow);
}

void fair_queue_push(struct fair_queue *queue, struct fair_item *item, struct fair_payer payer,
		     uint64_t cost, uint64_t whole)
{
	struct fair_flow *flow = fair_queue_find(queue, payer.id);

	*item = (struct fair_item){
		.payer = payer, .cost = cost, .small = whole <= queue->quantum / 4};
	if (!flow) {
		fair_queue_begin_flow(queue, item);
		return;
	}

	const struct fair_item *first = fair_queue_first(flow);
	list_push_back(&flow->items[item->small], &item->link);
	if (fair_queue_first(flow) != first)
		fair_queue_rejoin_round(queue, flow);
}

struct fair_item *fair_queue_next(struct fair_queue *queue)
{
	if (queue->filled == 0)
		return NULL;

	unsigned at = queue->round % (FAIR_ROUNDS + 1);
	uint64_t ahead = queue->filled >> at | (at > 0 ? queue->filled << (64 - at) : 0);
	queue->round += (unsigned)__builtin_ctzll(ahead);

	const struct list *round = &queue->rounds[queue->round % (FAIR_ROUNDS + 1)];
	return fair_queue_first(container_of(round->next, struct fair_flow, turn));
}

/* Another item of the payer takes over what its leader knows. */
static struct fair_flow *fair_queue_hand_over(struct fair_item *from, struct fair_item *to)
{
	to->flow = from->flow;
	to->leads = true;
	list_replace(&from->flow.turn, &to->flow.turn);
	list_replace(&from->flow.same_hash, &to->flow.same_hash);
	list_replace(&from->flow.items[false], &to->flow.items[false]);
	list_replace(&from->flow.items[true], &to->flow.items[true]);
	from->leads = false;

	return &to->flow;
}

/* Takes an item out of its payer's list. Returns what is left of the payer; NULL: nothing. */
static struct fair_flow *fair_queue_take_out(struct fair_queue *queue, struct fair_item *item,
					     struct fair_flow *flow)
{
	list_remove(&item->link);

	if (list_empty(&flow->items[false]) && list_empty(&flow->items[true])) {
		fair_queue_leave_round(queue, flow);
		list_remove(&flow->same_hash);
		item->leads = false;
		return NULL;
	}

	return item->leads ? fair_queue_hand_over(item, fair_queue_first(flow)) : flow;
}

/* Pays for the item whose turn it is. */
static struct fair_flow *fair_queue_pay(struct fair_queue *queue, const struct fair_item *item)
{
	struct fair_flow *flow = fair_queue_find(queue, item->payer.id);
	uint64_t charge = fair_queue_charge(queue, flow);

	assert(fair_queue_first(flow) == item && flow->round == queue->round);
	assert(flow->credit >= charge);
	flow->credit -= charge;
	flow->passed = item->small ? flow->passed + 1 : 0;

	return flow;
}

void fair_queue_take(struct fair_queue *queue, struct fair_item *item)
{
	struct fair_flow *flow = fair_queue_pay(queue, item);

	flow = fair_queue_take_out(queue, item, flow);
	if (flow)
		fair_queue_rejoin_round(queue, flow);
}

void fair_queue_take_piece(struct fair_queue *queue, struct fair_item *item, uint64_t cost)
{
	struct fair_flow *flow = fair_queue_pay(queue, item);

	item->cost = cost;
	fair_queue_rejoin_round(queue, flow);
}

void fair_queue_remove(struct fair_queue *queue, struct fair_item *item)
{
	struct fair_flow *flow = fair_queue_find(queue, item->payer.id);
	bool was_first = fair_queue_first(flow) == item;

	flow = fair_queue_take_out(queue, item, flow);
	if (flow && was_first)
		fair_queue_rejoin_round(queue, flow);
}
