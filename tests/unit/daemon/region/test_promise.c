/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Promises: random reservations, requests and releases of several sessions in a pool, against
 * a model that knows no more than bytes: what each has reserved and taken, and how much there
 * is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/list.h"
#include "daemon/config/config.h"
#include "daemon/device/device.h"
#include "daemon/region/promise.h"
#include "daemon/region/slab.h"
#include "tests/support/seed.h"
#include "tests/support/soft_pool.h"

#define SLAB (2 * MIB)
#define BUDGET (32 * MIB)
#define SESSIONS 4u
#define STEPS 3000u

/* What the model knows of a session. */
struct model {
	uint64_t reserved, taken;
};

struct fixture {
	struct soft_pool pool;
	struct slabs *slabs;
	struct ledger ledger;
	struct payer payer;
	struct promise *promises[SESSIONS];
	struct slab *taken[SESSIONS][BUDGET / SLAB];
	unsigned counts[SESSIONS]; /* of these */
	struct model model[SESSIONS];
};

static int setup(void **state)
{
	static struct fixture fixture;
	static struct config config;

	pool_open(&fixture.pool, BUDGET);
	fixture.slabs = fixture.pool.devices->list[0].slabs;
	ledger_open(&fixture.ledger, &config);
	payer_open(&fixture.payer, &fixture.ledger, PAYER_SESSION);
	for (unsigned i = 0; i < SESSIONS; i++) {
		fixture.promises[i] = promise_new(slabs_promises(fixture.slabs), 0, NULL);
		assert_non_null(fixture.promises[i]);
		fixture.counts[i] = 0;
		fixture.model[i] = (struct model){0};
	}
	*state = &fixture;

	return 0;
}

static void give_back(struct fixture *fixture, unsigned i)
{
	slab_unref(fixture->taken[i][--fixture->counts[i]], false);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < SESSIONS; i++) {
		while (fixture->counts[i] > 0)
			give_back(fixture, i);
		if (fixture->promises[i])
			slabs_end_promise(fixture->promises[i]);
	}
	assert_int_equal(slabs_books(fixture->slabs).promised, 0);
	assert_null(slabs_check(fixture->slabs));
	payer_close(&fixture->payer);
	pool_close(&fixture->pool);

	return 0;
}

struct wanted {
	struct slab_request request;
	bool over;
};

static void request_over(struct slab_request *request)
{
	container_of(request, struct wanted, request)->over = true;
}

static bool is_over(void *arg)
{
	return ((struct wanted *)arg)->over;
}

static int take(struct fixture *fixture, unsigned i, uint64_t count)
{
	struct wanted wanted = {.request = {.bytes = SLAB,
					    .count = count,
					    .promise = fixture->promises[i],
					    .done = request_over}};
	int status = slabs_request(fixture->slabs, &wanted.request);
	if (status != HBM_OK)
		return status;

	pool_run(&fixture->pool, is_over, &wanted);
	for (struct list *node; (node = list_pop_front(&wanted.request.taken));) {
		struct slab *slab = container_of(node, struct slab, link);

		slab_place(slab);
		fixture->taken[i][fixture->counts[i]++] = slab;
	}

	return wanted.request.status;
}

/* ---- The model ---- */

static uint64_t model_outstanding(const struct model *model)
{
	return model->reserved > model->taken ? model->reserved - model->taken : 0;
}

/* Whether what is free covers what is outstanding. */
static bool model_holds(const struct model models[SESSIONS])
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < SESSIONS; i++)
		sum += models[i].taken + model_outstanding(&models[i]);

	return sum <= BUDGET;
}

static void random_reserve(struct fixture *fixture, struct seed *seed, unsigned i)
{
	uint64_t reserved = seed_below(seed, BUDGET * 3 / 4);
	struct model before = fixture->model[i];

	fixture->model[i].reserved = reserved;
	bool allowed = reserved <= before.reserved || model_holds(fixture->model);

	assert_int_equal(
		slabs_reserve(fixture->slabs, fixture->promises[i], &fixture->payer, reserved),
		allowed);
	if (!allowed)
		fixture->model[i] = before;
}

static void random_take(struct fixture *fixture, struct seed *seed, unsigned i)
{
	uint64_t count = 1 + seed_below(seed, 6);
	struct model before = fixture->model[i];

	fixture->model[i].taken += count * SLAB;
	bool allowed = model_holds(fixture->model);

	/* One within its reservation is never refused. */
	assert_true(allowed || fixture->model[i].taken > before.reserved);
	assert_int_equal(take(fixture, i, count), allowed ? HBM_OK : HBM_NO_SPACE);
	if (!allowed)
		fixture->model[i] = before;
}

