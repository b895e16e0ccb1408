/* SPDX-License-Identifier: Apache-2.0 */
/* A tenant pays for its users: who they are, what they may have together, and how that changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/guesses.h"
#include "daemon/config/config.h"
#include "daemon/ledger/user.h"

#include <stdio.h>
#include <string.h>

#define ONE 1001
#define TWO 1002
#define GUEST 65534

struct fixture {
	struct config config;
	struct ledger ledger;
};

static void set(struct fixture *fixture, const char *assignment)
{
	char error[256] = "";

	assert_int_equal(config_set(&fixture->config, assignment, error, sizeof(error)), 0);
}

static int setup(void **state)
{
	static struct fixture fixture;

	assert_int_equal(config_defaults(&fixture.config), 0);
	set(&fixture, "limits.sessions=100");
	set(&fixture, "limits.sessions_unprivileged=90");
	set(&fixture, "limits.sessions_per_user=45");
	set(&fixture, "tenant team.match=uid:1001 uid:1002 unit:job.service");
	set(&fixture, "tenant team.sessions=3");
	set(&fixture, "tenant root.match=uid:0");
	ledger_open(&fixture.ledger, &fixture.config);
	assert_int_equal(tenants_configure(&fixture.ledger, &fixture.config), 0);
	*state = &fixture;

	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	tenants_close(&fixture->ledger);
	assert_true(list_empty(&fixture->ledger.tenants));
	assert_true(list_empty(&fixture->ledger.users));
	assert_true(list_empty(&fixture->ledger.host.children) ||
		    list_length(&fixture->ledger.host.children) == 1);
	assert_true(list_empty(&fixture->ledger.unprivileged.children));
	config_clear(&fixture->config);

	return 0;
}

static struct tenant *tenant_of(const struct fixture *fixture, uid_t uid, const char *unit)
{
	struct identity identity = {.uid = uid, .gid = uid};

	strcpy(identity.unit, unit);

	return tenant_match(&fixture->ledger, &identity);
}

static struct user *user_of(struct fixture *fixture, uid_t uid)
{
	return user_open_of(&fixture->ledger, uid, tenant_of(fixture, uid, ""));
}

static void the_first_that_matches(void **state)
{
	struct fixture *fixture = *state;
	struct tenant *team = tenant_of(fixture, ONE, "");

	assert_string_equal(team->rule.name, "team");
	assert_ptr_equal(tenant_of(fixture, TWO, ""), team);
	assert_ptr_equal(tenant_of(fixture, 0, "job.service"), team);
	assert_string_equal(tenant_of(fixture, 0, "")->rule.name, "root");
	assert_null(tenant_of(fixture, GUEST, ""));
	assert_true(tenants_need_unit(&fixture->ledger));

	set(fixture, "tenant team.match=uid:1001");
	assert_int_equal(tenants_configure(&fixture->ledger, &fixture->config), 0);
	assert_false(tenants_need_unit(&fixture->ledger));
	assert_null(tenant_of(fixture, TWO, ""));
}

static void its_users_have_so_much_together(void **state)
{
	struct fixture *fixture = *state;
	struct user *one = user_of(fixture, ONE), *two = user_of(fixture, TWO);
	struct user *guest = user_of(fixture, GUEST);
	struct charge charges[4] = {0};
	char text[128];

	assert_ptr_equal(one->tenant, two->tenant);
	assert_int_equal(ledger_charge(&charges[0], &one->payer, LEDGER_SESSIONS, 2), HBM_OK);
	assert_int_equal(ledger_charge(&charges[1], &two->payer, LEDGER_SESSIONS, 1), HBM_OK);
	assert_int_equal(ledger_charge(&charges[2], &two->payer, LEDGER_SESSIONS, 1), HBM_LIMIT);
	ledger_reason(&two->payer, LEDGER_SESSIONS, 1, text, sizeof(text));
	assert_string_equal(text, "tenant team.sessions = 3: it has 3, 1 more were asked for");
	assert_int_equal(one->tenant->section.refused[LEDGER_SESSIONS], 1);
	assert_ptr_equal(ledger_tenant(&two->payer), &one->tenant->payer);
	assert_false(ledger_has_tenant_room(&two->payer, LEDGER_SESSIONS, 1));

	/* the others have what they had */
	assert_ptr_equal(ledger_tenant(&guest->payer), &guest->payer);
	assert_int_equal(ledger_charge(&charges[2], &guest->payer, LEDGER_SESSIONS, 45), HBM_OK);
	assert_false(ledger_has_tenant_room(&guest->payer, LEDGER_SESSIONS, 1));
	assert_int_equal(fixture->ledger.connected, 2);

	for (unsigned i = 0; i < 3; i++)
		ledger_release(&charges[i]);
	assert_int_equal(fixture->ledger.connected, 0);
	user_close(one);
	user_close(two);
	user_close(guest);
}

