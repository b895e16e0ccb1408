/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device lends: where replicas lie and who finds them, whose room they take, what is
 * given up and what is not, who is charged for what clients keep, and that a count that is off
 * is found.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/cache/cache.h"
#include "daemon/region/lend.h"
#include "daemon/region/loan.h"
#include "daemon/region/slab.h"
#include "tests/support/open_namespace.h"
#include "tests/support/tier_rig.h"

#define SLAB GRANULE
#define BLOCK (SLAB / 4) /* four in a slab */
#define LEND (3 * SLAB)
#define POOL (8 * SLAB)

/* A client: whose it is, and what it has borrowed. */
struct client {
	struct user *user;
	struct payer payer;
	struct holder holder;
	struct borrower borrower;
	unsigned ends; /* of its borrower's work */
};

struct fixture {
	struct rig rig;
	struct lend *lend;
	struct slabs *slabs;
	uint16_t ns, other_ns;
	struct client clients[2], stranger; /* two of one user, one of another */
	uint32_t keys;
};

static void client_open(struct fixture *fixture, struct client *client, uid_t uid)
{
	client->user = user_open(&fixture->rig.ledger, uid);
	assert_non_null(client->user);
	payer_open_below(&client->payer, &client->user->payer, PAYER_SESSION);
	holder_init(&client->holder, &client->payer);
	borrower_init(&client->borrower, &client->payer, &client->holder);
}

static void client_close(struct client *client)
{
	borrower_release(&client->borrower);
	assert_true(borrower_is_empty(&client->borrower));
	assert_true(list_empty(&client->borrower.exports));
	payer_close(&client->payer);
	client->user = user_close(client->user);
}

static uint16_t make_namespace(struct rig *rig, uint64_t weights)
{
	const struct hbm_wire_namespace_spec spec = {.weights = weights, .block_bytes = BLOCK};

	return open_namespace(rig->hbmd.cache->namespaces, &rig->ledger, &spec);
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct rig *rig = &fixture->rig;

	assert_non_null(fixture);
	rig_init(rig);
	rig->config.device_cache = rig->config.device_headroom = (struct config_size){0};
	rig->config.device_memory = (struct config_size){.bytes = POOL};
	rig->config.device_lend = (struct config_size){.bytes = LEND};
	rig->config.limit_lent_per_user = (struct config_size){.bytes = 2 * SLAB};
	rig->config.limit_loans = 3;
	rig_open(rig, SLAB);
	fixture->lend = rig->hbmd.devices->list[0].lend;
	fixture->slabs = rig->hbmd.devices->list[0].slabs;
	fixture->ns = make_namespace(rig, 1);
	fixture->other_ns = make_namespace(rig, 2);
	client_open(fixture, &fixture->clients[0], 1000);
	client_open(fixture, &fixture->clients[1], 1000);
	client_open(fixture, &fixture->stranger, 2000);
	*state = fixture;

	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	rig_settle(&fixture->rig);
	rig_assert_balanced(&fixture->rig);
	client_close(&fixture->clients[0]);
	client_close(&fixture->clients[1]);
	client_close(&fixture->stranger);
	rig_close(&fixture->rig);
	rig_clear(&fixture->rig);
	free(fixture);

	return 0;
}

/* ---- What is done ---- */

static uint32_t make_block(struct fixture *fixture, uint16_t ns)
{
	struct cache *cache = fixture->rig.hbmd.cache;
	struct hbm_wire_key key = {{1}};
	uint32_t n = ++fixture->keys;

	memcpy(key.bytes + 8, &n, sizeof(n));
	uint32_t number = cache_insert(cache, ns, &key, 0);
	assert_int_not_equal(number, 0);
	block_stored(&cache->blocks, number, (struct place){0});

	return number;
}

static struct replica_form form_of(const struct client *client, uint32_t number, uint64_t piece)
{
	return (struct replica_form){.user = client->user, .number = number, .piece = piece};
}

static bool is_open(void *arg)
{
	return replica_is_open(arg);
}

/* One that is ready, and idle: what replicate.h does, without the bytes. */
static struct replica *make(struct fixture *fixture, const struct client *client, uint32_t number)
{
	const struct replica_form form = form_of(client, number, 0);
	struct replica *replica;

	assert_null(replica_find(fixture->lend, &form));
	assert_int_equal(replica_new(&replica, fixture->lend, &form, NULL), HBM_OK);
	rig_run(&fixture->rig, is_open, replica);
	assert_int_not_equal(replica_address(replica), 0);
	replica_made(replica);
	replica_unhold(replica);
	assert_ptr_equal(replica_find(fixture->lend, &form), replica);

