/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tenants: each thing that a tenant may have is grown until it is refused, while another tenant
 * has all of its own; limits change while they are used; what is one tenant's does not exist for
 * another.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/guest.h"
#include "tests/support/hbmctl.h"
#include "tests/support/raw.h"
#include "tests/support/stage.h"
#include "tests/support/tenant_stage.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SLAB TENANT_SLAB
#define SPACE (4u * SLAB)
#define BLOCK TENANT_BLOCK
#define ALARM_S 120

#define RICH 2001   /* has what users have by default */
#define POOR 2002   /* these two are one tenant: */
#define MEMBER 2003 /* "poor" */
#define ALLY 2004   /* of "ally", which shares with "rich" */

static int rich, poor, member;

static const char *const sets[] = {
	"hbmd.socket_mode=0666",           "tenant poor.match=uid:2002 uid:2003",
	"tenant poor.sessions=3",          "tenant poor.regions=3",
	"tenant poor.address_space=32MiB", "tenant poor.memory=6MiB",
	"tenant poor.reserved=4MiB",       "tenant poor.published=2MiB",
	"tenant poor.namespaces=2",        "tenant poor.pins=1",
	"tenant poor.sequences=32",        "tenant rich.match=gid:2001 uid:2001",
	"tenant rich.share=friends",       "tenant ally.match=uid:2004",
	"tenant ally.share=friends",       NULL,
};

static int setup(void **state)
{
	stage_setup(state);
	if (geteuid() != 0)
		return 0;

	alarm(ALARM_S);
	spawn_start(&daemon_, sets, NULL);
	guest_admit(&daemon_);
	rich = tenant_greet(RICH);
	poor = tenant_greet(POOR);
	member = tenant_greet(MEMBER);

	return 0;
}

static int teardown(void **state)
{
	if (geteuid() == 0) {
		close(rich);
		close(poor);
		close(member);
		assert_true(spawn_balanced(&daemon_)); /* what this process had is quarantined */
		alarm(0);
	}

	return stage_teardown(state);
}

/* ---- What is refused ---- */

static void region_refused(int socket, uint64_t space, const char *reason)
{
	const struct hbm_wire_region_create create = {
		.header = RAW_HEADER(REGION_CREATE, sizeof(create)),
		.address_space = space,
		.slab = SLAB,
	};

	raw_refused(socket, &create, HBM_LIMIT, reason);
}

static void commit_refused(int socket, uint32_t region, unsigned slot, unsigned count,
			   const char *reason)
{
	const struct raw_ranges message = tenant_range(HBM_WIRE_COMMIT, region, slot, count);

	raw_refused(socket, &message, HBM_LIMIT, reason);
}

/* A tenant without limits of its own has all that there was before: of each thing more than the
 * poor may have, with the bytes it stored. */
static void assert_rich_is_unharmed(void)
{
	static unsigned round;
	char model[32];
	uint32_t at = tenant_region(rich, SPACE);
	struct raw_ranges all = tenant_range(HBM_WIRE_DECOMMIT, at, 0, 4);
	const struct hbm_wire_region_destroy destroy = {
		.header = RAW_HEADER(REGION_DESTROY, sizeof(destroy)), .region = at};
	int second = tenant_greet(RICH);

	tenant_commit(rich, at, 0, 4);
	snprintf(model, sizeof(model), "rich-%u", round++);
	uint32_t ns = tenant_namespace(rich, model);
	tenant_store(rich, ns, 1, at);
	assert_int_equal(tenant_lookup(rich, ns, 1), HBM_OK);
	const struct raw_keys pin = tenant_keys(HBM_WIRE_PIN, ns, 1),
			      unpin = tenant_keys(HBM_WIRE_UNPIN, ns, 1);
	assert_int_equal(tenant_ask_one(rich, &pin).status, HBM_OK);
	assert_int_equal(tenant_ask_one(rich, &unpin).status, HBM_OK);

	assert_int_equal(raw_ask(rich, &all, sizeof(all)), HBM_OK);
	assert_int_equal(raw_ask(rich, &destroy, sizeof(destroy)), HBM_OK);
	close(second);
	hbmctl_expect("verify", 0);
}

/* ---- Each thing until it is refused ---- */

