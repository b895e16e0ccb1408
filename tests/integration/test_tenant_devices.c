/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a tenant may have of each device, where devices are unlike: its clients commit and reserve
 * until they get no more of one, and have all of the other; a request for both is refused as a
 * whole. Other tenants notice nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/guest.h"
#include "tests/support/hbmctl.h"
#include "tests/support/stage.h"
#include "tests/support/tenant_stage.h"

#include <unistd.h>

#define SLAB TENANT_SLAB
#define SPACE (16u * SLAB)
#define ALARM_S 120

#define RICH 2001
#define POOR 2002 /* these two are one tenant: */
#define MEMBER 2003

enum { DEVICES = 2 };

/* Two slabs of the first device, and four of the second. */
static const char *const sets[] = {"hbmd.socket_mode=0666",
				   "soft.devices=2",
				   "tenant poor.match=uid:2002 uid:2003",
				   "tenant poor.memory@0=4MiB",
				   "tenant poor.memory@1=8MiB",
				   "tenant rich.match=uid:2001",
				   NULL};
static int rich, poor, member;
static bool begun;

static int setup(void **state)
{
	begun = false;

	return stage_setup(state);
}

static void begin(void)
{
	tenant_needed();
	spawn_needs_soft();
	alarm(ALARM_S);
	spawn_start(&daemon_, sets, NULL);
	guest_admit(&daemon_);
	rich = tenant_greet(RICH);
	poor = tenant_greet(POOR);
	member = tenant_greet(MEMBER);
	begun = true;
}

static int teardown(void **state)
{
	if (begun) {
		close(rich);
		close(poor);
		close(member);
		assert_true(spawn_balanced(&daemon_));
		alarm(0);
	}

	return stage_teardown(state);
}

static int commit(int socket, uint32_t region, unsigned slot, unsigned count)
{
	const struct raw_ranges message = tenant_range(HBM_WIRE_COMMIT, region, slot, count);

	return raw_ask(socket, &message, sizeof(message));
}

static void commit_refused(int socket, uint32_t region, unsigned slot, const char *reason)
{
	const struct raw_ranges message = tenant_range(HBM_WIRE_COMMIT, region, slot, 1);

	raw_refused(socket, &message, HBM_LIMIT, reason);
}

static void expect_used(uint64_t first, uint64_t second)
{
	assert_int_equal(tenant_shown("poor", "memory@0", "used"), first * SLAB);
	assert_int_equal(tenant_shown("poor", "memory@1", "used"), second * SLAB);
}

static void assert_rich_is_unharmed(void)
{
	for (uint32_t device = 0; device < DEVICES; device++) {
		uint32_t region = tenant_region_on(rich, device, SPACE);
		const struct hbm_wire_region_destroy destroy = {
			.header = RAW_HEADER(REGION_DESTROY, sizeof(destroy)), .region = region};

		assert_int_equal(commit(rich, region, 0, 8), HBM_OK);
		assert_int_equal(raw_ask(rich, &destroy, sizeof(destroy)), HBM_OK);
	}
}

static void test_commits(void **state)
{
	(void)state;
	begin();
	uint32_t first = tenant_region_on(poor, 0, SPACE);
	uint32_t second = tenant_region_on(poor, 1, SPACE);
	uint32_t of_member = tenant_region_on(member, 0, SPACE);

	assert_int_equal(commit(poor, first, 0, 2), HBM_OK);
	commit_refused(poor, first, 2,
		       "tenant poor.memory@0 = 4194304: it has there 4194304, 2097152 more were "
		       "asked for");
	commit_refused(member, of_member, 0,
		       "tenant poor.memory@0 = 4194304: it has there 4194304, 2097152 more were "
		       "asked for");
	assert_int_equal(commit(poor, second, 0, 4), HBM_OK);
	commit_refused(poor, second, 4,
		       "tenant poor.memory@1 = 8388608: it has there 8388608, 2097152 more were "
		       "asked for");
	expect_used(2, 4);
	assert_int_equal(tenant_shown("poor", "memory@0", "refused"), 2);
	assert_int_equal(tenant_shown("poor", "memory", "used"), 6 * SLAB);
	assert_rich_is_unharmed();

	hbmctl_expect("tenants set poor memory@0=6MiB", 0);
	assert_int_equal(commit(member, of_member, 0, 1), HBM_OK);
	expect_used(3, 4);
	hbmctl_expect("tenants set poor memory@0=default", 0);
	assert_int_equal(commit(member, of_member, 1, 8), HBM_OK);
	hbmctl_expect("tenants set poor memory@64=1MiB", 1);
}

/* A commit that is the session's own share, and one that is more. */
static void test_reservations(void **state)
{
	(void)state;
	struct {
		struct hbm_wire_reserve head;
		struct hbm_wire_reserve_change changes[DEVICES];
	} reserve = {
		.head = {.header = RAW_HEADER(RESERVE, sizeof(reserve)), .count = DEVICES},
		.changes = {{.device = 0, .bytes = 2 * SLAB}, {.device = 1, .bytes = 5 * SLAB}}};
	begin();
	uint32_t first = tenant_region_on(poor, 0, SPACE);
	uint32_t of_member = tenant_region_on(member, 0, SPACE);

	raw_refused(poor, &reserve, HBM_LIMIT,
		    "tenant poor.memory@1 = 8388608: it has there 0, 10485760 more were asked for");
	expect_used(0, 0);
	reserve.changes[1].bytes = 4 * SLAB;
	assert_int_equal(raw_ask(poor, &reserve, sizeof(reserve)), HBM_OK);
	expect_used(2, 4);
	commit_refused(member, of_member, 0,
		       "tenant poor.memory@0 = 4194304: it has there 4194304, 2097152 more were "
		       "asked for");
	assert_int_equal(commit(poor, first, 0, 2), HBM_OK);
	expect_used(2, 4);
	commit_refused(poor, first, 2,
		       "tenant poor.memory@0 = 4194304: it has there 4194304, 2097152 more were "
		       "asked for");
	assert_rich_is_unharmed();

	reserve.changes[0].bytes = reserve.changes[1].bytes = INT64_MIN;
	assert_int_equal(raw_ask(poor, &reserve, sizeof(reserve)), HBM_OK);
	expect_used(2, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_commits),
		TEST(test_reservations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
