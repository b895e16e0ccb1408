/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/fair_queue.h"

#include <assert.h>

void fair_queue_open(struct fair_queue *queue, uint64_t quantum)
{
	assert(quantum > 0);
	*queue = (struct fair_queue){.quantum = quantum};

	list_init(&queue->ring);
}

bool fair_queue_empty(const struct fair_queue *queue)
{
	return !queue->ring.next || list_empty(&queue->ring);
}

/* ---- payers and tenants ---- */

/* Where the item is that leads the payer, or would be: NULL. */
static struct fair_item **fair_queue_payer(struct fair_queue *queue, uint64_t id)
{
	struct fair_item **at = &queue->payers[id % FAIR_PAYERS];

	while (*at && (*at)->payer.id != id)
		at = &(*at)->flow.next;

	return at;
}

/* The same of its tenant. */
static struct fair_item **fair_queue_tenant(struct fair_queue *queue, struct fair_payer payer)
{
	struct fair_item **at = &queue->tenants[payer.tenant % FAIR_TENANTS];

	while (*at &&
	       ((*at)->payer.tenant != payer.tenant || (*at)->payer.is_user != payer.is_user))
		at = &(*at)->tenant.next;

	return at;
}

/* The item that a payer, which `lead` leads, is served next. */
static struct fair_item *fair_queue_first_of(const struct fair_item *lead)
{
	const struct list *large = &lead->flow.items[false], *small = &lead->flow.items[true];
	bool large_first = lead->passed >= FAIR_RUN - 1 && !list_empty(large);
	const struct list *items = list_empty(small) || large_first ? large : small;

	return container_of(items->next, struct fair_item, link);
}

/* ---- turns ---- */

/* What is charged for that, of one that has so much more each time around. */
static uint64_t fair_queue_charge(uint64_t cost, uint64_t share)
{
	uint64_t most = FAIR_ROUNDS * share;

	return cost < most ? cost : most;
}

static uint64_t fair_queue_share(const struct fair_queue *queue, const struct fair_item *tenant)
{
	return queue->quantum * (tenant->payer.weight > 0 ? tenant->payer.weight : 1);
}

/* To the end of its ring, with the credit of the next time around. */
static void fair_queue_pass(struct list *ring, struct fair_turn *turn, uint64_t share)
{
	list_remove(&turn->link);
	turn->credit += share;
	list_push_back(ring, &turn->link);
}

/* The item that is served next of a tenant's: its payer can pay for it. */
static struct fair_item *fair_queue_next_of(const struct fair_queue *queue,
					    struct fair_item *tenant)
{
	struct list *ring = &tenant->tenant.ring;

	for (;;) {
		struct fair_item *payer =
			container_of(ring->next, struct fair_item, flow.turn.link);
		struct fair_item *item = fair_queue_first_of(payer);
		if (payer->flow.turn.credit >= fair_queue_charge(item->cost, queue->quantum))
			return item;

		fair_queue_pass(ring, &payer->flow.turn, queue->quantum);
	}
}

struct fair_item *fair_queue_next(struct fair_queue *queue)
{
	while (!fair_queue_empty(queue)) {
		struct fair_item *tenant =
			container_of(queue->ring.next, struct fair_item, tenant.turn.link);
		struct fair_item *item = fair_queue_next_of(queue, tenant);
		uint64_t share = fair_queue_share(queue, tenant);
		if (tenant->tenant.turn.credit >= fair_queue_charge(item->cost, share))
			return item;

		fair_queue_pass(&queue->ring, &tenant->tenant.turn, share);
	}

	return NULL;
}

/* ---- items that come ---- */

static void fair_queue_begin_payer(struct fair_queue *queue, struct fair_item *tenant,
				   struct fair_item *item)
{
	item->flow.turn.credit = queue->quantum;
	list_init(&item->flow.items[false]);
	list_init(&item->flow.items[true]);
	list_push_back(&tenant->tenant.ring, &item->flow.turn.link);
}

static void fair_queue_begin_tenant(struct fair_queue *queue, struct fair_item *item)
{
	item->tenant.turn.credit = fair_queue_share(queue, item);
	list_init(&item->tenant.ring);
	list_push_back(&queue->ring, &item->tenant.turn.link);
}

