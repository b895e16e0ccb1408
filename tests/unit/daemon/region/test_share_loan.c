/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots that get slabs of a loan: who may have them and how, what holds them, who is charged,
 * and what becomes of them when the loan, the block or the session goes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/cache/cache.h"
#include "daemon/region/commit.h"
#include "daemon/region/decommit.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot.h"
#include "tests/support/open_namespace.h"
#include "tests/support/tier_rig.h"

#define SLAB GRANULE
#define BLOCK (2 * SLAB)
#define SLOTS 8u

struct client {
	struct user *user;
	struct payer payer;
	struct regions regions;
	struct region *region;
};

struct fixture {
	struct rig rig;
	struct lend *lend;
	struct slabs *slabs;
	uint16_t ns, small_ns;
	uint32_t keys, number; /* number: of the block */
	struct replica *replica;
	struct client clients[3]; /* two of one user, one of another */
};

struct outcome {
	bool over;
	int status;
	struct region *region;
};

static void created(void *arg, int status, struct region *region)
{
	*(struct outcome *)arg = (struct outcome){true, status, region};
}

static void ended(void *arg, int status)
{
	*(struct outcome *)arg = (struct outcome){.over = true, .status = status};
}

static bool is_over(void *arg)
{
	return ((struct outcome *)arg)->over;
}

static void nothing(struct regions *regions)
{
	(void)regions;
}

static struct region *make_region(struct fixture *fixture, struct client *client, uint64_t slab)
{
	struct outcome outcome = {0};

	assert_int_equal(region_create(&client->regions, &fixture->rig.hbmd.devices->list[0],
				       SLOTS * slab, slab, created, &outcome),
			 HBM_OK);
	rig_run(&fixture->rig, is_over, &outcome);
	assert_int_equal(outcome.status, HBM_OK);

	return outcome.region;
}

static void client_open(struct fixture *fixture, struct client *client, uid_t uid)
{
	client->user = user_open(&fixture->rig.ledger, uid);
	assert_non_null(client->user);
	payer_open_below(&client->payer, &client->user->payer, PAYER_SESSION);
	regions_init(&client->regions, &client->payer);
	client->regions.emptied = nothing;
	client->region = make_region(fixture, client, SLAB);
}

static bool is_empty(void *arg)
{
	return list_empty(&((struct client *)arg)->regions.all);
}

static void client_close(struct fixture *fixture, struct client *client)
{
	if (!client->regions.ended)
		regions_end(&client->regions);
	if (!client->regions.released)
		regions_release(&client->regions);
	rig_run(&fixture->rig, is_empty, client);
	assert_true(regions_is_empty(&client->regions));
	payer_close(&client->payer);
	client->user = user_close(client->user);
}

static uint32_t make_block(struct fixture *fixture, uint16_t ns)
{
	struct cache *cache = fixture->rig.hbmd.cache;
	struct hbm_wire_key key = {{1}};
	const uint32_t n = ++fixture->keys;

	memcpy(key.bytes + 8, &n, sizeof(n));
	const uint32_t number = cache_insert(cache, ns, &key, 0);
	assert_int_not_equal(number, 0);
	block_stored(&cache->blocks, number, (struct place){0});

	return number;
}

static bool is_open(void *arg)
{
	return replica_is_open(arg);
}

/* One that is ready and idle. */
static struct replica *make(struct fixture *fixture, uint32_t number, uint64_t piece)
{
	const struct replica_form form = {fixture->clients[0].user, number, piece};
	struct replica *replica;

	assert_int_equal(replica_new(&replica, fixture->lend, &form, NULL), HBM_OK);
	rig_run(&fixture->rig, is_open, replica);
	replica_made(replica);
	replica_unhold(replica);

	return replica;
}

static struct loan *borrow(struct client *client, struct replica *replica)
{
	struct borrower *borrower = &client->regions.borrower;
	struct loan *loan;
	bool named;

	assert_int_equal(loan_new(&loan, borrower), HBM_OK);
	struct export *export = export_begin(borrower, replica->lent, &named);
	assert_non_null(export);
	loan_make(loan, replica, export);
	export_end(export, borrower, named);

