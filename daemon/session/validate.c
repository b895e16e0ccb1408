/* SPDX-License-Identifier: Apache-2.0 */
/*
 * validate: see validate.h. A form says where a message's counts are and how large each
 * record is; what the sizes cannot say is in its body check, which may rely on the sizes.
 */
#include "daemon/session/validate.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "daemon/base/checked.h"

typedef int body_check(const void *message, const char **why);

struct form {
	const char *name;
	size_t fixed; /* bytes before any array */
	/* offset of the uint32_t that counts the records of the array; 0: no array */
	size_t count_at;
	size_t record;      /* bytes of a record */
	size_t segments_at; /* the same for a second array, of ranges */
	size_t zero_at;     /* offset of a uint32_t that must be 0; 0: none */
	body_check *check;
};

static int validate_invalid(const char **why, const char *what)
{
	*why = what;
	return HBM_INVALID;
}

static bool validate_is_zero(const void *bytes, size_t size)
{
	const unsigned char *byte = bytes;
	for (size_t i = 0; i < size; i++)
		if (byte[i] != 0)
			return false;
	return true;
}

/* A string that ends within its field and is followed by NULs only. */
static bool validate_is_padded(const char field[HBM_WIRE_NAME_BYTES])
{
	size_t length = strnlen(field, HBM_WIRE_NAME_BYTES);
	return length < HBM_WIRE_NAME_BYTES &&
	       validate_is_zero(field + length, HBM_WIRE_NAME_BYTES - length);
}

static bool validate_is_slot(uint32_t slot)
{
	return slot == HBM_WIRE_NO_FENCE || slot < HBM_WIRE_FENCES;
}

static bool validate_is_reserved(const struct hbm_wire_key *key)
{
	uint64_t half[2];
	memcpy(half, key, sizeof(half));
	return (half[0] | half[1]) == 0;
}

static int validate_check_hello(const void *message, const char **why)
{
	const struct hbm_wire_hello *hello = message;
	return validate_is_padded(hello->name)
		       ? HBM_OK
		       : validate_invalid(why, "the name is not NUL-padded");
}

static int validate_check_ranges(const void *message, const char **why)
{
	const struct hbm_wire_ranges *ranges = message;
	for (uint32_t i = 0; i < ranges->count; i++)
		if (ranges->ranges[i].zero != 0)
			return validate_invalid(why, "non-zero padding in a range");
	return HBM_OK;
}

static int validate_check_namespace(const void *message, const char **why)
{
	const struct hbm_wire_namespace_spec *spec =
		&((const struct hbm_wire_namespace_open *)message)->spec;
	return validate_is_padded(spec->model) && validate_is_padded(spec->layout) &&
			       validate_is_padded(spec->salt)
		       ? HBM_OK
		       : validate_invalid(why, "a string is not NUL-padded");
}

static int validate_check_keys(const void *message, const char **why)
{
	const struct hbm_wire_keys *keys = message;
	unsigned opcode = keys->header.opcode;
	bool pins = opcode == HBM_WIRE_PIN || opcode == HBM_WIRE_UNPIN;
	if (keys->flags & ~(pins ? HBM_WIRE_KEEP : 0u)) {
		*why = "unknown flags";
		return HBM_UNSUPPORTED;
	}

	if (opcode != HBM_WIRE_PREFETCH && (keys->device != 0 || keys->deadline_us != 0))
		return validate_invalid(why, "device and deadline are for PREFETCH only");

	for (uint32_t i = 0; i < keys->count; i++)
		if (validate_is_reserved(&keys->keys[i]))
			return validate_invalid(why, "the all-zero key is reserved");

	return HBM_OK;
}

static int validate_check_block(const struct hbm_wire_block *block, bool store, const char **why)
{
	if (block->zero != 0)
		return validate_invalid(why, "non-zero padding in a block");
	if (validate_is_reserved(&block->key))
		return validate_invalid(why, "the all-zero key is reserved");
	if (!store && !validate_is_reserved(&block->parent))
		return validate_invalid(why, "a LOAD has no parents");
	return block->segments > 0 ? HBM_OK : validate_invalid(why, "a block without segments");
}

static int validate_check_segments(const struct hbm_wire_blocks *blocks, const char **why)
{
	const struct hbm_wire_range *segments = (const void *)&blocks->blocks[blocks->count];
	for (uint32_t i = 0; i < blocks->segments; i++)
		if (segments[i].zero != 0)
			return validate_invalid(why, "non-zero padding in a segment");
	return HBM_OK;
}