void fair_queue_push(struct fair_queue *queue, struct fair_item *item, struct fair_payer payer,
		     uint64_t cost, uint64_t whole)
{
	struct fair_item **tenant = fair_queue_tenant(queue, payer);
	struct fair_item **lead = fair_queue_payer(queue, payer.id);

	*item = (struct fair_item){
		.payer = payer, .cost = cost, .small = whole <= queue->quantum / 4};
	if (!*tenant)
		fair_queue_begin_tenant(queue, *tenant = item);
	if (!*lead)
		fair_queue_begin_payer(queue, *tenant, *lead = item);

	(*tenant)->payer.weight = payer.weight;
	list_push_back(&(*lead)->flow.items[item->small], &item->link);
}

/* ---- items that go ---- */

/* Another item of the payer takes over what its leader knows of that. */
static struct fair_item *fair_queue_hand_over_payer(struct fair_item *from, struct fair_item *to)
{
	to->passed = from->passed;
	to->flow.next = from->flow.next;
	to->flow.turn.credit = from->flow.turn.credit;
	list_replace(&from->flow.turn.link, &to->flow.turn.link);
	list_replace(&from->flow.items[false], &to->flow.items[false]);
	list_replace(&from->flow.items[true], &to->flow.items[true]);

	return to;
}

/* The same of the tenant. */
static struct fair_item *fair_queue_hand_over_tenant(struct fair_item *from, struct fair_item *to)
{
	to->payer.weight = from->payer.weight;
	to->tenant.next = from->tenant.next;
	to->tenant.turn.credit = from->tenant.turn.credit;
	list_replace(&from->tenant.turn.link, &to->tenant.turn.link);
	list_replace(&from->tenant.ring, &to->tenant.ring);

	return to;
}

/* Takes an item out of the lists of its payer. */
static void fair_queue_leave_payer(struct fair_queue *queue, struct fair_item *item)
{
	struct fair_item **at = fair_queue_payer(queue, item->payer.id), *lead = *at;

	list_remove(&item->link);
	if (list_empty(&lead->flow.items[false]) && list_empty(&lead->flow.items[true])) {
		list_remove(&lead->flow.turn.link);
		*at = lead->flow.next;
	} else if (item == lead) {
		*at = fair_queue_hand_over_payer(item, fair_queue_first_of(item));
	}
}

/* The same of its tenant, after that. */
static void fair_queue_leave_tenant(struct fair_queue *queue, struct fair_item *item)
{
	struct fair_item **at = fair_queue_tenant(queue, item->payer), *lead = *at;
	const struct list *ring = &lead->tenant.ring;

	if (list_empty(ring)) {
		list_remove(&lead->tenant.turn.link);
		*at = lead->tenant.next;
	} else if (item == lead) {
		*at = fair_queue_hand_over_tenant(
			item, container_of(ring->next, struct fair_item, flow.turn.link));
	}
}

void fair_queue_remove(struct fair_queue *queue, struct fair_item *item)
{
	fair_queue_leave_payer(queue, item);
	fair_queue_leave_tenant(queue, item);
}

/* Its share may be another than when its turn came. */
static void fair_queue_charge_turn(struct fair_turn *turn, uint64_t cost, uint64_t share)
{
	uint64_t charge = fair_queue_charge(cost, share);

	turn->credit -= charge < turn->credit ? charge : turn->credit;
}

/* Pays for the item whose turn it is. */
static void fair_queue_pay(struct fair_queue *queue, const struct fair_item *item)
{
	struct fair_item *tenant = *fair_queue_tenant(queue, item->payer);
	struct fair_item *lead = *fair_queue_payer(queue, item->payer.id);
	unsigned passed = item->small ? lead->passed + 1u : 0;

	assert(fair_queue_first_of(lead) == item);
	lead->passed = passed < FAIR_RUN ? (uint8_t)passed : FAIR_RUN;
	fair_queue_charge_turn(&lead->flow.turn, item->cost, queue->quantum);
	fair_queue_charge_turn(&tenant->tenant.turn, item->cost, fair_queue_share(queue, tenant));
}

void fair_queue_take(struct fair_queue *queue, struct fair_item *item)
{
	fair_queue_pay(queue, item);
	fair_queue_remove(queue, item);
	(void)fair_queue_next(queue); /* who cannot pay for its next item goes to the end now */
}

void fair_queue_take_piece(struct fair_queue *queue, struct fair_item *item, uint64_t cost)
{
	fair_queue_pay(queue, item);
	item->cost = cost;
	(void)fair_queue_next(queue);
}