/* What a section does not say is what one user may have; and it bounds operators, too. */
static void what_it_does_not_say(void **state)
{
	struct fixture *fixture = *state;
	struct user *guest = user_of(fixture, GUEST), *root = user_of(fixture, 0);

	assert_int_equal(ledger_limit(&root->payer, LEDGER_SESSIONS), 45);
	for (unsigned i = 0; i < LEDGER_RESOURCES; i++)
		assert_true(ledger_limit(&root->payer, (enum ledger_resource)i) ==
			    ledger_limit(&guest->payer, (enum ledger_resource)i));
	user_close(guest);
	user_close(root);
}

/* Whatever is charged, a tenant can be kept from growing it. */
static void whatever_is_charged(void **state)
{
	struct fixture *fixture = *state;
	struct tenant *team = tenant_of(fixture, ONE, "");

	for (unsigned i = 0; i < LEDGER_COMMIT_SLABS; i++) {
		unsigned keys = 0;

		for (unsigned k = 0; k < TENANT_LIMITS; k++)
			keys += tenant_limits[k].resource == i;
		assert_int_equal(keys, i != LEDGER_PINNED && i != LEDGER_MOVES &&
					       i != LEDGER_DEVICE_MEMORY); /* memory_of_a_device */
	}

	for (unsigned k = 0; k < TENANT_LIMITS; k++) {
		void *field;
		const struct config_key *key =
			config_tenant_key(&team->rule, tenant_limits[k].key, &field);
		char text[128], value[32], expected[64];
		const struct reason why = {text, sizeof(text)};
		enum ledger_resource resource = tenant_limits[k].resource;

		assert_non_null(key);
		snprintf(value, sizeof(value), "%llu", 1ull << 12); /* all of them take it */
		assert_int_equal(tenant_set(&fixture->ledger, "team", key->name, value, &why),
				 HBM_OK);
		assert_int_equal(ledger_own_limit(&team->payer, resource), 1 << 12);
		snprintf(expected, sizeof(expected), "tenant team.%s = 4096:", key->name);
		ledger_reason(&team->payer, resource, (1 << 12) + 1, text, sizeof(text));
		assert_int_equal(strncmp(text, expected, strlen(expected)), 0);
		assert_false(ledger_check(&team->payer, resource, (1 << 12) + 1));
		assert_int_equal(team->section.refused[resource], 1);
	}
}

/* The same of what it has of one device, which counts for all devices, too. */
static void memory_of_a_device(void **state)
{
	struct fixture *fixture = *state;
	struct tenant *team = tenant_of(fixture, ONE, "");
	struct payer *first = tenant_device(team, 0), *last;
	struct charge charge = {0};
	char text[128];
	const struct reason why = {text, sizeof(text)};

	assert_non_null(first);
	assert_ptr_equal(tenant_device(team, 0), first);
	assert_true(ledger_has_room(first, LEDGER_DEVICE_MEMORY, 1ull << 60));
	assert_int_equal(tenant_set(&fixture->ledger, "team", "memory@0", "8KiB", &why), HBM_OK);
	assert_int_equal(tenant_set(&fixture->ledger, "team", "memory@63", "4KiB", &why), HBM_OK);
	last = tenant_device(team, 63);
	assert_non_null(last);
	assert_int_equal(ledger_own_limit(first, LEDGER_DEVICE_MEMORY), 8192);
	assert_int_equal(ledger_own_limit(last, LEDGER_DEVICE_MEMORY), 4096);
	assert_int_equal(ledger_charge(&charge, first, LEDGER_DEVICE_MEMORY, 8192), HBM_OK);
	assert_int_equal(ledger_used(&team->payer, LEDGER_DEVICE_MEMORY), 8192);
	assert_true(ledger_has_room(last, LEDGER_DEVICE_MEMORY, 4096));
	ledger_reason(last, LEDGER_DEVICE_MEMORY, 4097, text, sizeof(text));
	assert_string_equal(text, "tenant team.memory@63 = 4096: it has there 0, 4097 more were "
				  "asked for");
	assert_false(ledger_check(first, LEDGER_DEVICE_MEMORY, 1));
	assert_int_equal(team->devices[0]->section.refused[LEDGER_DEVICE_MEMORY], 1);
	ledger_release(&charge);

	static const char *const wrong[] = {"memory@64", "memory@",    "memory@01",
					    "memory@-1", "memory@0x0", "regions@0"};
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(tenant_set(&fixture->ledger, "team", wrong[i], "4KiB", &why),
				 HBM_INVALID);
	assert_int_equal(tenant_set(&fixture->ledger, "team", "memory@1", "4KB", &why),
			 HBM_INVALID);
	assert_memory_equal(text, "memory@1: expected", 18);
}

