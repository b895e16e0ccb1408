/* SPDX-License-Identifier: Apache-2.0 */
/* What QUERY and hbmctl show of the others: the rest of the table in SECURITY.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/two_users.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- QUERY ---- */

static void test_namespaces_and_blocks_of_others(void **state)
{
	(void)state;
	const struct hbm_wire_namespace_spec own = {.model = "own", .block_bytes = TWO_USERS_BLOCK};
	two_users_needed();

	assert_int_equal(two_users_query(other, HBM_QUERY_NAMESPACES)->count, 0);
	assert_int_equal(two_users_query(other, HBM_QUERY_BLOCKS)->count, 0);
	assert_int_equal(two_users_query(tenant, HBM_QUERY_NAMESPACES)->count, 1);
	assert_int_equal(two_users_query(tenant, HBM_QUERY_BLOCKS)->count, TWO_USERS_BLOCKS);

	uint32_t number = two_users_open(other, &own);
	two_users_region(other);
	assert_int_equal(two_users_store(other, number, 1, 0), HBM_OK);
	const struct two_users_records *answer = two_users_query(other, HBM_QUERY_NAMESPACES);
	assert_int_equal(answer->count, 1);
	assert_int_equal(((const struct hbm_wire_namespace *)two_users_record(answer, 0))->ns,
			 number);

	answer = two_users_query(other, HBM_QUERY_BLOCKS);
	assert_int_equal(answer->count, 1);
	const struct hbm_wire_block_info *block = two_users_record(answer, 0);
	assert_int_equal(block->ns, number);
	assert_int_equal(block->offset, 0); /* it is the fourth */

	int operator_ = raw_greet(&daemon_);
	assert_int_equal(two_users_query(operator_, HBM_QUERY_NAMESPACES)->count, 2);
	assert_int_equal(two_users_query(operator_, HBM_QUERY_BLOCKS)->count, TWO_USERS_BLOCKS + 1);
	close(operator_);
}

/* Of its own uid a client sees all sessions, of others none; namespaces go by session. */
static void test_sessions_and_regions_of_others(void **state)
{
	(void)state;
	two_users_needed();
	int second = two_users_greet(TENANT);

	const struct two_users_records *answer = two_users_query(other, HBM_QUERY_SESSIONS);
	assert_int_equal(answer->count, 1);
	assert_int_equal(((const struct hbm_wire_session *)two_users_record(answer, 0))->uid,
			 OTHER);
	assert_int_equal(two_users_query(other, HBM_QUERY_REGIONS)->count, 0);

	assert_int_equal(two_users_query(second, HBM_QUERY_SESSIONS)->count, 2);
	assert_int_equal(two_users_query(second, HBM_QUERY_REGIONS)->count, 1);
	assert_int_equal(two_users_query(second, HBM_QUERY_NAMESPACES)->count, 0);
	assert_int_equal(two_users_query(second, HBM_QUERY_BLOCKS)->count, 0);
	close(second);

	int operator_ = raw_greet(&daemon_);
	assert_int_equal(two_users_query(operator_, HBM_QUERY_SESSIONS)->count, 3);
	close(operator_);
}

static void expect_same_figures(const struct two_users_records *before,
				const struct two_users_records *after)
{
	assert_int_equal(after->count, before->count);
	assert_int_equal(after->record_bytes, before->record_bytes);
	assert_memory_equal(after->bytes, before->bytes,
			    (size_t)before->count * before->record_bytes);
}

