/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/fair_queue.h"

#include <assert.h>

void fair_queue_open(struct fair_queue *queue, uint64_t quantum)
{
	assert(quantum > 0);
	*queue = (struct fair_queue){.quantum = quantum};

	fair_rounds_open(&queue->rounds);
	for (unsigned i = 0; i < FAIR_PAYERS; i++)
		list_init(&queue->payers[i]);
	for (unsigned i = 0; i < FAIR_TENANTS; i++)
		list_init(&queue->tenants[i]);
}

bool fair_queue_empty(const struct fair_queue *queue)
{
	return !queue->rounds.order.next || fair_rounds_empty(&queue->rounds);
}

/* ---- payers and tenants ---- */

/* The item that the payer is served next. */
static struct fair_item *fair_queue_flow_first(const struct fair_flow *flow)
{
	const struct list *large = &flow->items[false], *small = &flow->items[true];
	bool large_first = flow->passed >= FAIR_RUN - 1 && !list_empty(large);
	const struct list *items = list_empty(small) || large_first ? large : small;

	return container_of(items->next, struct fair_item, link);
}

/* The item that the tenant is served next. */
static struct fair_item *fair_queue_tenant_first(const struct fair_tenant *tenant)
{
	const struct fair_turn *turn = fair_rounds_first(&tenant->flows);

	return fair_queue_flow_first(container_of(turn, struct fair_flow, turn));
}

static struct list *fair_queue_payers(struct fair_queue *queue, uint64_t id)
{
	return &queue->payers[id % FAIR_PAYERS];
}

static struct list *fair_queue_tenants(struct fair_queue *queue, uint64_t id)
{
	return &queue->tenants[id % FAIR_TENANTS];
}

static struct fair_flow *fair_queue_find_flow(struct fair_queue *queue, uint64_t id)
{
	list_for_each (node, fair_queue_payers(queue, id)) {
		struct fair_flow *flow = container_of(node, struct fair_flow, same_hash);
		if (container_of(flow, struct fair_item, flow)->payer.id == id)
			return flow;
	}

	return NULL;
}

static struct fair_tenant *fair_queue_find_tenant(struct fair_queue *queue, uint64_t id)
{
	list_for_each (node, fair_queue_tenants(queue, id)) {
		struct fair_tenant *tenant = container_of(node, struct fair_tenant, same_hash);
		if (container_of(tenant, struct fair_item, tenant)->payer.tenant == id)
			return tenant;
	}

	return NULL;
}

/* The payer's next item may be another one. */
static void fair_queue_next_of_flow(struct fair_tenant *tenant, struct fair_flow *flow)
{
	fair_rounds_rejoin(&tenant->flows, &flow->turn, fair_queue_flow_first(flow)->cost);
}

/* The tenant's next item may be another one. */
static void fair_queue_next_of_tenant(struct fair_queue *queue, struct fair_tenant *tenant)
{
	fair_rounds_rejoin(&queue->rounds, &tenant->turn, fair_queue_tenant_first(tenant)->cost);
}

/* ---- items that come ---- */

/* Its payer has no other. */
static void fair_queue_begin_flow(struct fair_queue *queue, struct fair_tenant *tenant,
				  struct fair_item *item)
{
	struct fair_flow *flow = &item->flow;

	flow->passed = 0;
	list_init(&flow->items[false]);
	list_init(&flow->items[true]);
	list_push_back(&flow->items[item->small], &item->link);
	list_push_back(fair_queue_payers(queue, item->payer.id), &flow->same_hash);
	item->leads_payer = true;
	fair_rounds_join(&tenant->flows, &flow->turn, queue->quantum, item->cost);
}

static void fair_queue_add_to_flow(struct fair_tenant *tenant, struct fair_flow *flow,
				   struct fair_item *item)
{
	const struct fair_item *first = fair_queue_flow_first(flow);

	list_push_back(&flow->items[item->small], &item->link);
	if (fair_queue_flow_first(flow) != first)
		fair_queue_next_of_flow(tenant, flow);
}

/* Its tenant has no other. */
static void fair_queue_begin_tenant(struct fair_queue *queue, struct fair_item *item,
				    uint64_t share)
{
	struct fair_tenant *tenant = &item->tenant;

	fair_rounds_open(&tenant->flows);
	list_push_back(fair_queue_tenants(queue, item->payer.tenant), &tenant->same_hash);
	item->leads_tenant = true;
	fair_queue_begin_flow(queue, tenant, item);
	fair_rounds_join(&queue->rounds, &tenant->turn, share, item->cost);
}

static void fair_queue_add_to_tenant(struct fair_queue *queue, struct fair_tenant *tenant,
				     struct fair_item *item, uint64_t share)
{
	const struct fair_item *first = fair_queue_tenant_first(tenant);
	struct fair_flow *flow = fair_queue_find_flow(queue, item->payer.id);

	if (flow)
		fair_queue_add_to_flow(tenant, flow, item);
	else
		fair_queue_begin_flow(queue, tenant, item);

	if (tenant->turn.share != share)
		fair_rounds_set_share(&queue->rounds, &tenant->turn, share,
				      fair_queue_tenant_first(tenant)->cost);
	else if (fair_queue_tenant_first(tenant) != first)
		fair_queue_next_of_tenant(queue, tenant);
}