	return replica;
}

/* A loan, and what the reply that makes it does. *named: nothing was sent. */
static struct loan *borrow(struct client *client, struct replica *replica, bool *named)
{
	struct loan *loan;

	assert_int_equal(loan_new(&loan, &client->borrower), HBM_OK);
	struct export *export = export_begin(&client->borrower, replica->lent, named);
	assert_non_null(export);
	loan_make(loan, replica, export);
	export_end(export, &client->borrower, *named);

	return loan;
}

static bool is_quiet(void *arg)
{
	return slabs_books(arg).retiring == 0;
}

/* The pool has all but so many slabs. */
static void assert_leased(struct fixture *fixture, uint64_t slabs)
{
	rig_run(&fixture->rig, is_quiet, fixture->slabs);
	assert_int_equal(slabs_books(fixture->slabs).leased, slabs * SLAB);
	assert_int_equal(fixture->lend->bytes, slabs * SLAB);
}

/* ---- Where they lie ---- */

static void test_blocks_of_one_namespace_and_user_share_slabs(void **state)
{
	struct fixture *fixture = *state;
	const struct client *client = &fixture->clients[0];
	struct replica *replicas[5];

	for (int i = 0; i < 5; i++)
		replicas[i] = make(fixture, client, make_block(fixture, fixture->ns));
	for (int i = 1; i < 4; i++) {
		assert_ptr_equal(replicas[i]->lent, replicas[0]->lent);
		assert_int_equal(replica_address(replicas[i]),
				 replica_address(replicas[0]) + (uint64_t)i * BLOCK);
	}

	assert_ptr_not_equal(replicas[4]->lent, replicas[0]->lent);
	assert_leased(fixture, 2);
}

static void test_no_slab_is_of_two_namespaces_or_users(void **state)
{
	struct fixture *fixture = *state;
	uint32_t number = make_block(fixture, fixture->ns);
	struct replica *one = make(fixture, &fixture->clients[0], number),
		       *other_ns = make(fixture, &fixture->clients[0],
					make_block(fixture, fixture->other_ns)),
		       *stranger = make(fixture, &fixture->stranger, number);

	assert_ptr_not_equal(one->lent, other_ns->lent);
	assert_ptr_not_equal(one->lent, stranger->lent);
	assert_ptr_not_equal(one, stranger);

	const struct replica_form form = form_of(&fixture->clients[1], number, 0);
	assert_ptr_equal(replica_find(fixture->lend, &form), one);
	assert_leased(fixture, 3);
}

/* The number of a namespace whose blocks are gone may be given to another. */
static void test_slabs_of_dropped_blocks_take_no_more(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	uint32_t number = make_block(fixture, fixture->ns);
	struct replica *replica = make(fixture, client, number);
	bool named;
	struct loan *loan = borrow(client, replica, &named);

	cache_drop(fixture->rig.hbmd.cache, number);
	assert_int_equal(replica->number, 0);
	struct replica *next = make(fixture, client, make_block(fixture, fixture->ns));
	assert_ptr_not_equal(next->lent, replica->lent);
	assert_leased(fixture, 2);

	/* It is gone with its last loan. */
	loan_free(loan);
	assert_leased(fixture, 1);
}

static bool all_is_made(void *arg)
{
	return slabs_books(arg).uncreated == 0 && slabs_books(arg).retiring == 0;
}

/* Slabs that have held bytes of a user are not used again, also if no client had them. */
static void test_slabs_are_released_and_not_reused(void **state)
{
	struct fixture *fixture = *state;
	uint32_t number = make_block(fixture, fixture->ns);

	make(fixture, &fixture->clients[0], number);
	rig_run(&fixture->rig, all_is_made, fixture->slabs);
	slabs_drain(fixture->slabs); /* none is made ahead any more */
	cache_drop(fixture->rig.hbmd.cache, number);
	rig_run(&fixture->rig, is_quiet, fixture->slabs);
	assert_int_equal(fixture->lend->bytes, 0);
	assert_int_equal(slabs_books(fixture->slabs).leased, 0);
	assert_int_equal(slabs_books(fixture->slabs).ready, POOL - SLAB);
	assert_int_equal(slabs_books(fixture->slabs).uncreated, SLAB);
}

/* ---- Room ---- */

