/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every field of every message. A table says what each field of a good message has and the
 * lowest and highest value that pass; the test sends each field one too low, one too high
 * and absent, its text without an end and with bytes after it, its key as the reserved one.
 * What is refused must be refused with the table's status and a reason that says "FIELD is
 * VALUE". The rows are laid one after another, so that a field that is missing here makes a
 * message of the wrong size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/session/validate.h"

enum kind { END, NUMBER, SLOT, TEXT, KEY, NO_KEY, ANY_KEY };

struct field {
	const char *name;
	enum kind kind;
	size_t bytes;
	uint64_t good, low, high; /* NUMBER */
	int status;               /* of what is lower or higher */
	/* what the reason says instead of "NAME is VALUE", where the field is not the one to
	 * blame; NULL */
	const char *reason;
};

#define HIGHEST(bytes) (UINT64_MAX >> (64 - 8 * (bytes)))
#define ANY(name, bytes)                                                                           \
	{                                                                                          \
		name, NUMBER, bytes, 5, 0, HIGHEST(bytes), 0, NULL                                 \
	}
#define FROM(name, bytes, low, high)                                                               \
	{                                                                                          \
		name, NUMBER, bytes, low, low, high, HBM_INVALID, NULL                             \
	}
#define ONLY(name, bytes, value) FROM(name, bytes, value, value)
#define ZERO(name, bytes) ONLY(name, bytes, 0)
#define FLAGS(name, bytes, known)                                                                  \
	{                                                                                          \
		name, NUMBER, bytes, 0, 0, known, HBM_UNSUPPORTED, NULL                            \
	}
#define SLOTS(name)                                                                                \
	{                                                                                          \
		name, SLOT, 4, 0, 0, HBM_WIRE_FENCES - 1, HBM_INVALID, NULL                        \
	}
#define STRING(name)                                                                               \
	{                                                                                          \
		name, TEXT, HBM_WIRE_NAME_BYTES, 0, 0, 0, HBM_INVALID, NULL                        \
	}
#define A_KEY(name, kind)                                                                          \
	{                                                                                          \
		name, kind, HBM_WIRE_KEY_BYTES, 0, 0, 0, HBM_INVALID, NULL                         \
	}
/* An array's length, which the size of the message gives away. */
#define COUNT(name, value)                                                                         \
	{                                                                                          \
		name, NUMBER, 4, value, value, value, HBM_INVALID, NULL                            \
	}
/* One of several numbers that must add up to `segments`. */
#define PART(name, value)                                                                          \
	{                                                                                          \
		name, NUMBER, 4, value, value, value, HBM_INVALID, "segments is "                  \
	}
#define RANGE(name)                                                                                \
	ANY(name ".region", 4), ZERO(name ".zero", 4), ANY(name ".offset", 8), ANY(name ".bytes", 8)
#define BLOCK(name, parent, segments)                                                              \
	A_KEY(name ".key", KEY), A_KEY(name ".parent", parent), PART(name ".segments", segments),  \
		ZERO(name ".zero", 4)
#define RANGES COUNT("count", 2), ZERO("zero", 4), RANGE("ranges[0]"), RANGE("ranges[1]")
#define KEYS(flags)                                                                                \
	ANY("ns", 4), COUNT("count", 2), ZERO("device", 4), FLAGS("flags", 4, flags),              \
		ZERO("deadline_us", 8), A_KEY("keys[0]", KEY), A_KEY("keys[1]", KEY)
#define BLOCKS(parent)                                                                             \
	ANY("ns", 4), COUNT("count", 2), COUNT("segments", 3), SLOTS("ready_slot"),                \
		ANY("ready_value", 8), SLOTS("fence_slot"), ZERO("zero", 4),                       \
		ANY("fence_value", 8), BLOCK("blocks[0]", parent, 1),                              \
		BLOCK("blocks[1]", parent, 2), RANGE("segments[0]"), RANGE("segments[1]"),         \
		RANGE("segments[2]")

enum { FIELDS_MAX = 32, HEADER_FIELDS = 6 };

struct form {
	unsigned opcode;
	size_t size;
	struct field fields[FIELDS_MAX];
};

#define RANGES_BYTES (sizeof(struct hbm_wire_ranges) + 2 * sizeof(struct hbm_wire_range))
#define KEYS_BYTES (sizeof(struct hbm_wire_keys) + 2 * sizeof(struct hbm_wire_key))
#define BLOCKS_BYTES                                                                               \
	(sizeof(struct hbm_wire_blocks) + 2 * sizeof(struct hbm_wire_block) +                      \
	 3 * sizeof(struct hbm_wire_range))

