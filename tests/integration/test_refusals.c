/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client is told of a request that is well-formed and cannot be done: the status,
 * and the reason whole, with the number, the size or the place that it is about. A raw
 * client, as the library refuses some of this before it is sent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/raw.h"
#include "tests/support/stage.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 65536u
#define SLAB (2ull << 20)
#define POOL (168ull << 20) /* of regions: 192 MiB less cache and headroom */

static int client;
static uint32_t ns, region;

static void expect(const void *message, int status, const char *reason)
{
	raw_refused(client, message, status, reason);
}

static void begin(const char *const *sets)
{
	spawn_start(&daemon_, sets, NULL);
	client = raw_greet(&daemon_);
	ns = raw_namespace(client, BLOCK);
}

/* Another daemon in place of the first. */
static void begin_again(const char *const *sets)
{
	close(client);
	assert_int_equal(spawn_stop(&daemon_), 0);
	begin(sets);
}

static int setup(void **state)
{
	static const char *const sets[] = {"nvme.path=", "nvme.size=0", NULL};

	stage_setup(state);
	begin(sets);
	region = raw_region(client, 0, 128 * SLAB, SLAB);

	return 0;
}

static int teardown(void **state)
{
	close(client);
	return stage_teardown(state);
}

/* ---- Sessions ---- */

static void test_a_version_that_is_not_spoken(void **state)
{
	(void)state;
	struct hbm_wire_hello hello;
	char reason[HBM_WIRE_REASON_BYTES];
	int greeted = client;

	raw_hello_fill(&hello);
	client = raw_connect(&daemon_);
	for (int later = 0; later < 2; later++) {
		hello.version_min = later ? HBM_WIRE_VERSION + 1 : HBM_WIRE_VERSION - 2;
		hello.version_max = later ? HBM_WIRE_VERSION + 7 : HBM_WIRE_VERSION - 1;
		snprintf(reason, sizeof(reason),
			 "the daemon speaks version %d, the client %u to %u", HBM_WIRE_VERSION,
			 hello.version_min, hello.version_max);
		expect(&hello, HBM_UNSUPPORTED, reason);
	}
	close(client);
	client = greeted;
}

static void test_nothing_to_cancel(void **state)
{
	(void)state;
	struct hbm_wire_cancel cancel = {.header = RAW_HEADER(CANCEL, sizeof(cancel)),
					 .target = 77};
	expect(&cancel, HBM_NOT_FOUND, "no request 77 waits for its ready fence");
}

/* ---- Regions ---- */

static void test_regions(void **state)
{
	(void)state;
	struct hbm_wire_region_create create = {
		.header = RAW_HEADER(REGION_CREATE, sizeof(create)),
		.device = 1,
		.address_space = 4096,
		.slab = 5,
	};
	struct hbm_wire_region_destroy destroy = {
		.header = RAW_HEADER(REGION_DESTROY, sizeof(destroy)), .region = 999};

	expect(&create, HBM_INVALID, "device 1: there are 1");
	create.device = 0;
	expect(&create, HBM_INVALID,
	       "slab 5 is not 2 MiB times a power of two up to 1 GiB, or address_space 4096 is not "
	       "a multiple of it");
	expect(&destroy, HBM_NOT_FOUND, "no region 999");
}

static void test_ranges(void **state)
{
	(void)state;
	struct raw_ranges commit = {
		.head = {.header = RAW_HEADER(COMMIT, sizeof(commit)), .count = 1},
		.range = {region, 0, 0, SLAB}};
	struct raw_ranges decommit = commit;
	char reason[HBM_WIRE_REASON_BYTES];
	decommit.head.header.opcode = HBM_WIRE_DECOMMIT;

	assert_int_equal(raw_ask(client, &decommit, sizeof(decommit)), HBM_OK);
	expect(&decommit, HBM_NOT_FOUND, "a range names no region, or is not committed");
	commit.range.region = 999;
	expect(&commit, HBM_NOT_FOUND, "a range names no region, or is not committed");
	commit.range.region = region;
	commit.range.offset = 4096;
	expect(&commit, HBM_INVALID,
	       "a range is misaligned, outside its region, or named twice; or "
	       "only some are of attached regions");
	commit.range.offset = 0;
	commit.range.bytes = 128 * SLAB;
	snprintf(reason, sizeof(reason), "device 0: %llu of %llu bytes for regions are free", POOL,
		 POOL);
	expect(&commit, HBM_NO_SPACE, reason);

	commit.range.bytes = SLAB;
	assert_int_equal(raw_ask(client, &commit, sizeof(commit)), HBM_OK);
	expect(&commit, HBM_EXISTS, "part of a range is already committed or being committed");
	commit.range.offset = SLAB;
	commit.range.bytes = 127 * SLAB;
	snprintf(reason, sizeof(reason), "device 0: %llu of %llu bytes for regions are free",
		 POOL - SLAB, POOL);
	expect(&commit, HBM_NO_SPACE, reason);
	assert_int_equal(raw_ask(client, &decommit, sizeof(decommit)), HBM_OK);
}

