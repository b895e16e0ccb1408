/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client is told of a message that was refused: each reason whole, with the field as
 * wire.h names it, its value and what was expected. test_validate_fields.c shows that every
 * field leads to one of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/session/validate.h"

static struct refusal why;

/* Every message here has a header and is sent in a session that has had its HELLO. */
#define HEADER(name, bytes)                                                                        \
	{                                                                                          \
		.size = (uint32_t)(bytes), .opcode = HBM_WIRE_##name                               \
	}
#define assert_refused(message, expected_status, expected)                                         \
	do {                                                                                       \
		assert_int_equal(                                                                  \
			validate_message(&(message), *(const uint32_t *)&(message), true, &why),   \
			expected_status);                                                          \
		assert_string_equal(why.reason, expected);                                         \
	} while (0)

static void test_every_opcode_has_its_name(void **state)
{
	(void)state;
	static const char *const names[HBM_WIRE_OPCODES] = {
		[HBM_WIRE_HELLO] = "HELLO",
		[HBM_WIRE_REGION_CREATE] = "REGION_CREATE",
		[HBM_WIRE_REGION_DESTROY] = "REGION_DESTROY",
		[HBM_WIRE_COMMIT] = "COMMIT",
		[HBM_WIRE_DECOMMIT] = "DECOMMIT",
		[HBM_WIRE_NAMESPACE_OPEN] = "NAMESPACE_OPEN",
		[HBM_WIRE_NAMESPACE_CLOSE] = "NAMESPACE_CLOSE",
		[HBM_WIRE_LOOKUP] = "LOOKUP",
		[HBM_WIRE_STORE] = "STORE",
		[HBM_WIRE_LOAD] = "LOAD",
		[HBM_WIRE_PREFETCH] = "PREFETCH",
		[HBM_WIRE_TOUCH] = "TOUCH",
		[HBM_WIRE_PIN] = "PIN",
		[HBM_WIRE_UNPIN] = "UNPIN",
		[HBM_WIRE_REMOVE] = "REMOVE",
		[HBM_WIRE_EVICT] = "EVICT",
		[HBM_WIRE_QUERY] = "QUERY",
		[HBM_WIRE_PING] = "PING",
		[HBM_WIRE_CANCEL] = "CANCEL",
		[HBM_WIRE_NAMESPACE_DROP] = "NAMESPACE_DROP",
		[HBM_WIRE_SESSION_END] = "SESSION_END",
		[HBM_WIRE_REGION_IMPORT] = "REGION_IMPORT",
		[HBM_WIRE_MOVE] = "MOVE",
		[HBM_WIRE_BORROW] = "BORROW",
		[HBM_WIRE_RETURN] = "RETURN",
		[HBM_WIRE_SHARE] = "SHARE",
		[HBM_WIRE_RESERVE] = "RESERVE",
		[HBM_WIRE_MEMORY] = "MEMORY",
		[HBM_WIRE_BOARD_OPEN] = "BOARD_OPEN",
		[HBM_WIRE_BOARD_CLOSE] = "BOARD_CLOSE",
		[HBM_WIRE_ASK] = "ASK",
		[HBM_WIRE_PUBLISH] = "PUBLISH",
		[HBM_WIRE_ATTACH] = "ATTACH",
		[HBM_WIRE_UNPUBLISH] = "UNPUBLISH",
		[HBM_WIRE_COUNT] = "COUNT",
		[HBM_WIRE_RETAIN] = "RETAIN",
		[HBM_WIRE_TENANT_SET] = "TENANT_SET",
		[HBM_WIRE_RESIZE] = "RESIZE",
		[HBM_WIRE_DRAIN] = "DRAIN",
		[HBM_WIRE_WATCH] = "WATCH",
		[HBM_WIRE_RECONCILE] = "RECONCILE",
	};

#define SAME_NAME(opcode, value, request, reply)                                                   \
	assert_non_null(names[value]);                                                             \
	assert_string_equal(validate_opcode_name(value), names[value]);
	HBM_OPCODE_LIST(SAME_NAME)
}

static void test_reasons_of_a_header(void **state)
{
	(void)state;
	struct hbm_wire_header ping = HEADER(PING, sizeof(ping));

	assert_int_equal(validate_message(&ping, 3, true, &why), -EPROTO);
	assert_string_equal(why.reason, "3 bytes came, expected a header of 24");
	assert_int_equal(validate_message(&ping, 32, true, &why), -EPROTO);
	assert_string_equal(why.reason, "header.size is 24, expected 32, which came");
	assert_int_equal(validate_message(&ping, sizeof(ping), false, &why), -EPROTO);
	assert_string_equal(why.reason, "header.opcode is 18 before HELLO, expected 1");

	ping.flags = 5;
	assert_refused(ping, HBM_UNSUPPORTED, "header.flags is 5, unknown are 0x5");
	ping.flags = 0;
	ping.status = -7;
	assert_refused(ping, HBM_INVALID, "header.status is -7, expected 0");
	ping.status = 0;
	ping.zero = 9;
	assert_refused(ping, HBM_INVALID, "header.zero is 9, expected 0");
	ping.opcode = HBM_WIRE_OPCODES;
	assert_refused(ping, HBM_UNSUPPORTED, "header.opcode is 42, expected 1 to 41");
}