static const struct form forms[] = {
	{HBM_WIRE_HELLO,
	 sizeof(struct hbm_wire_hello),
	 {{"magic", NUMBER, 4, HBM_WIRE_MAGIC, HBM_WIRE_MAGIC, HBM_WIRE_MAGIC, -EPROTO, NULL},
	  ANY("version_min", 2),
	  ANY("version_max", 2),
	  STRING("name")}},
	{HBM_WIRE_REGION_CREATE,
	 sizeof(struct hbm_wire_region_create),
	 {ANY("device", 4), ZERO("zero", 4), ANY("address_space", 8), ANY("slab", 8)}},
	{HBM_WIRE_REGION_DESTROY,
	 sizeof(struct hbm_wire_region_destroy),
	 {ANY("region", 4), ZERO("zero", 4)}},
	{HBM_WIRE_COMMIT, RANGES_BYTES, {RANGES}},
	{HBM_WIRE_DECOMMIT, RANGES_BYTES, {RANGES}},
	{HBM_WIRE_NAMESPACE_OPEN,
	 sizeof(struct hbm_wire_namespace_open),
	 {STRING("model"), STRING("layout"), STRING("salt"), ANY("weights", 8),
	  ANY("block_bytes", 8)}},
	{HBM_WIRE_NAMESPACE_OPEN, /* by number */
	 sizeof(struct hbm_wire_namespace_ref),
	 {ANY("ns", 4), ZERO("zero", 4)}},
	{HBM_WIRE_NAMESPACE_CLOSE,
	 sizeof(struct hbm_wire_namespace_ref),
	 {ANY("ns", 4), ZERO("zero", 4)}},
	{HBM_WIRE_NAMESPACE_DROP,
	 sizeof(struct hbm_wire_namespace_drop),
	 {ANY("ns", 4), FLAGS("flags", 4, HBM_WIRE_PINNED)}},
	{HBM_WIRE_LOOKUP, KEYS_BYTES, {KEYS(0)}},
	{HBM_WIRE_STORE, BLOCKS_BYTES, {BLOCKS(ANY_KEY)}},
	{HBM_WIRE_LOAD, BLOCKS_BYTES, {BLOCKS(NO_KEY)}},
	{HBM_WIRE_PREFETCH,
	 KEYS_BYTES,
	 {ANY("ns", 4), COUNT("count", 2), ANY("device", 4), FLAGS("flags", 4, 0),
	  ANY("deadline_us", 8), A_KEY("keys[0]", KEY), A_KEY("keys[1]", KEY)}},
	{HBM_WIRE_TOUCH, KEYS_BYTES, {KEYS(0)}},
	{HBM_WIRE_PIN, KEYS_BYTES, {KEYS(HBM_WIRE_KEEP)}},
	{HBM_WIRE_UNPIN, KEYS_BYTES, {KEYS(HBM_WIRE_KEEP)}},
	{HBM_WIRE_REMOVE, KEYS_BYTES, {KEYS(0)}},
	{HBM_WIRE_EVICT,
	 sizeof(struct hbm_wire_evict),
	 {{"tier", NUMBER, 4, HBM_TIER_DDR, HBM_TIER_HBM, HBM_TIER_NVME, HBM_INVALID, NULL},
	  ZERO("device", 4),
	  ANY("bytes", 8)}},
	{HBM_WIRE_EVICT, /* a device where there are some */
	 sizeof(struct hbm_wire_evict),
	 {{"tier", NUMBER, 4, HBM_TIER_HBM, HBM_TIER_HBM, HBM_TIER_HBM, HBM_INVALID,
	   "device is 5, expected 0"},
	  ANY("device", 4),
	  ANY("bytes", 8)}},
	{HBM_WIRE_QUERY,
	 sizeof(struct hbm_wire_query),
	 {{"kind", NUMBER, 4, 1, 1, HBM_QUERY_KINDS - 1, HBM_UNSUPPORTED, NULL},
	  ZERO("zero", 4),
	  ANY("cursor", 8)}},
	{HBM_WIRE_PING, sizeof(struct hbm_wire_header), {{.kind = END}}},
	{HBM_WIRE_CANCEL, /* one request */
	 sizeof(struct hbm_wire_cancel),
	 {ANY("target", 8),
	  {"flags", NUMBER, 4, 0, 0, 0, HBM_INVALID, "target is 5, expected 0"},
	  ZERO("zero", 4)}},
	{HBM_WIRE_CANCEL, /* all: the flag is set in what follows it */
	 sizeof(struct hbm_wire_cancel),
	 {ZERO("target", 8),
	  {"flags", NUMBER, 4, HBM_WIRE_ALL, 0, HBM_WIRE_ALL, HBM_UNSUPPORTED, NULL},
	  ZERO("zero", 4)}},
};
#define FORMS (sizeof(forms) / sizeof(forms[0]))