static void test_sessions(void **state)
{
	(void)state;
	int third, more = -1;
	tenant_needed();

	third = tenant_greet(POOR);
	assert_int_equal(guest_greet(&daemon_, MEMBER, &more), HBM_LIMIT);
	assert_int_equal(tenant_shown("poor", "sessions", "used"), 3);
	assert_int_equal(tenant_shown("poor", "sessions", "limit"), 3);
	assert_int_equal(tenant_shown("poor", "sessions", "refused"), 1);
	assert_rich_is_unharmed();

	close(third);
	while (guest_greet(&daemon_, MEMBER, &more) != HBM_OK)
		; /* it has not been seen to leave yet */
	close(more);
}

/* Two users of one tenant have so many together. */
static void test_regions_and_address_space(void **state)
{
	(void)state;
	tenant_needed();

	tenant_region(poor, SPACE);
	tenant_region(member, SPACE);
	region_refused(poor, 5ull * SPACE,
		       "tenant poor.address_space = 33554432: it has 16777216, 41943040 more were "
		       "asked for");
	tenant_region(member, SPACE);
	region_refused(poor, SPACE, "tenant poor.regions = 3: it has 3, 1 more were asked for");
	assert_rich_is_unharmed();
}

static void test_memory(void **state)
{
	(void)state;
	tenant_needed();
	uint32_t a = tenant_region(poor, SPACE), b = tenant_region(member, SPACE);

	tenant_commit(poor, a, 0, 2);
	commit_refused(member, b, 0, 2,
		       "tenant poor.memory = 6291456: it has 4194304, 4194304 more were asked for");
	tenant_commit(member, b, 0, 1);
	commit_refused(member, b, 1, 1,
		       "tenant poor.memory = 6291456: it has 6291456, 2097152 more were asked for");
	assert_int_equal(tenant_shown("poor", "memory", "used"), 3 * SLAB);
	assert_int_equal(tenant_shown("poor", "memory", "refused"), 2);
	assert_rich_is_unharmed();

	/* what is given back can be had again, as soon as it is free */
	const struct raw_ranges back = tenant_range(HBM_WIRE_DECOMMIT, a, 0, 2);
	assert_int_equal(raw_ask(poor, &back, sizeof(back)), HBM_OK);
	while (tenant_shown("poor", "memory", "used") > SLAB)
		;
	tenant_commit(member, b, 1, 2);
}

/* What a dead process had is charged until the daemon has it back. */
static void test_memory_of_a_session_that_ended(void **state)
{
	(void)state;
	tenant_needed();
	uint32_t a = tenant_region(poor, SPACE), b = tenant_region(member, SPACE);

	tenant_commit(poor, a, 0, 3);
	close(poor);
	poor = tenant_greet(POOR);
	commit_refused(member, b, 0, 1,
		       "tenant poor.memory = 6291456: it has 6291456, 2097152 more were asked for");
	assert_rich_is_unharmed();
}

static void test_reservations(void **state)
{
	(void)state;
	struct {
		struct hbm_wire_reserve head;
		struct hbm_wire_reserve_change change;
	} reserve = {.head = {.header = RAW_HEADER(RESERVE, sizeof(reserve)), .count = 1},
		     .change.bytes = SLAB};
	tenant_needed();

	assert_int_equal(raw_ask(poor, &reserve, sizeof(reserve)), HBM_OK);
	assert_int_equal(raw_ask(member, &reserve, sizeof(reserve)), HBM_OK);
	raw_refused(member, &reserve, HBM_LIMIT,
		    "tenant poor.reserved = 4194304: it has 4194304, 2097152 more were asked for");
	reserve.change.bytes = 8 * SLAB;
	assert_int_equal(raw_ask(rich, &reserve, sizeof(reserve)), HBM_OK);
	assert_rich_is_unharmed();
}

static void test_namespaces_and_pins(void **state)
{
	(void)state;
	tenant_needed();
	uint32_t at = tenant_region(poor, SPACE);
	const struct hbm_wire_namespace_open more = tenant_opening("three");

	tenant_commit(poor, at, 0, 1);
	uint32_t ns = tenant_namespace(poor, "one");
	(void)tenant_namespace(member, "two");
	raw_refused(poor, &more, HBM_LIMIT,
		    "tenant poor.namespaces = 2: it has 2, 1 more were asked for");

	tenant_store(poor, ns, 1, at);
	tenant_store(poor, ns, 2, at);
	const struct raw_keys first = tenant_keys(HBM_WIRE_PIN, ns, 1),
			      second = tenant_keys(HBM_WIRE_PIN, ns, 2);
	assert_int_equal(tenant_ask_one(poor, &first).status, HBM_OK);
	assert_int_equal(tenant_ask_one(poor, &second).status, HBM_LIMIT);
	assert_int_equal(tenant_shown("poor", "pins", "refused"), 1);
	assert_rich_is_unharmed();
}

