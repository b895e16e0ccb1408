/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger: every limit at its bound and past it, at both levels, and an audit that
 * sees a count that is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include <hbm/wire.h>

#include "daemon/config/config.h"
#include "daemon/config/config_keys.h"
#include "daemon/ledger/ledger.h"

struct fixture {
	struct config config;
	struct ledger ledger;
	struct payer one, other;
};

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	assert_int_equal(config_defaults(&fixture.config), 0);
	fixture.config.limit_regions = 3;
	fixture.config.limit_namespaces = 2;
	fixture.config.limit_request_bytes = 1000;
	fixture.config.limit_request_bytes_total = 1500;
	ledger_open(&fixture.ledger, &fixture.config);
	payer_open(&fixture.one, &fixture.ledger, PAYER_SESSION);
	payer_open(&fixture.other, &fixture.ledger, PAYER_SESSION);
	*state = &fixture;

	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	payer_close(&fixture->one);
	payer_close(&fixture->other);
	for (unsigned i = 0; i < LEDGER_RESOURCES; i++)
		assert_int_equal(ledger_used(&fixture->ledger.host, i), 0);
	config_clear(&fixture->config);

	return 0;
}

static struct ledger_account account_of(struct fixture *fixture, const char *name)
{
	struct ledger_account accounts[LEDGER_LIMITS];
	unsigned i = 0;

	ledger_audit(&fixture->ledger, accounts);
	ledger_end_recount(&fixture->ledger);
	while (strcmp(ledger_limits[i].name, name) != 0)
		assert_true(++i < LEDGER_LIMITS);

	return accounts[i];
}

static void assert_reason(const struct payer *payer, enum ledger_resource resource, uint64_t amount,
			  const char *expected)
{
	char text[128];

	ledger_reason(payer, resource, amount, text, sizeof(text));
	assert_string_equal(text, expected);
}

/* Each key of [limits] is one limit, and the other way round. */
static void every_limit_of_the_configuration_is_here(void **state)
{
	(void)state;
	unsigned keys = 0;

	for (size_t i = 0; i < config_keys_count; i++) {
		char name[64];
		unsigned found = 0;

		if (strcmp(config_keys[i].section, "limits") != 0)
			continue;

		keys++;
		snprintf(name, sizeof(name), "limits.%s", config_keys[i].name);
		for (unsigned k = 0; k < LEDGER_LIMITS; k++)
			found += strcmp(ledger_limits[k].name, name) == 0 &&
				 ledger_limits[k].member == config_keys[i].offset;
		assert_int_equal(found, 1);
	}

	assert_int_equal(keys, LEDGER_LIMITS);
}

static enum payer_kind kind_of(const struct ledger_limit *limit)
{
	return limit->payer == PAYER_HOST || limit->payer == PAYER_UNPRIVILEGED ? PAYER_SESSION
										: limit->payer;
}

/* Leaves only that one: another would be met first. */
static void set_other_limits(struct ledger *ledger, struct payer *payer,
			     const struct ledger_limit *limit)
{
	struct payer *const all[] = {&ledger->host, &ledger->unprivileged, payer};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i]->kind != limit->payer)
			ledger_set_limit(all[i], limit->resource, UINT64_MAX);
}

/* Whatever the limit: so much may be charged and no more, and after a release again. */
static void every_resource_at_its_limit(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < LEDGER_LIMITS; i++) {
		const struct ledger_limit *limit = &ledger_limits[i];
		struct ledger ledger;
		struct payer payer;
		struct charge all = {0}, more = {0};

		if (limit->resource >= LEDGER_COMMIT_SLABS || limit->resource == LEDGER_BLOCKS ||
		    limit->resource == LEDGER_PINNED || limit->resource == LEDGER_RETAINED)
			continue;

		ledger_open(&ledger, &fixture->config);
		ledger_set_limit(&ledger.unprivileged, LEDGER_DESCRIPTORS, 100);
		ledger_set_limit(&ledger.unprivileged, LEDGER_UNREAD_FDS, 1000);
		ledger_set_limit(&ledger.host, LEDGER_HELD, 1000);
		ledger_set_limit(&ledger.host, LEDGER_LENT, 1000);
		ledger_set_limit(&ledger.host, LEDGER_PUBLISHED, 1000);
		ledger_set_whole(&ledger, LEDGER_RESERVED, 1000);
		payer_open_below(&payer, &ledger.unprivileged, kind_of(limit));
		set_other_limits(&ledger, &payer, limit);

		uint64_t most = ledger_limit(&payer, limit->resource);
		assert_int_equal(ledger_charge(&more, &payer, limit->resource, most + 1),
				 HBM_LIMIT);
		assert_null(more.payer);
		assert_int_equal(ledger_charge(&all, &payer, limit->resource, most), HBM_OK);
		assert_int_equal(ledger_charge(&more, &payer, limit->resource, 1), HBM_LIMIT);
		assert_int_equal(ledger_used(&payer, limit->resource), most);
		assert_int_equal(ledger.refused[i], 2);

		ledger_release(&all);
		assert_int_equal(ledger_used(&payer, limit->resource), 0);
		assert_int_equal(ledger_charge(&more, &payer, limit->resource, most), HBM_OK);
		ledger_release(&more);
		payer_close(&payer);
	}
}