	return loan;
}

static uint16_t make_namespace(struct rig *rig, uint64_t weights, uint64_t bytes)
{
	const struct hbm_wire_namespace_spec spec = {.weights = weights, .block_bytes = bytes};

	return open_namespace(rig->hbmd.cache->namespaces, &rig->ledger, &spec);
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct rig *rig = &fixture->rig;

	assert_non_null(fixture);
	rig_init(rig);
	rig->config.device_cache = rig->config.device_headroom = (struct config_size){0};
	rig->config.device_memory = (struct config_size){.bytes = 12 * SLAB};
	rig->config.device_lend = (struct config_size){.bytes = 4 * SLAB};
	rig->config.limit_lent_per_user = rig->config.device_lend;
	rig_open(rig, SLAB);
	fixture->lend = rig->hbmd.devices->list[0].lend;
	fixture->slabs = rig->hbmd.devices->list[0].slabs;
	fixture->ns = make_namespace(rig, 1, BLOCK);
	fixture->small_ns = make_namespace(rig, 2, SLAB / 4);
	for (size_t i = 0; i < 3; i++)
		client_open(fixture, &fixture->clients[i], i < 2 ? 1000 : 2000);
	fixture->number = make_block(fixture, fixture->ns);
	fixture->replica = make(fixture, fixture->number, SLAB);
	*state = fixture;

	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	rig_settle(&fixture->rig);
	for (size_t i = 0; i < 3; i++)
		client_close(fixture, &fixture->clients[i]);
	rig_assert_balanced(&fixture->rig);
	rig_close(&fixture->rig);
	rig_clear(&fixture->rig);
	free(fixture);

	return 0;
}

/* ---- What is done ---- */

static int share(struct fixture *fixture, struct client *client, const struct hbm_wire_share *share)
{
	struct outcome outcome = {0};
	struct commit *commit;
	int status = commit_new_share(&commit, &client->regions, share, 1);
	if (status != HBM_OK)
		return status;

	commit_start(commit, ended, &outcome);
	rig_run(&fixture->rig, is_over, &outcome);
	commit_free(commit);

	return outcome.status;
}

static struct hbm_wire_share of_loan(const struct loan *loan, uint32_t piece, uint32_t pieces,
				     const struct region *target, uint64_t slot)
{
	return (struct hbm_wire_share){
		.source = piece,
		.source_offset = loan->id,
		.target = region_id(target),
		.target_offset = slot * SLAB,
		.bytes = pieces * SLAB,
		.flags = HBM_WIRE_OF_LOAN | HBM_WIRE_READ_ONLY,
	};
}

static int share_loan(struct fixture *fixture, struct client *client, const struct loan *loan,
		      uint64_t slot)
{
	const struct hbm_wire_share all = of_loan(loan, 0, 2, client->region, slot);

	return share(fixture, client, &all);
}

static void decommit(struct fixture *fixture, struct client *client, uint64_t first, uint64_t count)
{
	const struct hbm_wire_range range = {
		.region = region_id(client->region), .offset = first * SLAB, .bytes = count * SLAB};
	struct outcome outcome = {0};

	assert_int_equal(decommit_start(&client->regions, &range, 1, ended, &outcome), HBM_OK);
	rig_run(&fixture->rig, is_over, &outcome);
	assert_int_equal(outcome.status, HBM_OK);
}

static const char *problem(struct lend *lend)
{
	lend_check_begin(lend);
	while (lend_check_some(lend, 1))
		;

	return lend_check_end(lend);
}

/* So many slots have slabs of the replica, and so many loans. */
static void expect(struct fixture *fixture, uint64_t slots, uint64_t loans)
{
	const struct replica *replica = fixture->replica;

	assert_int_equal(replica->slots, slots);
	assert_int_equal(replica->holds, slots + loans);
	assert_int_equal(fixture->lend->in_slots, slots * SLAB);
	assert_int_equal(fixture->lend->loans, loans);
	assert_int_equal(replica->lent->slabs[0]->refs + replica->lent->slabs[1]->refs, 2 + slots);
	assert_int_equal(slabs_books(fixture->slabs).leased, BLOCK);
	assert_null(problem(fixture->lend));
}

