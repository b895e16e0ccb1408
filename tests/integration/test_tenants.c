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

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SLAB (2u << 20)
#define SPACE (4u * SLAB)
#define BLOCK 65536u
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

static int greet(uid_t uid)
{
	int socket = -1;

	assert_int_equal(guest_greet(&daemon_, uid, &socket), HBM_OK);

	return socket;
}

static int setup(void **state)
{
	stage_setup(state);
	if (geteuid() != 0)
		return 0;

	alarm(ALARM_S);
	spawn_start(&daemon_, sets, NULL);
	guest_admit(&daemon_);
	rich = greet(RICH);
	poor = greet(POOR);
	member = greet(MEMBER);

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

static void needed(void)
{
	if (geteuid() == 0)
		return;
	print_message("SKIP: only root can be several users\n");
	skip();
}

/* ---- What is asked ---- */

static uint32_t region(int socket, uint64_t space)
{
	const struct hbm_wire_region_create create = {
		.header = RAW_HEADER(REGION_CREATE, sizeof(create)),
		.address_space = space,
		.slab = SLAB,
	};
	struct hbm_wire_region_create_reply reply;

	raw_call(socket, &create, &reply, sizeof(reply));

	return reply.region;
}

static void region_refused(int socket, uint64_t space, const char *reason)
{
	const struct hbm_wire_region_create create = {
		.header = RAW_HEADER(REGION_CREATE, sizeof(create)),
		.address_space = space,
		.slab = SLAB,
	};

	raw_refused(socket, &create, HBM_LIMIT, reason);
}

static struct raw_ranges range(unsigned opcode, uint32_t region, unsigned slot, unsigned count)
{
	return (struct raw_ranges){
		.head = {.header = {.size = sizeof(struct raw_ranges),
				    .opcode = (uint16_t)opcode,
				    .id = 1},
			 .count = 1},
		.range = {.region = region,
			  .offset = (uint64_t)slot * SLAB,
			  .bytes = (uint64_t)count * SLAB},
	};
}

static void commit(int socket, uint32_t region, unsigned slot, unsigned count)
{
	const struct raw_ranges message = range(HBM_WIRE_COMMIT, region, slot, count);

	assert_int_equal(raw_ask(socket, &message, sizeof(message)), HBM_OK);
}

static void commit_refused(int socket, uint32_t region, unsigned slot, unsigned count,
			   const char *reason)
{
	const struct raw_ranges message = range(HBM_WIRE_COMMIT, region, slot, count);

	raw_refused(socket, &message, HBM_LIMIT, reason);
}

static struct hbm_wire_namespace_open opening(const char *model)
{
	struct hbm_wire_namespace_open open = {.header = RAW_HEADER(NAMESPACE_OPEN, sizeof(open)),
					       .spec = {.layout = "l", .block_bytes = BLOCK}};

	snprintf(open.spec.model, sizeof(open.spec.model), "%s", model);

	return open;
}

static uint32_t namespace(int socket, const char *model)
{
	const struct hbm_wire_namespace_open open = opening(model);
	struct hbm_wire_namespace_reply reply;

	raw_call(socket, &open, &reply, sizeof(reply));

	return reply.ns;
}

static struct raw_keys keys(unsigned opcode, uint32_t ns, uint8_t key)
{
	return (struct raw_keys){
		.head = {.header = {.size = sizeof(struct raw_keys),
				    .opcode = (uint16_t)opcode,
				    .id = 1},
			 .ns = ns,
			 .count = 1},
		.key.bytes[0] = key,
	};
}

/* The answer to a request for one block, which is HBM_OK: its result. */
static struct hbm_wire_result ask_one(int socket, const void *message)
{
	char reply[sizeof(struct hbm_wire_results) + sizeof(struct hbm_wire_result)];
	struct hbm_wire_result result;

	raw_call(socket, message, reply, sizeof(reply));
	memcpy(&result, reply + sizeof(struct hbm_wire_results), sizeof(result));

	return result;
}

static void store(int socket, uint32_t ns, uint8_t key, uint32_t region)
{
	const struct raw_blocks message = raw_store(ns, key, region, BLOCK);

	assert_int_equal(ask_one(socket, &message).status, HBM_OK);
}

static int lookup(int socket, uint32_t ns, uint8_t key)
{
	const struct raw_keys message = keys(HBM_WIRE_LOOKUP, ns, key);

	return ask_one(socket, &message).status;
}

/* What hbmctl shows of a tenant. */
static uint64_t shown(const char *tenant, const char *key, const char *figure)
{
	json_t *document = hbmctl_json("--json tenants");
	const json_t *records = hbmctl_array(document, "tenants");
	uint64_t value = UINT64_MAX;

	for (size_t i = 0; i < json_array_size(records); i++) {
		const json_t *record = json_array_get(records, i);
		if (strcmp(hbmctl_text(record, "tenant"), tenant) == 0 &&
		    strcmp(hbmctl_text(record, "key"), key) == 0)
			value = hbmctl_count(record, figure);
	}

	json_decref(document);

	return value;
}

/* A tenant without limits of its own has all that there was before: of each thing more than the
 * poor may have, with the bytes it stored. */
static void assert_rich_is_unharmed(void)
{
	static unsigned round;
	char model[32];
	uint32_t at = region(rich, SPACE);
	struct raw_ranges all = range(HBM_WIRE_DECOMMIT, at, 0, 4);
	const struct hbm_wire_region_destroy destroy = {
		.header = RAW_HEADER(REGION_DESTROY, sizeof(destroy)), .region = at};
	int second = greet(RICH);

	commit(rich, at, 0, 4);
	snprintf(model, sizeof(model), "rich-%u", round++);
	uint32_t ns = namespace(rich, model);
	store(rich, ns, 1, at);
	assert_int_equal(lookup(rich, ns, 1), HBM_OK);
	const struct raw_keys pin = keys(HBM_WIRE_PIN, ns, 1), unpin = keys(HBM_WIRE_UNPIN, ns, 1);
	assert_int_equal(ask_one(rich, &pin).status, HBM_OK);
	assert_int_equal(ask_one(rich, &unpin).status, HBM_OK);

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
	needed();

	third = greet(POOR);
	assert_int_equal(guest_greet(&daemon_, MEMBER, &more), HBM_LIMIT);
	assert_int_equal(shown("poor", "sessions", "used"), 3);
	assert_int_equal(shown("poor", "sessions", "limit"), 3);
	assert_int_equal(shown("poor", "sessions", "refused"), 1);
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
	needed();

	region(poor, SPACE);
	region(member, SPACE);
	region_refused(poor, 5ull * SPACE,
		       "tenant poor.address_space = 33554432: it has 16777216, 41943040 more were "
		       "asked for");
	region(member, SPACE);
	region_refused(poor, SPACE, "tenant poor.regions = 3: it has 3, 1 more were asked for");
	assert_rich_is_unharmed();
}

static void test_memory(void **state)
{
	(void)state;
	needed();
	uint32_t a = region(poor, SPACE), b = region(member, SPACE);

	commit(poor, a, 0, 2);
	commit_refused(member, b, 0, 2,
		       "tenant poor.memory = 6291456: it has 4194304, 4194304 more were asked for");
	commit(member, b, 0, 1);
	commit_refused(member, b, 1, 1,
		       "tenant poor.memory = 6291456: it has 6291456, 2097152 more were asked for");
	assert_int_equal(shown("poor", "memory", "used"), 3 * SLAB);
	assert_int_equal(shown("poor", "memory", "refused"), 2);
	assert_rich_is_unharmed();

	/* what is given back can be had again, as soon as it is free */
	const struct raw_ranges back = range(HBM_WIRE_DECOMMIT, a, 0, 2);
	assert_int_equal(raw_ask(poor, &back, sizeof(back)), HBM_OK);
	while (shown("poor", "memory", "used") > SLAB)
		;
	commit(member, b, 1, 2);
}

/* What a dead process had is charged until the daemon has it back. */
static void test_memory_of_a_session_that_ended(void **state)
{
	(void)state;
	needed();
	uint32_t a = region(poor, SPACE), b = region(member, SPACE);

	commit(poor, a, 0, 3);
	close(poor);
	poor = greet(POOR);
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
	needed();

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
	needed();
	uint32_t at = region(poor, SPACE);
	const struct hbm_wire_namespace_open more = opening("three");

	commit(poor, at, 0, 1);
	uint32_t ns = namespace(poor, "one");
	(void)namespace(member, "two");
	raw_refused(poor, &more, HBM_LIMIT,
		    "tenant poor.namespaces = 2: it has 2, 1 more were asked for");

	store(poor, ns, 1, at);
	store(poor, ns, 2, at);
	const struct raw_keys first = keys(HBM_WIRE_PIN, ns, 1), second = keys(HBM_WIRE_PIN, ns, 2);
	assert_int_equal(ask_one(poor, &first).status, HBM_OK);
	assert_int_equal(ask_one(poor, &second).status, HBM_LIMIT);
	assert_int_equal(shown("poor", "pins", "refused"), 1);
	assert_rich_is_unharmed();
}

/* Nothing is refused: the tenant's own blocks make way. What another keeps stays. */
static void test_blocks_in_tiers(void **state)
{
	(void)state;
	needed();
	uint32_t at = region(poor, SPACE), of_rich = region(rich, SPACE);

	hbmctl_expect("tenants set poor hbm_max=128KiB ddr_max=0 nvme_max=256KiB", 0);
	hbmctl_expect("tenants set rich hbm_min=256KiB", 0);
	commit(poor, at, 0, 1);
	commit(rich, of_rich, 0, 1);
	uint32_t ns = namespace(poor, "m"), other = namespace(rich, "m");
	for (uint8_t key = 1; key <= 4; key++)
		store(rich, other, key, of_rich);

	for (uint8_t key = 1; key <= 40; key++)
		store(poor, ns, key, at);
	assert_int_equal(shown("poor", "hbm_max", "used"), 2 * BLOCK);
	assert_int_equal(shown("poor", "ddr_max", "used"), 0);
	assert_int_equal(shown("poor", "nvme_max", "used"), 4 * BLOCK);
	for (uint8_t key = 1; key <= 40; key++)
		assert_int_equal(lookup(poor, ns, key), key > 34 ? HBM_OK : HBM_MISS);

	/* the device's tier has 16 MiB: those of neither tenant fill it and the next */
	int guest = greet(GUEST);
	uint32_t of_guest = region(guest, SPACE), many = namespace(guest, "m");
	commit(guest, of_guest, 0, 1);
	for (unsigned key = 1; key <= 255; key++)
		store(guest, many, (uint8_t)key, of_guest);
	many = namespace(guest, "n");
	for (unsigned key = 1; key <= 255; key++)
		store(guest, many, (uint8_t)key, of_guest);
	assert_int_equal(shown("rich", "hbm_min", "used"), 4 * BLOCK);
	assert_int_equal(shown("poor", "hbm_max", "used"), 0);
	for (uint8_t key = 1; key <= 4; key++)
		assert_int_equal(lookup(rich, other, key), HBM_OK);
	close(guest);
	assert_rich_is_unharmed();
}

/* ---- Changes ---- */

static void test_limits_that_change(void **state)
{
	(void)state;
	needed();
	uint32_t at = region(poor, SPACE);

	commit(poor, at, 0, 2);
	hbmctl_expect("tenants set poor memory=2MiB weight=5", 0);
	assert_int_equal(shown("poor", "memory", "limit"), SLAB);
	assert_int_equal(shown("poor", "weight", "limit"), 5);
	assert_int_equal(shown("poor", "memory", "used"), 2 * SLAB); /* nothing is taken */
	commit_refused(poor, at, 2, 1,
		       "tenant poor.memory = 2097152: it has 4194304, 2097152 more were asked for");
	hbmctl_expect("tenants set poor memory=8MiB", 0);
	commit(poor, at, 2, 2);

	/* the configuration says 6 MiB */
	assert_int_equal(kill(daemon_.pid, SIGHUP), 0);
	while (shown("poor", "memory", "limit") != 3 * SLAB)
		;
	assert_int_equal(shown("poor", "weight", "limit"), 1);

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
	needed();

	raw_refused(poor, &set, HBM_DENIED,
		    "only uid 0 and the daemon's uid change what tenants may have");
	strcpy(set.tenant, "nobody");
	raw_refused(poor, &set, HBM_DENIED,
		    "only uid 0 and the daemon's uid change what tenants may have");
	assert_int_equal(shown("poor", "memory", "limit"), 3 * SLAB);
}

/* Requests wait when the tenant has as many as it may have, and go on; nobody else waits. */
static void test_requests_that_wait(void **state)
{
	(void)state;
	const struct hbm_wire_header ping = RAW_HEADER(PING, sizeof(ping));
	struct hbm_wire_header header;
	needed();

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
	needed();
	int ally = greet(ALLY), guest = greet(GUEST), other = greet(OTHER_GUEST);
	uint32_t at = region(rich, SPACE);
	uint32_t of_rich = namespace(rich, "m"), of_poor = namespace(poor, "m");
	uint32_t of_guest = namespace(guest, "m");

	assert_int_not_equal(of_rich, of_poor);
	assert_int_not_equal(of_rich, of_guest);
	assert_int_not_equal(of_poor, of_guest);
	assert_int_equal(namespace(ally, "m"), of_rich);
	assert_int_equal(namespace(member, "m"), of_poor);
	assert_int_equal(namespace(other, "m"), of_guest);

	commit(rich, at, 0, 1);
	store(rich, of_rich, 1, at);
	assert_int_equal(lookup(rich, of_rich, 1), HBM_OK);
	assert_int_equal(lookup(ally, of_rich, 1), HBM_OK);

	/* the same answer, to the bit, for a key that another tenant has and one that nobody has */
	for (int i = 0; i < 2; i++) {
		int socket = i == 0 ? poor : guest;
		uint32_t ns = i == 0 ? of_poor : of_guest;
		char replies[2][sizeof(struct hbm_wire_results) + sizeof(struct hbm_wire_result)];

		for (uint8_t key = 1; key <= 2; key++) {
			const struct raw_keys message = keys(HBM_WIRE_LOOKUP, ns, key);
			raw_call(socket, &message, replies[key - 1], sizeof(replies[0]));
		}
		assert_memory_equal(replies[0], replies[1], sizeof(replies[0]));

		/* by its number there is no such namespace */
		const struct raw_keys guessed = keys(HBM_WIRE_LOOKUP, of_rich, 1);
		const struct raw_keys absent = keys(HBM_WIRE_LOOKUP, 99, 1);
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
	needed();
	uint32_t at = region(poor, SPACE), ns = namespace(poor, "m");

	hbmctl_expect("tenants set poor hbm_max=0 ddr_max=0", 0);
	commit(poor, at, 0, 1);
	for (uint8_t key = 1; key <= 4; key++)
		store(poor, ns, key, at);
	while (on_nvme() < 4 * BLOCK)
		;

	for (int i = 0; i < 2; i++) {
		close(poor);
		close(member);
		close(rich);
		assert_int_equal(spawn_stop(&daemon_), 0);
		spawn_start(&daemon_, i == 0 ? sets : without, NULL);
		guest_admit(&daemon_);
		rich = greet(RICH);
		poor = greet(POOR);
		member = greet(MEMBER);
		ns = namespace(rich, "m");
		assert_int_equal(lookup(rich, ns, 1), HBM_MISS);
		ns = namespace(member, "m");
		assert_int_equal(lookup(member, ns, 1), i == 0 ? HBM_OK : HBM_MISS);
	}
}

/* Clients of one uid in two tenants are two users, which see nothing of each other; a tenant's
 * users do not see each other's sessions and names either. */
static void test_one_uid_in_two_tenants(void **state)
{
	(void)state;
	needed();
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

	publish.region = region(rich, SPACE);
	commit(rich, publish.region, 0, 1);
	assert_int_equal(raw_ask(rich, &publish, sizeof(publish)), HBM_OK);

	assert_int_equal(setegid(RICH), 0);
	int by_group = greet(GUEST);
	assert_int_equal(setegid(0), 0);
	raw_refused(by_group, &attach, HBM_NOT_FOUND, "nothing of that name is published");
	raw_call(by_group, &query, &reply, sizeof(reply));
	assert_int_equal(reply.head.count, 1);
	assert_int_equal(reply.session.uid, GUEST);
	assert_int_equal(namespace(by_group, "shared"), namespace(rich, "shared"));

	int guest = greet(GUEST); /* the same uid without that group */
	raw_call(guest, &query, &reply, sizeof(reply));
	assert_int_equal(reply.head.count, 1);
	assert_int_not_equal(namespace(guest, "shared"), namespace(rich, "shared"));

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
