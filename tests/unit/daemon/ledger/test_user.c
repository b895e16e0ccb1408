/* SPDX-License-Identifier: Apache-2.0 */
/* A user: one for each uid, as long as anything is charged to it, and what it may have. */
#include "daemon/ledger/user.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <hbm/wire.h>
#include <unistd.h>

#include "daemon/config/config.h"

#define GUEST 65534

struct fixture {
	struct config config;
	struct ledger ledger;
};

static int setup(void **state)
{
	static struct fixture fixture;

	assert_int_equal(config_defaults(&fixture.config), 0);
	fixture.config.limit_sessions = 100;
	fixture.config.limit_sessions_unprivileged = (struct config_size){.percent = 90};
	fixture.config.limit_sessions_per_user = (struct config_size){.percent = 50};
	ledger_open(&fixture.ledger, &fixture.config);
	*state = &fixture;

	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	assert_true(list_empty(&fixture->ledger.users));
	config_clear(&fixture->config);

	return 0;
}

static void one_for_each_uid(void **state)
{
	struct fixture *fixture = *state;
	struct user *user = user_open(&fixture->ledger, GUEST);
	struct user *other = user_open(&fixture->ledger, GUEST - 1);

	assert_ptr_not_equal(user, other);
	assert_ptr_equal(user_open(&fixture->ledger, GUEST), user);
	assert_null(user_close(user));
	assert_ptr_equal(user_ref(user), user);
	user_close(user);
	assert_int_equal(list_length(&fixture->ledger.users), 2);
	user_close(user);
	user_close(other);
	user_close(NULL);
}

static void shares(void **state)
{
	struct fixture *fixture = *state;
	struct user *user = user_open(&fixture->ledger, GUEST);
	struct user *other = user_open(&fixture->ledger, GUEST - 1);
	struct user *root = user_open(&fixture->ledger, 0);
	struct user *own = user_open(&fixture->ledger, geteuid());
	struct charge one = {0}, two = {0}, three = {0}, more = {0};

	for (unsigned i = 0; i < LEDGER_RESOURCES; i++)
		assert_int_equal(ledger_limit(&root->payer, (enum ledger_resource)i),
				 ledger_limit(&fixture->ledger.host, (enum ledger_resource)i));
	assert_int_equal(ledger_charge(&more, &user->payer, LEDGER_SESSIONS, 46), HBM_LIMIT);
	assert_int_equal(ledger_charge(&one, &user->payer, LEDGER_SESSIONS, 45), HBM_OK);
	assert_int_equal(ledger_charge(&two, &other->payer, LEDGER_SESSIONS, 45), HBM_OK);
	assert_int_equal(ledger_charge(&more, &other->payer, LEDGER_SESSIONS, 1), HBM_LIMIT);
	assert_int_equal(ledger_charge(&three, &root->payer, LEDGER_SESSIONS, 10), HBM_OK);
	assert_int_equal(ledger_charge(&more, &own->payer, LEDGER_SESSIONS, 1), HBM_LIMIT);
	assert_int_equal(fixture->ledger.connected, 3);

	ledger_release(&one);
	assert_int_equal(fixture->ledger.connected, 2);
	assert_int_equal(ledger_charge(&more, &root->payer, LEDGER_SESSIONS, 45), HBM_OK);
	ledger_release(&two);
	ledger_release(&three);
	ledger_release(&more);
	assert_int_equal(fixture->ledger.connected, 0);
	user_close(user);
	user_close(other);
	user_close(root);
	user_close(own);
}

/* A share is never nothing. */
static void shares_of_little(void **state)
{
	struct fixture *fixture = *state;
	fixture->config.limit_sessions = 1;
	ledger_open(&fixture->ledger, &fixture->config);

	struct user *user = user_open(&fixture->ledger, GUEST);
	assert_int_equal(ledger_limit(&user->payer, LEDGER_SESSIONS), 1);
	user_close(user);
}

/* What all may have is shared by the users, and by the sessions of each. */
static void shared_room(void **state)
{
	struct fixture *fixture = *state;
	struct user *user = user_open(&fixture->ledger, GUEST);
	struct user *other = user_open(&fixture->ledger, GUEST - 1);
	struct payer sessions[3];
	struct charge counts[3] = {0}, bytes[3] = {0};

	ledger_set_limit(&fixture->ledger.host, LEDGER_REQUEST_BYTES, 1200);
	for (int i = 0; i < 3; i++) {
		payer_open_below(&sessions[i], i < 2 ? &user->payer : &other->payer, PAYER_SESSION);
		assert_int_equal(ledger_charge(&counts[i], &sessions[i], LEDGER_SESSIONS, 1),
				 HBM_OK);
	}

	ledger_charge_always(&bytes[0], &sessions[0], LEDGER_REQUEST_BYTES, 1200);
	ledger_charge_always(&bytes[1], &sessions[1], LEDGER_REQUEST_BYTES, 299);
	ledger_charge_always(&bytes[2], &sessions[2], LEDGER_REQUEST_BYTES, 599);
	assert_false(ledger_has_shared_room(&sessions[0], LEDGER_REQUEST_BYTES));
	assert_true(ledger_has_shared_room(&sessions[1], LEDGER_REQUEST_BYTES));
	assert_true(ledger_has_shared_room(&sessions[2], LEDGER_REQUEST_BYTES));
	ledger_charge_always(&bytes[1], &sessions[1], LEDGER_REQUEST_BYTES, 1);
	ledger_charge_always(&bytes[2], &sessions[2], LEDGER_REQUEST_BYTES, 1);
	assert_false(ledger_has_shared_room(&sessions[1], LEDGER_REQUEST_BYTES));
	assert_false(ledger_has_shared_room(&sessions[2], LEDGER_REQUEST_BYTES));

	for (int i = 0; i < 3; i++) {
		ledger_release(&counts[i]);
		ledger_release(&bytes[i]);
		payer_close(&sessions[i]);
	}
	user_close(user);
	user_close(other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_for_each_uid),
		TEST(shares),
		TEST(shares_of_little),
		TEST(shared_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