static void test_reasons_of_boards_and_asking(void **state)
{
	(void)state;
	const struct hbm_wire_board_open open = {.header = HEADER(BOARD_OPEN, sizeof(open))};
	struct hbm_wire_ask ask = {.header = HEADER(ASK, sizeof(ask)), .ask = HBM_ASK_SUSPEND};

	assert_refused(open, HBM_INVALID, "records is 0, expected at least 1");
	ask.tier = HBM_TIERS;
	assert_refused(ask, HBM_INVALID, "tier is 4, expected 0 to 3");
	ask.ask = HBM_ASK_RESUME;
	ask.tier = HBM_TIER_DDR;
	assert_refused(ask, HBM_INVALID, "tier is 2, expected 0");
	ask.ask = HBM_ASK_PRESSURE;
	assert_refused(ask, HBM_UNSUPPORTED, "ask is 3, expected 1 or 2");
}

static void test_reasons_of_shares(void **state)
{
	(void)state;
	struct {
		struct hbm_wire_shares head;
		struct hbm_wire_share shares[2];
	} message = {.head = {.header = HEADER(SHARE, sizeof(message)), .count = 2}};

	message.shares[1].flags = HBM_WIRE_READ_ONLY;
	assert_int_equal(validate_message(&message, sizeof(message), true, &why), HBM_OK);
	message.shares[1].flags = 6 | HBM_WIRE_READ_ONLY;
	assert_int_equal(validate_message(&message, sizeof(message), true, &why), HBM_UNSUPPORTED);
	assert_string_equal(why.reason, "shares[1].flags is 7, unknown are 0x4");
	message.shares[0].zero = 3;
	assert_int_equal(validate_message(&message, sizeof(message), true, &why), HBM_INVALID);
	assert_string_equal(why.reason, "shares[0].zero is 3, expected 0");
	message.shares[0].zero = 0;
	message.head.count = 3;
	assert_int_equal(validate_message(&message, sizeof(message), true, &why), HBM_INVALID);
	assert_string_equal(why.reason, "size is 112, expected 152, as count is 3");
}

static void assert_name_refused(const char name[HBM_WIRE_NAME_BYTES], const char *reason)
{
	struct hbm_wire_publish publish = {.header = HEADER(PUBLISH, sizeof(publish))};
	struct hbm_wire_attach attach = {.header = HEADER(ATTACH, sizeof(attach))};
	struct hbm_wire_unpublish unpublish = {.header = HEADER(UNPUBLISH, sizeof(unpublish))};

	memcpy(publish.name, name, HBM_WIRE_NAME_BYTES);
	assert_refused(publish, HBM_INVALID, reason);
	memcpy(attach.name, name, HBM_WIRE_NAME_BYTES);
	assert_refused(attach, HBM_INVALID, reason);
	memcpy(unpublish.name, name, HBM_WIRE_NAME_BYTES);
	assert_refused(unpublish, HBM_INVALID, reason);
}

static void test_reasons_of_publications(void **state)
{
	(void)state;
	static const char reasons[][128] = {
		"name has byte 32 at 1, expected a printable ASCII character and no space",
		"name has byte 10 at 1, expected a printable ASCII character and no space",
		"name has byte 27 at 1, expected a printable ASCII character and no space",
		"name has byte 127 at 1, expected a printable ASCII character and no space",
		"name has byte 195 at 1, expected a printable ASCII character and no space",
	};
	static const char bytes[] = {' ', '\n', '\x1b', '\x7f', '\xc3'};
	char name[HBM_WIRE_NAME_BYTES] = "a";
	struct hbm_wire_publish publish = {
		.header = HEADER(PUBLISH, sizeof(publish)), .gid = 3, .name = "~!/.:"};

	for (size_t i = 0; i < sizeof(bytes); i++) {
		name[1] = bytes[i];
		assert_name_refused(name, reasons[i]);
	}

	memset(name, 'x', sizeof(name));
	assert_name_refused(name, "name does not end, expected at most 63 bytes and a NUL");
	memset(name, 0, sizeof(name));
	assert_name_refused(name, "name is empty");
	name[5] = 'b';
	assert_name_refused(name, "name has byte 98 at 5, after its NUL, expected 0");

	assert_refused(publish, HBM_INVALID, "gid is 3, expected 0");
	publish.flags = HBM_WIRE_PUBLISH_GROUP;
	assert_int_equal(validate_message(&publish, sizeof(publish), true, &why), HBM_OK);
	publish.flags = 3;
	assert_refused(publish, HBM_UNSUPPORTED, "flags is 3, unknown are 0x2");
}