/* No figure changes with what the tenant does. */
static void test_figures_tell_nothing_of_others(void **state)
{
	(void)state;
	two_users_needed();
	struct hbm_wire_status status;
	const size_t bytes = offsetof(struct hbm_wire_status, sessions);
	struct two_users_records tiers = *two_users_query(other, HBM_QUERY_TIERS);
	assert_int_equal(tiers.record_bytes, offsetof(struct hbm_wire_tier, blocks));
	assert_int_equal(tiers.count, 3);

	const struct two_users_records *answer = two_users_query(other, HBM_QUERY_STATUS);
	assert_int_equal(answer->record_bytes, bytes);
	memcpy(&status, answer->bytes, bytes);

	assert_int_equal(two_users_store(tenant, tenant_ns, TWO_USERS_BLOCKS + 1, TWO_USERS_BLOCKS),
			 HBM_OK);
	assert_int_equal(two_users_load(tenant, tenant_ns, 1), HBM_OK);

	expect_same_figures(&tiers, two_users_query(other, HBM_QUERY_TIERS));
	answer = two_users_query(other, HBM_QUERY_STATUS);
	status.uptime_ms = ((const struct hbm_wire_status *)two_users_record(answer, 0))->uptime_ms;
	assert_memory_equal(answer->bytes, &status, bytes);
}

static void test_what_is_for_operators(void **state)
{
	(void)state;
	static const struct {
		uint32_t kind;
		const char *reason;
	} kinds[] = {
		{HBM_QUERY_VERIFY, "only uid 0 and the daemon's uid may see accounts"},
		{HBM_QUERY_LINKS, "only uid 0 and the daemon's uid may see links"},
		{HBM_QUERY_TIMELINE, "only uid 0 and the daemon's uid may see intervals"},
		{HBM_QUERY_LIMITS, "only uid 0 and the daemon's uid may see limits"},
		{HBM_QUERY_NODES, "only uid 0 and the daemon's uid may see nodes"},
		{HBM_QUERY_LENT, "only uid 0 and the daemon's uid may see lent"},
		{HBM_QUERY_TENANTS, "only uid 0 and the daemon's uid may see tenants"},
	};
	two_users_needed();

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct hbm_wire_query query = {.header = RAW_HEADER(QUERY, sizeof(query)),
						     .kind = kinds[i].kind};
		raw_refused(other, &query, HBM_DENIED, kinds[i].reason);
	}
}

/* ---- hbmctl ---- */

static int hbmctl_as(uid_t uid, const char *command, const char *option, char *out, size_t size)
{
	return spawn_hbmctl_as(&daemon_, uid, (const char *[]){command, option, NULL}, out, size);
}

static void test_hbmctl_of_a_plain_user(void **state)
{
	(void)state;
	static const char note[] =
		"hbmctl: what belongs to others is shown to uid 0 and the daemon's uid only\n";
	static const struct {
		const char *command, *has, *has_not;
		bool part;
	} cases[] = {
		{"status", "up for", "lookups", true},   {"tiers", "CAPACITY", "USED", true},
		{"devices", "LEASED", NULL, true},       {"sessions", "hbmctl", "1234", true},
		{"regions", "REGION", "2 MiB", true},    {"namespaces", "MODEL", "model-of", true},
		{"blocks", "KEY", "a5a5a5a5a5", true},   {"metrics", "may see", "hbmd_", false},
		{"trace", "may see links", NULL, false}, {"limits", "may see", NULL, false},
	};
	char out[8192];
	two_users_needed();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int status = hbmctl_as(OTHER, cases[i].command, NULL, out, sizeof(out));
		assert_int_equal(status, cases[i].part ? 0 : 1);
		if (!strstr(out, cases[i].has) ||
		    (cases[i].has_not && strstr(out, cases[i].has_not)) ||
		    !strstr(out, note) == cases[i].part)
			fail_msg("hbmctl %s: %s", cases[i].command, out);
	}

	assert_int_equal(hbmctl_as(OTHER, "status", "--json", out, sizeof(out)), 0);
	assert_non_null(strstr(out, "\"uptime_ms\""));
	assert_null(strstr(out, "lookups"));
	assert_null(strstr(out, note));
	assert_int_equal(hbmctl_as(0, "sessions", NULL, out, sizeof(out)), 0);
	assert_non_null(strstr(out, "1234"));
	assert_null(strstr(out, note));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, two_users_setup, two_users_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_namespaces_and_blocks_of_others),
		TEST(test_sessions_and_regions_of_others),
		TEST(test_figures_tell_nothing_of_others),
		TEST(test_what_is_for_operators),
		TEST(test_hbmctl_of_a_plain_user),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
