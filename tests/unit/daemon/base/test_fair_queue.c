/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns between tenants: in proportion to weights, whatever the sizes, and however many payers
 * each has; and between those of one tenant, alike. Nobody starves, between payers and within
 * one; payers go while their items are queued. A model that scans arrays says what comes next,
 * operation by operation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "daemon/base/fair_queue.h"
#include "tests/support/seed.h"

#define QUANTUM 1000u
enum { ITEMS = 600, PAYERS = 200, TENANTS = 40 };

struct thing {
	struct fair_item item;
	uint64_t number;
};

static uint64_t number_of(const struct fair_item *item)
{
	return container_of(item, struct thing, item)->number;
}

static struct fair_payer payer_of(uint64_t id, uint64_t tenant, uint32_t weight)
{
	return (struct fair_payer){
		.id = id, .tenant = (uint32_t)tenant, .weight = (uint16_t)weight};
}

static void push(struct fair_queue *queue, struct thing *thing, uint64_t payer, uint64_t cost)
{
	fair_queue_push(queue, &thing->item, (struct fair_payer){.id = payer}, cost, cost);
}

/* Serves the next item: its payer. */
static uint64_t serve(struct fair_queue *queue)
{
	struct fair_item *item = fair_queue_next(queue);

	assert_non_null(item);
	assert_ptr_equal(fair_queue_next(queue), item);
	fair_queue_take(queue, item);

	return item->payer.id;
}

static void test_one_payer_in_order(void **state)
{
	(void)state;
	struct fair_queue queue;
	struct thing things[5] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};

	fair_queue_open(&queue, QUANTUM);
	assert_true(fair_queue_empty(&queue));
	assert_null(fair_queue_next(&queue));
	for (unsigned i = 0; i < 4; i++)
		push(&queue, &things[i], 7, 100 + i);

	for (uint64_t i = 0; i < 4; i++) {
		struct fair_item *item = fair_queue_next(&queue);
		assert_int_equal(number_of(item), i);
		assert_false(fair_queue_empty(&queue));
		fair_queue_take(&queue, item);
	}

	assert_true(fair_queue_empty(&queue));
	assert_null(fair_queue_next(&queue));
}

/* A short queue beside a long one that came first: it waits for one quantum. */
static void test_a_late_payer_waits_for_a_quantum(void **state)
{
	(void)state;
	struct fair_queue queue;
	struct thing *things = calloc(100, sizeof(*things)), late = {.number = 100};

	fair_queue_open(&queue, QUANTUM);
	for (unsigned i = 0; i < 100; i++)
		push(&queue, &things[i], 1, QUANTUM / 2);
	assert_int_equal(serve(&queue), 1);
	push(&queue, &late, 2, QUANTUM / 2);
	assert_int_equal(serve(&queue), 1);
	assert_int_equal(serve(&queue), 2);
	free(things);
}

/* Tenants of one payer that always have something queued, of different sizes: bytes served so far, divided
 * by the weight, never differ by more than a quantum and the largest item. */
static void check_shares(const uint32_t *weights, const uint64_t *costs, unsigned payers)
{
	struct fair_queue queue;
	struct thing *things = calloc(payers, sizeof(*things));
	uint64_t served[8] = {0};

	fair_queue_open(&queue, QUANTUM);
	for (unsigned i = 0; i < payers; i++)
		things[i].number = i;
	for (unsigned i = 0; i < payers; i++)
		fair_queue_push(&queue, &things[i].item, payer_of(i, i, weights[i]), costs[i],
				costs[i]);

	/* Pieces keep an item queued for ever. */
	for (unsigned n = 0; n < 20000; n++) {
		struct fair_item *item = fair_queue_next(&queue);
		uint64_t i = number_of(item);

		served[i] += costs[i];
		fair_queue_take_piece(&queue, item, costs[i]);
		for (unsigned j = 0; j < payers; j++)
			assert_in_range(served[i] / weights[i], 0,
					served[j] / weights[j] + 2 * QUANTUM + costs[i] + costs[j]);
	}

	free(things);
}

