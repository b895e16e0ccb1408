/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is lent to one user is not lent to another: each has copies of its own, also of the
 * blocks of a namespace that both have open. A loan is its session's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/two_users.h"

#include <string.h>
#include <unistd.h>

struct borrowing {
	struct hbm_wire_borrow head;
	struct hbm_wire_key key;
};

/* The reply for one block in one slab. */
struct borrowed {
	struct hbm_wire_borrowed head;
	struct hbm_wire_loan loan;
	struct hbm_wire_piece piece;
	struct hbm_wire_slab slab;
};

struct returning {
	struct hbm_wire_return head;
	uint64_t loan;
};

static struct borrowing borrowing_of(uint32_t ns, uint64_t block, uint32_t flags)
{
	return (struct borrowing){.head = {.header = RAW_HEADER(BORROW, sizeof(struct borrowing)),
					   .ns = ns,
					   .count = 1,
					   .flags = flags},
				  .key = two_users_key(block)};
}

static struct borrowed borrow(int socket, uint32_t ns, uint64_t block)
{
	const struct borrowing borrowing = borrowing_of(ns, block, 0);
	struct borrowed borrowed;

	raw_call(socket, &borrowing, &borrowed, sizeof(borrowed));
	assert_int_equal(borrowed.loan.status, HBM_OK);
	assert_int_equal(borrowed.head.slabs, 1);
	assert_int_equal(borrowed.piece.bytes, TWO_USERS_BLOCK);

	return borrowed;
}

static int give_back(int socket, uint64_t loan)
{
	const struct returning returning = {
		.head = {.header = RAW_HEADER(RETURN, sizeof(returning)), .count = 1},
		.loan = loan};

	return raw_ask(socket, &returning, sizeof(returning));
}

static const struct hbm_wire_device *device(void)
{
	return two_users_record(two_users_query(tenant, HBM_QUERY_DEVICES), 0);
}

static void test_each_user_has_its_own_copy(void **state)
{
	(void)state;
	two_users_needed();
	int second = two_users_greet(TENANT);

	assert_int_equal(two_users_open(second, &tenant_spec), tenant_ns);
	assert_int_equal(two_users_open(other, &tenant_spec), tenant_ns);
	const struct borrowed first = borrow(tenant, tenant_ns, 1),
			      again = borrow(tenant, tenant_ns, 2),
			      same = borrow(second, tenant_ns, 1),
			      others = borrow(other, tenant_ns, 1);

	assert_int_equal(first.slab.sent, 1);
	assert_int_equal(again.slab.slab, first.slab.slab);
	assert_int_equal(again.slab.sent, 0);
	assert_int_not_equal(again.piece.offset, first.piece.offset);
	assert_int_equal(same.slab.slab, first.slab.slab);
	assert_int_equal(same.slab.sent, 1);
	assert_int_equal(same.piece.offset, first.piece.offset);
	assert_int_not_equal(others.slab.slab, first.slab.slab);
	assert_int_equal(device()->replicas, 3);
	assert_int_equal(device()->loans, 4);

	/* One that leaves takes nothing from those that stay. */
	assert_int_equal(give_back(second, same.loan.loan), HBM_OK);
	close(second);
	assert_int_equal(device()->replicas, 3);
	assert_int_equal(device()->loans, 3);
	assert_int_equal(give_back(tenant, first.loan.loan), HBM_OK);
	assert_int_equal(give_back(tenant, again.loan.loan), HBM_OK);
	assert_int_equal(give_back(other, others.loan.loan), HBM_OK);
	assert_true(spawn_balanced(&daemon_));
}

static void test_a_loan_is_its_sessions(void **state)
{
	(void)state;
	two_users_needed();
	const struct borrowed mine = borrow(tenant, tenant_ns, 1);

	assert_int_equal(give_back(other, mine.loan.loan), HBM_NOT_FOUND);
	assert_int_equal(device()->loans, 1);
	assert_int_equal(give_back(tenant, mine.loan.loan), HBM_OK);
	assert_int_equal(give_back(tenant, mine.loan.loan), HBM_NOT_FOUND);
	assert_int_equal(give_back(tenant, 0), HBM_NOT_FOUND);
}

static void test_what_is_not_open_is_not_lent(void **state)
{
	(void)state;
	two_users_needed();
	const struct borrowing borrowing = borrowing_of(tenant_ns, 1, 0);

	assert_int_equal(raw_ask(other, &borrowing, sizeof(borrowing)), HBM_NOT_FOUND);
	assert_int_equal(device()->replicas, 0);
}

/* No other copy is to be made of it; a loan is given back. */
static void expect_ready(int socket, uint64_t block, int status)
{
	const struct borrowing borrowing = borrowing_of(tenant_ns, block, HBM_WIRE_BORROW_READY);
	const size_t lent = sizeof(struct borrowed), miss = offsetof(struct borrowed, piece);
	struct borrowed borrowed;

	raw_call(socket, &borrowing, &borrowed, status == HBM_OK ? lent : miss);
	assert_int_equal(borrowed.loan.status, status);
	assert_int_equal(borrowed.head.slabs, status == HBM_OK);
	if (status == HBM_OK)
		assert_int_equal(give_back(socket, borrowed.loan.loan), HBM_OK);
}

/* What there is for another user is none of one's own. */
static void test_only_what_there_is_a_copy_of(void **state)
{
	(void)state;
	two_users_needed();
	assert_int_equal(two_users_open(other, &tenant_spec), tenant_ns);
	expect_ready(tenant, 1, HBM_MISS);
	expect_ready(tenant, ABSENT, HBM_MISS);
	assert_int_equal(device()->replicas, 0);

	const struct borrowed lent = borrow(tenant, tenant_ns, 1);

	expect_ready(tenant, 1, HBM_OK);
	expect_ready(tenant, 2, HBM_MISS);
	expect_ready(other, 1, HBM_MISS);
	assert_int_equal(give_back(tenant, lent.loan.loan), HBM_OK);
	expect_ready(tenant, 1, HBM_OK);
	assert_int_equal(device()->replicas, 1);
	assert_int_equal(device()->loans, 0);
	assert_true(spawn_balanced(&daemon_));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, two_users_setup, two_users_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_each_user_has_its_own_copy),
		TEST(test_a_loan_is_its_sessions),
		TEST(test_what_is_not_open_is_not_lent),
		TEST(test_only_what_there_is_a_copy_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