/* Nothing is refused: the tenant's own blocks make way. What another keeps stays. */
static void test_blocks_in_tiers(void **state)
{
	(void)state;
	tenant_needed();
	uint32_t at = tenant_region(poor, SPACE), of_rich = tenant_region(rich, SPACE);

	hbmctl_expect("tenants set poor hbm_max=128KiB ddr_max=0 nvme_max=256KiB", 0);
	hbmctl_expect("tenants set rich hbm_min=256KiB", 0);
	tenant_commit(poor, at, 0, 1);
	tenant_commit(rich, of_rich, 0, 1);
	uint32_t ns = tenant_namespace(poor, "m"), other = tenant_namespace(rich, "m");
	for (uint8_t key = 1; key <= 4; key++)
		tenant_store(rich, other, key, of_rich);

	for (uint8_t key = 1; key <= 40; key++)
		tenant_store(poor, ns, key, at);
	assert_int_equal(tenant_shown("poor", "hbm_max", "used"), 2 * BLOCK);
	assert_int_equal(tenant_shown("poor", "ddr_max", "used"), 0);
	assert_int_equal(tenant_shown("poor", "nvme_max", "used"), 4 * BLOCK);
	for (uint8_t key = 1; key <= 40; key++)
		assert_int_equal(tenant_lookup(poor, ns, key), key > 34 ? HBM_OK : HBM_MISS);

	/* the device's tier has 16 MiB: those of neither tenant fill it and the next */
	int guest = tenant_greet(GUEST);
	uint32_t of_guest = tenant_region(guest, SPACE), many = tenant_namespace(guest, "m");
	tenant_commit(guest, of_guest, 0, 1);
	for (unsigned key = 1; key <= 255; key++)
		tenant_store(guest, many, (uint8_t)key, of_guest);
	many = tenant_namespace(guest, "n");
	for (unsigned key = 1; key <= 255; key++)
		tenant_store(guest, many, (uint8_t)key, of_guest);
	assert_int_equal(tenant_shown("rich", "hbm_min", "used"), 4 * BLOCK);
	assert_int_equal(tenant_shown("poor", "hbm_max", "used"), 0);
	for (uint8_t key = 1; key <= 4; key++)
		assert_int_equal(tenant_lookup(rich, other, key), HBM_OK);
	close(guest);
	assert_rich_is_unharmed();
}

/* ---- Changes ---- */

static void test_limits_that_change(void **state)
{
	(void)state;
	tenant_needed();
	uint32_t at = tenant_region(poor, SPACE);

	tenant_commit(poor, at, 0, 2);
	hbmctl_expect("tenants set poor memory=2MiB weight=5", 0);
	assert_int_equal(tenant_shown("poor", "memory", "limit"), SLAB);
	assert_int_equal(tenant_shown("poor", "weight", "limit"), 5);
	assert_int_equal(tenant_shown("poor", "memory", "used"), 2 * SLAB); /* nothing is taken */
	commit_refused(poor, at, 2, 1,
		       "tenant poor.memory = 2097152: it has 4194304, 2097152 more were asked for");
	hbmctl_expect("tenants set poor memory=8MiB", 0);
	tenant_commit(poor, at, 2, 2);

	/* the configuration says 6 MiB */
	assert_int_equal(kill(daemon_.pid, SIGHUP), 0);
	while (tenant_shown("poor", "memory", "limit") != 3 * SLAB)
		;
	assert_int_equal(tenant_shown("poor", "weight", "limit"), 1);

	hbmctl_expect_refusal("tenants set nobody memory=2MiB", 1,
			      "no tenant of that name is configured");
	hbmctl_expect_refusal("tenants set poor memory=2MB", 1, "memory: expected a size");
	hbmctl_expect_refusal("tenants set poor match=any", 1, "changes in the configuration");
	hbmctl_expect_refusal("tenants set poor nothing=1", 1, "has no such key");
	hbmctl_expect("tenants set poor", 2);
	hbmctl_expect("tenants set poor memory", 2);
	hbmctl_expect("tenants get poor", 2);
	assert_rich_is_unharmed();
}