static void test_shares_follow_bytes_and_weights(void **state)
{
	(void)state;
	check_shares((uint32_t[]){1, 1}, (uint64_t[]){10, 1000}, 2);
	check_shares((uint32_t[]){1, 1, 1}, (uint64_t[]){8000, 64, 1}, 3);
	check_shares((uint32_t[]){1, 2, 4, 1}, (uint64_t[]){300, 300, 300, 5000}, 4);
	check_shares((uint32_t[]){3, 1, 1, 1, 1}, (uint64_t[]){700, 1000, 1000, 63000, 999}, 5);
}

/* The same with several payers each: a tenant's share is by its weight, whatever their number,
 * and those of one tenant share it alike. */
static void test_a_tenant_has_no_more_for_more_payers(void **state)
{
	(void)state;
	enum { MANY = 100 };
	static struct thing things[MANY + 3];
	struct fair_queue queue;
	uint64_t served[MANY + 3] = {0}, total[3] = {0};

	fair_queue_open(&queue, QUANTUM);
	for (uint64_t i = 0; i < MANY + 3; i++) {
		uint64_t tenant = i < MANY    ? 0
				  : i == MANY ? 1
					      : 2; /* a hundred, one, two of them */
		struct fair_payer payer = payer_of(i, tenant, tenant == 2 ? 3 : 1);

		things[i].number = i;
		fair_queue_push(&queue, &things[i].item, payer, 1 + i % QUANTUM, QUANTUM);
	}

	for (unsigned n = 0; n < 50000; n++) {
		struct fair_item *item = fair_queue_next(&queue);
		uint64_t i = number_of(item), cost = item->cost;

		served[i] += cost;
		total[item->payer.tenant] += cost;
		fair_queue_take_piece(&queue, item, 1 + (cost * 7 + i) % QUANTUM);
		assert_in_range(total[0], 0, total[1] + 3 * QUANTUM);
		assert_in_range(total[1], 0, total[0] + 3 * QUANTUM);
		assert_in_range(total[2], 0, 3 * (total[1] + 3 * QUANTUM));
		assert_in_range(total[1], 0, total[2] / 3 + 3 * QUANTUM);
	}

	for (unsigned i = 0; i < MANY; i++)
		assert_in_range(served[i], served[0] - 3 * QUANTUM, served[0] + 3 * QUANTUM);
	assert_in_range(served[MANY + 1], served[MANY + 2] - 3 * QUANTUM,
			served[MANY + 2] + 3 * QUANTUM);
}

/* A tenant's number may be a user's, too. */
static void test_a_user_with_the_number_of_a_tenant(void **state)
{
	(void)state;
	struct fair_queue queue;
	struct thing things[9] = {{.number = 0}};
	struct fair_payer user = payer_of(9, 1, 1);

	user.is_user = true;
	fair_queue_open(&queue, QUANTUM);
	for (uint64_t i = 0; i < 8; i++)
		fair_queue_push(&queue, &things[i].item, payer_of(i, 1, 1), QUANTUM, QUANTUM);
	fair_queue_push(&queue, &things[8].item, user, QUANTUM, QUANTUM);
	assert_int_equal(serve(&queue), 0);
	assert_int_equal(serve(&queue), 9);
	for (uint64_t i = 1; i < 8; i++)
		assert_int_equal(serve(&queue), i);
}

/* Another weight counts from the next item on that says it, however much is queued. */
static void test_a_weight_that_changes(void **state)
{
	(void)state;
	struct fair_queue queue;
	static struct thing things[3];
	uint64_t served[2] = {0};

	fair_queue_open(&queue, QUANTUM);
	for (uint64_t i = 0; i < 2; i++)
		fair_queue_push(&queue, &things[i].item, payer_of(i, i, 1), QUANTUM, QUANTUM);
	fair_queue_push(&queue, &things[2].item, payer_of(2, 0, 5), QUANTUM, QUANTUM);

	for (unsigned n = 0; n < 6000; n++) {
		struct fair_item *item = fair_queue_next(&queue);

		served[item->payer.tenant] += QUANTUM;
		fair_queue_take_piece(&queue, item, QUANTUM);
	}

	assert_in_range(served[0], 4990 * QUANTUM, 5010 * QUANTUM);
}