static void test_idle_slabs_make_way_and_others_do_not(void **state)
{
	struct fixture *fixture = *state;
	struct client *clients = fixture->clients;
	const uint32_t first = make_block(fixture, fixture->ns),
		       second = make_block(fixture, fixture->other_ns),
		       third = make_block(fixture, make_namespace(&fixture->rig, 3)),
		       fourth = make_block(fixture, make_namespace(&fixture->rig, 4));
	bool named;

	/* Of one user, which may have two slabs: the first is on loan, the second goes. */
	struct loan *loan = borrow(&clients[0], make(fixture, &clients[0], first), &named);
	make(fixture, &clients[0], second);
	make(fixture, &clients[0], third);
	const struct replica_form forms[] = {
		form_of(&clients[0], first, 0), form_of(&clients[0], second, 0),
		form_of(&clients[0], third, 0), form_of(&fixture->stranger, fourth, 0)};
	assert_non_null(replica_find(fixture->lend, &forms[0]));
	assert_null(replica_find(fixture->lend, &forms[1]));
	assert_leased(fixture, 2);

	/* Both on loan: it may have no more; another user may, and then all is in use. */
	struct loan *last = borrow(&clients[0], replica_find(fixture->lend, &forms[2]), &named);
	struct replica *replica;
	assert_int_equal(replica_new(&replica, fixture->lend, &forms[1], NULL), HBM_LIMIT);
	assert_int_equal(fixture->lend->bytes, 2 * SLAB);
	struct loan *strange =
		borrow(&fixture->stranger, make(fixture, &fixture->stranger, fourth), &named);
	const struct replica_form fifth = form_of(&fixture->stranger, first, 0);
	assert_int_equal(replica_new(&replica, fixture->lend, &fifth, NULL), HBM_NO_SPACE);
	assert_leased(fixture, 3);
	rig_assert_balanced(&fixture->rig);

	loan_free(strange);
	loan_free(last);
	loan_free(loan);
	assert_int_equal(fixture->lend->busy, 0);
}

static void test_the_pool_asks_for_what_is_idle(void **state)
{
	struct fixture *fixture = *state;
	bool named;

	make(fixture, &fixture->clients[0], make_block(fixture, fixture->ns));
	struct loan *loan =
		borrow(&fixture->clients[0],
		       make(fixture, &fixture->clients[0], make_block(fixture, fixture->other_ns)),
		       &named);
	lend_give_back(fixture->lend, UINT64_MAX);
	assert_leased(fixture, 1);
	loan_free(loan);
	lend_give_back(fixture->lend, 1);
	assert_leased(fixture, 0);
}

/* A copy that failed may go on: the cell that it writes to is no other block's. */
static void test_the_cell_of_a_late_copy_is_not_used_again(void **state)
{
	struct fixture *fixture = *state;
	const struct client *client = &fixture->clients[0];
	struct replica *first = make(fixture, client, make_block(fixture, fixture->ns));
	struct replica *late = make(fixture, client, make_block(fixture, fixture->ns));
	struct lent *lent = first->lent;

	assert_ptr_equal(late->lent, lent);
	replica_hold(late);
	lent_keep(lent);
	replica_lose(late);
	replica_unhold(late);
	assert_int_equal(lent->used, 1);

	struct replica *next = make(fixture, client, make_block(fixture, fixture->ns));
	assert_ptr_not_equal(next->lent, lent);
}

/* ---- Loans ---- */

static void test_descriptors_are_sent_while_there_is_no_loan(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct replica *one = make(fixture, client, make_block(fixture, fixture->ns)),
		       *two = make(fixture, client, make_block(fixture, fixture->ns));
	bool named;

	assert_ptr_equal(one->lent, two->lent);
	struct loan *first = borrow(client, one, &named);
	assert_false(named);
	struct loan *second = borrow(client, two, &named);
	assert_true(named);
	assert_int_not_equal(first->id, second->id);
	assert_ptr_equal(loan_find(&client->borrower, second->id), second);
	struct loan *third = borrow(&fixture->clients[1], one, &named);
	assert_false(named);

	/* What a reply in preparation names stays the client's. */
	struct export *export = export_begin(&client->borrower, one->lent, &named);
	assert_true(named);
	loan_free(first);
	loan_free(second);
	bool again;
	assert_ptr_equal(export_begin(&client->borrower, one->lent, &again), export);
	assert_true(again);
	export_end(export, &client->borrower, again);
	export_end(export, &client->borrower, named);

	first = borrow(client, one, &named);
	assert_false(named);
	loan_free(first);
	loan_free(third);
	assert_leased(fixture, 1);
}

