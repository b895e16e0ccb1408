/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every field of every message (tests/support/wire_form): one too low, one too high and
 * absent, its text without an end and with bytes after it, its key as the reserved one. What
 * is refused must be refused with the table's status and a reason that says "FIELD is VALUE".
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/session/validate.h"
#include "tests/support/wire_form.h"

static void expect(const struct wire_sample *sample, size_t i, const char *how, int status,
		   const char *reason)
{
	struct refusal why;
	int got = wire_sample_verdict(sample, sample->form->size, &why);
	if (got != status || (status != HBM_OK && !strstr(why.reason, reason)))
		fail_msg("%s, %s %s: status %d (\"%s\"), expected %d (\"%s\")",
			 validate_opcode_name(sample->form->opcode), sample->fields[i].name, how,
			 got, why.reason, status, reason);
}

static void expect_number(struct wire_sample *sample, size_t i, uint64_t value, int status)
{
	const struct wire_field *field = &sample->fields[i];
	unsigned char *at = sample->bytes + sample->offsets[i], saved[8];
	char how[32], reason[96];

	memcpy(saved, at, field->bytes);
	wire_put(at, field->bytes, value);
	snprintf(how, sizeof(how), "= %" PRIu64, value);
	snprintf(reason, sizeof(reason), "%s is %" PRIu64, field->name, value);
	expect(sample, i, how, status, field->reason && value > 0 ? field->reason : reason);
	memcpy(at, saved, field->bytes);
}

/* One too low, the lowest, the highest, one too high, and as high as can be. */
static void check_number(struct wire_sample *sample, size_t i)
{
	const struct wire_field *field = &sample->fields[i];
	if (strcmp(field->name, "header.opcode") == 0)
		return; /* another opcode is another form */

	expect_number(sample, i, field->low, HBM_OK);
	expect_number(sample, i, field->high, HBM_OK);
	if (field->low > 0)
		expect_number(sample, i, field->low - 1, field->status);
	if (field->high == WIRE_HIGHEST(field->bytes))
		return;

	expect_number(sample, i, field->high + 1, field->status);
	if (strcmp(field->name, "header.status") == 0 || field->reason)
		return; /* signed; and those of two rules */

	expect_number(sample, i, WIRE_HIGHEST(field->bytes),
		      field->kind == WIRE_SLOT ? HBM_OK : field->status);
	if (field->kind == WIRE_SLOT)
		expect_number(sample, i, WIRE_HIGHEST(field->bytes) - 1, field->status);
}

static void check_text(struct wire_sample *sample, size_t i)
{
	const struct wire_field *field = &sample->fields[i];
	unsigned char *text = sample->bytes + sample->offsets[i];
	char reason[96];

	snprintf(reason, sizeof(reason), "%s has byte 120 at 63", field->name);
	text[HBM_WIRE_NAME_BYTES - 1] = 'x';
	expect(sample, i, "with a byte after its end", field->status, reason);

	snprintf(reason, sizeof(reason), "%s has byte 120 at 4", field->name);
	text[4] = 'x';
	expect(sample, i, "with a byte right after its end", field->status, reason);

	snprintf(reason, sizeof(reason), "%s does not end", field->name);
	memset(text, 'x', HBM_WIRE_NAME_BYTES);
	expect(sample, i, "without an end", field->status, reason);

	text[HBM_WIRE_NAME_BYTES - 1] = '\0';
	expect(sample, i, "as long as can be", HBM_OK, "");
	memset(text, 0, HBM_WIRE_NAME_BYTES);
	if (field->kind == WIRE_NAME)
		expect(sample, i, "empty", field->status, "name is empty");
	else
		expect(sample, i, "empty", HBM_OK, "");
	text[0] = 'a';
}

