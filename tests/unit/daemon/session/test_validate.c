/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Validation, but for single fields (test_validate_fields.c) and the text of refusals
 * (test_validate_reasons.c): sizes, counts that do not agree with them or with each other,
 * what ends a session, and random messages.
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
#include "tests/support/seed.h"
#include "tests/support/wire_form.h"

static const struct wire_form *form_of(unsigned opcode)
{
	size_t f = 0;

	while (f < wire_form_count && wire_forms[f].opcode != opcode)
		f++;
	assert_in_range(f, 0, wire_form_count - 1);

	return &wire_forms[f];
}

static int verdict(const struct wire_sample *sample)
{
	struct refusal why;
	int status = wire_sample_verdict(sample, sample->form->size, &why);

	if (status != HBM_OK)
		assert_string_not_equal(why.reason, "");

	return status;
}

static size_t fixed_bytes(unsigned opcode)
{
	if (opcode == HBM_WIRE_COMMIT || opcode == HBM_WIRE_DECOMMIT)
		return sizeof(struct hbm_wire_ranges);
	if (opcode == HBM_WIRE_STORE || opcode == HBM_WIRE_LOAD)
		return sizeof(struct hbm_wire_blocks);
	if (opcode == HBM_WIRE_SHARE)
		return sizeof(struct hbm_wire_shares);
	if (opcode >= HBM_WIRE_LOOKUP && opcode <= HBM_WIRE_REMOVE)
		return sizeof(struct hbm_wire_keys);

	return 0; /* no array */
}

static void unknown_opcodes_have_no_name(void **state)
{
	(void)state;
	assert_null(validate_opcode_name(0));
	assert_null(validate_opcode_name(HBM_WIRE_OPCODES));
	assert_null(validate_opcode_name(UINT16_MAX));
}

/* Which numbers the daemon can encode. */
static void lossless_is_of_numbers_of_1_2_or_4_bytes(void **state)
{
	(void)state;
	size_t f = 0;
	struct wire_sample sample;

	while (wire_forms[f].size != sizeof(struct hbm_wire_namespace_open_encoded))
		f++;
	wire_sample_make(&sample, &wire_forms[f]);
	wire_sample_set(&sample, "encoding", HBM_ENCODING_LOSSLESS);
	wire_sample_set(&sample, "logical_bytes", 0);
	for (uint32_t element = 0; element < 9; element++) {
		bool good = element == 1 || element == 2 || element == 4;

		wire_sample_set(&sample, "element_bytes", element);
		assert_int_equal(verdict(&sample), good ? HBM_OK : HBM_UNSUPPORTED);
	}

	wire_sample_set(&sample, "element_bytes", 2);
	wire_sample_set(&sample, "logical_bytes", 1);
	assert_int_equal(verdict(&sample), HBM_INVALID);
	wire_sample_set(&sample, "encoding", HBM_ENCODING_RAW);
	assert_int_equal(verdict(&sample), HBM_INVALID);
	wire_sample_set(&sample, "element_bytes", 0);
	wire_sample_set(&sample, "logical_bytes", 0);
	assert_int_equal(verdict(&sample), HBM_OK);
}

/* Every size but its own, and those of the opcode's other forms. */
static void other_sizes_are_invalid(void **state)
{
	(void)state;
	for (size_t f = 0; f < wire_form_count; f++) {
		struct wire_sample sample;
		wire_sample_make(&sample, &wire_forms[f]);
		size_t own = wire_forms[f].size;
		for (size_t size = sizeof(struct hbm_wire_header); size < own + 64; size++) {
			struct refusal why;
			char reason[64];
			bool open = wire_forms[f].opcode == HBM_WIRE_NAMESPACE_OPEN;
			bool hello = wire_forms[f].opcode == HBM_WIRE_HELLO;
			bool other =
				(open && (size == sizeof(struct hbm_wire_namespace_ref) ||
					  size == sizeof(struct hbm_wire_namespace_open) ||
					  size == sizeof(struct hbm_wire_namespace_open_encoded) ||
					  size == sizeof(struct hbm_wire_namespace_open_flags) ||
					  size == sizeof(struct hbm_wire_namespace_open_group))) ||
				(hello && (size == sizeof(struct hbm_wire_hello) ||
					   size == sizeof(struct hbm_wire_hello_resume)));
			if (other && size != own)
				continue;

			wire_sample_set(&sample, "header.size", size);
			int status = wire_sample_verdict(&sample, size, &why);
			assert_int_equal(status, size == own ? HBM_OK : HBM_INVALID);
			snprintf(reason, sizeof(reason), "size is %zu, expected", size);
			if (status != HBM_OK && !strstr(why.reason, reason))
				fail_msg("\"%s\", expected \"%s\"", why.reason, reason);
		}
	}
}

/* It is refused before the records are looked at. */
static void assert_size_is_wrong(const struct wire_sample *sample)
{
	struct refusal why;

	assert_int_equal(wire_sample_verdict(sample, sample->form->size, &why), HBM_INVALID);
	assert_memory_equal(why.reason, "size is ", 8);
}

