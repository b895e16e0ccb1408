/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that was given back and is still held: counted, charged to its holder, refused to
 * it before others, and free again when the device shows it or the process has ended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/device/device.h"
#include "daemon/region/slab.h"
#include "tests/support/soft_pool.h"

#define BUDGET (32 * MIB) /* of 64 */
#define SLAB (8 * MIB)
#define LIMIT (16 * MIB)

struct client {
	struct payer payer;
	struct holder holder;
	unsigned settled;
};

struct fixture {
	struct soft_pool pool;
	struct slabs *slabs; /* of device 0 */
	const struct driver *driver;
	struct ledger ledger;
	struct client one, two;
};

static void client_settled(struct holder *holder)
{
	container_of(holder, struct client, holder)->settled++;
}

static void client_open(struct fixture *fixture, struct client *client)
{
	payer_open(&client->payer, &fixture->ledger, PAYER_SESSION);
	ledger_set_limit(&client->payer, LEDGER_HELD, LIMIT);
	holder_init(&client->holder, &client->payer);
	client->holder.settled = client_settled;
	client->settled = 0;
}

static int setup(void **state)
{
	static struct fixture fixture;
	pool_open(&fixture.pool, BUDGET);
	fixture.slabs = fixture.pool.devices->list[0].slabs;
	fixture.driver = fixture.pool.devices->driver;
	ledger_open(&fixture.ledger, &fixture.pool.config);
	client_open(&fixture, &fixture.one);
	client_open(&fixture, &fixture.two);
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	assert_int_equal(slabs_books(fixture->slabs).held, 0);
	payer_close(&fixture->one.payer);
	payer_close(&fixture->two.payer);
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

static bool nothing_retires(void *arg)
{
	struct fixture *fixture = arg;
	assert_null(slabs_check(fixture->slabs));
	return slabs_books(fixture->slabs).retiring == 0;
}

static bool nothing_is_held(void *arg)
{
	struct fixture *fixture = arg;
	assert_null(slabs_check(fixture->slabs));
	return slabs_books(fixture->slabs).held == 0;
}

static uint64_t held(const struct fixture *fixture)
{
	assert_null(slabs_check(fixture->slabs));
	return slabs_books(fixture->slabs).held;
}

static uint64_t charged(const struct client *client)
{
	return ledger_used(&client->payer, LEDGER_HELD);
}

/* Asks for slabs as a commit does: the status. */
static int take(struct fixture *fixture, struct client *client, struct wanted *wanted,
		uint64_t count)
{
	*wanted = (struct wanted){.request = {.bytes = SLAB,
					      .count = count,
					      .holder = &client->holder,
					      .done = request_over}};
	int status = slabs_request(fixture->slabs, &wanted->request);
	if (status != HBM_OK)
		return status;

	pool_run(&fixture->pool, is_over, wanted);
	return wanted->request.status;
}

/* What a client makes of a slab that it was handed. */
static CUmemGenericAllocationHandle import(struct fixture *fixture, const struct slab *slab)
{
	int fd;
	CUmemGenericAllocationHandle handle;

	assert_int_equal(fixture->driver->cuMemExportToShareableHandle(
				 &fd, slab->handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
			 CUDA_SUCCESS);
	assert_int_equal(
		fixture->driver->cuMemImportFromShareableHandle(
			&handle, (void *)(uintptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
		CUDA_SUCCESS);
	assert_int_equal(close(fd), 0);

	return handle;
}

/* Commits a slab, keeps it, gives it back; returns what is kept. */
static CUmemGenericAllocationHandle give_back_and_keep(struct fixture *fixture,
						       struct client *client)
{
	struct wanted wanted;

	assert_int_equal(take(fixture, client, &wanted, 1), HBM_OK);
	struct slab *slab = container_of(list_pop_front(&wanted.request.taken), struct slab, link);
	CUmemGenericAllocationHandle kept = import(fixture, slab);

	slab->exported = true;
	slab->part.holder = &client->holder;
	slab_unref(slab, false);
	pool_run(&fixture->pool, nothing_retires, fixture);

	return kept;
}

static void drop(struct fixture *fixture, CUmemGenericAllocationHandle kept)
{
	assert_int_equal(fixture->driver->cuMemRelease(kept), CUDA_SUCCESS);
}

static CUmemGenericAllocationHandle create(struct fixture *fixture, uint64_t bytes)
{
	CUmemAllocationProp prop = device_allocation(&fixture->pool.devices->list[0]);
	CUmemGenericAllocationHandle handle;

	assert_int_equal(fixture->driver->cuMemCreate(&handle, bytes, &prop, 0), CUDA_SUCCESS);
	return handle;
}

static void give_all(struct wanted *wanted)
{
	for (struct list *node; (node = list_pop_front(&wanted->request.taken));)
		slab_unref(container_of(node, struct slab, link), false);
}

/* ---- Tests ---- */

static void what_is_kept_is_charged_until_it_is_free(void **state)
{
	struct fixture *fixture = *state;
	CUmemGenericAllocationHandle kept = give_back_and_keep(fixture, &fixture->one);

	assert_int_equal(held(fixture), SLAB);
	assert_int_equal(charged(&fixture->one), SLAB);
	assert_int_equal(charged(&fixture->two), 0);
	assert_int_equal(holder_is_settled(&fixture->one.holder), false);
	assert_int_equal(fixture->one.settled, 0);

	drop(fixture, kept);
	pool_run(&fixture->pool, nothing_is_held, fixture);
	assert_int_equal(charged(&fixture->one), 0);
	assert_int_equal(holder_is_settled(&fixture->one.holder), true);
	assert_int_equal(fixture->one.settled, 1);
}

static void what_is_not_kept_is_free_at_once(void **state)
{
	struct fixture *fixture = *state;
	struct wanted wanted;

	assert_int_equal(take(fixture, &fixture->one, &wanted, 4), HBM_OK);
	for (struct list *node; (node = list_pop_front(&wanted.request.taken));) {
		struct slab *slab = container_of(node, struct slab, link);

		drop(fixture, import(fixture, slab));
		slab->exported = true;
		slab->part.holder = &fixture->one.holder;
		slab_unref(slab, false);
	}

	pool_run(&fixture->pool, nothing_retires, fixture);
	assert_int_equal(held(fixture), 0);
	assert_int_equal(charged(&fixture->one), 0);
}

/* At its limit the holder is refused, and nobody else. */
static void the_holder_is_refused_first(void **state)
{
	struct fixture *fixture = *state;
	CUmemGenericAllocationHandle first = give_back_and_keep(fixture, &fixture->one),
				     second = give_back_and_keep(fixture, &fixture->one);
	struct wanted wanted;

	assert_int_equal(charged(&fixture->one), LIMIT);
	assert_int_equal(take(fixture, &fixture->one, &wanted, 1), HBM_LIMIT);
	assert_true(list_empty(&wanted.request.taken));
	assert_int_equal(take(fixture, &fixture->two, &wanted, 2), HBM_OK);
	give_all(&wanted);
	assert_int_equal(take(fixture, &fixture->two, &wanted, 3), HBM_NO_SPACE);

	/* No waiting for a timer: the device is asked before a request is refused. */
	drop(fixture, first);
	assert_int_equal(take(fixture, &fixture->one, &wanted, 3), HBM_OK);
	give_all(&wanted);
	drop(fixture, second);
	assert_int_equal(take(fixture, &fixture->two, &wanted, 4), HBM_OK);
	give_all(&wanted);
	assert_int_equal(held(fixture), 0);
}

/* Which of the two was dropped the driver does not say. */
static void what_was_given_back_last_counts_as_free_first(void **state)
{
	struct fixture *fixture = *state;
	CUmemGenericAllocationHandle first = give_back_and_keep(fixture, &fixture->one),
				     second = give_back_and_keep(fixture, &fixture->two);
	struct wanted wanted;

	assert_int_equal(held(fixture), 2 * SLAB);
	drop(fixture, second);
	assert_int_equal(take(fixture, &fixture->two, &wanted, 4), HBM_NO_SPACE);
	assert_int_equal(charged(&fixture->one), SLAB);
	assert_int_equal(charged(&fixture->two), 0);
	drop(fixture, first);
	pool_run(&fixture->pool, nothing_is_held, fixture);
}

static void after_the_process_it_is_nobodys(void **state)
{
	struct fixture *fixture = *state;
	CUmemGenericAllocationHandle outside = create(fixture, 64 * MIB - BUDGET);
	CUmemGenericAllocationHandle kept = give_back_and_keep(fixture, &fixture->one);
	struct wanted wanted;

	holder_end(&fixture->one.holder);
	assert_int_equal(charged(&fixture->one), 0);
	assert_int_equal(holder_is_settled(&fixture->one.holder), true);

	/* Another process has it: the device has no room for it yet. */
	assert_int_equal(take(fixture, &fixture->two, &wanted, 4), HBM_NO_SPACE);
	assert_int_equal(held(fixture), SLAB);

	drop(fixture, outside);
	assert_int_equal(take(fixture, &fixture->two, &wanted, 4), HBM_OK);
	assert_int_equal(held(fixture), 0);
	give_all(&wanted);
	drop(fixture, kept);
}

static void what_a_gone_process_gives_back_is_charged_to_nobody(void **state)
{
	struct fixture *fixture = *state;
	CUmemGenericAllocationHandle outside = create(fixture, 64 * MIB - BUDGET);

	holder_end(&fixture->one.holder);
	CUmemGenericAllocationHandle kept = give_back_and_keep(fixture, &fixture->one);
	assert_int_equal(held(fixture), SLAB);
	assert_int_equal(charged(&fixture->one), 0);
	assert_int_equal(fixture->one.settled, 1);

	drop(fixture, kept);
	drop(fixture, outside);
	pool_run(&fixture->pool, nothing_is_held, fixture);
}

/* What another process allocates meanwhile cannot be told from what is held, and what it
 * had before is not taken for it. */
static void other_processes(void **state)
{
	struct fixture *fixture = *state;
	CUmemGenericAllocationHandle before = create(fixture, 6 * MIB);
	CUmemGenericAllocationHandle kept = give_back_and_keep(fixture, &fixture->one);
	CUmemGenericAllocationHandle meanwhile = create(fixture, 6 * MIB);
	struct wanted wanted;

	drop(fixture, kept);
	assert_int_equal(take(fixture, &fixture->two, &wanted, 4), HBM_NO_SPACE);
	assert_int_equal(charged(&fixture->one), SLAB);
	drop(fixture, meanwhile);
	pool_run(&fixture->pool, nothing_is_held, fixture);
	drop(fixture, before);
}

/* Only one that is asked twice and answers neither time is believed. */
static void a_device_that_does_not_say(void **state)
{
	struct fixture *fixture = *state;

	pool_run(&fixture->pool, nothing_retires, fixture);
	assert_int_equal(fixture->pool.call.faults("cuMemGetInfo:1,cuMemGetInfo:3"), 0);
	CUmemGenericAllocationHandle kept = give_back_and_keep(fixture, &fixture->one);
	assert_int_equal(held(fixture), SLAB);
	drop(fixture, kept);
	pool_run(&fixture->pool, nothing_is_held, fixture);

	assert_int_equal(fixture->pool.call.faults("cuMemGetInfo:1,cuMemGetInfo:2"), 0);
	kept = give_back_and_keep(fixture, &fixture->one);
	assert_int_equal(held(fixture), 0);
	fixture->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	drop(fixture, kept);
}

/* At the end of the daemon what clients hold is theirs. */
static void closing_with_something_held(void **state)
{
	struct fixture *fixture = *state;
	CUmemGenericAllocationHandle kept = give_back_and_keep(fixture, &fixture->one);
	struct device *device = &fixture->pool.devices->list[0];

	holder_end(&fixture->one.holder);
	device->slabs = slabs_close(device->slabs);
	drop(fixture, kept);
	assert_int_equal(
		slabs_open(&fixture->slabs, device, fixture->pool.loop, BUDGET, SLAB, NULL), 0);
	device->slabs = fixture->slabs;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_kept_is_charged_until_it_is_free),
		TEST(what_is_not_kept_is_free_at_once),
		TEST(the_holder_is_refused_first),
		TEST(what_was_given_back_last_counts_as_free_first),
		TEST(after_the_process_it_is_nobodys),
		TEST(what_a_gone_process_gives_back_is_charged_to_nobody),
		TEST(other_processes),
		TEST(a_device_that_does_not_say),
		TEST(closing_with_something_held),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