static bool has_none(void *arg)
{
	return slabs_books(arg).leased + slabs_books(arg).retiring == 0;
}

/* ---- One session ---- */

static void test_slots_hold_what_was_lent(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct region *region = client->region;
	struct loan *loan = borrow(client, fixture->replica);

	expect(fixture, 0, 1);
	assert_int_equal(share_loan(fixture, client, loan, 3), HBM_OK);
	expect(fixture, 2, 1);
	for (uint64_t i = 3; i < 5; i++) {
		assert_true(region->slots[i].read_only && region->slots[i].lent);
		assert_ptr_equal(region->slots[i].slab, fixture->replica->lent->slabs[i - 3]);
	}

	/* It is no memory of the session. */
	assert_int_equal(region->lent, BLOCK);
	assert_int_equal(region->shared, 0);
	assert_int_equal(regions_committed(&client->regions), 0);
	assert_int_equal(regions_backed(&client->regions, region_device(region)), 0);

	/* One piece of it, elsewhere; and what has been returned still holds. */
	const struct hbm_wire_share second = of_loan(loan, 1, 1, region, 0);

	assert_int_equal(share(fixture, client, &second), HBM_OK);
	assert_ptr_equal(region->slots[0].slab, fixture->replica->lent->slabs[1]);
	expect(fixture, 3, 1);
	loan_free(loan);
	expect(fixture, 3, 0);
	decommit(fixture, client, 3, 1);
	expect(fixture, 2, 0);
	assert_int_equal(lend_give_back(fixture->lend, BLOCK), 0);
	decommit(fixture, client, 4, 1);
	decommit(fixture, client, 0, 1);
	expect(fixture, 0, 0);
	assert_int_equal(region->lent, 0);
	assert_int_equal(lend_give_back(fixture->lend, BLOCK), BLOCK);
	rig_run(&fixture->rig, has_none, fixture->slabs);
}

/* What a slot has borrowed, others of the session may have; not to write to it. */
static void test_it_stays_lent_where_it_is_shared_again(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct region *region = client->region;
	struct loan *loan = borrow(client, fixture->replica);
	struct hbm_wire_share again = {.source = region_id(region),
				       .target = region_id(region),
				       .target_offset = 4 * SLAB,
				       .bytes = BLOCK};

	assert_int_equal(share_loan(fixture, client, loan, 0), HBM_OK);
	loan_free(loan);
	assert_int_equal(share(fixture, client, &again), HBM_DENIED);
	expect(fixture, 2, 0);
	again.flags = HBM_WIRE_READ_ONLY;
	assert_int_equal(share(fixture, client, &again), HBM_OK);
	expect(fixture, 4, 0);
	assert_true(region->slots[5].lent);
	decommit(fixture, client, 0, 2);
	expect(fixture, 2, 0);
	decommit(fixture, client, 4, 2);
	expect(fixture, 0, 0);
}

/* ---- Refusals ---- */

static void test_refusals_change_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct region *large = make_region(fixture, client, 2 * SLAB);
	struct loan *loan = borrow(client, fixture->replica),
		    *others = borrow(&fixture->clients[1], fixture->replica),
		    *returned = borrow(client, fixture->replica);
	const struct hbm_wire_share good = of_loan(loan, 0, 2, client->region, 0);
	struct hbm_wire_share writable = good, absent = good, gone = good, beyond = good,
			      far = good, other_size = good, outside = good;

	gone.source_offset = returned->id;
	loan_free(returned);
	writable.flags = HBM_WIRE_OF_LOAN;
	absent.source_offset = 0;
	beyond.source = 1;
	far.source = UINT32_MAX;
	other_size.target = region_id(large);
	outside.target_offset = (SLOTS - 1) * SLAB;
	const struct {
		struct hbm_wire_share share;
		int status;
	} cases[] = {
		{writable, HBM_DENIED}, {absent, HBM_NOT_FOUND}, {gone, HBM_NOT_FOUND},
		{beyond, HBM_INVALID},  {far, HBM_INVALID},      {other_size, HBM_INVALID},
		{outside, HBM_INVALID},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(share(fixture, client, &cases[i].share), cases[i].status);
		expect(fixture, 0, 2);
		assert_null(client->region->slots[0].slab);
	}

	/* A loan is its session's, also among sessions of one user; and another's is none. */
	loan_free(loan);
	assert_int_equal(share_loan(fixture, client, others, 0), HBM_NOT_FOUND);
	assert_int_equal(share_loan(fixture, &fixture->clients[2], others, 0), HBM_NOT_FOUND);
	expect(fixture, 0, 1);
	assert_int_equal(share_loan(fixture, &fixture->clients[1], others, 0), HBM_OK);
	assert_int_equal(share_loan(fixture, &fixture->clients[1], others, 1), HBM_EXISTS);
	expect(fixture, 2, 1);
	loan_free(others);
	decommit(fixture, &fixture->clients[1], 0, 2);
}