static void test_loans_are_limited(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct replica *replica = make(fixture, client, make_block(fixture, fixture->ns));
	struct loan *loans[3], *more;
	bool named;

	for (int i = 0; i < 3; i++)
		loans[i] = borrow(client, replica, &named);
	assert_int_equal(loan_new(&more, &client->borrower), HBM_LIMIT);
	assert_int_equal(client->borrower.bytes, 3 * BLOCK);
	loan_free(loans[1]);
	assert_int_equal(loan_new(&more, &client->borrower), HBM_OK);
	loan_free(more);
	loan_free(loans[0]);
	loan_free(loans[2]);
	assert_int_equal(fixture->lend->loans, 0);
}

/* A session that ends takes along what it alone has had, and is charged for what its process
 * keeps; not what another has, nor, when its process is gone, anything. */
static void test_the_end_of_a_session(void **state)
{
	struct fixture *fixture = *state;
	struct client *clients = fixture->clients;
	uint32_t number = make_block(fixture, fixture->ns);
	struct replica *replica = make(fixture, &clients[0], number);
	bool named;

	loan_free(borrow(&clients[0], replica, &named));
	struct loan *loan = borrow(&clients[1], replica, &named);
	borrower_end(&clients[0].borrower);
	assert_leased(fixture, 1);

	borrower_end(&clients[1].borrower);
	assert_false(borrower_is_empty(&clients[1].borrower));
	assert_ptr_equal(loan_find(&clients[1].borrower, 1), loan);
	borrower_release(&clients[1].borrower);
	assert_true(borrower_is_empty(&clients[1].borrower));
	assert_leased(fixture, 1); /* for the next process */

	struct client next;
	client_open(fixture, &next, 1000);
	loan_free(borrow(&next, replica, &named));
	borrower_end(&next.borrower);
	assert_leased(fixture, 0);
	client_close(&next);
}

/* A request that borrows, as it does until its reply: it holds the replica and names its slabs. */
struct borrowing {
	struct client *client;
	struct replica *replica;
	struct export *export;
	bool named;
};

static struct borrowing begin_to_borrow(struct client *client, struct replica *replica)
{
	struct borrowing borrowing = {.client = client, .replica = replica};

	replica_hold(replica);
	borrowing.export = export_begin(&client->borrower, replica->lent, &borrowing.named);
	assert_non_null(borrowing.export);

	return borrowing;
}

static void give_up_borrowing(struct borrowing *borrowing)
{
	export_end(borrowing->export, &borrowing->client->borrower, borrowing->named);
	replica_unhold(borrowing->replica);
}

/* What its process may still have from a loan before is charged to it: the slabs go with the last
 * request that holds them. */
static void test_a_session_that_ends_while_it_borrows(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct replica *replica = make(fixture, client, make_block(fixture, fixture->ns));
	bool named;

	loan_free(borrow(client, replica, &named));
	struct borrowing one = begin_to_borrow(client, replica),
			 two = begin_to_borrow(client, replica);
	borrower_end(&client->borrower);
	give_up_borrowing(&one);
	assert_int_equal(client->holder.releasing, 0);
	give_up_borrowing(&two);
	assert_int_equal(client->holder.releasing, SLAB);
	assert_leased(fixture, 0);
}

/* Unless another has them by then. */
static void test_a_session_that_ends_while_another_borrows(void **state)
{
	struct fixture *fixture = *state;
	struct client *clients = fixture->clients;
	struct replica *replica = make(fixture, &clients[0], make_block(fixture, fixture->ns));
	bool named;

	loan_free(borrow(&clients[0], replica, &named));
	struct borrowing own = begin_to_borrow(&clients[0], replica);
	replica_hold(replica); /* of the other's request */
	borrower_end(&clients[0].borrower);
	give_up_borrowing(&own);
	struct loan *loan = borrow(&clients[1], replica, &named);
	replica_unhold(replica);
	assert_false(named);
	assert_true(list_empty(&clients[0].borrower.exports));
	loan_free(loan);
	assert_leased(fixture, 1);
	assert_int_equal(clients[0].holder.releasing, 0);
}

static unsigned settled;

static void count_settled(struct holder *holder)
{
	(void)holder;
	settled++;
}

/* While a request of another holds what it alone has had, it may still be charged for it: its
 * session is there, and goes when the other has it. */
static void test_a_session_that_ends_stays_while_another_borrows(void **state)
{
	struct fixture *fixture = *state;
	struct client *clients = fixture->clients;
	struct replica *replica = make(fixture, &clients[0], make_block(fixture, fixture->ns));
	bool named;

	clients[0].holder.settled = count_settled;
	settled = 0;
	loan_free(borrow(&clients[0], replica, &named));
	replica_hold(replica); /* of the other's request */
	borrower_end(&clients[0].borrower);
	assert_false(holder_is_settled(&clients[0].holder));
	struct loan *loan = borrow(&clients[1], replica, &named);
	assert_int_equal(settled, 1);
	assert_true(list_empty(&clients[0].borrower.exports));
	replica_unhold(replica);
	loan_free(loan);
	assert_leased(fixture, 1);
}

