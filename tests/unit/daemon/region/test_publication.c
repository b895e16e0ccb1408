/* SPDX-License-Identifier: Apache-2.0 */
/* Publications: whose their slabs are, when they come back, that an attached region allocates
 * nothing, and devices that fail at every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "daemon/device/device.h"
#include "daemon/region/commit.h"
#include "daemon/region/publication.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot.h"
#include "daemon/session/validate.h"
#include "tests/support/region_rig.h"

#define UID 1234
#define SLABS 3

struct fixture {
	struct region_rig *rig;
	struct publications *publications;
	struct regions others; /* of a second session */
};

static struct fixture fixture;

static int setup(void **state)
{
	int r = region_rig_setup(state);

	fixture.rig = *state;
	ledger_set_limit(&fixture.rig->ledger.host, LEDGER_PUBLISHED, 4 * SLABS * SLAB);
	assert_int_equal(publications_open(&fixture.publications, &fixture.rig->ledger), 0);
	regions_init(&fixture.others, &fixture.rig->payer);
	*state = &fixture;

	return r;
}

static bool others_are_empty(void *arg)
{
	return list_empty(&((struct fixture *)arg)->others.all);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	void *rig = f->rig;

	regions_end(&f->others);
	regions_release(&f->others);
	pool_run(&f->rig->pool, others_are_empty, f);
	regions_end(&f->rig->regions);
	regions_release(&f->rig->regions);
	pool_run(&f->rig->pool, region_rig_is_empty, f->rig);
	f->publications = publications_close(f->publications);

	return region_rig_teardown(&rig);
}

static struct device *device_of(struct fixture *f)
{
	return &f->rig->pool.devices->list[0];
}

static struct slabs_books books_of(struct fixture *f)
{
	struct slabs *slabs = device_of(f)->slabs;

	assert_null(slabs_check(slabs));
	assert_int_equal(slabs_check_slots(slabs),
			 regions_backed(&f->rig->regions, device_of(f)) +
				 regions_backed(&f->others, device_of(f)) +
				 regions_backed(&f->publications->regions, device_of(f)));
	assert_int_equal(publications_attached(f->publications, device_of(f)),
			 regions_attached(&f->rig->regions, device_of(f)) +
				 regions_attached(&f->others, device_of(f)));

	return slabs_books(slabs);
}

static int publish(struct fixture *f, struct region *region, const char *name)
{
	struct refusal refusal;
	const struct publication_form form = {
		.name = name, .uid = UID, .region = region, .bytes = SLABS * SLAB};

	return publication_new(f->publications, &form, &refusal_reason(&refusal));
}

static struct region *publish_new(struct fixture *f)
{
	struct region *region = region_rig_make(f->rig, 0, SLABS * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(f->rig, region, 0, SLABS), HBM_OK);
	assert_int_equal(publish(f, region, "name"), HBM_OK);

	return region;
}

static struct publication *find(struct fixture *f)
{
	return publication_find(f->publications, UID, NULL, "name");
}

/* A region of the second session; NULL and the status: refused. */
static int attach(struct fixture *f, struct region **out)
{
	struct region_outcome outcome = {0};
	int status = region_attach(&f->others, find(f), true, region_rig_region_over, &outcome);
	if (status != HBM_OK)
		return status;

	pool_run(&f->rig->pool, region_rig_is_over, &outcome);
	*out = outcome.region;

	return outcome.status;
}

static int commit(struct fixture *f, const struct region *region)
{
	const struct hbm_wire_range range = region_rig_range(region, 0, SLABS);
	struct region_outcome outcome = {0};
	struct hbm_wire_range one;
	struct commit *commit;
	unsigned fds = 0;

	assert_int_equal(commit_new(&commit, &f->others, &range, 1), HBM_OK);
	commit_start(commit, region_rig_op_over, &outcome);
	pool_run(&f->rig->pool, region_rig_is_over, &outcome);
	for (int fd; outcome.status == HBM_OK && (fd = commit_next(commit, &one)) >= 0; fds++)
		close(fd);
	commit_free(commit);
	assert_int_equal(fds, outcome.status == HBM_OK ? SLABS : 0);

	return outcome.status;
}

static struct region *attach_all(struct fixture *f)
{
	struct region *region = NULL;

	assert_int_equal(attach(f, &region), HBM_OK);
	assert_int_equal(commit(f, region), HBM_OK);