static int validate_check_blocks(const void *message, const char **why)
{
	const struct hbm_wire_blocks *blocks = message;
	if (!validate_is_slot(blocks->ready_slot) || !validate_is_slot(blocks->fence_slot))
		return validate_invalid(why, "no such fence slot");

	uint64_t segments = 0;
	for (uint32_t i = 0; i < blocks->count; i++) {
		int status = validate_check_block(&blocks->blocks[i],
						  blocks->header.opcode == HBM_WIRE_STORE, why);
		if (status != HBM_OK)
			return status;
		segments += blocks->blocks[i].segments; /* both 32 bits: no overflow */
	}

	if (segments != blocks->segments)
		return validate_invalid(why, "the blocks' segments do not add up");

	return validate_check_segments(blocks, why);
}

static int validate_check_evict(const void *message, const char **why)
{
	const struct hbm_wire_evict *evict = message;
	if (evict->tier == HBM_TIER_NONE || evict->tier >= HBM_TIERS)
		return validate_invalid(why, "no such tier");
	if (evict->tier != HBM_TIER_HBM && evict->device != 0)
		return validate_invalid(why, "only the HBM tier has devices");
	return HBM_OK;
}

static int validate_check_cancel(const void *message, const char **why)
{
	const struct hbm_wire_cancel *cancel = message;
	if (cancel->flags & ~HBM_WIRE_ALL) {
		*why = "unknown flags";
		return HBM_UNSUPPORTED;
	}

	return cancel->flags && cancel->target != 0
		       ? validate_invalid(why, "the flag for all requests, and an id")
		       : HBM_OK;
}

static int validate_check_drop(const void *message, const char **why)
{
	const struct hbm_wire_namespace_drop *drop = message;
	if ((drop->flags & ~HBM_WIRE_PINNED) == 0)
		return HBM_OK;
	*why = "unknown flags";
	return HBM_UNSUPPORTED;
}

static int validate_check_query(const void *message, const char **why)
{
	const struct hbm_wire_query *query = message;
	if (query->kind > 0 && query->kind < HBM_QUERY_KINDS)
		return HBM_OK;
	*why = "no such kind of record";
	return HBM_UNSUPPORTED;
}

#define KEYS(title)                                                                                \
	{                                                                                          \
		.name = (title), .fixed = sizeof(struct hbm_wire_keys),                            \
		.count_at = offsetof(struct hbm_wire_keys, count),                                 \
		.record = sizeof(struct hbm_wire_key), .check = validate_check_keys                \
	}
#define BLOCKS(title)                                                                              \
	{                                                                                          \
		.name = (title), .fixed = sizeof(struct hbm_wire_blocks),                          \
		.count_at = offsetof(struct hbm_wire_blocks, count),                               \
		.record = sizeof(struct hbm_wire_block),                                           \
		.segments_at = offsetof(struct hbm_wire_blocks, segments),                         \
		.zero_at = offsetof(struct hbm_wire_blocks, zero), .check = validate_check_blocks  \
	}
#define RANGES(title)                                                                              \
	{                                                                                          \
		.name = (title), .fixed = sizeof(struct hbm_wire_ranges),                          \
		.count_at = offsetof(struct hbm_wire_ranges, count),                               \
		.record = sizeof(struct hbm_wire_range),                                           \
		.zero_at = offsetof(struct hbm_wire_ranges, zero), .check = validate_check_ranges  \
	}