/* One that never has more than one item queued gets no more than its share. */
static void test_leaving_and_coming_back_gains_nothing(void **state)
{
	(void)state;
	struct fair_queue queue;
	struct thing *things = calloc(2000, sizeof(*things)), again = {.number = 0};
	uint64_t served[2] = {0}, next = 0;

	fair_queue_open(&queue, QUANTUM);
	for (; next < 4; next++)
		push(&queue, &things[next], 1, QUANTUM);
	push(&queue, &again, 0, 8 * QUANTUM);

	for (unsigned n = 0; n < 1000; n++) {
		uint64_t payer = serve(&queue);

		served[payer] += payer == 0 ? 8 * QUANTUM : QUANTUM;
		if (payer == 0)
			push(&queue, &again, 0, 8 * QUANTUM);
		else
			push(&queue, &things[next++], 1, QUANTUM);
	}

	assert_in_range(served[0], 1, served[1] + 10 * QUANTUM);
	assert_in_range(served[1], 1, served[0] + 10 * QUANTUM);
	free(things);
}

/* No item waits for more rounds than FAIR_ROUNDS. */
static void test_what_an_item_may_cost_is_bounded(void **state)
{
	(void)state;
	struct fair_queue queue;
	struct thing huge = {.number = 0}, small = {.number = 1};
	unsigned before = 0;

	fair_queue_open(&queue, QUANTUM);
	push(&queue, &huge, 1, UINT64_MAX / 2);
	push(&queue, &small, 2, QUANTUM);
	while (number_of(fair_queue_next(&queue)) == 1) {
		fair_queue_take_piece(&queue, &small.item, QUANTUM);
		before++;
	}

	assert_int_equal(before, FAIR_ROUNDS - 1);
	fair_queue_take(&queue, &huge.item);
	assert_int_equal(serve(&queue), 2);
}

static void test_small_before_large_of_one_payer(void **state)
{
	(void)state;
	struct fair_queue queue;
	struct thing large[3] = {{.number = 0}}, small[40] = {{.number = 0}};
	unsigned larges = 0, at[3];

	fair_queue_open(&queue, QUANTUM);
	for (unsigned i = 0; i < 3; i++)
		push(&queue, &large[i], 5, 5 * QUANTUM);
	for (unsigned i = 0; i < 40; i++)
		push(&queue, &small[i], 5, QUANTUM / 4);

	for (unsigned n = 0; n < 43; n++) {
		struct fair_item *item = fair_queue_next(&queue);
		if (!item->small)
			at[larges++] = n;
		fair_queue_take(&queue, item);
	}

	assert_int_equal(larges, 3);
	assert_int_equal(at[0], FAIR_RUN - 1);
	assert_int_equal(at[1], 2 * FAIR_RUN - 1);
	assert_int_equal(at[2], 3 * FAIR_RUN - 1);
	assert_true(fair_queue_empty(&queue));
}

/* A small one does not wait until its payer has saved for the large one. */
static void test_a_small_one_does_not_wait_for_savings(void **state)
{
	(void)state;
	struct fair_queue queue;
	struct thing large = {.number = 0}, small = {.number = 1}, other = {.number = 2};
	unsigned before = 0;

	fair_queue_open(&queue, QUANTUM);
	push(&queue, &other, 1, QUANTUM);
	push(&queue, &large, 2, 20 * QUANTUM);
	push(&queue, &small, 2, QUANTUM / 4);
	for (; number_of(fair_queue_next(&queue)) == 2; before++)
		fair_queue_take_piece(&queue, &other.item, QUANTUM);
	assert_in_range(before, 0, 1);
	fair_queue_take(&queue, &small.item);

	/* and what it cost is not forgotten */
	for (before = 0; number_of(fair_queue_next(&queue)) == 2; before++)
		fair_queue_take_piece(&queue, &other.item, QUANTUM);
	assert_in_range(before, 19, 20);
	fair_queue_take(&queue, &large.item);
	assert_int_equal(serve(&queue), 1);
	assert_true(fair_queue_empty(&queue));
}

/* The queue keeps nothing of items that have left: whoever paid for them, and their memory,
 * may go. */