/* Another block lies in the slab: it would be mapped, too. */
static void test_a_block_beside_others_is_not_shared(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct replica *small = make(fixture, make_block(fixture, fixture->small_ns), 0);
	struct loan *loan = borrow(client, small);
	const struct hbm_wire_share one = of_loan(loan, 0, 1, client->region, 0);

	assert_int_equal(share(fixture, client, &one), HBM_INVALID);
	assert_int_equal(small->holds, 1);
	loan_free(loan);
}

static void test_a_stuck_slab_is_not_shared(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct loan *loan = borrow(client, fixture->replica);
	struct slab *slab = fixture->replica->lent->slabs[1];

	slab->stuck = true;
	assert_int_equal(share_loan(fixture, client, loan, 0), HBM_DEVICE);
	slab->stuck = false;
	expect(fixture, 0, 1);
	loan_free(loan);
}

/* ---- The end of the block, of sessions, and of room ---- */

static void test_a_block_that_is_dropped(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct loan *loan = borrow(client, fixture->replica);
	const struct replica_form form = {client->user, fixture->number, SLAB};

	assert_int_equal(share_loan(fixture, client, loan, 0), HBM_OK);
	loan_free(loan);
	cache_drop(fixture->rig.hbmd.cache, fixture->number);
	assert_null(replica_find(fixture->lend, &form));
	expect(fixture, 2, 0);
	decommit(fixture, client, 0, 1);
	expect(fixture, 1, 0);
	decommit(fixture, client, 1, 1);
	assert_int_equal(fixture->lend->replicas, 0);
	assert_int_equal(fixture->lend->bytes, 0);
	rig_run(&fixture->rig, has_none, fixture->slabs);
}

/* A session that has ended has its slots until its process is gone, which then has nothing. */
static void test_sessions_end(void **state)
{
	struct fixture *fixture = *state;
	struct client *one = &fixture->clients[0], *other = &fixture->clients[1];

	assert_int_equal(share_loan(fixture, one, borrow(one, fixture->replica), 0), HBM_OK);
	assert_int_equal(share_loan(fixture, other, borrow(other, fixture->replica), 2), HBM_OK);
	expect(fixture, 4, 2);
	regions_end(&one->regions);
	expect(fixture, 4, 2);
	regions_release(&one->regions);
	rig_run(&fixture->rig, is_empty, one);
	expect(fixture, 2, 1);

	regions_end(&other->regions);
	expect(fixture, 2, 1);
	regions_release(&other->regions);
	rig_run(&fixture->rig, is_empty, other);
	expect(fixture, 0, 0); /* for the next process */
	assert_int_equal(lend_give_back(fixture->lend, BLOCK), BLOCK);
	rig_run(&fixture->rig, has_none, fixture->slabs);
}

static int commit(struct fixture *fixture, struct client *client, uint64_t first, uint64_t count)
{
	const struct hbm_wire_range range = {
		.region = region_id(client->region), .offset = first * SLAB, .bytes = count * SLAB};
	struct outcome outcome = {0};
	struct commit *commit;
	int status = commit_new(&commit, &client->regions, &range, 1);
	if (status != HBM_OK)
		return status;

	commit_start(commit, ended, &outcome);
	rig_run(&fixture->rig, is_over, &outcome);
	commit_free(commit);

	return outcome.status;
}

