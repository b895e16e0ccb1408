/* SPDX-License-Identifier: Apache-2.0 */
/* messages: see messages.h. */
#include "tests/fuzz/messages.h"
#include "tests/fuzz/fuzz.h"

#include "tests/support/wire_form.h"

#include <stdlib.h>
#include <string.h>

#define SLAB (2u << 20)
#define BLOCK 65536u

uint32_t message_below(unsigned *seed, uint32_t limit)
{
	*seed += 0x9e3779b9u;
	uint64_t mixed = (*seed ^ *seed >> 16) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint32_t)((mixed >> 32) * limit >> 32);
}

/* What a number is likely to be that ends with this name: one of `count` from `first` on, the
 * first ones more often. */
static const struct {
	const char *ending;
	uint64_t first, step;
	uint32_t count;
} likely[] = {
	{"segments[0].bytes", BLOCK, 0, 1},
	{"segments[1].bytes", BLOCK / 2, 0, 1},
	{"segments[2].bytes", BLOCK / 2, 0, 1},
	{"segments[0].offset", 0, BLOCK, 8},
	{"segments[1].offset", BLOCK, BLOCK, 8},
	{"segments[2].offset", 2 * BLOCK, BLOCK, 8},
	{"block_bytes", BLOCK, 0, 1},
	{"address_space", 4 * SLAB, 0, 1},
	{"slab", 0, SLAB, 2},
	{"ranges[1].offset", 2 * SLAB, SLAB, 2},
	{"shares[0].target_offset", 2 * SLAB, SLAB, 2},
	{"shares[1].target_offset", 3 * SLAB, SLAB, 2},
	{"offset", 0, SLAB, 3},
	{"bytes", SLAB, SLAB, 2},
	{"changes[0].device", 0, 0, 1},
	{"changes[1].device", 1, 0, 1},
	{"region", 1, 1, 2},
	{"source", 1, 1, 2},
	{"target", 1, 1, 3},
	{"ns", 1, 1, 2},
	{"device", 0, 1, 2},
	{"weights", 0, 1, 2},
	{"session", 1, 1, 4},
	{"uid", HBM_WIRE_OWN_UID, 0, 1},
	{"loans[0]", 1, 1, 2},
	{"loans[1]", 2, 1, 2},
	{"board", 1, 1, 2},
	{"piece", 0, 0, 1},
	{"timeout_ms", 0, 5, 4},
	{"records", 1, 7, 5},
	{"cursor", 0, 1, 3},
};

static void message_set_likely(struct wire_sample *sample, size_t which, unsigned *seed)
{
	const struct wire_field *field = &sample->fields[which];
	unsigned char *at = sample->bytes + sample->offsets[which];
	size_t length = strlen(field->name);

	if (field->kind == WIRE_SLOT)
		wire_put(at, 4, HBM_WIRE_NO_FENCE);
	if (field->kind == WIRE_KEY)
		at[15] = (uint8_t)(1 + message_below(seed, 6));
	if (field->kind != WIRE_NUMBER || field->low == field->high)
		return;

	if (strcmp(field->name, "kind") == 0)
		wire_put(at, field->bytes, 1 + message_below(seed, (uint32_t)field->high));
	if (strcmp(field->name, "ready_value") == 0 || strcmp(field->name, "fence_value") == 0)
		wire_put(at, 8, 0);
	for (size_t i = 0; i < sizeof(likely) / sizeof(likely[0]); i++) {
		size_t ending = strlen(likely[i].ending);

		if (ending > length || strcmp(field->name + length - ending, likely[i].ending) != 0)
			continue;
		wire_put(at, field->bytes,
			 likely[i].first + likely[i].step * message_below(seed, likely[i].count));
		return;
	}
}

static size_t message_make_sample(uint8_t *message, size_t room, size_t form, bool as_likely,
				  unsigned *seed)
{
	struct wire_sample sample;

	wire_sample_make(&sample, &wire_forms[form]);
	for (size_t i = WIRE_HEADER_FIELDS; as_likely && i < sample.count; i++)
		message_set_likely(&sample, i, seed);
	if (sample.form->size > room)
		return 0;

	memcpy(message, sample.bytes, sample.form->size);

	return sample.form->size;
}

size_t message_make(uint8_t *message, size_t room, size_t form, unsigned *seed)
{
	return message_make_sample(message, room, form, true, seed);
}

