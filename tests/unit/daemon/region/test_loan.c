/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loans: what of a loan is sent and what a client has already, how many there may be, and who is
 * charged for what a process keeps of them when its session ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/lend_rig.h"

static void test_descriptors_are_sent_while_there_is_no_loan(void **state)
{
	struct lend_rig *rig = *state;
	struct lend_client *client = &rig->clients[0];
	struct replica *one = lend_rig_make(rig, client, lend_rig_block(rig, rig->ns)),
		       *two = lend_rig_make(rig, client, lend_rig_block(rig, rig->ns));
	bool named;

	assert_ptr_equal(one->lent, two->lent);
	struct loan *first = lend_rig_borrow(client, one, &named);
	assert_false(named);
	struct loan *second = lend_rig_borrow(client, two, &named);
	assert_true(named);
	assert_int_not_equal(first->id, second->id);
	assert_ptr_equal(loan_find(&client->borrower, second->id), second);
	struct loan *third = lend_rig_borrow(&rig->clients[1], one, &named);
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

	first = lend_rig_borrow(client, one, &named);
	assert_false(named);
	loan_free(first);
	loan_free(third);
	lend_rig_assert_leased(rig, 1);
}

static void test_loans_are_limited(void **state)
{
	struct lend_rig *rig = *state;
	struct lend_client *client = &rig->clients[0];
	struct replica *replica = lend_rig_make(rig, client, lend_rig_block(rig, rig->ns));
	struct loan *loans[3], *more;
	bool named;

	for (int i = 0; i < 3; i++)
		loans[i] = lend_rig_borrow(client, replica, &named);
	assert_int_equal(loan_new(&more, &client->borrower), HBM_LIMIT);
	assert_int_equal(client->borrower.bytes, 3 * BLOCK);
	loan_free(loans[1]);
	assert_int_equal(loan_new(&more, &client->borrower), HBM_OK);
	loan_free(more);
	loan_free(loans[0]);
	loan_free(loans[2]);
	assert_int_equal(rig->lend->loans, 0);
}

/* A session that ends takes along what it alone has had, and is charged for what its process
 * keeps; not what another has, nor, when its process is gone, anything. */
static void test_the_end_of_a_session(void **state)
{
	struct lend_rig *rig = *state;
	struct lend_client *clients = rig->clients;
	uint32_t number = lend_rig_block(rig, rig->ns);
	struct replica *replica = lend_rig_make(rig, &clients[0], number);
	bool named;

	loan_free(lend_rig_borrow(&clients[0], replica, &named));
	struct loan *loan = lend_rig_borrow(&clients[1], replica, &named);
	borrower_end(&clients[0].borrower);
	lend_rig_assert_leased(rig, 1);

	borrower_end(&clients[1].borrower);
	assert_false(borrower_is_empty(&clients[1].borrower));
	assert_ptr_equal(loan_find(&clients[1].borrower, 1), loan);
	borrower_release(&clients[1].borrower);
	assert_true(borrower_is_empty(&clients[1].borrower));
	lend_rig_assert_leased(rig, 1); /* for the next process */

	struct lend_client next;
	lend_client_open(rig, &next, 1000);
	loan_free(lend_rig_borrow(&next, replica, &named));
	borrower_end(&next.borrower);
	lend_rig_assert_leased(rig, 0);
	lend_client_close(&next);
}

/* A request that borrows, as it does until its reply: it holds the replica and names its slabs. */
struct borrowing {
	struct lend_client *client;
	struct replica *replica;
	struct export *export;
	bool named;
};

static struct borrowing begin_to_borrow(struct lend_client *client, struct replica *replica)
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
	struct lend_rig *rig = *state;
	struct lend_client *client = &rig->clients[0];
	struct replica *replica = lend_rig_make(rig, client, lend_rig_block(rig, rig->ns));
	bool named;

	loan_free(lend_rig_borrow(client, replica, &named));
	struct borrowing one = begin_to_borrow(client, replica),
			 two = begin_to_borrow(client, replica);
	borrower_end(&client->borrower);
	give_up_borrowing(&one);
	assert_int_equal(client->holder.releasing, 0);
	give_up_borrowing(&two);
	assert_int_equal(client->holder.releasing, SLAB);
	lend_rig_assert_leased(rig, 0);
}