/* And while it is read, though it is closed: what the process keeps of it is charged then. */
static void test_a_session_that_ends_stays_while_it_is_read(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct replica *replica = make(fixture, client, make_block(fixture, fixture->ns));
	struct lent *lent = replica->lent;
	bool named;

	client->holder.settled = count_settled;
	settled = 0;
	loan_free(borrow(client, replica, &named));
	lent_read(lent);
	borrower_end(&client->borrower);
	assert_int_equal(fixture->lend->bytes, 0);
	assert_false(holder_is_settled(&client->holder));
	lent_unread(lent);
	assert_int_equal(settled, 0);
	assert_int_equal(client->holder.releasing, SLAB);
	assert_true(list_empty(&client->borrower.exports));
	assert_leased(fixture, 0);
	assert_int_equal(settled, 1);
}

/* ---- Without a copy ---- */

static void taken(struct slab_request *request)
{
	assert_int_equal(request->status, HBM_OK);
}

static bool is_taken(void *arg)
{
	return !list_empty(&((struct slab_request *)arg)->taken);
}

/* A slab that backs a slot, and may have been handed out. */
static struct slab *place_slab_of(struct fixture *fixture, struct promise *promise)
{
	struct slab_request request = {
		.bytes = SLAB, .count = 1, .promise = promise, .done = taken};

	list_init(&request.taken);
	assert_int_equal(slabs_request(fixture->slabs, &request), HBM_OK);
	rig_run(&fixture->rig, is_taken, &request);
	struct slab *slab = container_of(list_pop_front(&request.taken), struct slab, link);
	slab->exported = true;
	slab_place(slab);

	return slab;
}

static struct slab *place_slab(struct fixture *fixture)
{
	return place_slab_of(fixture, NULL);
}

static uint32_t make_large_block(struct fixture *fixture, uint64_t bytes)
{
	const struct hbm_wire_namespace_spec spec = {.weights = bytes, .block_bytes = bytes};

	return make_block(fixture, open_namespace(fixture->rig.hbmd.cache->namespaces,
						  &fixture->rig.ledger, &spec));
}

/* The slab of a slot is lent as it is: a check that goes on takes that for no slot's. */
static void test_a_slab_is_adopted(void **state)
{
	struct fixture *fixture = *state;
	struct slabs *slabs = fixture->slabs;
	uint32_t number = make_large_block(fixture, SLAB);
	const struct replica_form form = form_of(&fixture->clients[0], number, SLAB);
	struct slab *slab = place_slab(fixture);

	slabs_check_begin(slabs);
	(void)slabs_check_some(slabs, UINT32_MAX);
	assert_int_equal(slabs_check_slots(slabs), SLAB);
	struct replica *replica = replica_adopt(fixture->lend, &form, &slab, 1);
	assert_non_null(replica);
	assert_int_equal(slab->refs, 2);
	assert_int_equal(slabs_check_slots(slabs), SLAB);
	assert_null(replica_adopt(fixture->lend, &form, &slab, 1));
	assert_ptr_equal(replica_find(fixture->lend, &form), replica);
	assert_int_equal(slabs_books(slabs).leased, SLAB);
	assert_int_equal(fixture->lend->bytes, SLAB);

	cache_drop(fixture->rig.hbmd.cache, number);
	assert_int_equal(slab->refs, 1);
	assert_int_equal(slabs_check_slots(slabs), SLAB);
	slab_drop_slot(slab, false);
	assert_leased(fixture, 0);
}

/* A block may have one slab twice. Whoever had it as a region's may be gone when it is closed,
 * and is not charged for it. */
static void test_one_slab_is_adopted_twice(void **state)
{
	struct fixture *fixture = *state;
	uint32_t number = make_large_block(fixture, 2 * SLAB);
	const struct replica_form form = form_of(&fixture->clients[0], number, SLAB);
	struct slab *slab = place_slab(fixture), *both[] = {slab, slab};

	slab->part.holder = &fixture->clients[0].holder;
	assert_non_null(replica_adopt(fixture->lend, &form, both, 2));
	assert_int_equal(slab->refs, 3);
	slab_drop_slot(slab, false);
	cache_drop(fixture->rig.hbmd.cache, number);
	assert_null(slab->part.holder);
	assert_leased(fixture, 0);
}