static void test_who_may_change_them(void **state)
{
	(void)state;
	struct hbm_wire_tenant_set set = {.header = RAW_HEADER(TENANT_SET, sizeof(set)),
					  .tenant = "poor",
					  .key = "memory",
					  .value = "1GiB"};
	tenant_needed();

	raw_refused(poor, &set, HBM_DENIED,
		    "only uid 0 and the daemon's uid change what tenants may have");
	strcpy(set.tenant, "nobody");
	raw_refused(poor, &set, HBM_DENIED,
		    "only uid 0 and the daemon's uid change what tenants may have");
	assert_int_equal(tenant_shown("poor", "memory", "limit"), 3 * SLAB);
}

/* Requests wait when the tenant has as many as it may have, and go on; nobody else waits. */
static void test_requests_that_wait(void **state)
{
	(void)state;
	const struct hbm_wire_header ping = RAW_HEADER(PING, sizeof(ping));
	struct hbm_wire_header header;
	tenant_needed();

	hbmctl_expect("tenants set poor requests_in_flight=1 request_bytes=4KiB", 0);
	for (int i = 0; i < 500; i++) {
		assert_true(raw_send(poor, &ping, sizeof(ping), 0));
		assert_true(raw_send(member, &ping, sizeof(ping), 0));
		if (i % 50 == 0)
			assert_int_equal(raw_ask(rich, &ping, sizeof(ping)), HBM_OK);
		if (i % 8 != 7)
			continue;
		for (int k = 0; k < 8; k++) {
			assert_true(raw_receive(poor, &header));
			assert_true(raw_receive(member, &header));
		}
	}
	for (int k = 0; k < 500 % 8; k++) {
		assert_true(raw_receive(poor, &header));
		assert_true(raw_receive(member, &header));
	}
	assert_rich_is_unharmed();
}

/* ---- What is private ---- */

/* The same namespace, by its whole specification, is another one for each tenant, and for those
 * that no section matches; it is one for the users of a tenant, and for tenants that share. */
static void test_namespaces_are_private(void **state)
{
	(void)state;
	tenant_needed();
	int ally = tenant_greet(ALLY), guest = tenant_greet(GUEST),
	    other = tenant_greet(OTHER_GUEST);
	uint32_t at = tenant_region(rich, SPACE);
	uint32_t of_rich = tenant_namespace(rich, "m"), of_poor = tenant_namespace(poor, "m");
	uint32_t of_guest = tenant_namespace(guest, "m");

	assert_int_not_equal(of_rich, of_poor);
	assert_int_not_equal(of_rich, of_guest);
	assert_int_not_equal(of_poor, of_guest);
	assert_int_equal(tenant_namespace(ally, "m"), of_rich);
	assert_int_equal(tenant_namespace(member, "m"), of_poor);
	assert_int_equal(tenant_namespace(other, "m"), of_guest);

	tenant_commit(rich, at, 0, 1);
	tenant_store(rich, of_rich, 1, at);
	assert_int_equal(tenant_lookup(rich, of_rich, 1), HBM_OK);
	assert_int_equal(tenant_lookup(ally, of_rich, 1), HBM_OK);

	/* the same answer, to the bit, for a key that another tenant has and one that nobody has */
	for (int i = 0; i < 2; i++) {
		int socket = i == 0 ? poor : guest;
		uint32_t ns = i == 0 ? of_poor : of_guest;
		char replies[2][sizeof(struct hbm_wire_results) + sizeof(struct hbm_wire_result)];

		for (uint8_t key = 1; key <= 2; key++) {
			const struct raw_keys message = tenant_keys(HBM_WIRE_LOOKUP, ns, key);
			raw_call(socket, &message, replies[key - 1], sizeof(replies[0]));
		}
		assert_memory_equal(replies[0], replies[1], sizeof(replies[0]));

		/* by its number there is no such namespace */
		const struct raw_keys guessed = tenant_keys(HBM_WIRE_LOOKUP, of_rich, 1);
		const struct raw_keys absent = tenant_keys(HBM_WIRE_LOOKUP, 99, 1);
		assert_int_equal(raw_ask(socket, &guessed, sizeof(guessed)), HBM_NOT_FOUND);
		assert_int_equal(raw_ask(socket, &absent, sizeof(absent)), HBM_NOT_FOUND);
	}

	close(ally);
	close(guest);
	close(other);
}