/* Among them those whose arrays have the right size modulo 2^32. */
static void wrong_counts_are_invalid(void **state)
{
	(void)state;
	static const uint32_t counts[] = {1000,       0x08000000,     0x10000000,     0x7fffffff,
					  0x80000000, 0x20000000 + 2, 0x20000000 + 3, UINT32_MAX};
	for (unsigned opcode = 1; opcode < HBM_WIRE_OPCODES; opcode++) {
		if (fixed_bytes(opcode) == 0)
			continue;

		struct wire_sample sample;
		wire_sample_make(&sample, form_of(opcode));
		for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
			wire_sample_set(&sample, "count", counts[i]);
			assert_size_is_wrong(&sample);
		}
	}

	struct wire_sample store;
	wire_sample_make(&store, form_of(HBM_WIRE_STORE));
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		wire_sample_set(&store, "segments", counts[i]);
		assert_size_is_wrong(&store);
	}
}

static void empty_arrays_are_invalid(void **state)
{
	(void)state;
	for (unsigned opcode = 1; opcode < HBM_WIRE_OPCODES; opcode++) {
		size_t size = fixed_bytes(opcode);
		if (size == 0)
			continue;

		struct wire_sample sample;
		struct refusal why;
		wire_sample_make(&sample, form_of(opcode));
		wire_sample_set(&sample, "header.size", size);
		wire_sample_set(&sample, "count", 0);
		if (opcode == HBM_WIRE_STORE || opcode == HBM_WIRE_LOAD)
			wire_sample_set(&sample, "segments", 0);
		assert_int_equal(wire_sample_verdict(&sample, size, &why), HBM_INVALID);
		assert_string_equal(why.reason, "count is 0, expected at least 1");
	}
}

/* Three segments of two blocks, as these say. */
static int split_verdict(uint32_t first, uint32_t second)
{
	struct wire_sample store;
	wire_sample_make(&store, form_of(HBM_WIRE_STORE));
	wire_sample_set(&store, "blocks[0].segments", first);
	wire_sample_set(&store, "blocks[1].segments", second);

	return verdict(&store);
}

static void segments_must_add_up(void **state)
{
	(void)state;
	assert_int_equal(split_verdict(1, 2), HBM_OK);
	assert_int_equal(split_verdict(2, 1), HBM_OK);
	assert_int_equal(split_verdict(2, 2), HBM_INVALID);
	assert_int_equal(split_verdict(1, 1), HBM_INVALID);
	assert_int_equal(split_verdict(3, 0), HBM_INVALID);
	assert_int_equal(split_verdict(0, 3), HBM_INVALID);
	assert_int_equal(split_verdict(UINT32_MAX, 4), HBM_INVALID); /* right modulo 2^32 */
}

/* Nothing but a HELLO comes first, and only one. */
static void what_no_client_sends_ends_the_session(void **state)
{
	(void)state;
	struct wire_sample sample;
	struct refusal why;

	for (size_t f = 0; f < wire_form_count; f++) {
		bool hello = wire_forms[f].opcode == HBM_WIRE_HELLO;
		wire_sample_make(&sample, &wire_forms[f]);
		assert_int_equal(validate_message(sample.bytes, wire_forms[f].size, false, &why),
				 hello ? HBM_OK : -EPROTO);
		assert_int_equal(validate_message(sample.bytes, wire_forms[f].size, true, &why),
				 hello ? HBM_INVALID : HBM_OK);
		assert_int_equal(validate_message(sample.bytes, 0, true, &why), -EPROTO);
	}

	wire_sample_make(&sample, form_of(HBM_WIRE_PING));
	for (uint64_t i = 0; i < 2; i++) {
		wire_sample_set(&sample, "header.opcode", i * HBM_WIRE_OPCODES);
		assert_int_equal(validate_message(sample.bytes, sample.form->size, false, &why),
				 -EPROTO);
	}
}

/* Whatever the bytes, a verdict is given without reading beyond the message; a sanitizer
 * would see it. */
static void random_messages_get_a_verdict(void **state)
{
	(void)state;
	struct seed seed;
	unsigned passed = 0;
	seed_open(&seed, "validate");

	for (int i = 0; i < 20000; i++) {
		const struct wire_form *form = &wire_forms[seed_below(&seed, wire_form_count)];
		struct wire_sample sample;
		if (form->opcode == HBM_WIRE_HELLO)
			continue;

		wire_sample_make(&sample, form);
		for (uint64_t k = seed_below(&seed, 4); k > 0; k--)
			sample.bytes[4 + seed_below(&seed, form->size - 4)] =
				(unsigned char)seed_next(&seed);
		passed += verdict(&sample) == HBM_OK;
	}

	assert_in_range(passed, 1000, 19999);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_opcodes_have_no_name),
		cmocka_unit_test(lossless_is_of_numbers_of_1_2_or_4_bytes),
		cmocka_unit_test(other_sizes_are_invalid),
		cmocka_unit_test(wrong_counts_are_invalid),
		cmocka_unit_test(empty_arrays_are_invalid),
		cmocka_unit_test(segments_must_add_up),
		cmocka_unit_test(what_no_client_sends_ends_the_session),
		cmocka_unit_test(random_messages_get_a_verdict),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