size_t message_make_any(uint8_t *message, size_t room, unsigned *seed)
{
	uint32_t form = message_below(seed, (uint32_t)wire_form_count);

	return message_make_sample(message, room, form, message_below(seed, 4) > 0, seed);
}

/* The form that has this opcode, and this size if one has it. NULL: none has the opcode. */
static const struct wire_form *message_form(const uint8_t *message, size_t size)
{
	const struct wire_form *found = NULL;
	struct hbm_wire_header header;

	if (size < sizeof(header))
		return NULL;
	memcpy(&header, message, sizeof(header));
	for (size_t i = 0; i < wire_form_count; i++)
		if (wire_forms[i].opcode == header.opcode && (!found || wire_forms[i].size == size))
			found = &wire_forms[i];

	return found;
}

/* A number that is at an edge, or near what numbers, offsets and sizes are. */
static uint64_t message_number(const struct wire_field *field, unsigned *seed)
{
	static const uint64_t numbers[] = {0,          1,          2,          3,
					   4096,       65536,      2u << 20,   4u << 20,
					   0x7fffffff, 0x80000000, UINT32_MAX, INT64_MAX,
					   1ull << 63, UINT64_MAX, 16,         (2u << 20) + 1};
	const uint64_t edges[] = {field->low, field->high, field->good, field->low - 1,
				  field->high + 1};

	if (message_below(seed, 3) == 0)
		return edges[message_below(seed, sizeof(edges) / sizeof(edges[0]))];

	return numbers[message_below(seed, sizeof(numbers) / sizeof(numbers[0]))];
}

/* Sets a field of its form. */
static void message_set_field(uint8_t *message, size_t size, unsigned *seed)
{
	const struct wire_form *form = message_form(message, size);
	struct wire_sample sample;
	if (!form)
		return;

	wire_sample_make(&sample, form);
	uint32_t which = WIRE_HEADER_FIELDS +
			 message_below(seed, (uint32_t)(sample.count - WIRE_HEADER_FIELDS) + 1);
	if (which == sample.count)
		which = message_below(seed, WIRE_HEADER_FIELDS);

	const struct wire_field *field = &sample.fields[which];
	size_t at = sample.offsets[which];
	if (at + field->bytes > size)
		return;
	if (field->kind == WIRE_NUMBER || field->kind == WIRE_SLOT)
		wire_put(message + at, field->bytes, message_number(field, seed));
	else
		LLVMFuzzerMutate(message + at, field->bytes, field->bytes);
}

/* Repeats or removes the last bytes, of which a record may be made, and adds to a number that
 * may count them. */
static size_t message_change_count(uint8_t *message, size_t size, size_t room, unsigned *seed)
{
	static const size_t records[] = {16, 24, 40, 8, 48};
	size_t record = records[message_below(seed, 5)];
	size_t at = sizeof(struct hbm_wire_header) + 4 * (size_t)message_below(seed, 3);
	uint32_t count = 0, more = 1 + message_below(seed, 4);
	if (size < at + 4 + record)
		return size;

	memcpy(&count, message + at, sizeof(count));
	if (message_below(seed, 4) == 0) {
		count--;
		size -= record;
	} else {
		for (; more > 0 && size + record <= room; more--, size += record, count++)
			memmove(message + size, message + size - record, record);
	}
	memcpy(message + at, &count, sizeof(count));

	return size;
}

static void message_set_size(uint8_t *message, size_t size, unsigned *seed)
{
	uint32_t said = (uint32_t)size;

	if (message_below(seed, 50) == 0)
		said = message_below(seed, 2) ? said + 1 : message_below(seed, 1u << 18);
	if (size >= sizeof(said))
		memcpy(message, &said, sizeof(said));
}

size_t message_change(uint8_t *message, size_t size, size_t room, unsigned *seed)
{
	switch (message_below(seed, 8)) {
	case 0:
		size = LLVMFuzzerMutate(message, size, room);
		break;
	case 1: {
		size_t made = message_make_any(message, room, seed);
		size = made > 0 ? made : size;
		break;
	}
	case 2:
	case 3:
		size = message_change_count(message, size, room, seed);
		break;
	default:
		message_set_field(message, size, seed);
		break;
	}
	message_set_size(message, size, seed);

	return size;
}