/* Nothing is charged for what bounds one thing at a time. */
static void limits_of_one_thing(void **state)
{
	struct fixture *fixture = *state;
	uint64_t most = fixture->config.limit_commit_slabs;

	for (int twice = 0; twice < 2; twice++)
		assert_true(ledger_check(&fixture->one, LEDGER_COMMIT_SLABS, most));
	assert_false(ledger_check(&fixture->one, LEDGER_COMMIT_SLABS, most + 1));
	assert_reason(&fixture->one, LEDGER_COMMIT_SLABS, most + 1,
		      "limits.commit_slabs = 4096: 4097 were asked for");
	assert_int_equal(ledger_limit(&fixture->one, LEDGER_READY_MS), 10000);
	assert_int_equal(account_of(fixture, "limits.commit_slabs").refused, 1);
	assert_int_equal(account_of(fixture, "limits.commit_slabs").used, 0);
}

static void one_session_at_its_limit_leaves_the_other_alone(void **state)
{
	struct fixture *fixture = *state;
	struct charge charges[6] = {0};

	for (int i = 0; i < 3; i++)
		assert_int_equal(ledger_charge(&charges[i], &fixture->one, LEDGER_REGIONS, 1),
				 HBM_OK);
	assert_int_equal(ledger_charge(&charges[3], &fixture->one, LEDGER_REGIONS, 1), HBM_LIMIT);
	assert_reason(&fixture->one, LEDGER_REGIONS, 1,
		      "limits.regions = 3: the session has 3, 1 more were asked for");
	assert_int_equal(ledger_charge(&charges[3], &fixture->other, LEDGER_REGIONS, 1), HBM_OK);

	struct ledger_account account = account_of(fixture, "limits.regions");
	assert_int_equal(account.limit, 3);
	assert_int_equal(account.payers, 2);
	assert_int_equal(account.used, 4);
	assert_int_equal(account.highest, 3);
	assert_int_equal(account.refused, 1);
	assert_true(account.balanced);

	for (int i = 0; i < 4; i++)
		ledger_release(&charges[i]);
}

/* A limit of all together is met through any of them. */
static void a_limit_of_the_host(void **state)
{
	struct fixture *fixture = *state;
	struct charge charges[3] = {0};

	assert_int_equal(ledger_charge(&charges[0], &fixture->one, LEDGER_NAMESPACES, 1), HBM_OK);
	assert_int_equal(ledger_charge(&charges[1], &fixture->other, LEDGER_NAMESPACES, 1), HBM_OK);
	assert_int_equal(ledger_charge(&charges[2], &fixture->one, LEDGER_NAMESPACES, 1),
			 HBM_LIMIT);
	assert_reason(&fixture->one, LEDGER_NAMESPACES, 1,
		      "limits.namespaces = 2: all sessions together have 2, 1 more were asked for");
	assert_int_equal(account_of(fixture, "limits.namespaces").used, 2);

	ledger_release(&charges[0]);
	assert_int_equal(ledger_charge(&charges[2], &fixture->one, LEDGER_NAMESPACES, 1), HBM_OK);
	ledger_release(&charges[1]);
	ledger_release(&charges[2]);
}