/* Who has borrowed the slabs of another's region leaves them to that: the next one has the same
 * slabs. Their owner takes them along. */
static void test_a_borrower_of_a_region_ends(void **state)
{
	struct fixture *fixture = *state;
	struct client *owner = &fixture->clients[0], *borrower = &fixture->clients[1];
	const struct replica_form form = {owner->user, make_block(fixture, fixture->ns), SLAB};
	struct slab *slabs[2];

	lend_give_back(fixture->lend, BLOCK);
	assert_int_equal(commit(fixture, owner, 0, 2), HBM_OK);
	assert_int_equal(region_slabs(owner->region, 0, BLOCK, slabs, 2), 2);
	struct replica *replica = replica_adopt(fixture->lend, &form, slabs, 2);
	assert_true(replica && borrower_owns(&owner->regions.borrower, replica->lent));

	/* Another user has nothing of it: what that borrows is a copy. */
	const struct replica_form others = {fixture->clients[2].user, form.number, SLAB};

	assert_null(replica_find(fixture->lend, &others));
	struct loan *loan = borrow(borrower, replica);
	assert_int_equal(share_loan(fixture, borrower, loan, 0), HBM_OK);
	loan_free(loan);
	decommit(fixture, borrower, 0, 2);
	regions_end(&borrower->regions);
	assert_ptr_equal(replica_find(fixture->lend, &form), replica);
	assert_null(problem(fixture->lend));

	loan_free(borrow(owner, replica));
	regions_end(&owner->regions);
	assert_null(replica_find(fixture->lend, &form));
	assert_int_equal(fixture->lend->bytes, 0);
}

/* What slots have is not closed for others; what they let go is. */
static void test_room_is_taken_from_what_no_slot_has(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct loan *loan = borrow(client, fixture->replica);
	struct replica *second = make(fixture, make_block(fixture, fixture->ns), SLAB), *third;
	const struct replica_form form = {client->user, make_block(fixture, fixture->ns), SLAB};

	assert_int_equal(share_loan(fixture, client, loan, 0), HBM_OK);
	loan_free(loan);
	loan = borrow(client, second);
	assert_int_equal(share_loan(fixture, client, loan, 2), HBM_OK);
	loan_free(loan);
	assert_int_equal(replica_new(&third, fixture->lend, &form, NULL), HBM_NO_SPACE);
	assert_int_equal(fixture->lend->in_slots, 2 * BLOCK);
	assert_int_equal(fixture->lend->busy, 2 * BLOCK);

	decommit(fixture, client, 2, 2);
	assert_int_equal(replica_new(&third, fixture->lend, &form, NULL), HBM_OK);
	rig_run(&fixture->rig, is_open, third);
	replica_lose(third);
	replica_unhold(third);
	assert_int_equal(fixture->lend->replicas, 1);
	assert_int_equal(fixture->replica->slots, 2);
	decommit(fixture, client, 0, 2);
}

/* ---- The check ---- */

static void test_a_count_that_is_off(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct loan *loan = borrow(client, fixture->replica);

	assert_int_equal(share_loan(fixture, client, loan, 0), HBM_OK);
	fixture->replica->slots++;
	assert_non_null(problem(fixture->lend));
	fixture->replica->slots--;
	assert_null(problem(fixture->lend));
	loan_free(loan);
	decommit(fixture, client, 0, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_slots_hold_what_was_lent),
		TEST(test_it_stays_lent_where_it_is_shared_again),
		TEST(test_refusals_change_nothing),
		TEST(test_a_block_beside_others_is_not_shared),
		TEST(test_a_stuck_slab_is_not_shared),
		TEST(test_a_block_that_is_dropped),
		TEST(test_sessions_end),
		TEST(test_a_borrower_of_a_region_ends),
		TEST(test_room_is_taken_from_what_no_slot_has),
		TEST(test_a_count_that_is_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