static void check_key(struct wire_sample *sample, size_t i)
{
	const struct wire_field *field = &sample->fields[i];
	unsigned char *key = sample->bytes + sample->offsets[i], saved[HBM_WIRE_KEY_BYTES];
	char reason[96];

	memcpy(saved, key, sizeof(saved));
	memset(key, 0, sizeof(saved));
	snprintf(reason, sizeof(reason), "%s is all zero", field->name);
	expect(sample, i, "= 0", field->kind == WIRE_KEY ? field->status : HBM_OK, reason);

	snprintf(reason, sizeof(reason), "%s is a key", field->name);
	for (size_t byte = 0; byte < sizeof(saved); byte++) {
		key[byte] = 1;
		expect(sample, i, "with one byte set",
		       field->kind == WIRE_NO_KEY ? field->status : HBM_OK, reason);
		key[byte] = 0;
	}

	memcpy(key, saved, sizeof(saved));
}

/* The message ends where the field begins, or in its middle, and its header knows. */
static void check_absent(struct wire_sample *sample, size_t i)
{
	const size_t sizes[] = {sample->offsets[i],
				sample->offsets[i] + sample->fields[i].bytes - 1};
	char reason[64];

	for (size_t k = 0; k < 2; k++) {
		struct refusal why;
		bool header = sizes[k] < sizeof(struct hbm_wire_header);
		if (sample->form->opcode == HBM_WIRE_NAMESPACE_OPEN &&
		    (sizes[k] == sizeof(struct hbm_wire_namespace_open) ||
		     sizes[k] == sizeof(struct hbm_wire_namespace_open_encoded) ||
		     sizes[k] == sizeof(struct hbm_wire_namespace_open_flags)))
			continue; /* it is raw, or without flags or a group */
		if (sample->form->opcode == HBM_WIRE_HELLO &&
		    sizes[k] == sizeof(struct hbm_wire_hello))
			continue; /* it begins a session */
		wire_put(sample->bytes, 4, sizes[k]);
		snprintf(reason, sizeof(reason),
			 header ? "%zu bytes came" : "size is %zu, expected", sizes[k]);
		if (wire_sample_verdict(sample, sizes[k], &why) !=
			    (header ? -EPROTO : HBM_INVALID) ||
		    !strstr(why.reason, reason))
			fail_msg("%s without %s: \"%s\", expected \"%s\"",
				 validate_opcode_name(sample->form->opcode), sample->fields[i].name,
				 why.reason, reason);
	}

	wire_put(sample->bytes, 4, sample->form->size);
}

static void test_every_field(void **state)
{
	(void)state;
	for (size_t f = 0; f < wire_form_count; f++) {
		struct wire_sample sample;
		wire_sample_make(&sample, &wire_forms[f]);
		for (size_t i = 0; i < sample.count; i++) {
			enum wire_kind kind = sample.fields[i].kind;
			check_absent(&sample, i);
			if (kind == WIRE_NUMBER || kind == WIRE_SLOT)
				check_number(&sample, i);
			else if (kind == WIRE_TEXT || kind == WIRE_NAME)
				check_text(&sample, i);
			else
				check_key(&sample, i);
			expect(&sample, i, "as it was", HBM_OK, "");
		}
	}
}

static void test_every_opcode_has_a_form(void **state)
{
	(void)state;
	for (unsigned opcode = 0; opcode <= HBM_WIRE_OPCODES; opcode++) {
		size_t count = 0;
		for (size_t f = 0; f < wire_form_count; f++)
			count += wire_forms[f].opcode == opcode;
		assert_int_equal(count > 0, validate_opcode_name(opcode) != NULL);
	}
}

static void test_opcodes_out_of_range(void **state)
{
	(void)state;
	static const unsigned opcodes[] = {0, HBM_WIRE_OPCODES, UINT16_MAX};
	for (size_t i = 0; i < 3; i++) {
		struct hbm_wire_header header = {.size = sizeof(header),
						 .opcode = (uint16_t)opcodes[i]};
		struct refusal why;
		char reason[64];
		snprintf(reason, sizeof(reason), "header.opcode is %u, expected 1 to %d",
			 opcodes[i], HBM_WIRE_OPCODES - 1);
		assert_int_equal(validate_message(&header, sizeof(header), true, &why),
				 HBM_UNSUPPORTED);
		assert_string_equal(why.reason, reason);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_opcode_has_a_form),
		cmocka_unit_test(test_opcodes_out_of_range),
		cmocka_unit_test(test_every_field),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