/* One resource, two limits: the session's, and that of all. */
static void two_limits_of_one_resource(void **state)
{
	struct fixture *fixture = *state;
	struct charge one = {0}, other = {0}, more = {0};

	assert_int_equal(ledger_limit(&fixture->one, LEDGER_REQUEST_BYTES), 1000);
	assert_int_equal(ledger_charge(&one, &fixture->one, LEDGER_REQUEST_BYTES, 1000), HBM_OK);
	assert_int_equal(ledger_charge(&other, &fixture->other, LEDGER_REQUEST_BYTES, 501),
			 HBM_LIMIT);
	assert_int_equal(account_of(fixture, "limits.request_bytes_total").refused, 1);
	assert_int_equal(account_of(fixture, "limits.request_bytes").refused, 0);
	assert_int_equal(ledger_charge(&other, &fixture->other, LEDGER_REQUEST_BYTES, 500), HBM_OK);
	assert_int_equal(ledger_charge(&more, &fixture->one, LEDGER_REQUEST_BYTES, 1), HBM_LIMIT);
	assert_int_equal(account_of(fixture, "limits.request_bytes").refused, 1);

	ledger_release(&one);
	ledger_release(&other);
}

/* A charge that was let in may grow past the limit: then there is no room until it is
 * released. */
static void a_charge_that_grows(void **state)
{
	struct fixture *fixture = *state;
	struct charge charge = {0};

	for (int i = 0; i < 3; i++)
		ledger_charge_always(&charge, &fixture->one, LEDGER_REQUEST_BYTES, 400);
	assert_int_equal(charge.amount, 1200);
	assert_int_equal(ledger_used(&fixture->one, LEDGER_REQUEST_BYTES), 1200);
	assert_false(ledger_has_room(&fixture->one, LEDGER_REQUEST_BYTES, 0));
	assert_true(ledger_has_room(&fixture->other, LEDGER_REQUEST_BYTES, 300));
	assert_false(ledger_has_room(&fixture->other, LEDGER_REQUEST_BYTES, 301));
	assert_true(account_of(fixture, "limits.request_bytes").balanced);

	ledger_release(&charge);
	assert_true(ledger_has_room(&fixture->one, LEDGER_REQUEST_BYTES, 1000));
}

/* Where all have reached their limit together, those below an equal share may have more. */
static void a_share_for_each(void **state)
{
	struct fixture *fixture = *state;
	struct charge sessions[2] = {0}, much = {0}, little = {0};

	for (int i = 0; i < 2; i++)
		assert_int_equal(ledger_charge(&sessions[i], i ? &fixture->other : &fixture->one,
					       LEDGER_SESSIONS, 1),
				 HBM_OK);
	ledger_charge_always(&much, &fixture->one, LEDGER_REQUEST_BYTES, 1499);
	assert_true(ledger_has_shared_room(&fixture->one, LEDGER_REQUEST_BYTES));
	assert_false(ledger_has_own_room(&fixture->one, LEDGER_REQUEST_BYTES, 1));

	ledger_charge_always(&little, &fixture->other, LEDGER_REQUEST_BYTES, 749);
	assert_false(ledger_has_shared_room(&fixture->one, LEDGER_REQUEST_BYTES));
	assert_true(ledger_has_shared_room(&fixture->other, LEDGER_REQUEST_BYTES));
	assert_true(ledger_has_own_room(&fixture->other, LEDGER_REQUEST_BYTES, 251));
	assert_false(ledger_has_own_room(&fixture->other, LEDGER_REQUEST_BYTES, 252));
	ledger_charge_always(&little, &fixture->other, LEDGER_REQUEST_BYTES, 1);
	assert_false(ledger_has_shared_room(&fixture->other, LEDGER_REQUEST_BYTES));

	ledger_release(&much);
	ledger_release(&little);
	ledger_release(&sessions[0]);
	ledger_release(&sessions[1]);
}

static void a_release_counts_once(void **state)
{
	struct fixture *fixture = *state;
	struct charge charge = {0}, stays = {0};

	assert_int_equal(ledger_charge(&stays, &fixture->one, LEDGER_PINS, 5), HBM_OK);
	assert_int_equal(ledger_charge(&charge, &fixture->one, LEDGER_PINS, 7), HBM_OK);
	for (int twice = 0; twice < 2; twice++) {
		ledger_release(&charge);
		assert_int_equal(ledger_used(&fixture->one, LEDGER_PINS), 5);
		assert_int_equal(ledger_used(&fixture->ledger.host, LEDGER_PINS), 5);
	}
	ledger_release(&stays);
}