/* A message being made: the fields of its header, then those of the form. */
struct sample {
	const struct form *form;
	struct field fields[HEADER_FIELDS + FIELDS_MAX];
	size_t offsets[HEADER_FIELDS + FIELDS_MAX];
	size_t count;
	_Alignas(16) unsigned char bytes[512];
};

static void put(unsigned char *to, size_t bytes, uint64_t value)
{
	if (bytes == 2)
		memcpy(to, &(uint16_t){(uint16_t)value}, bytes);
	else if (bytes == 4)
		memcpy(to, &(uint32_t){(uint32_t)value}, bytes);
	else
		memcpy(to, &value, bytes);
}

static void sample_add(struct sample *sample, const struct field *field, size_t *at)
{
	unsigned char *to = sample->bytes + *at;
	assert_true(*at + field->bytes <= sizeof(sample->bytes));
	if (field->kind == NUMBER || field->kind == SLOT)
		put(to, field->bytes, field->good);
	else if (field->kind == TEXT)
		memcpy(to, "abc", 3);
	else if (field->kind == KEY)
		to[15] = (unsigned char)(*at);

	sample->fields[sample->count] = *field;
	sample->offsets[sample->count++] = *at;
	*at += field->bytes;
}

static void sample_make(struct sample *sample, const struct form *form)
{
	/* id 0 is as good as any */
	const struct field header[HEADER_FIELDS] = {
		{"header.size", NUMBER, 4, form->size, form->size, form->size, -EPROTO, NULL},
		{"header.opcode", NUMBER, 2, form->opcode, 0, UINT16_MAX, 0, NULL},
		FLAGS("header.flags", 2, 0),
		ANY("header.id", 8),
		ZERO("header.status", 4),
		ZERO("header.zero", 4),
	};
	size_t at = 0;

	memset(sample, 0, sizeof(*sample));
	sample->form = form;
	for (size_t i = 0; i < HEADER_FIELDS; i++)
		sample_add(sample, &header[i], &at);
	for (const struct field *field = form->fields; field->kind != END; field++)
		sample_add(sample, field, &at);
	assert_int_equal(at, form->size);
}

/* What the first `size` bytes are taken for. A copy of exactly that size lets a sanitizer
 * see reads beyond. */
static int verdict(const struct sample *sample, size_t size, struct refusal *why)
{
	void *copy = malloc(size);
	assert_non_null(copy);
	memcpy(copy, sample->bytes, size);
	why->reason[0] = '\0';
	int status = validate_message(copy, size, sample->form->opcode != HBM_WIRE_HELLO, why);
	free(copy);

	return status;
}

static void expect(const struct sample *sample, size_t i, const char *how, int status,
		   const char *reason)
{
	struct refusal why;
	int got = verdict(sample, sample->form->size, &why);
	if (got != status || (status != HBM_OK && !strstr(why.reason, reason)))
		fail_msg("%s, %s %s: status %d (\"%s\"), expected %d (\"%s\")",
			 validate_opcode_name(sample->form->opcode), sample->fields[i].name, how,
			 got, why.reason, status, reason);
}

static void expect_number(struct sample *sample, size_t i, uint64_t value, int status)
{
	const struct field *field = &sample->fields[i];
	unsigned char *at = sample->bytes + sample->offsets[i], saved[8];
	char how[32], reason[96];

	memcpy(saved, at, field->bytes);
	put(at, field->bytes, value);
	snprintf(how, sizeof(how), "= %" PRIu64, value);
	snprintf(reason, sizeof(reason), "%s is %" PRIu64, field->name, value);
	expect(sample, i, how, status, field->reason && value > 0 ? field->reason : reason);
	memcpy(at, saved, field->bytes);
}

/* One too low, the lowest, the highest, one too high, and as high as can be. */
static void check_number(struct sample *sample, size_t i)
{
	const struct field *field = &sample->fields[i];
	if (strcmp(field->name, "header.opcode") == 0)
		return; /* another opcode is another form */

	expect_number(sample, i, field->low, HBM_OK);
	expect_number(sample, i, field->high, HBM_OK);
	if (field->low > 0)
		expect_number(sample, i, field->low - 1, field->status);
	if (field->high == HIGHEST(field->bytes))
		return;

	expect_number(sample, i, field->high + 1, field->status);
	if (strcmp(field->name, "header.status") == 0 || field->reason)
		return; /* signed; and those of two rules */

	expect_number(sample, i, HIGHEST(field->bytes),
		      field->kind == SLOT ? HBM_OK : field->status);
	if (field->kind == SLOT)
		expect_number(sample, i, HIGHEST(field->bytes) - 1, field->status);
}