static void test_reasons_of_a_size(void **state)
{
	(void)state;
	struct hbm_wire_cancel cancel = {.header = HEADER(CANCEL, sizeof(cancel) - 8)};
	assert_refused(cancel, HBM_INVALID, "size is 32, expected 40");

	struct hbm_wire_keys keys = {.header = HEADER(LOOKUP, sizeof(keys) - 8)};
	assert_refused(keys, HBM_INVALID, "size is 40, expected at least 48");
	keys.header.size = sizeof(keys);
	assert_refused(keys, HBM_INVALID, "count is 0, expected at least 1");
	keys.count = 2;
	assert_refused(keys, HBM_INVALID, "size is 48, expected 80, as count is 2");

	struct hbm_wire_blocks blocks = {
		.header = HEADER(STORE, sizeof(blocks)), .count = 2, .segments = 3};
	assert_refused(blocks, HBM_INVALID,
		       "size is 64, expected 216, as count is 2 and segments is 3");
}

static void test_reasons_of_a_greeting(void **state)
{
	(void)state;
	struct hbm_wire_hello hello = {.header = HEADER(HELLO, sizeof(hello)),
				       .magic = HBM_WIRE_MAGIC};
	assert_refused(hello, HBM_INVALID, "a second HELLO");

	hello.magic = 4;
	assert_int_equal(validate_message(&hello, sizeof(hello), false, &why), -EPROTO);
	assert_string_equal(why.reason, "magic is 4, expected 1145913928");

	memcpy(hello.name, "ab\0\xff", 4);
	assert_refused(hello, HBM_INVALID, "name has byte 255 at 3, after its NUL, expected 0");
	memset(hello.name, 'x', sizeof(hello.name));
	assert_refused(hello, HBM_INVALID,
		       "name does not end, expected at most 63 bytes and a NUL");
}

static void test_reasons_of_keys(void **state)
{
	(void)state;
	struct {
		struct hbm_wire_keys keys;
		struct hbm_wire_key key[2];
	} pin = {.keys = {.header = HEADER(PIN, sizeof(pin)), .count = 2}, .key[0].bytes[0] = 1};

	assert_refused(pin, HBM_INVALID, "keys[1] is all zero, which is reserved");
	pin.keys.deadline_us = 5000000000;
	assert_refused(pin, HBM_INVALID, "deadline_us is 5000000000, expected 0");
	pin.keys.device = 2;
	assert_refused(pin, HBM_INVALID, "device is 2, expected 0");
	pin.keys.flags = 7;
	assert_refused(pin, HBM_UNSUPPORTED, "flags is 7, unknown are 0x6");
}

static void test_reasons_of_blocks(void **state)
{
	(void)state;
	struct {
		struct hbm_wire_blocks blocks;
		struct hbm_wire_block block[2];
		struct hbm_wire_range segments[2];
	} load = {
		.blocks = {.header = HEADER(LOAD, sizeof(load)), .count = 2, .segments = 2},
		.block = {{.key.bytes[0] = 1, .segments = 1}, {.key.bytes[0] = 2, .segments = 1}},
	};
	struct hbm_wire_block *second = &load.block[1];

	assert_int_equal(validate_message(&load, sizeof(load), true, &why), HBM_OK);
	load.blocks.header.opcode = HBM_WIRE_STORE;
	second->flags = HBM_WIRE_BLOCK_PIN | 2;
	assert_int_equal(validate_message(&load, sizeof(load), true, &why), HBM_OK);
	second->parent.bytes[0] = 1;
	assert_refused(load, HBM_UNSUPPORTED,
		       "blocks[1].parent is a key, expected all zero, as flags is 3: only roots "
		       "are pinned as they are stored");
	second->parent.bytes[0] = 0;
	second->flags = 0;
	load.blocks.header.opcode = HBM_WIRE_LOAD;
	load.segments[1].zero = 6;
	assert_refused(load, HBM_INVALID, "segments[1].zero is 6, expected 0");
	second->segments = 4;
	assert_refused(load, HBM_INVALID, "segments is 2, expected 5, the sum over the blocks");
	second->segments = 0;
	assert_refused(load, HBM_INVALID, "blocks[1].segments is 0, expected at least 1");
	second->parent.bytes[0] = 1;
	assert_refused(load, HBM_INVALID, "blocks[1].parent is a key, expected all zero in a LOAD");
	second->key.bytes[0] = 0;
	assert_refused(load, HBM_INVALID, "blocks[1].key is all zero, which is reserved");
	second->flags = 2;
	assert_refused(load, HBM_UNSUPPORTED, "blocks[1].flags is 2, expected 0");
	second->tier = 3;
	assert_refused(load, HBM_INVALID, "blocks[1].tier is 3, expected 0");
	load.blocks.fence_slot = 9;
	load.blocks.failed_slot = 9;
	assert_refused(load, HBM_INVALID, "failed_slot is 9, as fence_slot is");
	load.blocks.failed_slot = 512;
	assert_refused(load, HBM_INVALID, "failed_slot is 512, expected 1 to 511, or 0 for none");
	load.blocks.fence_slot = 512;
	assert_refused(load, HBM_INVALID,
		       "fence_slot is 512, expected 0 to 511, or 4294967295 for none");
	load.blocks.ready_slot = 513;
	assert_refused(load, HBM_INVALID,
		       "ready_slot is 513, expected 0 to 511, or 4294967295 for none");
}

