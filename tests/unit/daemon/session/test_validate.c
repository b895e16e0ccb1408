/* SPDX-License-Identifier: Apache-2.0 */
/* Validation: each opcode's good message passes, and every way to make it bad is refused
 * with the right status. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/session/validate.h"
#include "tests/support/seed.h"

/* The message under test, aligned for any. */
static union {
	unsigned char bytes[HBM_WIRE_MESSAGE_MAX];
	struct hbm_wire_header header;
	struct hbm_wire_hello hello;
	struct hbm_wire_region_create create;
	struct hbm_wire_region_destroy destroy;
	struct hbm_wire_ranges ranges;
	struct hbm_wire_namespace_open open;
	struct hbm_wire_namespace_ref ref;
	struct hbm_wire_keys keys;
	struct hbm_wire_blocks blocks;
	struct hbm_wire_evict evict;
	struct hbm_wire_query query;
	struct hbm_wire_cancel cancel;
	struct hbm_wire_namespace_drop drop;
} m;

static void begin(unsigned opcode, size_t size)
{
	memset(&m, 0, sizeof(m));
	m.header.opcode = (uint16_t)opcode;
	m.header.size = (uint32_t)size;
	m.header.id = 7;
}

static struct hbm_wire_range *segments(void)
{
	return (struct hbm_wire_range *)(void *)&m.blocks.blocks[m.blocks.count];
}

static void make_ranges(unsigned opcode)
{
	begin(opcode, sizeof(m.ranges) + 2 * sizeof(m.ranges.ranges[0]));
	m.ranges.count = 2;
}

static void make_keys(unsigned opcode)
{
	begin(opcode, sizeof(m.keys) + 3 * sizeof(m.keys.keys[0]));
	m.keys.count = 3;
	for (int i = 0; i < 3; i++)
		m.keys.keys[i].bytes[15 - i] = 1;
}

static void make_blocks(unsigned opcode)
{
	begin(opcode, sizeof(m.blocks) + 2 * sizeof(struct hbm_wire_block) +
			      3 * sizeof(struct hbm_wire_range));
	m.blocks.count = 2;
	m.blocks.segments = 3;
	m.blocks.ready_slot = HBM_WIRE_NO_FENCE;
	m.blocks.fence_slot = HBM_WIRE_FENCES - 1;
	for (uint32_t i = 0; i < 2; i++) {
		m.blocks.blocks[i].key.bytes[0] = (uint8_t)(i + 1);
		m.blocks.blocks[i].segments = 1 + i;
	}
}

/* A good message of that opcode. */
static void make(unsigned opcode)
{
	switch (opcode) {
	case HBM_WIRE_HELLO:
		begin(opcode, sizeof(m.hello));
		m.hello.magic = HBM_WIRE_MAGIC;
		strcpy(m.hello.name, "somebody");
		return;
	case HBM_WIRE_REGION_CREATE:
		begin(opcode, sizeof(m.create));
		return;
	case HBM_WIRE_REGION_DESTROY:
		begin(opcode, sizeof(m.destroy));
		return;
	case HBM_WIRE_COMMIT:
	case HBM_WIRE_DECOMMIT:
		make_ranges(opcode);
		return;
	case HBM_WIRE_NAMESPACE_OPEN:
		begin(opcode, sizeof(m.open));
		return;
	case HBM_WIRE_NAMESPACE_CLOSE:
		begin(opcode, sizeof(m.ref));
		return;
	case HBM_WIRE_NAMESPACE_DROP:
		begin(opcode, sizeof(m.drop));
		return;
	case HBM_WIRE_STORE:
	case HBM_WIRE_LOAD:
		make_blocks(opcode);
		return;
	case HBM_WIRE_EVICT:
		begin(opcode, sizeof(m.evict));
		m.evict.tier = HBM_TIER_DDR;
		return;
	case HBM_WIRE_QUERY:
		begin(opcode, sizeof(m.query));
		m.query.kind = HBM_QUERY_STATUS;
		return;
	case HBM_WIRE_PING:
		begin(opcode, sizeof(m.header));
		return;
	case HBM_WIRE_CANCEL:
		begin(opcode, sizeof(m.cancel));
		return;
	default:
		make_keys(opcode);
		return;
	}
}

/* The verdict on the message as it stands. A copy of exactly its size lets a sanitizer
 * see reads beyond. */