/* What the NVMe tier has at this moment. */
static uint64_t on_nvme(void)
{
	json_t *document = hbmctl_json("--json tiers");
	const json_t *tiers = hbmctl_array(document, "tiers");
	uint64_t placed = 0;

	for (size_t i = 0; i < json_array_size(tiers); i++)
		if (strcmp(hbmctl_text(json_array_get(tiers, i), "tier"), "nvme") == 0)
			placed = hbmctl_count(json_array_get(tiers, i), "placed");
	json_decref(document);

	return placed;
}

/* What a tenant has on NVMe is its own after a restart, and goes if its section is gone. */
static void test_a_restart(void **state)
{
	(void)state;
	static const char *const without[] = {"hbmd.socket_mode=0666", NULL};
	tenant_needed();
	uint32_t at = tenant_region(poor, SPACE), ns = tenant_namespace(poor, "m");

	hbmctl_expect("tenants set poor hbm_max=0 ddr_max=0", 0);
	tenant_commit(poor, at, 0, 1);
	for (uint8_t key = 1; key <= 4; key++)
		tenant_store(poor, ns, key, at);
	while (on_nvme() < 4 * BLOCK)
		;

	for (int i = 0; i < 2; i++) {
		close(poor);
		close(member);
		close(rich);
		assert_int_equal(spawn_stop(&daemon_), 0);
		spawn_start(&daemon_, i == 0 ? sets : without, NULL);
		guest_admit(&daemon_);
		rich = tenant_greet(RICH);
		poor = tenant_greet(POOR);
		member = tenant_greet(MEMBER);
		ns = tenant_namespace(rich, "m");
		assert_int_equal(tenant_lookup(rich, ns, 1), HBM_MISS);
		ns = tenant_namespace(member, "m");
		assert_int_equal(tenant_lookup(member, ns, 1), i == 0 ? HBM_OK : HBM_MISS);
	}
}

/* Clients of one uid in two tenants are two users, which see nothing of each other; a tenant's
 * users do not see each other's sessions and names either. */
static void test_one_uid_in_two_tenants(void **state)
{
	(void)state;
	tenant_needed();
	struct hbm_wire_publish publish = {
		.header = RAW_HEADER(PUBLISH, sizeof(publish)), .bytes = SLAB, .name = "name"};
	const struct hbm_wire_attach attach = {.header = RAW_HEADER(ATTACH, sizeof(attach)),
					       .uid = HBM_WIRE_OWN_UID,
					       .name = "name"};
	const struct hbm_wire_query query = {.header = RAW_HEADER(QUERY, sizeof(query)),
					     .kind = HBM_QUERY_SESSIONS};
	struct {
		struct hbm_wire_query_reply head;
		struct hbm_wire_session session;
	} reply;

	publish.region = tenant_region(rich, SPACE);
	tenant_commit(rich, publish.region, 0, 1);
	assert_int_equal(raw_ask(rich, &publish, sizeof(publish)), HBM_OK);

	assert_int_equal(setegid(RICH), 0);
	int by_group = tenant_greet(GUEST);
	assert_int_equal(setegid(0), 0);
	raw_refused(by_group, &attach, HBM_NOT_FOUND, "nothing of that name is published");
	raw_call(by_group, &query, &reply, sizeof(reply));
	assert_int_equal(reply.head.count, 1);
	assert_int_equal(reply.session.uid, GUEST);
	assert_int_equal(tenant_namespace(by_group, "shared"), tenant_namespace(rich, "shared"));

	int guest = tenant_greet(GUEST); /* the same uid without that group */
	raw_call(guest, &query, &reply, sizeof(reply));
	assert_int_equal(reply.head.count, 1);
	assert_int_not_equal(tenant_namespace(guest, "shared"), tenant_namespace(rich, "shared"));

	close(by_group);
	close(guest);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_sessions),
		TEST(test_regions_and_address_space),
		TEST(test_memory),
		TEST(test_memory_of_a_session_that_ended),
		TEST(test_reservations),
		TEST(test_namespaces_and_pins),
		TEST(test_blocks_in_tiers),
		TEST(test_limits_that_change),
		TEST(test_who_may_change_them),
		TEST(test_requests_that_wait),
		TEST(test_namespaces_are_private),
		TEST(test_one_uid_in_two_tenants),
		TEST(test_a_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