/* Without a cache in HBM the first of these calls are those of the requests. */
static void test_a_device_that_fails(void **state)
{
	(void)state;
	static const char *const sets[] = {
		"device.cache=0", "soft.fail=cuMemAddressReserve:1:999,cuMemMap:1:999", NULL};
	struct hbm_wire_region_create create = {
		.header = RAW_HEADER(REGION_CREATE, sizeof(create)),
		.address_space = SLAB,
		.slab = SLAB,
	};
	struct raw_ranges commit = {
		.head = {.header = RAW_HEADER(COMMIT, sizeof(commit)), .count = 1},
		.range.bytes = SLAB};
	struct hbm_wire_region_create_reply created;

	begin_again(sets);
	expect(&create, HBM_DEVICE, "cannot reserve the address space; see the daemon's log");
	raw_call(client, &create, &created, sizeof(created));
	commit.range.region = created.region;
	expect(&commit, HBM_DEVICE, "a device call failed; see the daemon's log");
	assert_int_equal(raw_ask(client, &commit, sizeof(commit)), HBM_OK);
}

/* ---- Namespaces ---- */

static void test_namespaces(void **state)
{
	(void)state;
	struct hbm_wire_namespace_open open = {
		.header = RAW_HEADER(NAMESPACE_OPEN, sizeof(open)),
		.spec = {.model = "m"},
	};
	struct hbm_wire_namespace_ref number = {
		.header = RAW_HEADER(NAMESPACE_OPEN, sizeof(number)), .ns = 999};
	struct hbm_wire_namespace_drop drop = {.header = RAW_HEADER(NAMESPACE_DROP, sizeof(drop)),
					       .ns = 999};

	expect(&open, HBM_INVALID, "block_bytes is 0");
	open.spec.block_bytes = 16 << 20;
	expect(&open, HBM_LIMIT,
	       "block_bytes 16777216; the staging buffer (ddr.staging) has 8388608");
	expect(&number, HBM_NOT_FOUND, "no namespace 999");
	number.header.opcode = HBM_WIRE_NAMESPACE_CLOSE;
	expect(&number, HBM_NOT_FOUND, "namespace 999 is not open in this session");
	expect(&drop, HBM_NOT_FOUND, "namespace 999 is not open in this session");
}

/* ---- Blocks ---- */

static void test_keys(void **state)
{
	(void)state;
	static const enum hbm_wire_opcode opcodes[] = {
		HBM_WIRE_LOOKUP, HBM_WIRE_TOUCH, HBM_WIRE_PIN, HBM_WIRE_UNPIN, HBM_WIRE_REMOVE};
	struct raw_keys keys = {
		.head = {.header = RAW_HEADER(PREFETCH, sizeof(keys)), .ns = 999, .count = 1},
		.key.bytes[0] = 1,
	};

	expect(&keys, HBM_NOT_FOUND, "the namespace is not open in this session");
	keys.head.device = 1;
	expect(&keys, HBM_INVALID, "no such device");
	keys.head.device = 0;
	for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
		keys.head.header.opcode = (uint16_t)opcodes[i];
		expect(&keys, HBM_NOT_FOUND, "namespace 999 is not open in this session");
	}
}

static void test_counts(void **state)
{
	(void)state;
	struct hbm_wire_count count = {
		.header = RAW_HEADER(COUNT, sizeof(count)), .ns = 999, .key.bytes[0] = 1};
	struct hbm_wire_counted counted;
	const struct raw_blocks store = raw_store(ns, 1, region, BLOCK);

	expect(&count, HBM_NOT_FOUND, "namespace 999 is not open in this session");
	count.ns = ns;
	count.flags = HBM_WIRE_COUNT_ONE;
	expect(&count, HBM_NOT_FOUND, "the cache has no such block");

	assert_int_equal(raw_ask(client, &store, sizeof(store)), HBM_OK);
	for (uint64_t uses = 0; uses < 3; uses++) {
		count.flags = 0;
		raw_call(client, &count, &counted, sizeof(counted));
		assert_int_equal(counted.uses, uses);
		count.flags = HBM_WIRE_COUNT_ONE;
		raw_call(client, &count, &counted, sizeof(counted));
		assert_int_equal(counted.uses, uses + 1);
	}
}