static void check_text(struct sample *sample, size_t i)
{
	const struct field *field = &sample->fields[i];
	unsigned char *text = sample->bytes + sample->offsets[i];
	char reason[96];

	snprintf(reason, sizeof(reason), "%s has byte 120 at 63", field->name);
	text[HBM_WIRE_NAME_BYTES - 1] = 'x';
	expect(sample, i, "with a byte after its end", field->status, reason);

	snprintf(reason, sizeof(reason), "%s does not end", field->name);
	memset(text, 'x', HBM_WIRE_NAME_BYTES);
	expect(sample, i, "without an end", field->status, reason);

	text[HBM_WIRE_NAME_BYTES - 1] = '\0';
	expect(sample, i, "as long as can be", HBM_OK, "");
	memset(text, 0, HBM_WIRE_NAME_BYTES);
	expect(sample, i, "empty", HBM_OK, "");
}

static void check_key(struct sample *sample, size_t i)
{
	const struct field *field = &sample->fields[i];
	unsigned char *key = sample->bytes + sample->offsets[i], saved[HBM_WIRE_KEY_BYTES];
	char reason[96];

	memcpy(saved, key, sizeof(saved));
	memset(key, 0, sizeof(saved));
	snprintf(reason, sizeof(reason), "%s is all zero", field->name);
	expect(sample, i, "= 0", field->kind == KEY ? field->status : HBM_OK, reason);

	snprintf(reason, sizeof(reason), "%s is a key", field->name);
	for (size_t byte = 0; byte < sizeof(saved); byte++) {
		key[byte] = 1;
		expect(sample, i, "with one byte set",
		       field->kind == NO_KEY ? field->status : HBM_OK, reason);
		key[byte] = 0;
	}

	memcpy(key, saved, sizeof(saved));
}

/* The message ends where the field begins, or in its middle, and its header knows. */
static void check_absent(struct sample *sample, size_t i)
{
	const size_t sizes[] = {sample->offsets[i],
				sample->offsets[i] + sample->fields[i].bytes - 1};
	char reason[64];

	for (size_t k = 0; k < 2; k++) {
		struct refusal why;
		bool header = sizes[k] < sizeof(struct hbm_wire_header);
		put(sample->bytes, 4, sizes[k]);
		snprintf(reason, sizeof(reason),
			 header ? "%zu bytes came" : "size is %zu, expected", sizes[k]);
		if (verdict(sample, sizes[k], &why) != (header ? -EPROTO : HBM_INVALID) ||
		    !strstr(why.reason, reason))
			fail_msg("%s without %s: \"%s\", expected \"%s\"",
				 validate_opcode_name(sample->form->opcode), sample->fields[i].name,
				 why.reason, reason);
	}

	put(sample->bytes, 4, sample->form->size);
}

static void test_every_field(void **state)
{
	(void)state;
	for (size_t f = 0; f < FORMS; f++) {
		struct sample sample;
		sample_make(&sample, &forms[f]);
		for (size_t i = 0; i < sample.count; i++) {
			enum kind kind = sample.fields[i].kind;
			check_absent(&sample, i);
			if (kind == NUMBER || kind == SLOT)
				check_number(&sample, i);
			else if (kind == TEXT)
				check_text(&sample, i);
			else
				check_key(&sample, i);
			expect(&sample, i, "as it was", HBM_OK, "");
		}
	}
}

static void test_one_byte_more(void **state)
{
	(void)state;
	for (size_t f = 0; f < FORMS; f++) {
		struct sample sample;
		struct refusal why;
		char reason[64];
		sample_make(&sample, &forms[f]);
		for (size_t more = 1; more <= 8; more += 7) {
			size_t size = forms[f].size + more;
			put(sample.bytes, 4, size);
			snprintf(reason, sizeof(reason), "size is %zu, expected", size);
			assert_int_equal(verdict(&sample, size, &why), HBM_INVALID);
			if (!strstr(why.reason, reason))
				fail_msg("\"%s\", expected \"%s\"", why.reason, reason);
		}
	}
}

static void test_every_opcode_has_a_form(void **state)
{
	(void)state;
	for (unsigned opcode = 0; opcode <= HBM_WIRE_OPCODES; opcode++) {
		size_t count = 0;
		for (size_t f = 0; f < FORMS; f++)
			count += forms[f].opcode == opcode;
		assert_int_equal(count > 0, opcode > 0 && opcode < HBM_WIRE_OPCODES);
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
		cmocka_unit_test(test_one_byte_more),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