	return region;
}

static void destroy_other(struct fixture *f, const struct region *region)
{
	struct region_outcome outcome = {0};

	assert_int_equal(
		region_destroy(&f->others, region_id(region), region_rig_region_over, &outcome),
		HBM_OK);
	pool_run(&f->rig->pool, region_rig_is_over, &outcome);
}

/* Of each device, whose workers have done what they were told. */
static void make_no_more_ahead(struct fixture *f)
{
	for (uint32_t i = 0; i < 2; i++)
		slabs_drain(f->rig->pool.devices->list[i].slabs);

	region_rig_settle(f->rig);
	const struct region *region = region_rig_make(f->rig, 1, SLAB, SLAB);
	assert_int_equal(region_rig_destroy(f->rig, region), HBM_OK);
}

/* ---- The tests ---- */

static void nothing_is_made_for_an_attached_region(void **state)
{
	struct fixture *f = *state;
	struct region *region = publish_new(f);

	make_no_more_ahead(f);
	assert_int_equal(regions_committed(&f->rig->regions), 0); /* the publications' */
	assert_int_equal(f->publications->regions.leased, SLABS * SLAB);
	assert_int_equal(ledger_used(&f->rig->ledger.host, LEDGER_PUBLISHED), SLABS * SLAB);
	uint64_t created = f->rig->pool.call.calls("cuMemCreate");

	struct region *attached = attach_all(f);
	assert_int_equal(books_of(f).leased, SLABS * SLAB);
	assert_int_equal(region_rig_destroy(f->rig, region), HBM_OK);
	assert_int_equal(books_of(f).leased, SLABS * SLAB);
	destroy_other(f, attached);
	attached = attach_all(f);
	assert_int_equal(f->rig->pool.call.calls("cuMemCreate"), created);
	assert_int_equal(regions_committed(&f->others), 0);
	assert_true(region_is_read_only(attached, SLAB, 1));

	/* The last one to go takes the memory along. */
	publication_withdraw(find(f));
	assert_null(find(f));
	assert_int_equal(books_of(f).leased, SLABS * SLAB);
	assert_int_equal(list_length(&f->publications->all), 1);
	destroy_other(f, attached);
	assert_true(list_empty(&f->publications->all));
	assert_int_equal(books_of(f).leased, 0);
	assert_int_equal(f->publications->regions.leased, 0);
	assert_int_equal(ledger_used(&f->rig->ledger.host, LEDGER_PUBLISHED), 0);
	assert_int_equal(ledger_used(&f->rig->ledger.host, LEDGER_PUBLICATIONS), 0);
}

/* Each of the orders in which the three that have the memory can go. */
static void whoever_goes_last(void **state)
{
	static const char *const orders[] = {"cap", "cpa", "acp", "apc", "pca", "pac"};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		struct region *creator = publish_new(f), *attached = attach_all(f);

		for (const char *next = orders[i]; *next; next++) {
			assert_int_equal(books_of(f).leased, SLABS * SLAB);
			if (*next == 'c')
				assert_int_equal(region_rig_destroy(f->rig, creator), HBM_OK);
			else if (*next == 'a')
				destroy_other(f, attached);
			else
				publication_withdraw(find(f));
		}

		assert_int_equal(books_of(f).leased, 0);
		assert_true(list_empty(&f->publications->all));
	}
}

/* A client that was killed may still write: what it has attached waits for its process. */
static void a_killed_client_keeps_it(void **state)
{
	struct fixture *f = *state;
	struct region *creator = publish_new(f);

	(void)attach_all(f);
	assert_int_equal(region_rig_destroy(f->rig, creator), HBM_OK);
	regions_end(&f->others);
	publication_withdraw(find(f));
	region_rig_settle(f->rig);
	assert_int_equal(list_length(&f->publications->all), 1);
	assert_int_equal(books_of(f).leased + books_of(f).quarantined, SLABS * SLAB);

	regions_release(&f->others);
	pool_run(&f->rig->pool, others_are_empty, f);
	assert_true(list_empty(&f->publications->all));
	assert_int_equal(books_of(f).leased + books_of(f).quarantined, 0);
}