static void test_an_end_with_items_queued(void **state)
{
	(void)state;
	struct fair_queue queue;
	struct thing *things[30], *other = calloc(1, sizeof(*other));

	fair_queue_open(&queue, QUANTUM);
	push(&queue, other, 9, 10);
	for (unsigned i = 0; i < 30; i++) {
		things[i] = calloc(1, sizeof(struct thing));
		push(&queue, things[i], 1 + i % 2, 600);
	}

	for (unsigned i = 0; i < 30; i++) { /* leaders and others, in the middle and at the ends */
		unsigned n = (i * 7) % 30;
		fair_queue_remove(&queue, &things[n]->item);
		free(things[n]);
	}

	assert_int_equal(serve(&queue), 9);
	assert_true(fair_queue_empty(&queue));
	free(other);
}

/* ---- the model ---- */

struct model_item {
	struct thing thing;
	uint64_t payer, cost;
	bool small, queued;
	uint64_t arrival;
};

struct model_turn {
	uint64_t place, credit, share;
	bool queued;
};

struct model_payer {
	struct model_turn turn;
	uint32_t passed;
};

struct model {
	struct model_item items[ITEMS];
	struct model_payer payers[PAYERS];
	struct model_turn tenants[TENANTS];
	uint64_t arrivals, places;
};

static uint64_t model_tenant_of(uint64_t payer)
{
	return payer % TENANTS;
}

/* The item that the payer is served next. */
static struct model_item *model_first(struct model *model, uint64_t payer)
{
	struct model_item *oldest[2] = {NULL, NULL};

	for (unsigned i = 0; i < ITEMS; i++) {
		struct model_item *item = &model->items[i];
		if (item->queued && item->payer == payer &&
		    (!oldest[item->small] || item->arrival < oldest[item->small]->arrival))
			oldest[item->small] = item;
	}

	if (!oldest[true] || (oldest[false] && model->payers[payer].passed >= FAIR_RUN - 1))
		return oldest[false];
	return oldest[true];
}

static uint64_t model_charge(const struct model_turn *turn, uint64_t cost)
{
	uint64_t most = FAIR_ROUNDS * turn->share;

	return cost < most ? cost : most;
}

/* To the end. */
static void model_pass(struct model *model, struct model_turn *turn)
{
	turn->credit += turn->share;
	turn->place = ++model->places;
	turn->queued = true;
}

/* The payer of a tenant whose turn it is, when those have passed that cannot pay; PAYERS: none. */
static uint64_t model_payer_of(struct model *model, uint64_t tenant)
{
	for (;;) {
		uint64_t first = PAYERS;

		for (uint64_t i = tenant; i < PAYERS; i += TENANTS)
			if (model->payers[i].turn.queued &&
			    (first == PAYERS ||
			     model->payers[i].turn.place < model->payers[first].turn.place))
				first = i;
		if (first == PAYERS)
			return PAYERS;

		struct model_turn *turn = &model->payers[first].turn;
		if (turn->credit >= model_charge(turn, model_first(model, first)->cost))
			return first;
		model_pass(model, turn);
	}
}

static struct model_item *model_next(struct model *model)
{
	for (;;) {
		uint64_t first = TENANTS;

		for (uint64_t i = 0; i < TENANTS; i++)
			if (model->tenants[i].queued &&
			    (first == TENANTS ||
			     model->tenants[i].place < model->tenants[first].place))
				first = i;
		if (first == TENANTS)
			return NULL;

		struct model_turn *turn = &model->tenants[first];
		struct model_item *item = model_first(model, model_payer_of(model, first));
		if (turn->credit >= model_charge(turn, item->cost))
			return item;
		model_pass(model, turn);
	}
}

static void model_push(struct model *model, struct fair_queue *queue, struct seed *seed)
{
	uint64_t i = seed_below(seed, ITEMS), number = seed_below(seed, PAYERS);
	struct model_item *item = &model->items[i];
	if (item->queued)
		return;

	if (seed_below(seed, 4) > 0)
		number %= 5; /* some have much queued, most have little */
	if (seed_below(seed, 4) == 0)
		number = number % 5 * TENANTS; /* many of one tenant */

	struct model_turn *payer = &model->payers[number].turn,
			  *tenant = &model->tenants[model_tenant_of(number)];
	bool another = !tenant->queued || seed_below(seed, 16) == 0;
	uint32_t weight =
		another ? (uint32_t)seed_below(seed, 4) : (uint32_t)(tenant->share / QUANTUM);

	item->payer = number;
	item->cost = seed_below(seed, seed_below(seed, 8) == 0 ? 100 * QUANTUM : QUANTUM);
	item->small = item->cost <= QUANTUM / 4;
	item->queued = true;
	item->arrival = model->arrivals++;
	tenant->share = (uint64_t)QUANTUM * (weight > 0 ? weight : 1);
	payer->share = QUANTUM;
	if (!payer->queued)
		model_pass(model, payer);
	if (!tenant->queued)
		model_pass(model, tenant);

	item->thing.number = i;
	fair_queue_push(queue, &item->thing.item, payer_of(number, model_tenant_of(number), weight),
			item->cost, item->cost);
}