/* What is bounded by a rate is so for all its users together. */
static void what_is_no_count_of_the_ledger(void **state)
{
	struct fixture *fixture = *state;
	struct user *one = user_of(fixture, ONE), *two = user_of(fixture, TWO);
	struct user *guest = user_of(fixture, GUEST);
	struct log_who who = user_log_who(one->tenant, ONE);
	char text[128];
	const struct reason why = {text, sizeof(text)};

	assert_int_equal(user_number(one), user_number(two));
	assert_int_not_equal(user_number(one), user_number(guest));
	assert_int_equal(user_guesses(one), GUESSES_BURST);
	assert_int_equal(user_guesses(guest), GUESSES_BURST);
	assert_int_equal(who.lines, LOG_PEERS_LINES);
	assert_string_equal(who.name, "tenant team");
	assert_string_equal(user_log_who(NULL, GUEST).name, "uid 65534");

	assert_int_equal(tenant_set(&fixture->ledger, "team", "guesses", "7", &why), HBM_OK);
	assert_int_equal(tenant_set(&fixture->ledger, "team", "log_lines", "3", &why), HBM_OK);
	assert_int_equal(user_guesses(two), 7);
	assert_int_equal(user_log_who(two->tenant, TWO).lines, 3);
	assert_int_equal(user_fair_payer(one, 9).tenant, user_fair_payer(two, 8).tenant);
	assert_int_equal(user_fair_payer(one, 9).id, 9);
	assert_false(user_fair_payer(one, 9).is_user);
	assert_true(user_fair_payer(guest, 9).is_user);
	assert_int_equal(user_fair_payer(guest, 9).tenant, GUEST);
	user_close(one);
	user_close(two);
	user_close(guest);
}

static void set_while_it_is_used(void **state)
{
	struct fixture *fixture = *state;
	struct user *one = user_of(fixture, ONE);
	struct charge charge = {0}, more = {0};
	char text[128];
	const struct reason why = {text, sizeof(text)};

	assert_int_equal(ledger_charge(&charge, &one->payer, LEDGER_SESSIONS, 3), HBM_OK);
	assert_int_equal(tenant_set(&fixture->ledger, "team", "sessions", "1", &why), HBM_OK);
	assert_int_equal(ledger_used(&one->tenant->payer, LEDGER_SESSIONS),
			 3); /* nothing is lost */
	assert_int_equal(ledger_charge(&more, &one->payer, LEDGER_SESSIONS, 1), HBM_LIMIT);
	assert_int_equal(tenant_set(&fixture->ledger, "team", "sessions", "4", &why), HBM_OK);
	assert_int_equal(ledger_charge(&more, &one->payer, LEDGER_SESSIONS, 1), HBM_OK);
	ledger_release(&more);
	assert_int_equal(tenant_set(&fixture->ledger, "team", "sessions", "default", &why), HBM_OK);
	assert_int_equal(ledger_limit(&one->payer, LEDGER_SESSIONS), 45);
	assert_int_equal(tenant_set(&fixture->ledger, "team", "weight", "7", &why), HBM_OK);
	assert_int_equal(user_fair_payer(one, 1).weight, 7);

	/* until the configuration is read again */
	assert_int_equal(tenants_configure(&fixture->ledger, &fixture->config), 0);
	assert_int_equal(ledger_limit(&one->payer, LEDGER_SESSIONS), 3);
	assert_int_equal(user_fair_payer(one, 1).weight, 1);

	assert_int_equal(tenant_set(&fixture->ledger, "tea", "sessions", "1", &why), HBM_NOT_FOUND);
	assert_string_equal(text, "no tenant of that name is configured");
	assert_int_equal(tenant_set(&fixture->ledger, "team", "session", "1", &why), HBM_INVALID);
	assert_string_equal(text, "a tenant has no such key; see hbmd.conf(5)");
	assert_int_equal(tenant_set(&fixture->ledger, "team", "sessions", "-1", &why), HBM_INVALID);
	assert_string_equal(text,
			    "sessions: expected a whole number from 0 to 1000000, or default");
	assert_int_equal(tenant_set(&fixture->ledger, "team", "match", "any", &why), HBM_INVALID);
	assert_int_equal(tenant_set(&fixture->ledger, "team", "ddr_max", "8KiB", &why), HBM_OK);
	assert_int_equal(tenant_set(&fixture->ledger, "team", "ddr_min", "12KiB", &why),
			 HBM_INVALID);
	assert_string_equal(text, "ddr_min: expected at most ddr_max");
	assert_int_equal(tenant_least(one->tenant, HBM_TIER_DDR), 0);
	assert_int_equal(tenant_most(one->tenant, HBM_TIER_DDR), 8192);
	assert_true(tenant_most(one->tenant, HBM_TIER_HBM) == CONFIG_DEFAULT);
	assert_int_equal(ledger_limit(&one->payer, LEDGER_SESSIONS), 3);

	ledger_release(&charge);
	user_close(one);
}