/* What is published is not affected by the end of the session that made it. */
static void a_killed_creator(void **state)
{
	struct fixture *f = *state;

	(void)publish_new(f);
	regions_end(&f->rig->regions);
	struct region *attached = attach_all(f); /* its process is still there */
	regions_release(&f->rig->regions);
	pool_run(&f->rig->pool, region_rig_is_empty, f->rig);
	assert_int_equal(books_of(f).leased, SLABS * SLAB);
	destroy_other(f, attached);
	assert_int_equal(books_of(f).leased, SLABS * SLAB);
	publication_withdraw(find(f));
	assert_int_equal(books_of(f).leased, 0);
}

/* The session that gave it back last is charged for what its process holds of it, as long as
 * that is connected. */
static void what_is_held_is_charged_to_the_last(void **state)
{
	struct fixture *f = *state;
	struct region *creator = publish_new(f), *attached = attach_all(f);
	struct publication *publication = find(f);

	assert_null(publication->last);
	assert_int_equal(region_rig_destroy(f->rig, creator), HBM_OK);
	assert_ptr_equal(publication->last, &f->rig->regions);
	destroy_other(f, attached);
	assert_ptr_equal(publication->last, &f->others);
	regions_end(&f->others);
	assert_null(publication->last);
	assert_true(list_empty(&f->others.gave_back));
	publication_withdraw(publication);
	assert_int_equal(books_of(f).leased, 0);
}

static void limits_of_a_user(void **state)
{
	struct fixture *f = *state;
	struct region *region = region_rig_make(f->rig, 0, SLABS * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(f->rig, region, 0, SLABS), HBM_OK);
	ledger_set_limit(&f->rig->ledger.host, LEDGER_PUBLISHED, SLABS * SLAB); /* of which 75 % */
	assert_int_equal(publish(f, region, "name"), HBM_LIMIT);
	assert_int_equal(ledger_used(&f->rig->ledger.host, LEDGER_PUBLICATIONS), 0);
	assert_int_equal(regions_committed(&f->rig->regions), SLABS * SLAB);
	ledger_set_limit(&f->rig->ledger.host, LEDGER_PUBLISHED, 2 * SLABS * SLAB);
	assert_int_equal(publish(f, region, "name"), HBM_OK);
}

/* The n-th of these calls fails, for every n until all is attached: how many. */
static unsigned attach_with_failing(struct fixture *f, const char *call)
{
	struct region *region = NULL;
	unsigned failed = 0;

	for (int status = HBM_DEVICE; status != HBM_OK; failed++) {
		assert_int_equal(f->rig->pool.call.fail_nth(call, failed + 1, CUDA_ERROR_UNKNOWN),
				 0);
		region = NULL;
		status = attach(f, &region);
		if (status == HBM_OK)
			status = commit(f, region);
		f->rig->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
		if (status != HBM_OK)
			assert_int_equal(status, HBM_DEVICE);

		if (region)
			destroy_other(f, region);
		assert_int_equal(books_of(f).leased, SLABS * SLAB);
		assert_int_equal(find(f)->attached, 0);
	}

	return failed - 1;
}

static void devices_that_fail(void **state)
{
	struct fixture *f = *state;

	(void)publish_new(f);
	assert_int_equal(attach_with_failing(f, "cuMemAddressReserve"), 1);
	assert_int_equal(attach_with_failing(f, "cuMemMap"), SLABS);
	assert_int_equal(attach_with_failing(f, "cuMemSetAccess"), 1);
	assert_int_equal(attach_with_failing(f, "cuMemExportToShareableHandle"), SLABS);
}

/* The session ends before its region is there. */
static void a_session_that_ends_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct region_outcome outcome = {0};

	(void)publish_new(f);
	assert_int_equal(region_attach(&f->others, find(f), true, region_rig_region_over, &outcome),
			 HBM_OK);
	publication_withdraw(find(f)); /* the region has it */
	regions_end(&f->others);
	pool_run(&f->rig->pool, region_rig_is_over, &outcome);
	assert_int_equal(outcome.status, HBM_SHUTDOWN);
	pool_run(&f->rig->pool, others_are_empty, f);
	assert_int_equal(books_of(f).leased, SLABS * SLAB); /* the creator's */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(nothing_is_made_for_an_attached_region),
		TEST(whoever_goes_last),
		TEST(a_killed_client_keeps_it),
		TEST(a_killed_creator),
		TEST(what_is_held_is_charged_to_the_last),
		TEST(limits_of_a_user),
		TEST(devices_that_fail),
		TEST(a_session_that_ends_meanwhile),
	};
#undef TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