static void test_the_pool_asks_for_a_slab_that_is_adopted_twice(void **state)
{
	struct fixture *fixture = *state;
	uint32_t number = make_large_block(fixture, 2 * SLAB);
	const struct replica_form form = form_of(&fixture->clients[0], number, SLAB);
	struct slab *slab = place_slab(fixture), *both[] = {slab, slab};

	assert_non_null(replica_adopt(fixture->lend, &form, both, 2));
	assert_int_equal(lend_give_back(fixture->lend, SLAB), 0);
	slab_drop_slot(slab, false);
	assert_int_equal(lend_give_back(fixture->lend, SLAB), SLAB);
	assert_false(lend_gives_back(fixture->lend));
	assert_leased(fixture, 0);
}

/* The pool has nothing of a slab that a region has, too: it stays, and another goes. */
static void test_the_pool_asks_for_nothing_that_a_region_has(void **state)
{
	struct fixture *fixture = *state;
	uint32_t number = make_large_block(fixture, SLAB);
	const struct replica_form form = form_of(&fixture->clients[0], number, SLAB);
	struct slab *slab = place_slab(fixture);
	struct replica *replica = replica_adopt(fixture->lend, &form, &slab, 1);

	assert_non_null(replica);
	make(fixture, &fixture->clients[0], make_block(fixture, fixture->ns));
	assert_int_equal(lend_give_back(fixture->lend, SLAB), SLAB);
	assert_leased(fixture, 1);
	assert_int_equal(lend_give_back(fixture->lend, SLAB), 0);
	assert_ptr_equal(replica_find(fixture->lend, &form), replica);

	slab_drop_slot(slab, false);
	assert_int_equal(lend_give_back(fixture->lend, SLAB), SLAB);
	assert_leased(fixture, 0);
}

static struct promise *reserve(struct fixture *fixture, struct client *client, uint64_t slabs)
{
	struct promise *promise = promise_new(slabs_promises(fixture->slabs), 0);

	assert_non_null(promise);
	assert_true(slabs_reserve(fixture->slabs, promise, &client->payer, slabs * SLAB));

	return promise;
}

/* A slab that its maker lends and has given back. */
static struct replica *lend_and_give_back(struct fixture *fixture, struct client *client,
					  struct promise *promise)
{
	uint32_t number = make_large_block(fixture, SLAB);
	const struct replica_form form = form_of(client, number, SLAB);
	struct slab *slab = place_slab_of(fixture, promise);
	struct replica *replica = replica_adopt(fixture->lend, &form, &slab, 1);

	assert_non_null(replica);
	assert_int_equal(promise->used, SLAB);
	slab_drop_slot(slab, false);
	assert_null(slabs_check(fixture->slabs));

	return replica;
}

/* What it reserved is its to commit, as before. */
static void test_what_is_given_back_is_in_no_promise(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct promise *promise = reserve(fixture, client, 2);
	bool named;
	struct replica *replica = lend_and_give_back(fixture, client, promise);
	struct loan *loan = borrow(&fixture->clients[1], replica, &named);

	assert_int_equal(promise->used, 0);
	assert_int_equal(slabs_books(fixture->slabs).promised, 2 * SLAB);
	loan_free(loan);
	assert_int_equal(lend_give_back(fixture->lend, SLAB), SLAB);
	assert_leased(fixture, 0);
	slabs_end_promise(promise);
	assert_null(slabs_check(fixture->slabs));
}

/* What is waited for is not leased: an audit would take it from what regions have. */
static void test_what_is_waited_for_is_not_there(void **state)
{
	struct fixture *fixture = *state;
	struct slab *slabs[POOL / SLAB];
	const struct replica_form form =
		form_of(&fixture->clients[0], make_block(fixture, fixture->ns), 0);
	struct replica *replica;

	for (size_t i = 0; i < POOL / SLAB; i++)
		slabs[i] = place_slab(fixture);
	slab_drop_slot(slabs[0], false);
	assert_int_equal(replica_new(&replica, fixture->lend, &form, NULL), HBM_OK);
	assert_int_equal(replica->lent->state, LENT_ALLOCATING);
	assert_int_equal(fixture->lend->own, 0);
	rig_run(&fixture->rig, is_open, replica);
	assert_int_equal(fixture->lend->own, SLAB);
	replica_unhold(replica);
	lend_give_back(fixture->lend, SLAB);
	assert_int_equal(fixture->lend->own, 0);
	for (size_t i = 1; i < POOL / SLAB; i++)
		slab_drop_slot(slabs[i], false);
	assert_leased(fixture, 0);
}