static int verdict(void)
{
	struct refusal why = {""};
	void *copy = malloc(m.header.size);

	assert_non_null(copy);
	memcpy(copy, &m, m.header.size);
	int status = validate_message(copy, m.header.size, m.header.opcode != HBM_WIRE_HELLO, &why);
	free(copy);
	if (status != HBM_OK)
		assert_string_not_equal(why.reason, "");

	return status;
}

static bool has_array(unsigned opcode)
{
	return (opcode >= HBM_WIRE_LOOKUP && opcode <= HBM_WIRE_REMOVE) ||
	       opcode == HBM_WIRE_COMMIT || opcode == HBM_WIRE_DECOMMIT;
}

static void good_messages_pass(void **state)
{
	(void)state;
	for (unsigned opcode = 1; opcode < HBM_WIRE_OPCODES; opcode++) {
		make(opcode);
		assert_int_equal(verdict(), HBM_OK);
		assert_non_null(validate_opcode_name(opcode));
	}

	begin(HBM_WIRE_NAMESPACE_OPEN, sizeof(m.ref));
	assert_int_equal(verdict(), HBM_OK);
	assert_null(validate_opcode_name(0));
	assert_null(validate_opcode_name(HBM_WIRE_OPCODES));
	assert_null(validate_opcode_name(UINT16_MAX));
}

static void unknown_opcodes_are_unsupported(void **state)
{
	(void)state;
	static const unsigned opcodes[] = {0, HBM_WIRE_OPCODES, HBM_WIRE_OPCODES + 1, UINT16_MAX};
	for (size_t i = 0; i < 4; i++) {
		begin(opcodes[i], sizeof(m.header));
		assert_int_equal(verdict(), HBM_UNSUPPORTED);
	}
}

static void header_fields_are_checked(void **state)
{
	(void)state;
	for (unsigned opcode = 1; opcode < HBM_WIRE_OPCODES; opcode++) {
		make(opcode);
		m.header.flags = HBM_WIRE_REPLY;
		assert_int_equal(verdict(), HBM_UNSUPPORTED);
		make(opcode);
		m.header.status = 1;
		assert_int_equal(verdict(), HBM_INVALID);
		make(opcode);
		m.header.zero = 1;
		assert_int_equal(verdict(), HBM_INVALID);
	}
}

static void other_sizes_are_invalid(void **state)
{
	(void)state;
	for (unsigned opcode = 1; opcode < HBM_WIRE_OPCODES; opcode++) {
		make(opcode);
		uint32_t right = m.header.size;
		for (uint32_t size = sizeof(m.header); size < right + 64; size++) {
			bool by_number = opcode == HBM_WIRE_NAMESPACE_OPEN && size == sizeof(m.ref);
			make(opcode);
			m.header.size = size;
			assert_int_equal(verdict(),
					 size == right || by_number ? HBM_OK : HBM_INVALID);
		}
	}
}

static void wrong_counts_are_invalid(void **state)
{
	(void)state;
	static const uint32_t counts[] = {0,          1,          4,          1000,
					  0x10000000, 0x7fffffff, 0x80000000, UINT32_MAX};
	for (unsigned opcode = 1; opcode < HBM_WIRE_OPCODES; opcode++) {
		if (!has_array(opcode))
			continue;
		for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
			make(opcode);
			if (opcode == HBM_WIRE_COMMIT || opcode == HBM_WIRE_DECOMMIT)
				m.ranges.count = counts[i];
			else
				m.keys.count = counts[i]; /* in the same place in STORE and LOAD */

			assert_int_equal(verdict(), HBM_INVALID);
		}
	}

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		make(HBM_WIRE_STORE);
		m.blocks.segments = counts[i];
		assert_int_equal(verdict(), HBM_INVALID);
	}
}

static void empty_arrays_are_invalid(void **state)
{
	(void)state;
	for (unsigned opcode = 1; opcode < HBM_WIRE_OPCODES; opcode++) {
		if (!has_array(opcode))
			continue;

		bool ranges = opcode == HBM_WIRE_COMMIT || opcode == HBM_WIRE_DECOMMIT;
		bool blocks = opcode == HBM_WIRE_STORE || opcode == HBM_WIRE_LOAD;
		begin(opcode, ranges   ? sizeof(m.ranges)
			      : blocks ? sizeof(m.blocks)
				       : sizeof(m.keys));
		assert_int_equal(verdict(), HBM_INVALID);
	}
}