static void test_tiers(void **state)
{
	(void)state;
	struct hbm_wire_evict evict = {.header = RAW_HEADER(EVICT, sizeof(evict)),
				       .tier = HBM_TIER_HBM,
				       .device = 3,
				       .bytes = 1};

	expect(&evict, HBM_INVALID, "device 3: there are 1");
	evict.tier = HBM_TIER_NVME;
	evict.device = 0;
	expect(&evict, HBM_UNSUPPORTED, "this daemon has no such tier");
}

static void test_blocks(void **state)
{
	(void)state;
	struct raw_blocks blocks = {
		.head = {.header = RAW_HEADER(LOAD, sizeof(blocks)),
			 .ns = 999,
			 .count = 1,
			 .segments = 1,
			 .ready_slot = HBM_WIRE_NO_FENCE,
			 .fence_slot = HBM_WIRE_NO_FENCE},
		.block = {.key.bytes[0] = 1, .segments = 1},
		.segment = {999, 0, SLAB, BLOCK},
	};
	char reason[HBM_WIRE_REASON_BYTES];

	expect(&blocks, HBM_NOT_FOUND, "namespace 999 is not open in this session");
	blocks.head.ns = ns;
	expect(&blocks, HBM_NOT_FOUND, "segment 0: no region 999");
	blocks.segment.region = region;
	snprintf(reason, sizeof(reason),
		 "segment 0: 65536 bytes at 2097152 of region %u are not committed", region);
	expect(&blocks, HBM_NOT_FOUND, reason);
	blocks.segment.offset = UINT64_MAX;
	snprintf(reason, sizeof(reason),
		 "segment 0: 65536 bytes at 18446744073709551615 of region %u are outside it",
		 region);
	expect(&blocks, HBM_INVALID, reason);
	blocks.segment.bytes = 512;
	expect(&blocks, HBM_INVALID, "block 0: segments of 512 bytes, block_bytes is 65536");
}

static void test_a_fence_that_is_never_set(void **state)
{
	(void)state;
	static const char *const sets[] = {"limits.ready_ms=1", NULL};

	begin_again(sets);
	region = raw_region(client, 0, SLAB, SLAB);
	struct raw_blocks store = raw_store(ns, 1, region, BLOCK);
	store.head.ready_slot = 0;
	store.head.ready_value = 1;
	expect(&store, HBM_TIMEOUT, "the ready fence was not reached within limits.ready_ms");
}

/* A session sees how many pins of others are in the way. */
static void test_pins_of_others(void **state)
{
	(void)state;
	struct raw_blocks store = raw_store(ns, 1, region, BLOCK);
	struct raw_keys pin = {
		.head = {.header = RAW_HEADER(PIN, sizeof(pin)), .ns = ns, .count = 1},
		.key.bytes[0] = 1,
	};
	struct hbm_wire_namespace_drop drop = {.header = RAW_HEADER(NAMESPACE_DROP, sizeof(drop)),
					       .ns = ns};
	char reason[HBM_WIRE_REASON_BYTES];

	assert_int_equal(raw_ask(client, &store, sizeof(store)), HBM_OK);
	for (int i = 0; i < 2; i++)
		assert_int_equal(raw_ask(client, &pin, sizeof(pin)), HBM_OK);

	int holder = client;
	client = raw_greet(&daemon_);
	ns = raw_namespace(client, BLOCK);
	assert_int_equal(raw_ask(client, &pin, sizeof(pin)), HBM_OK); /* its own do not count */
	snprintf(reason, sizeof(reason), "others have 2 pins in namespace %u", ns);
	expect(&drop, HBM_DENIED, reason);
	close(holder);
}

/* ---- Limits ---- */