static const struct form forms[HBM_WIRE_OPCODES] = {
	[HBM_WIRE_HELLO] = {.name = "HELLO",
			    .fixed = sizeof(struct hbm_wire_hello),
			    .check = validate_check_hello},
	[HBM_WIRE_REGION_CREATE] = {.name = "REGION_CREATE",
				    .fixed = sizeof(struct hbm_wire_region_create),
				    .zero_at = offsetof(struct hbm_wire_region_create, zero)},
	[HBM_WIRE_REGION_DESTROY] = {.name = "REGION_DESTROY",
				     .fixed = sizeof(struct hbm_wire_region_destroy),
				     .zero_at = offsetof(struct hbm_wire_region_destroy, zero)},
	[HBM_WIRE_COMMIT] = RANGES("COMMIT"),
	[HBM_WIRE_DECOMMIT] = RANGES("DECOMMIT"),
	[HBM_WIRE_NAMESPACE_OPEN] = {.name = "NAMESPACE_OPEN",
				     .fixed = sizeof(struct hbm_wire_namespace_open),
				     .check = validate_check_namespace},
	[HBM_WIRE_NAMESPACE_CLOSE] = {.name = "NAMESPACE_CLOSE",
				      .fixed = sizeof(struct hbm_wire_namespace_ref),
				      .zero_at = offsetof(struct hbm_wire_namespace_ref, zero)},
	[HBM_WIRE_LOOKUP] = KEYS("LOOKUP"),
	[HBM_WIRE_STORE] = BLOCKS("STORE"),
	[HBM_WIRE_LOAD] = BLOCKS("LOAD"),
	[HBM_WIRE_PREFETCH] = KEYS("PREFETCH"),
	[HBM_WIRE_TOUCH] = KEYS("TOUCH"),
	[HBM_WIRE_PIN] = KEYS("PIN"),
	[HBM_WIRE_UNPIN] = KEYS("UNPIN"),
	[HBM_WIRE_REMOVE] = KEYS("REMOVE"),
	[HBM_WIRE_EVICT] = {.name = "EVICT",
			    .fixed = sizeof(struct hbm_wire_evict),
			    .check = validate_check_evict},
	[HBM_WIRE_QUERY] = {.name = "QUERY",
			    .fixed = sizeof(struct hbm_wire_query),
			    .zero_at = offsetof(struct hbm_wire_query, zero),
			    .check = validate_check_query},
	[HBM_WIRE_PING] = {.name = "PING", .fixed = sizeof(struct hbm_wire_header)},
	[HBM_WIRE_CANCEL] = {.name = "CANCEL",
			     .fixed = sizeof(struct hbm_wire_cancel),
			     .zero_at = offsetof(struct hbm_wire_cancel, zero),
			     .check = validate_check_cancel},
	[HBM_WIRE_NAMESPACE_DROP] = {.name = "NAMESPACE_DROP",
				     .fixed = sizeof(struct hbm_wire_namespace_drop),
				     .check = validate_check_drop},
};

static uint32_t validate_field(const void *message, size_t at)
{
	uint32_t value;
	memcpy(&value, (const char *)message + at, sizeof(value));
	return value;
}

/* NAMESPACE_OPEN by number is the one request with two forms; the size tells which. */
static const struct form *form_of(const struct hbm_wire_header *header)
{
	if (header->opcode >= HBM_WIRE_OPCODES || !forms[header->opcode].name)
		return NULL;
	if (header->opcode == HBM_WIRE_NAMESPACE_OPEN &&
	    header->size == sizeof(struct hbm_wire_namespace_ref))
		return &forms[HBM_WIRE_NAMESPACE_CLOSE];

	return &forms[header->opcode];
}

static bool validate_has_size(const struct form *form, const void *message, size_t size,
			      const char **why)
{
	*why = "wrong size";
	uint64_t expected = form->fixed, array;
	if (size < form->fixed)
		return false;

	if (form->count_at) {
		if (!checked_mul(validate_field(message, form->count_at), form->record, &array) ||
		    !checked_add(expected, array, &expected))
			return false;
	}

	if (form->segments_at) {
		if (!checked_mul(validate_field(message, form->segments_at),
				 sizeof(struct hbm_wire_range), &array) ||
		    !checked_add(expected, array, &expected))
			return false;
	}

	if (size != expected)
		return false;

	*why = "an empty array";

	return !form->count_at || validate_field(message, form->count_at) > 0;
}

static int validate_check_form(const struct form *form, const void *message, size_t size,
			       const char **why)
{
	const struct hbm_wire_header *header = message;
	if (header->flags != 0) {
		*why = "unknown flags";
		return HBM_UNSUPPORTED;
	}

	if (header->status != 0 || header->zero != 0)
		return validate_invalid(why, "non-zero padding in the header");
	if (!validate_has_size(form, message, size, why))
		return HBM_INVALID;
	if (form->zero_at && validate_field(message, form->zero_at) != 0)
		return validate_invalid(why, "non-zero padding");

	return form->check ? form->check(message, why) : HBM_OK;
}

int validate_message(const void *message, size_t size, bool greeted, const char **why)
{
	const struct hbm_wire_header *header = message;
	if (size < sizeof(*header) || header->size != size) {
		*why = "message size differs from its header";
		return -EPROTO;
	}

	if (!greeted && header->opcode != HBM_WIRE_HELLO) {
		*why = "a request before HELLO";
		return -EPROTO;
	}

	const struct form *form = form_of(header);
	if (!form) {
		*why = "unknown opcode";
		return HBM_UNSUPPORTED;
	}

	int status = validate_check_form(form, message, size, why);
	if (status == HBM_OK && header->opcode == HBM_WIRE_HELLO) {
		if (greeted)
			return validate_invalid(why, "a second HELLO");
		if (((const struct hbm_wire_hello *)message)->magic != HBM_WIRE_MAGIC) {
			*why = "HELLO without the magic number";
			return -EPROTO;
		}
	}

	return status;
}

const char *validate_opcode_name(unsigned opcode)
{
	return opcode < HBM_WIRE_OPCODES ? forms[opcode].name : NULL;
}