/* Unless another has them by then. */
static void test_a_session_that_ends_while_another_borrows(void **state)
{
	struct lend_rig *rig = *state;
	struct lend_client *clients = rig->clients;
	struct replica *replica = lend_rig_make(rig, &clients[0], lend_rig_block(rig, rig->ns));
	bool named;

	loan_free(lend_rig_borrow(&clients[0], replica, &named));
	struct borrowing own = begin_to_borrow(&clients[0], replica);
	replica_hold(replica); /* of the other's request */
	borrower_end(&clients[0].borrower);
	give_up_borrowing(&own);
	struct loan *loan = lend_rig_borrow(&clients[1], replica, &named);
	replica_unhold(replica);
	assert_false(named);
	assert_true(list_empty(&clients[0].borrower.exports));
	loan_free(loan);
	lend_rig_assert_leased(rig, 1);
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
	struct lend_rig *rig = *state;
	struct lend_client *clients = rig->clients;
	struct replica *replica = lend_rig_make(rig, &clients[0], lend_rig_block(rig, rig->ns));
	bool named;

	clients[0].holder.settled = count_settled;
	settled = 0;
	loan_free(lend_rig_borrow(&clients[0], replica, &named));
	replica_hold(replica); /* of the other's request */
	borrower_end(&clients[0].borrower);
	assert_false(holder_is_settled(&clients[0].holder));
	struct loan *loan = lend_rig_borrow(&clients[1], replica, &named);
	assert_int_equal(settled, 1);
	assert_true(list_empty(&clients[0].borrower.exports));
	replica_unhold(replica);
	loan_free(loan);
	lend_rig_assert_leased(rig, 1);
}

/* And while it is read, though it is closed: what the process keeps of it is charged then. */
static void test_a_session_that_ends_stays_while_it_is_read(void **state)
{
	struct lend_rig *rig = *state;
	struct lend_client *client = &rig->clients[0];
	struct replica *replica = lend_rig_make(rig, client, lend_rig_block(rig, rig->ns));
	struct lent *lent = replica->lent;
	bool named;

	client->holder.settled = count_settled;
	settled = 0;
	loan_free(lend_rig_borrow(client, replica, &named));
	lent_read(lent);
	borrower_end(&client->borrower);
	assert_int_equal(rig->lend->bytes, 0);
	assert_false(holder_is_settled(&client->holder));
	lent_unread(lent);
	assert_int_equal(settled, 0);
	assert_int_equal(client->holder.releasing, SLAB);
	assert_true(list_empty(&client->borrower.exports));
	lend_rig_assert_leased(rig, 0);
	assert_int_equal(settled, 1);
}

/* ---- Many ---- */

static void count_end(struct borrower *borrower)
{
	struct lend_client *client = container_of(borrower, struct lend_client, borrower);

	client->ends++;
}

static bool has_returned_all(void *arg)
{
	return borrower_is_empty(arg);
}

/* The end of a session returns its loans in slices. */
static void test_many_loans_are_returned_in_slices(void **state)
{
	struct lend_rig *rig = *state;
	struct lend_client *client = &rig->clients[0];
	struct borrower *borrower = &client->borrower;
	struct replica *replica = lend_rig_make(rig, client, lend_rig_block(rig, rig->ns));
	bool named;

	ledger_set_limit(&client->payer, LEDGER_LOANS, UINT64_MAX);
	borrower->settled = count_end;
	for (unsigned i = 0; i < 3 * BORROWER_SLICE; i++)
		lend_rig_borrow(client, replica, &named);

	borrower_end(borrower);
	borrower_release(borrower);
	assert_in_range(borrower->count, 2 * BORROWER_SLICE, 3 * BORROWER_SLICE - 1);
	assert_false(borrower_is_empty(borrower));
	borrower_release(borrower); /* again, as the daemon stops */
	assert_in_range(borrower->count, BORROWER_SLICE, 2 * BORROWER_SLICE + 1);
	assert_int_equal(client->ends, 0);

	rig_run(&rig->tiers, has_returned_all, borrower);
	assert_int_equal(client->ends, 1);
	assert_int_equal(borrower->bytes, 0);
	assert_int_equal(rig->lend->loans, 0);
	lend_rig_assert_leased(rig, 1);
}

/* And takes along what it alone has had in slices. */
static void test_many_are_taken_along_in_slices(void **state)
{
	struct lend_rig *rig = *state;
	struct lend_client *client = &rig->clients[0];
	bool named;

	lend_rig_make_many(rig);
	list_for_each (node, &rig->lend->all.list) {
		const struct lent *lent = container_of(node, struct lent, link);
		loan_free(lend_rig_borrow(client, lent->cells[0], &named));
	}

	borrower_end(&client->borrower);
	assert_int_equal(rig->lend->bytes, SLAB);
	assert_int_equal(rig->lend->replicas, LENT_CELLS_MAX);
	rig_run(&rig->tiers, has_returned_all, &client->borrower);
	lend_rig_assert_leased(rig, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lend_rig_setup, lend_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_descriptors_are_sent_while_there_is_no_loan),
		TEST(test_loans_are_limited),
		TEST(test_the_end_of_a_session),
		TEST(test_a_session_that_ends_while_it_borrows),
		TEST(test_a_session_that_ends_while_another_borrows),
		TEST(test_a_session_that_ends_stays_while_another_borrows),
		TEST(test_a_session_that_ends_stays_while_it_is_read),
		TEST(test_many_loans_are_returned_in_slices),
		TEST(test_many_are_taken_along_in_slices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