static void padding_must_be_zero(void **state)
{
	(void)state;
#define REFUSED(opcode, field)                                                                     \
	do {                                                                                       \
		make(opcode);                                                                      \
		(field) = 1;                                                                       \
		assert_int_equal(verdict(), HBM_INVALID);                                          \
	} while (0)
	REFUSED(HBM_WIRE_REGION_CREATE, m.create.zero);
	REFUSED(HBM_WIRE_REGION_DESTROY, m.destroy.zero);
	REFUSED(HBM_WIRE_COMMIT, m.ranges.zero);
	REFUSED(HBM_WIRE_DECOMMIT, m.ranges.ranges[1].zero);
	REFUSED(HBM_WIRE_NAMESPACE_CLOSE, m.ref.zero);
	REFUSED(HBM_WIRE_STORE, m.blocks.zero);
	REFUSED(HBM_WIRE_STORE, m.blocks.blocks[1].zero);
	REFUSED(HBM_WIRE_LOAD, segments()[2].zero);
	REFUSED(HBM_WIRE_QUERY, m.query.zero);
	REFUSED(HBM_WIRE_LOOKUP, m.keys.device);
	REFUSED(HBM_WIRE_PIN, m.keys.deadline_us);
	REFUSED(HBM_WIRE_LOAD, m.blocks.blocks[0].parent.bytes[3]);
	REFUSED(HBM_WIRE_EVICT, m.evict.device);
#undef REFUSED
}

static void flags_have_masks(void **state)
{
	(void)state;
	for (unsigned opcode = HBM_WIRE_LOOKUP; opcode <= HBM_WIRE_REMOVE; opcode++) {
		if (opcode == HBM_WIRE_STORE || opcode == HBM_WIRE_LOAD)
			continue;

		bool pins = opcode == HBM_WIRE_PIN || opcode == HBM_WIRE_UNPIN;
		make(opcode);
		m.keys.flags = HBM_WIRE_KEEP;
		assert_int_equal(verdict(), pins ? HBM_OK : HBM_UNSUPPORTED);
		m.keys.flags = 0x80000000u;
		assert_int_equal(verdict(), HBM_UNSUPPORTED);
	}

	make(HBM_WIRE_CANCEL);
	m.cancel.target = 7;
	assert_int_equal(verdict(), HBM_OK);
	m.cancel.flags = HBM_WIRE_ALL;
	assert_int_equal(verdict(), HBM_INVALID);
	m.cancel.target = 0;
	assert_int_equal(verdict(), HBM_OK);
	m.cancel.flags = 2;
	assert_int_equal(verdict(), HBM_UNSUPPORTED);
}

static void values_are_checked(void **state)
{
	(void)state;
	make(HBM_WIRE_PREFETCH);
	m.keys.device = 3;
	m.keys.deadline_us = 9;
	assert_int_equal(verdict(), HBM_OK);
	memset(&m.keys.keys[1], 0, sizeof(m.keys.keys[1]));
	assert_int_equal(verdict(), HBM_INVALID);

	make(HBM_WIRE_STORE);
	m.blocks.blocks[1].parent.bytes[0] = 1;
	assert_int_equal(verdict(), HBM_OK);
	m.blocks.fence_slot = HBM_WIRE_FENCES;
	assert_int_equal(verdict(), HBM_INVALID);
	make(HBM_WIRE_LOAD);
	m.blocks.ready_slot = HBM_WIRE_FENCES;
	assert_int_equal(verdict(), HBM_INVALID);
	make(HBM_WIRE_LOAD);
	memset(&m.blocks.blocks[0].key, 0, sizeof(struct hbm_wire_key));
	assert_int_equal(verdict(), HBM_INVALID);

	make(HBM_WIRE_EVICT);
	m.evict.tier = HBM_TIER_NONE;
	assert_int_equal(verdict(), HBM_INVALID);
	m.evict.tier = HBM_TIERS;
	assert_int_equal(verdict(), HBM_INVALID);
	m.evict.tier = HBM_TIER_HBM;
	m.evict.device = 1;
	assert_int_equal(verdict(), HBM_OK);
	make(HBM_WIRE_QUERY);
	m.query.kind = 0;
	assert_int_equal(verdict(), HBM_UNSUPPORTED);
	m.query.kind = HBM_QUERY_KINDS;
	assert_int_equal(verdict(), HBM_UNSUPPORTED);
}