void fair_queue_push(struct fair_queue *queue, struct fair_item *item, struct fair_payer payer,
		     uint64_t cost, uint64_t whole)
{
	struct fair_tenant *tenant = fair_queue_find_tenant(queue, payer.tenant);
	uint64_t share = queue->quantum * (payer.weight > 0 ? payer.weight : 1);

	*item = (struct fair_item){
		.payer = payer, .cost = cost, .small = whole <= queue->quantum / 4};
	if (tenant)
		fair_queue_add_to_tenant(queue, tenant, item, share);
	else
		fair_queue_begin_tenant(queue, item, share);
}

/* ---- items that go ---- */

struct fair_item *fair_queue_next(struct fair_queue *queue)
{
	if (fair_queue_empty(queue))
		return NULL;

	struct fair_turn *turn = fair_rounds_first(&queue->rounds);
	struct fair_tenant *tenant = container_of(turn, struct fair_tenant, turn);

	fair_rounds_begin_first(&queue->rounds);
	fair_rounds_begin_first(&tenant->flows);

	return fair_queue_tenant_first(tenant);
}

/* Another item of the payer takes over what its leader knows of that. */
static struct fair_flow *fair_queue_hand_over_flow(struct fair_item *from, struct fair_item *to)
{
	to->flow = from->flow;
	fair_rounds_hand_over(&from->flow.turn, &to->flow.turn);
	list_replace(&from->flow.same_hash, &to->flow.same_hash);
	list_replace(&from->flow.items[false], &to->flow.items[false]);
	list_replace(&from->flow.items[true], &to->flow.items[true]);
	from->leads_payer = false;
	to->leads_payer = true;

	return &to->flow;
}

/* The same of the tenant. */
static struct fair_tenant *fair_queue_hand_over_tenant(struct fair_item *from, struct fair_item *to)
{
	to->tenant = from->tenant;
	fair_rounds_hand_over(&from->tenant.turn, &to->tenant.turn);
	list_replace(&from->tenant.same_hash, &to->tenant.same_hash);
	list_replace(&from->tenant.flows.order, &to->tenant.flows.order);
	from->leads_tenant = false;
	to->leads_tenant = true;

	return &to->tenant;
}

/* Takes an item out of its payer's list. Returns what is left of the payer; NULL: nothing. */
static struct fair_flow *fair_queue_leave_flow(struct fair_item *item, struct fair_flow *flow)
{
	list_remove(&item->link);
	if (!list_empty(&flow->items[false]) || !list_empty(&flow->items[true]))
		return item->leads_payer
			       ? fair_queue_hand_over_flow(item, fair_queue_flow_first(flow))
			       : flow;

	fair_rounds_leave(&flow->turn);
	list_remove(&flow->same_hash);
	item->leads_payer = false;

	return NULL;
}

/* The same of its tenant, which it has left with its payer's list. */
static struct fair_tenant *fair_queue_leave_tenant(struct fair_item *item,
						   struct fair_tenant *tenant)
{
	if (!fair_rounds_empty(&tenant->flows))
		return item->leads_tenant
			       ? fair_queue_hand_over_tenant(item, fair_queue_tenant_first(tenant))
			       : tenant;

	fair_rounds_leave(&tenant->turn);
	list_remove(&tenant->same_hash);
	item->leads_tenant = false;

	return NULL;
}

/* Pays for the item whose turn it is. */
static void fair_queue_pay(struct fair_queue *queue, struct fair_tenant *tenant,
			   struct fair_flow *flow, const struct fair_item *item)
{
	assert(fair_queue_tenant_first(tenant) == item);
	fair_rounds_pay(&tenant->flows, &flow->turn, item->cost);
	fair_rounds_pay(&queue->rounds, &tenant->turn, item->cost);
	flow->passed = item->small ? flow->passed + 1 : 0;
}

void fair_queue_take(struct fair_queue *queue, struct fair_item *item)
{
	struct fair_tenant *tenant = fair_queue_find_tenant(queue, item->payer.tenant);
	struct fair_flow *flow = fair_queue_find_flow(queue, item->payer.id);

	fair_queue_pay(queue, tenant, flow, item);
	flow = fair_queue_leave_flow(item, flow);
	tenant = fair_queue_leave_tenant(item, tenant);
	if (flow)
		fair_queue_next_of_flow(tenant, flow);
	if (tenant)
		fair_queue_next_of_tenant(queue, tenant);
}

void fair_queue_take_piece(struct fair_queue *queue, struct fair_item *item, uint64_t cost)
{
	struct fair_tenant *tenant = fair_queue_find_tenant(queue, item->payer.tenant);
	struct fair_flow *flow = fair_queue_find_flow(queue, item->payer.id);

	fair_queue_pay(queue, tenant, flow, item);
	item->cost = cost;
	fair_queue_next_of_flow(tenant, flow);
	fair_queue_next_of_tenant(queue, tenant);
}

void fair_queue_remove(struct fair_queue *queue, struct fair_item *item)
{
	struct fair_tenant *tenant = fair_queue_find_tenant(queue, item->payer.tenant);
	struct fair_flow *flow = fair_queue_find_flow(queue, item->payer.id);
	bool first_of_payer = fair_queue_flow_first(flow) == item;
	bool first_of_tenant = fair_queue_tenant_first(tenant) == item;

	flow = fair_queue_leave_flow(item, flow);
	tenant = fair_queue_leave_tenant(item, tenant);
	if (flow && first_of_payer)
		fair_queue_next_of_flow(tenant, flow);
	if (tenant && first_of_tenant)
		fair_queue_next_of_tenant(queue, tenant);
}