/* Not while others have been promised all that is free; as soon as they have not. */
static void test_no_promise_is_broken_for_it(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct promise *promise = reserve(fixture, client, 2),
		       *other = reserve(fixture, &fixture->stranger, POOL / SLAB - 2);

	lend_and_give_back(fixture, client, promise);
	assert_int_equal(promise->used, SLAB);
	assert_true(slabs_reserve(fixture->slabs, other, &fixture->stranger.payer, SLAB));
	assert_int_equal(promise->used, 0);
	assert_null(slabs_check(fixture->slabs));

	/* Nor is one of a session that has ended. */
	lend_and_give_back(fixture, client, promise);
	assert_int_equal(promise->used, 0);
	slabs_end_promise(promise);
	slabs_end_promise(other);
	assert_int_equal(lend_give_back(fixture->lend, 2 * SLAB), 2 * SLAB);
	assert_leased(fixture, 0);
	assert_int_equal(slabs_books(fixture->slabs).promised, 0);
	assert_null(slabs_check(fixture->slabs));
}

/* ---- Many ---- */

/* Two slabs, full of the smallest blocks. */
static void make_many(struct fixture *fixture)
{
	const struct hbm_wire_namespace_spec spec = {.weights = 9, .block_bytes = EXTENT_UNIT};
	uint16_t ns =
		open_namespace(fixture->rig.hbmd.cache->namespaces, &fixture->rig.ledger, &spec);

	for (uint32_t i = 0; i < 2 * SLAB / EXTENT_UNIT; i++) {
		const struct replica *replica =
			make(fixture, &fixture->clients[0], make_block(fixture, ns));

		assert_int_equal(replica->cell, i % LENT_CELLS_MAX);
		assert_int_equal(replica->lent->cell_count, LENT_CELLS_MAX);
	}
	assert_leased(fixture, 2);
	assert_int_equal(fixture->lend->replicas, 2 * LENT_CELLS_MAX);
}

static bool is_given_back(void *arg)
{
	const struct lend *lend = arg;

	return !lend_gives_back(lend) && lend->bytes == 0;
}

/* One turn closes no more than a slice: the replicas of one slab. */
static void test_what_is_given_back_goes_in_slices(void **state)
{
	struct fixture *fixture = *state;
	struct lend *lend = fixture->lend;

	make_many(fixture);
	assert_int_equal(lend_give_back(lend, 2 * SLAB), SLAB);
	assert_true(lend_gives_back(lend));
	assert_int_equal(lend->replicas, LENT_CELLS_MAX);
	rig_run(&fixture->rig, is_given_back, lend);
	assert_int_equal(lend->replicas, 0);
	assert_leased(fixture, 0);
}

static bool is_served(void *arg)
{
	return ((const struct slab_request *)arg)->status != -1;
}

static void served(struct slab_request *request)
{
	(void)request;
}

/* Who asks the pool for all of it waits for the slices, and is refused after the last. */
static void test_a_request_waits_for_the_slices(void **state)
{
	struct fixture *fixture = *state;
	struct slab_request all = {
		.bytes = SLAB, .count = POOL / SLAB, .done = served, .status = -1};

	make_many(fixture);
	assert_int_equal(slabs_request(fixture->slabs, &all), HBM_OK);
	assert_true(lend_gives_back(fixture->lend));
	rig_run(&fixture->rig, is_served, &all);
	assert_int_equal(all.status, HBM_OK);
	for (struct list *node; (node = list_pop_front(&all.taken));)
		slab_unref(container_of(node, struct slab, link), false);
	assert_false(slabs_is_reclaiming(fixture->slabs));
	assert_null(slabs_check(fixture->slabs));
}

static void count_end(struct borrower *borrower)
{
	struct client *client = container_of(borrower, struct client, borrower);

	client->ends++;
}

static bool has_returned_all(void *arg)
{
	return borrower_is_empty(arg);
}

/* The end of a session returns its loans in slices. */
static void test_many_loans_are_returned_in_slices(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	struct borrower *borrower = &client->borrower;
	struct replica *replica = make(fixture, client, make_block(fixture, fixture->ns));
	bool named;

	ledger_set_limit(&client->payer, LEDGER_LOANS, UINT64_MAX);
	borrower->settled = count_end;
	for (unsigned i = 0; i < 3 * BORROWER_SLICE; i++)
		borrow(client, replica, &named);

	borrower_end(borrower);
	borrower_release(borrower);
	assert_in_range(borrower->count, 2 * BORROWER_SLICE, 3 * BORROWER_SLICE - 1);
	assert_false(borrower_is_empty(borrower));
	borrower_release(borrower); /* again, as the daemon stops */
	assert_in_range(borrower->count, BORROWER_SLICE, 2 * BORROWER_SLICE + 1);
	assert_int_equal(client->ends, 0);

	rig_run(&fixture->rig, has_returned_all, borrower);
	assert_int_equal(client->ends, 1);
	assert_int_equal(borrower->bytes, 0);
	assert_int_equal(fixture->lend->loans, 0);
	assert_leased(fixture, 1);
}