static void random_give_back(struct fixture *fixture, unsigned i)
{
	if (fixture->counts[i] == 0)
		return;

	give_back(fixture, i);
	fixture->model[i].taken -= SLAB;
}

static void check_books(const struct fixture *fixture)
{
	struct slabs_books books = slabs_books(fixture->slabs);
	uint64_t promised = 0, taken = 0;

	for (unsigned i = 0; i < SESSIONS; i++) {
		promised += model_outstanding(&fixture->model[i]);
		taken += fixture->model[i].taken;
	}

	assert_int_equal(books.promised, promised);
	assert_int_equal(books.due, promised);
	assert_int_equal(books.free, BUDGET - taken);
	assert_null(slabs_check(fixture->slabs));
}

static void random_operations_agree_with_a_model(void **state)
{
	struct fixture *fixture = *state;
	struct seed seed;

	seed_open(&seed, "promise");
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned i = (unsigned)seed_below(&seed, SESSIONS);

		switch (seed_below(&seed, 4)) {
		case 0:
			random_reserve(fixture, &seed, i);
			break;
		case 1:
			random_take(fixture, &seed, i);
			break;
		default:
			random_give_back(fixture, i);
			break;
		}
		check_books(fixture);
	}
}

/* Its slabs outlive the session: they are used, and nothing is promised. */
static void a_session_ends_before_its_slabs(void **state)
{
	struct fixture *fixture = *state;

	assert_true(slabs_reserve(fixture->slabs, fixture->promises[0], &fixture->payer, 8 * SLAB));
	assert_int_equal(take(fixture, 0, 2), HBM_OK);
	assert_int_equal(slabs_books(fixture->slabs).promised, 6 * SLAB);
	slabs_end_promise(fixture->promises[0]);
	fixture->promises[0] = NULL;
	assert_int_equal(slabs_books(fixture->slabs).promised, 0);
	assert_int_equal(ledger_used(&fixture->payer, LEDGER_RESERVED), 0);
	assert_null(slabs_check(fixture->slabs));
	assert_int_equal(take(fixture, 1, BUDGET / SLAB - 2), HBM_OK);
}

/* A request waits for memory that is on its way back, and is refused when that turns out to be
 * promised again. */
static void what_comes_back_is_promised_again(void **state)
{
	struct fixture *fixture = *state;

	assert_true(slabs_reserve(fixture->slabs, fixture->promises[0], &fixture->payer, BUDGET));
	assert_int_equal(take(fixture, 0, BUDGET / SLAB / 2), HBM_OK);
	for (unsigned i = 0; i < fixture->counts[0]; i++)
		fixture->taken[0][i]->exported = true;
	while (fixture->counts[0] > 0)
		give_back(fixture, 0);

	/* The soft device says at once that no client holds it. */
	assert_int_equal(slabs_books(fixture->slabs).retiring, BUDGET / 2);
	assert_int_equal(slabs_books(fixture->slabs).promised, BUDGET / 2);
	assert_null(slabs_check(fixture->slabs));
	assert_int_equal(take(fixture, 1, 2), HBM_NO_SPACE);
	assert_int_equal(slabs_books(fixture->slabs).promised, BUDGET);
	assert_int_equal(take(fixture, 0, BUDGET / SLAB), HBM_OK);
	assert_null(slabs_check(fixture->slabs));
}

/* The check sees a promise that no session has. */
static void the_check_can_fail(void **state)
{
	struct fixture *fixture = *state;
	struct promises *promises = slabs_promises(fixture->slabs);

	assert_true(slabs_reserve(fixture->slabs, fixture->promises[0], &fixture->payer, SLAB));
	promises->promised += SLAB;
	assert_string_equal(slabs_check(fixture->slabs), "the promises do not add up");
	promises->promised -= SLAB;
	promises->used += SLAB;
	assert_string_equal(slabs_check(fixture->slabs), "what the sessions use does not add up");
	promises->used -= SLAB;
	fixture->promises[0]->charge.amount -= 1;
	assert_string_equal(slabs_check(fixture->slabs),
			    "a reservation is not what its session is charged for");
	fixture->promises[0]->charge.amount += 1;
	assert_null(slabs_check(fixture->slabs));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(random_operations_agree_with_a_model),
		TEST(a_session_ends_before_its_slabs),
		TEST(what_comes_back_is_promised_again),
		TEST(the_check_can_fail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