/* Its users keep it, and what it may have; new clients do not come to it. */
static void a_section_that_is_gone(void **state)
{
	struct fixture *fixture = *state;
	struct user *one = user_of(fixture, ONE);
	struct tenant *team = one->tenant;
	struct config none;
	char text[128];

	assert_int_equal(config_defaults(&none), 0);
	assert_int_equal(tenants_configure(&fixture->ledger, &none), 0);
	assert_null(tenant_of(fixture, ONE, ""));
	assert_int_equal(list_length(&fixture->ledger.tenants), 1);
	assert_int_equal(ledger_limit(&one->payer, LEDGER_SESSIONS), 3);
	assert_int_equal(tenant_set(&fixture->ledger, "team", "sessions", "1",
				    &(struct reason){text, sizeof(text)}),
			 HBM_NOT_FOUND);

	/* a client of the same uid is another user now, which shares nothing with it */
	struct user *again = user_of(fixture, ONE);
	assert_ptr_not_equal(again, one);
	assert_false(user_shares(again, one));
	user_close(again);

	/* it comes back as it was */
	assert_int_equal(tenants_configure(&fixture->ledger, &fixture->config), 0);
	assert_ptr_equal(tenant_of(fixture, ONE, ""), team);
	assert_int_equal(tenants_configure(&fixture->ledger, &none), 0);
	user_close(one);
	assert_true(list_empty(&fixture->ledger.tenants));
	config_clear(&none);
}

static void who_shares_with_whom(void **state)
{
	struct fixture *fixture = *state;
	struct user *one = user_of(fixture, ONE), *two = user_of(fixture, TWO);
	struct user *root = user_of(fixture, 0), *guest = user_of(fixture, GUEST);
	struct user *other = user_of(fixture, GUEST - 1);

	assert_true(user_shares(one, one));
	assert_true(user_shares(one, two));
	assert_false(user_shares(one, root));
	assert_false(user_shares(one, guest));
	assert_false(user_shares(guest, one));
	assert_true(user_shares(guest, other));

	set(fixture, "tenant team.share=x");
	assert_int_equal(tenants_configure(&fixture->ledger, &fixture->config), 0);
	assert_false(user_shares(one, root));
	set(fixture, "tenant root.share=x");
	assert_int_equal(tenants_configure(&fixture->ledger, &fixture->config), 0);
	assert_true(user_shares(one, root));
	assert_false(user_shares(one, guest));

	fixture->ledger.share_namespaces = false;
	assert_false(user_shares(guest, other));
	assert_true(user_shares(guest, guest));

	user_close(one);
	user_close(two);
	user_close(root);
	user_close(guest);
	user_close(other);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(the_first_that_matches),
		TEST(its_users_have_so_much_together),
		TEST(what_it_does_not_say),
		TEST(set_while_it_is_used),
		TEST(whatever_is_charged),
		TEST(memory_of_a_device),
		TEST(what_is_no_count_of_the_ledger),
		TEST(a_section_that_is_gone),
		TEST(who_shares_with_whom),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