static void model_leave(struct model *model, struct model_item *item)
{
	uint64_t tenant = model_tenant_of(item->payer);
	bool left = false;

	item->queued = false;
	if (!model_first(model, item->payer))
		model->payers[item->payer] = (struct model_payer){.passed = 0};
	for (uint64_t i = tenant; i < PAYERS; i += TENANTS)
		left |= model->payers[i].turn.queued;
	if (!left)
		model->tenants[tenant] = (struct model_turn){.queued = false};
}

static void model_pay(struct model_turn *turn, uint64_t cost)
{
	uint64_t charge = model_charge(turn, cost);

	turn->credit -= charge < turn->credit ? charge : turn->credit;
}

static void model_take(struct model *model, struct fair_queue *queue, struct seed *seed)
{
	struct model_item *item = model_next(model);
	struct fair_item *next = fair_queue_next(queue);
	if (!item) {
		assert_null(next);
		return;
	}

	assert_ptr_equal(next, &item->thing.item);
	struct model_payer *payer = &model->payers[item->payer];
	model_pay(&payer->turn, item->cost);
	model_pay(&model->tenants[model_tenant_of(item->payer)], item->cost);
	payer->passed = item->small ? payer->passed + 1 : 0;

	if (seed_below(seed, 3) == 0) {
		item->cost = seed_below(seed, QUANTUM);
		fair_queue_take_piece(queue, next, item->cost);
	} else {
		model_leave(model, item);
		fair_queue_take(queue, next);
	}
	(void)model_next(model);
}

static void model_remove(struct model *model, struct fair_queue *queue, struct seed *seed)
{
	struct model_item *item = &model->items[seed_below(seed, ITEMS)];
	if (!item->queued)
		return;

	model_leave(model, item);
	fair_queue_remove(queue, &item->thing.item);
}

static void test_as_the_model_says(void **state)
{
	(void)state;
	struct seed seed;
	struct fair_queue queue;
	struct model *model = calloc(1, sizeof(*model));

	assert_non_null(model);
	seed_open(&seed, "test_as_the_model_says");
	fair_queue_open(&queue, QUANTUM);

	for (unsigned n = 0; n < 30000; n++) {
		uint64_t pushes = n / 3000 % 2 == 0 ? 6 : 3; /* it fills, and empties */
		uint64_t what = seed_below(&seed, 10);
		if (what < pushes)
			model_push(model, &queue, &seed);
		else if (what < 9)
			model_take(model, &queue, &seed);
		else
			model_remove(model, &queue, &seed);
	}

	while (model_next(model))
		model_take(model, &queue, &seed);
	assert_true(fair_queue_empty(&queue));
	free(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_payer_in_order),
		cmocka_unit_test(test_a_late_payer_waits_for_a_quantum),
		cmocka_unit_test(test_shares_follow_bytes_and_weights),
		cmocka_unit_test(test_a_tenant_has_no_more_for_more_payers),
		cmocka_unit_test(test_a_user_with_the_number_of_a_tenant),
		cmocka_unit_test(test_a_weight_that_changes),
		cmocka_unit_test(test_leaving_and_coming_back_gains_nothing),
		cmocka_unit_test(test_what_an_item_may_cost_is_bounded),
		cmocka_unit_test(test_small_before_large_of_one_payer),
		cmocka_unit_test(test_a_small_one_does_not_wait_for_savings),
		cmocka_unit_test(test_an_end_with_items_queued),
		cmocka_unit_test(test_as_the_model_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