static void sums_that_overflow_are_refused(void **state)
{
	struct fixture *fixture = *state;
	struct charge charge = {0}, more = {0};

	assert_int_equal(ledger_charge(&charge, &fixture->one, LEDGER_ADDRESS_SPACE, 4096), HBM_OK);
	assert_int_equal(ledger_charge(&more, &fixture->one, LEDGER_ADDRESS_SPACE, UINT64_MAX),
			 HBM_LIMIT);
	assert_int_equal(
		ledger_charge(&more, &fixture->one, LEDGER_ADDRESS_SPACE, UINT64_MAX - 4095),
		HBM_LIMIT);
	ledger_release(&charge);
}

/* What a payer has by amount goes with it, the host's share too. */
static void a_payer_that_ends(void **state)
{
	struct fixture *fixture = *state;
	struct payer ns;

	payer_open(&ns, &fixture->ledger, PAYER_NAMESPACE);
	ledger_add(&ns, LEDGER_BLOCKS, 10);
	ledger_subtract(&ns, LEDGER_BLOCKS, 3);
	assert_int_equal(ledger_used(&fixture->ledger.host, LEDGER_BLOCKS), 7);
	payer_close(&ns);
	assert_int_equal(ledger_used(&fixture->ledger.host, LEDGER_BLOCKS), 0);
	payer_close(&ns); /* no-op */
}

static void the_audit_sees_a_wrong_count(void **state)
{
	struct fixture *fixture = *state;
	struct charge charge = {0};

	assert_int_equal(ledger_charge(&charge, &fixture->one, LEDGER_REGIONS, 2), HBM_OK);
	assert_true(account_of(fixture, "limits.regions").balanced);

	fixture->one.used[LEDGER_REGIONS]++; /* the session's, but not the host's */
	struct ledger_account account = account_of(fixture, "limits.regions");
	assert_false(account.balanced);
	assert_int_equal(account.counted, 2); /* the host's is looked at first */
	assert_int_equal(account.sum, 3);

	fixture->ledger.host.used[LEDGER_REGIONS]++;
	account = account_of(fixture, "limits.regions");
	assert_false(account.balanced);
	assert_int_equal(account.counted, 3);
	assert_int_equal(account.sum, 2);
	assert_true(account_of(fixture, "limits.pins").balanced);

	fixture->one.used[LEDGER_REGIONS]--;
	fixture->ledger.host.used[LEDGER_REGIONS]--;
	assert_true(account_of(fixture, "limits.regions").balanced);
	ledger_release(&charge);
}

static void a_reason_that_is_over(void **state)
{
	struct fixture *fixture = *state;
	assert_reason(&fixture->one, LEDGER_REGIONS, 1, "no limit is reached any more; retry");
}

/* Whose limit it is, where that is neither a session's nor of all together. */
static void reasons_of_other_payers(void **state)
{
	struct fixture *fixture = *state;
	struct payer tier, mover;
	struct charge charge = {0};

	payer_open(&tier, &fixture->ledger, PAYER_TIER);
	ledger_set_limit(&tier, LEDGER_PINNED, 100);
	ledger_add(&tier, LEDGER_PINNED, 93);
	assert_reason(&tier, LEDGER_PINNED, 8,
		      "limits.pinned = 100: the tier has 93, 8 more were asked for");
	payer_close(&tier);

	payer_open(&mover, &fixture->ledger, PAYER_MOVER);
	ledger_set_limit(&mover, LEDGER_MOVES, 4);
	assert_int_equal(ledger_charge(&charge, &mover, LEDGER_MOVES, 4), HBM_OK);
	assert_reason(&mover, LEDGER_MOVES, 1,
		      "limits.moves = 4: there are 4, 1 more were asked for");
	ledger_release(&charge);
	payer_close(&mover);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_limit_of_the_configuration_is_here),
		TEST(every_resource_at_its_limit),
		TEST(limits_of_one_thing),
		TEST(one_session_at_its_limit_leaves_the_other_alone),
		TEST(a_limit_of_the_host),
		TEST(two_limits_of_one_resource),
		TEST(a_charge_that_grows),
		TEST(a_share_for_each),
		TEST(a_release_counts_once),
		TEST(sums_that_overflow_are_refused),
		TEST(a_payer_that_ends),
		TEST(the_audit_sees_a_wrong_count),
		TEST(a_reason_that_is_over),
		TEST(reasons_of_other_payers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