static void segments_must_add_up(void **state)
{
	(void)state;
	make(HBM_WIRE_STORE);
	m.blocks.blocks[0].segments = 2;
	assert_int_equal(verdict(), HBM_INVALID);
	m.blocks.blocks[1].segments = 1;
	assert_int_equal(verdict(), HBM_OK);
	m.blocks.blocks[0].segments = 3;
	m.blocks.blocks[1].segments = 0;
	assert_int_equal(verdict(), HBM_INVALID);

	/* A sum that is right only modulo 2^32. */
	m.blocks.blocks[0].segments = UINT32_MAX;
	m.blocks.blocks[1].segments = 4;
	assert_int_equal(verdict(), HBM_INVALID);
}

static void strings_must_end(void **state)
{
	(void)state;
	make(HBM_WIRE_HELLO);
	memset(m.hello.name, 'x', sizeof(m.hello.name));
	assert_int_equal(verdict(), HBM_INVALID);
	m.hello.name[63] = '\0';
	assert_int_equal(verdict(), HBM_OK);
	m.hello.name[5] = '\0';
	assert_int_equal(verdict(), HBM_INVALID);
	make(HBM_WIRE_NAMESPACE_OPEN);
	memset(m.open.spec.salt, 'x', sizeof(m.open.spec.salt));
	assert_int_equal(verdict(), HBM_INVALID);
	make(HBM_WIRE_NAMESPACE_OPEN);
	m.open.spec.layout[63] = 'x';
	assert_int_equal(verdict(), HBM_INVALID);
	make(HBM_WIRE_NAMESPACE_OPEN);
	m.open.spec.model[63] = 'x';
	assert_int_equal(verdict(), HBM_INVALID);
}

static void what_no_client_sends_ends_the_session(void **state)
{
	(void)state;
	struct refusal why;
	make(HBM_WIRE_PING);
	for (size_t size = 0; size < sizeof(m.header); size++)
		assert_int_equal(validate_message(&m, size, true, &why), -EPROTO);
	assert_int_equal(validate_message(&m, sizeof(m.header) + 1, true, &why), -EPROTO);
	m.header.size = UINT32_MAX;
	assert_int_equal(validate_message(&m, sizeof(m.header), true, &why), -EPROTO);

	for (unsigned opcode = 0; opcode <= HBM_WIRE_OPCODES; opcode++) {
		make(opcode);
		int expected = opcode == HBM_WIRE_HELLO ? HBM_OK : -EPROTO;
		assert_int_equal(validate_message(&m, m.header.size, false, &why), expected);
	}

	make(HBM_WIRE_HELLO);
	assert_int_equal(validate_message(&m, m.header.size, true, &why), HBM_INVALID);
	m.hello.magic++;
	assert_int_equal(validate_message(&m, m.header.size, false, &why), -EPROTO);
}

/* Whatever the bytes, a verdict is given without reading beyond the message; a sanitizer
 * would see it. */
static void random_messages_get_an_answer(void **state)
{
	(void)state;
	struct seed seed;
	unsigned passed = 0;
	seed_open(&seed, "validate");

	for (int i = 0; i < 20000; i++) {
		make(1 + (unsigned)seed_below(&seed, HBM_WIRE_OPCODES - 1));
		for (uint64_t k = seed_below(&seed, 4); k > 0; k--)
			m.bytes[4 + seed_below(&seed, m.header.size - 4)] =
				(unsigned char)seed_next(&seed);

		if (m.header.opcode == HBM_WIRE_HELLO)
			continue;
		passed += verdict() == HBM_OK;
	}

	assert_in_range(passed, 1000, 19999);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_messages_pass),
		cmocka_unit_test(unknown_opcodes_are_unsupported),
		cmocka_unit_test(header_fields_are_checked),
		cmocka_unit_test(other_sizes_are_invalid),
		cmocka_unit_test(wrong_counts_are_invalid),
		cmocka_unit_test(empty_arrays_are_invalid),
		cmocka_unit_test(padding_must_be_zero),
		cmocka_unit_test(flags_have_masks),
		cmocka_unit_test(values_are_checked),
		cmocka_unit_test(segments_must_add_up),
		cmocka_unit_test(strings_must_end),
		cmocka_unit_test(what_no_client_sends_ends_the_session),
		cmocka_unit_test(random_messages_get_an_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