static void test_limits_are_named(void **state)
{
	(void)state;
	static const char *const sets[] = {
		"limits.regions=2",    "limits.address_space=8MiB",   "limits.commit_slabs=2",
		"limits.namespaces=2", "limits.namespace_opens=1",    "limits.block_bytes=64KiB",
		"limits.sessions=2",   "limits.requests_in_flight=8", NULL};
	struct hbm_wire_region_create create = {.header = RAW_HEADER(REGION_CREATE, sizeof(create)),
						.address_space = 3 * SLAB,
						.slab = SLAB};
	struct hbm_wire_region_create_reply created;
	struct raw_ranges commit = {
		.head = {.header = RAW_HEADER(COMMIT, sizeof(commit)), .count = 1},
		.range.bytes = 3 * SLAB};
	struct hbm_wire_namespace_open open = {.header = RAW_HEADER(NAMESPACE_OPEN, sizeof(open)),
					       .spec = {.model = "other", .block_bytes = 131072}};
	struct {
		struct hbm_wire_ranges head;
		struct hbm_wire_range range[3];
	} partly = {.head = {.header = RAW_HEADER(COMMIT, sizeof(partly)), .count = 3},
		    .range = {{.bytes = 3 * SLAB}, {.region = 999}, {.region = 999}}};
	struct hbm_wire_hello hello;

	begin_again(sets);
	raw_call(client, &create, &created, sizeof(created));
	expect(&create, HBM_LIMIT,
	       "limits.address_space = 8388608: the session has 6291456, 6291456 more were asked "
	       "for");
	create.address_space = SLAB;
	assert_int_equal(raw_ask(client, &create, sizeof(create)), HBM_OK);
	expect(&create, HBM_LIMIT, "limits.regions = 2: the session has 2, 1 more were asked for");

	commit.range.region = created.region;
	expect(&commit, HBM_LIMIT, "limits.commit_slabs = 2: 3 were asked for");
	partly.range[0].region = created.region;
	expect(&partly, HBM_LIMIT, "limits.commit_slabs = 2: 3 were asked for");
	expect(&open, HBM_LIMIT, "limits.block_bytes = 65536: 131072 were asked for");
	open.spec.block_bytes = BLOCK;
	expect(&open, HBM_LIMIT,
	       "limits.namespace_opens = 1: the session has 1, 1 more were asked for");

	int first = client;
	client = raw_greet(&daemon_);
	assert_int_equal(raw_ask(client, &open, sizeof(open)), HBM_OK);
	int second = client;
	client = first;
	memcpy(open.spec.model, "third", 6);
	expect(&open, HBM_LIMIT,
	       "limits.namespaces = 2: all sessions together have 2, 1 more were asked for");

	client = raw_connect(&daemon_);
	raw_hello_fill(&hello);
	expect(&hello, HBM_LIMIT,
	       "limits.sessions = 2: all sessions together have 2, 1 more were asked for");
	close(first);
	close(second);
}

/* ---- Clients that are no operators ---- */

/* A session of another user, in the same namespace. */
static void become_nobody(void)
{
	assert_int_equal(chmod(daemon_.dir, 0755), 0);
	assert_int_equal(chmod(daemon_.socket, 0666), 0);
	close(client);
	assert_int_equal(seteuid(65534), 0);
	client = raw_greet(&daemon_);
	assert_int_equal(seteuid(0), 0);
	ns = raw_namespace(client, BLOCK);
}

static void test_what_only_operators_may(void **state)
{
	(void)state;
	struct hbm_wire_namespace_ref number = {
		.header = RAW_HEADER(NAMESPACE_OPEN, sizeof(number)), .ns = ns};
	struct hbm_wire_namespace_drop drop = {.header = RAW_HEADER(NAMESPACE_DROP, sizeof(drop)),
					       .ns = ns,
					       .flags = HBM_WIRE_PINNED};
	struct hbm_wire_evict evict = {
		.header = RAW_HEADER(EVICT, sizeof(evict)), .tier = HBM_TIER_HBM, .bytes = 1};
	struct raw_keys pin = {
		.head = {.header = RAW_HEADER(PIN, sizeof(pin)),
			 .count = 1,
			 .flags = HBM_WIRE_KEEP},
		.key.bytes[0] = 1,
	};
	if (geteuid() != 0) {
		print_message("SKIP: only root can become somebody else\n");
		skip();
	}

	assert_int_equal(raw_ask(client, &number, sizeof(number)), HBM_OK);
	assert_int_equal(raw_ask(client, &evict, sizeof(evict)), HBM_OK);
	become_nobody();
	pin.head.ns = number.ns = drop.ns = ns;
	expect(&number, HBM_DENIED, "only uid 0 and the daemon's uid open a namespace by number");
	expect(&drop, HBM_DENIED, "only uid 0 and the daemon's uid drop what others have pinned");
	expect(&evict, HBM_DENIED, "only uid 0 and the daemon's uid evict");
	expect(&pin, HBM_DENIED, "only uid 0 and the daemon's uid keep pins");
	drop.flags = 0;
	pin.head.flags = 0;
	assert_int_equal(raw_ask(client, &drop, sizeof(drop)), HBM_OK);
	assert_int_equal(raw_ask(client, &pin, sizeof(pin)), HBM_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_version_that_is_not_spoken),
		TEST(test_nothing_to_cancel),
		TEST(test_regions),
		TEST(test_ranges),
		TEST(test_a_device_that_fails),
		TEST(test_namespaces),
		TEST(test_keys),
		TEST(test_counts),
		TEST(test_tiers),
		TEST(test_blocks),
		TEST(test_a_fence_that_is_never_set),
		TEST(test_pins_of_others),
		TEST(test_limits_are_named),
		TEST(test_what_only_operators_may),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