/* And takes along what it alone has had in slices. */
static void test_many_are_taken_along_in_slices(void **state)
{
	struct fixture *fixture = *state;
	struct client *client = &fixture->clients[0];
	bool named;

	make_many(fixture);
	list_for_each (node, &fixture->lend->all.list) {
		const struct lent *lent = container_of(node, struct lent, link);
		loan_free(borrow(client, lent->cells[0], &named));
	}

	borrower_end(&client->borrower);
	assert_int_equal(fixture->lend->bytes, SLAB);
	assert_int_equal(fixture->lend->replicas, LENT_CELLS_MAX);
	rig_run(&fixture->rig, has_returned_all, &client->borrower);
	assert_leased(fixture, 0);
}

/* A step of the check counts cells. */
static void test_the_check_goes_in_slices(void **state)
{
	struct fixture *fixture = *state;
	unsigned steps = 1;

	make_many(fixture);
	lend_check_begin(fixture->lend);
	while (lend_check_some(fixture->lend, LENT_CELLS_MAX))
		steps++;
	assert_int_equal(steps, 2);
	assert_null(lend_check_end(fixture->lend));
}

/* ---- The check ---- */

static const char *problem(struct lend *lend)
{
	lend_check_begin(lend);
	while (lend_check_some(lend, 1))
		;

	return lend_check_end(lend);
}

static void test_counts_that_are_off(void **state)
{
	struct fixture *fixture = *state;
	struct lend *lend = fixture->lend;
	struct client *client = &fixture->clients[0];
	struct replica *replica = make(fixture, client, make_block(fixture, fixture->ns));
	struct lent *lent = replica->lent;
	bool named;
	struct loan *loan = borrow(client, replica, &named);

	make(fixture, client, make_block(fixture, fixture->other_ns));
	assert_null(problem(lend));
	uint64_t *numbers[] = {&lend->bytes, &lent->holds, &replica->holds, &lent->charge.amount};
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		++*numbers[i];
		assert_non_null(problem(lend));
		--*numbers[i];
	}

	uint32_t *counts[] = {&lent->used, &lent->live, &replica->cell, &replica->number};
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		uint32_t saved = *counts[i];
		*counts[i] = i == 3 ? 0 : saved + 1;
		assert_non_null(problem(lend));
		*counts[i] = saved;
	}

	lend->budget = SLAB;
	assert_non_null(problem(lend));
	lend->budget = LEND;
	assert_null(problem(lend));
	loan_free(loan);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_blocks_of_one_namespace_and_user_share_slabs),
		TEST(test_no_slab_is_of_two_namespaces_or_users),
		TEST(test_slabs_of_dropped_blocks_take_no_more),
		TEST(test_slabs_are_released_and_not_reused),
		TEST(test_idle_slabs_make_way_and_others_do_not),
		TEST(test_the_pool_asks_for_what_is_idle),
		TEST(test_the_cell_of_a_late_copy_is_not_used_again),
		TEST(test_descriptors_are_sent_while_there_is_no_loan),
		TEST(test_loans_are_limited),
		TEST(test_the_end_of_a_session),
		TEST(test_a_session_that_ends_while_it_borrows),
		TEST(test_a_session_that_ends_while_another_borrows),
		TEST(test_a_session_that_ends_stays_while_another_borrows),
		TEST(test_a_session_that_ends_stays_while_it_is_read),
		TEST(test_a_slab_is_adopted),
		TEST(test_one_slab_is_adopted_twice),
		TEST(test_the_pool_asks_for_a_slab_that_is_adopted_twice),
		TEST(test_the_pool_asks_for_nothing_that_a_region_has),
		TEST(test_what_is_given_back_is_in_no_promise),
		TEST(test_what_is_waited_for_is_not_there),
		TEST(test_no_promise_is_broken_for_it),
		TEST(test_what_is_given_back_goes_in_slices),
		TEST(test_a_request_waits_for_the_slices),
		TEST(test_many_loans_are_returned_in_slices),
		TEST(test_many_are_taken_along_in_slices),
		TEST(test_the_check_goes_in_slices),
		TEST(test_counts_that_are_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