static void assert_descriptor(const void *message, int verdict, int fd, int status,
			      const char *reason)
{
	struct refusal refusal = {""};

	assert_int_equal(validate_descriptor(message, verdict, fd, &refusal), status);
	assert_string_equal(refusal.reason, reason);
}

static void test_reasons_of_descriptors(void **state)
{
	(void)state;
	struct hbm_wire_header ping = HEADER(PING, sizeof(ping));
	struct hbm_wire_region_import import = {.header = HEADER(REGION_IMPORT, sizeof(import)),
						.kind = HBM_WIRE_GUEST_FD};

	assert_descriptor(&ping, HBM_OK, -1, HBM_OK, "");
	assert_descriptor(&ping, HBM_INVALID, -1, HBM_INVALID, "");
	assert_descriptor(&ping, HBM_OK, 5, -EPROTO, "unexpected file descriptors");
	assert_descriptor(&ping, HBM_INVALID, 0, -EPROTO, "unexpected file descriptors");
	assert_descriptor(&ping, HBM_OK, -EMFILE, -EPROTO, "unexpected file descriptors");

	assert_descriptor(&import, HBM_OK, 0, HBM_OK, "");
	assert_descriptor(&import, HBM_INVALID, 5, HBM_INVALID, "");
	assert_descriptor(&import, HBM_OK, -1, HBM_INVALID, "no descriptor came, expected one");
	assert_descriptor(&import, HBM_OK, -EMFILE, HBM_LIMIT,
			  "the daemon has no file descriptors left");

	import.kind = HBM_WIRE_GUEST_IPC;
	assert_descriptor(&import, HBM_OK, -1, HBM_OK, "");
	assert_descriptor(&import, HBM_OK, 5, HBM_INVALID, "a descriptor came, expected none");
}

static void test_reasons_of_the_rest(void **state)
{
	(void)state;
	struct {
		struct hbm_wire_ranges ranges;
		struct hbm_wire_range range[2];
	} commit = {.ranges = {.header = HEADER(COMMIT, sizeof(commit)), .count = 2},
		    .range[1].zero = 8};
	assert_refused(commit, HBM_INVALID, "ranges[1].zero is 8, expected 0");

	struct hbm_wire_evict evict = {.header = HEADER(EVICT, sizeof(evict)), .tier = 4};
	assert_refused(evict, HBM_INVALID, "tier is 4, expected 1 to 3");

	struct hbm_wire_query query = {.header = HEADER(QUERY, sizeof(query)), .kind = 99};
	char expected[64];
	snprintf(expected, sizeof(expected), "kind is 99, expected 1 to %d", HBM_QUERY_KINDS - 1);
	assert_refused(query, HBM_UNSUPPORTED, expected);

	struct hbm_wire_cancel cancel = {
		.header = HEADER(CANCEL, sizeof(cancel)), .flags = HBM_WIRE_ALL, .target = 11};
	assert_refused(cancel, HBM_INVALID, "target is 11, expected 0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_opcode_has_its_name),
		cmocka_unit_test(test_reasons_of_a_header),
		cmocka_unit_test(test_reasons_of_boards_and_asking),
		cmocka_unit_test(test_reasons_of_shares),
		cmocka_unit_test(test_reasons_of_publications),
		cmocka_unit_test(test_reasons_of_a_size),
		cmocka_unit_test(test_reasons_of_a_greeting),
		cmocka_unit_test(test_reasons_of_keys),
		cmocka_unit_test(test_reasons_of_blocks),
		cmocka_unit_test(test_reasons_of_descriptors),
		cmocka_unit_test(test_reasons_of_the_rest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
