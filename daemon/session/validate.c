/* SPDX-License-Identifier: Apache-2.0 */
/*
 * validate: see validate.h. A form says where a message's counts are and how large each
 * record is; its body check validates the rest, and may rely on the sizes.
 */
#include "daemon/session/validate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <string.h>

typedef int body_check(const void *message, struct refusal *why);

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

/* ---- what every check is made of: HBM_OK, or a reason and a status ---- */

#define validate_refuse(why, ...) reason_set(&refusal_reason(why), __VA_ARGS__)

static int validate_zero(const char *field, uint64_t value, struct refusal *why)
{
	if (value == 0)
		return HBM_OK;
	return validate_refuse(why, HBM_INVALID, "%s is %" PRIu64 ", expected 0", field, value);
}

/* The same for a member of an array. */
static int validate_zero_of(const char *array, uint32_t index, uint32_t value, struct refusal *why)
{
	if (value == 0)
		return HBM_OK;
	return validate_refuse(why, HBM_INVALID, "%s[%u].zero is %u, expected 0", array, index,
			       value);
}

static int validate_flags(const char *field, uint32_t flags, uint32_t known, struct refusal *why)
{
	if ((flags & ~known) == 0)
		return HBM_OK;
	return validate_refuse(why, HBM_UNSUPPORTED, "%s is %u, unknown are %#x", field, flags,
			       flags & ~known);
}

/* A string that ends within its field and is followed by NULs only. */
static int validate_text(const char *field, const char text[HBM_WIRE_NAME_BYTES],
			 struct refusal *why)
{
	size_t length = strnlen(text, HBM_WIRE_NAME_BYTES);
	if (length == HBM_WIRE_NAME_BYTES)
		return validate_refuse(why, HBM_INVALID,
				       "%s does not end, expected at most %d bytes and a NUL",
				       field, HBM_WIRE_NAME_BYTES - 1);

	for (size_t i = length; i < HBM_WIRE_NAME_BYTES; i++)
		if (text[i] != 0)
			return validate_refuse(why, HBM_INVALID,
					       "%s has byte %u at %zu, after its NUL, expected 0",
					       field, (unsigned char)text[i], i);

	return HBM_OK;
}

static int validate_slot(const char *field, uint32_t slot, struct refusal *why)
{
	if (slot == HBM_WIRE_NO_FENCE || slot < HBM_WIRE_FENCES)
		return HBM_OK;
	return validate_refuse(why, HBM_INVALID, "%s is %u, expected 0 to %d, or %u for none",
			       field, slot, HBM_WIRE_FENCES - 1, HBM_WIRE_NO_FENCE);
}

static bool validate_is_reserved(const struct hbm_wire_key *key)
{
	uint64_t half[2];
	memcpy(half, key, sizeof(half));
	return (half[0] | half[1]) == 0;
}

/* ---- bodies ---- */

static int validate_check_hello(const void *message, struct refusal *why)
{
	const struct hbm_wire_hello *hello = message;
	return validate_text("name", hello->name, why);
}

static int validate_check_ranges(const void *message, struct refusal *why)
{
	const struct hbm_wire_ranges *ranges = message;
	int status = HBM_OK;
	for (uint32_t i = 0; status == HBM_OK && i < ranges->count; i++)
		status = validate_zero_of("ranges", i, ranges->ranges[i].zero, why);
	return status;
}

static int validate_share_flags(uint32_t i, uint32_t flags, struct refusal *why)
{
	uint32_t unknown = flags & ~(HBM_WIRE_READ_ONLY | HBM_WIRE_OF_LOAN);

	return unknown == 0 ? HBM_OK
			    : validate_refuse(why, HBM_UNSUPPORTED,
					      "shares[%u].flags is %u, unknown are %#x", i, flags,
					      unknown);
}

static int validate_check_shares(const void *message, struct refusal *why)
{
	const struct hbm_wire_shares *shares = message;
	int status = HBM_OK;

	for (uint32_t i = 0; status == HBM_OK && i < shares->count; i++) {
		status = validate_zero_of("shares", i, shares->shares[i].zero, why);
		if (status == HBM_OK)
			status = validate_share_flags(i, shares->shares[i].flags, why);
	}

	return status;
}

static int validate_check_namespace(const void *message, struct refusal *why)
{
	const struct hbm_wire_namespace_spec *spec =
		&((const struct hbm_wire_namespace_open *)message)->spec;
	int status = validate_text("model", spec->model, why);
	if (status == HBM_OK)
		status = validate_text("layout", spec->layout, why);
	if (status == HBM_OK)
		status = validate_text("salt", spec->salt, why);
	return status;
}

/* What LOSSLESS needs it has, and what a client encodes has its logical size. */
static int validate_check_encoding(const void *message, struct refusal *why)
{
	/* The form with flags begins as that one. */
	const struct hbm_wire_namespace_open_encoded *open = message;
	const struct hbm_wire_encoding *encoding = &open->encoding;
	uint32_t element = encoding->element_bytes;
	bool lossless = encoding->encoding == HBM_ENCODING_LOSSLESS;
	bool by_client = encoding->encoding > HBM_ENCODING_LOSSLESS;
	int status = validate_check_namespace(message, why);
	if (status != HBM_OK)
		return status;

	if (encoding->encoding >= HBM_ENCODINGS)
		return validate_refuse(why, HBM_UNSUPPORTED, "encoding is %u, expected 0 to %d",
				       encoding->encoding, HBM_ENCODINGS - 1);
	if (lossless && element != 1 && element != 2 && element != 4)
		return validate_refuse(why, HBM_UNSUPPORTED,
				       "encoding is %u and element_bytes is %u, expected 1, 2 or 4",
				       encoding->encoding, element);
	if (!lossless && element != 0)
		return validate_zero("element_bytes", element, why);
	if (!by_client)
		return validate_zero("logical_bytes", encoding->logical_bytes, why);
	if (encoding->logical_bytes == 0)
		return validate_refuse(why, HBM_INVALID,
				       "logical_bytes is 0, expected the size of a block before it "
				       "is encoded");

	return HBM_OK;
}

static int validate_check_open_flags(const void *message, struct refusal *why)
{
	const struct hbm_wire_namespace_open_flags *open = message;
	int status = validate_check_encoding(message, why);

	return status == HBM_OK ? validate_flags("flags", open->flags,
						 HBM_WIRE_EPHEMERAL | HBM_WIRE_MEMORY_ONLY, why)
				: status;
}

/* Device and deadline are for PREFETCH and MOVE only; and a device for MOVE to HBM. */
static int validate_check_moves_only(const struct hbm_wire_keys *keys, struct refusal *why)
{
	if (keys->header.opcode == HBM_WIRE_PREFETCH)
		return HBM_OK;

	bool move = keys->header.opcode == HBM_WIRE_MOVE;
	bool to_hbm = move && keys->flags == HBM_TIER_HBM;
	int status = to_hbm ? HBM_OK : validate_zero("device", keys->device, why);

	return status == HBM_OK && !move ? validate_zero("deadline_us", keys->deadline_us, why)
					 : status;
}

static int validate_check_keys_flags(const struct hbm_wire_keys *keys, struct refusal *why)
{
	unsigned opcode = keys->header.opcode;
	bool pins = opcode == HBM_WIRE_PIN || opcode == HBM_WIRE_UNPIN;
	if (opcode != HBM_WIRE_MOVE)
		return validate_flags("flags", keys->flags, pins ? HBM_WIRE_KEEP : 0, why);

	if (keys->flags > HBM_TIER_NONE && keys->flags < HBM_TIERS)
		return HBM_OK;
	return validate_refuse(why, HBM_INVALID, "flags is %u, expected a tier, 1 to %d",
			       keys->flags, HBM_TIERS - 1);
}

static int validate_check_keys(const void *message, struct refusal *why)
{
	const struct hbm_wire_keys *keys = message;
	int status = validate_check_keys_flags(keys, why);
	if (status == HBM_OK)
		status = validate_check_moves_only(keys, why);
	if (status != HBM_OK)
		return status;

	for (uint32_t i = 0; i < keys->count; i++)
		if (validate_is_reserved(&keys->keys[i]))
			return validate_refuse(why, HBM_INVALID,
					       "keys[%u] is all zero, which is reserved", i);

	return HBM_OK;
}

/* Where a block goes, and whether it is pinned there: for STORE only. */
static int validate_check_placing(const struct hbm_wire_blocks *blocks, uint32_t i,
				  struct refusal *why)
{
	const struct hbm_wire_block *block = &blocks->blocks[i];
	bool is_store = blocks->header.opcode == HBM_WIRE_STORE;

	if (block->tier >= (is_store ? HBM_TIERS : 1))
		return validate_refuse(why, HBM_INVALID, "blocks[%u].tier is %u, expected 0%s", i,
				       block->tier, is_store ? " to 3" : "");
	if (block->flags & ~(is_store ? HBM_WIRE_BLOCK_PIN | HBM_WIRE_BLOCK_LEND : 0))
		return validate_refuse(why, HBM_UNSUPPORTED, "blocks[%u].flags is %u, expected 0%s",
				       i, block->flags, is_store ? " to 3" : "");

	return HBM_OK;
}

static int validate_check_block(const struct hbm_wire_blocks *blocks, uint32_t i,
				struct refusal *why)
{
	const struct hbm_wire_block *block = &blocks->blocks[i];
	int status = validate_check_placing(blocks, i, why);
	if (status != HBM_OK)
		return status;

	if (validate_is_reserved(&block->key))
		return validate_refuse(why, HBM_INVALID,
				       "blocks[%u].key is all zero, which is reserved", i);
	if (blocks->header.opcode == HBM_WIRE_LOAD && !validate_is_reserved(&block->parent))
		return validate_refuse(why, HBM_INVALID,
				       "blocks[%u].parent is a key, expected all zero in a LOAD",
				       i);
	if (block->flags & HBM_WIRE_BLOCK_PIN && !validate_is_reserved(&block->parent))
		return validate_refuse(why, HBM_UNSUPPORTED,
				       "blocks[%u].parent is a key, expected all zero, as flags is "
				       "%u: only roots are pinned as they are stored",
				       i, block->flags);
	if (block->segments == 0)
		return validate_refuse(why, HBM_INVALID,
				       "blocks[%u].segments is 0, expected at least 1", i);

	return HBM_OK;
}

static int validate_check_segments(const struct hbm_wire_blocks *blocks, struct refusal *why)
{
	const struct hbm_wire_range *segments = (const void *)&blocks->blocks[blocks->count];
	int status = HBM_OK;
	for (uint32_t i = 0; status == HBM_OK && i < blocks->segments; i++)
		status = validate_zero_of("segments", i, segments[i].zero, why);
	return status;
}

static int validate_check_fences(const struct hbm_wire_blocks *blocks, struct refusal *why)
{
	int status = validate_slot("ready_slot", blocks->ready_slot, why);
	if (status == HBM_OK)
		status = validate_slot("fence_slot", blocks->fence_slot, why);
	if (status != HBM_OK || blocks->failed_slot == 0)
		return status;

	if (blocks->failed_slot >= HBM_WIRE_FENCES)
		return validate_refuse(why, HBM_INVALID,
				       "failed_slot is %u, expected 1 to %d, or 0 for none",
				       blocks->failed_slot, HBM_WIRE_FENCES - 1);
	if (blocks->failed_slot == blocks->fence_slot)
		return validate_refuse(why, HBM_INVALID, "failed_slot is %u, as fence_slot is",
				       blocks->failed_slot);

	return HBM_OK;
}

static int validate_check_blocks(const void *message, struct refusal *why)
{
	const struct hbm_wire_blocks *blocks = message;
	int status = validate_check_fences(blocks, why);
	uint64_t segments = 0;
	for (uint32_t i = 0; status == HBM_OK && i < blocks->count; i++) {
		status = validate_check_block(blocks, i, why);
		segments += blocks->blocks[i].segments; /* both 32 bits: no overflow */
	}

	if (status != HBM_OK)
		return status;
	if (segments != blocks->segments)
		return validate_refuse(why, HBM_INVALID,
				       "segments is %u, expected %" PRIu64
				       ", the sum over the blocks",
				       blocks->segments, segments);

	return validate_check_segments(blocks, why);
}

static int validate_check_evict(const void *message, struct refusal *why)
{
	const struct hbm_wire_evict *evict = message;
	if (evict->tier == HBM_TIER_NONE || evict->tier >= HBM_TIERS)
		return validate_refuse(why, HBM_INVALID, "tier is %u, expected 1 to %d",
				       evict->tier, HBM_TIERS - 1);
	return evict->tier == HBM_TIER_HBM ? HBM_OK : validate_zero("device", evict->device, why);
}

static int validate_check_cancel(const void *message, struct refusal *why)
{
	const struct hbm_wire_cancel *cancel = message;
	int status = validate_flags("flags", cancel->flags, HBM_WIRE_ALL, why);
	if (status != HBM_OK || cancel->flags == 0)
		return status;
	return validate_zero("target", cancel->target, why); /* the flag is for all requests */
}

static int validate_check_drop(const void *message, struct refusal *why)
{
	const struct hbm_wire_namespace_drop *drop = message;
	return validate_flags("flags", drop->flags, HBM_WIRE_PINNED, why);
}

static int validate_check_import(const void *message, struct refusal *why)
{
	const struct hbm_wire_region_import *import = message;

	if (import->kind != HBM_WIRE_GUEST_FD && import->kind != HBM_WIRE_GUEST_IPC)
		return validate_refuse(why, HBM_INVALID, "kind is %u, expected %u or %u",
				       import->kind, HBM_WIRE_GUEST_FD, HBM_WIRE_GUEST_IPC);

	for (size_t i = 0; import->kind == HBM_WIRE_GUEST_FD && i < sizeof(import->handle); i++)
		if (import->handle[i] != 0)
			return validate_refuse(why, HBM_INVALID,
					       "handle has byte %u at %zu, expected 0",
					       import->handle[i], i);

	return HBM_OK;
}

static int validate_check_borrow(const void *message, struct refusal *why)
{
	const struct hbm_wire_borrow *borrow = message;
	int status = validate_flags("flags", borrow->flags, HBM_WIRE_BORROW_READY, why);
	if (status != HBM_OK)
		return status;

	for (uint32_t i = 0; i < borrow->count; i++)
		if (validate_is_reserved(&borrow->keys[i]))
			return validate_refuse(why, HBM_INVALID,
					       "keys[%u] is all zero, which is reserved", i);

	return HBM_OK;
}

/* At most HBM_WIRE_DEVICES_MAX changes, as each is of another device. */
static int validate_check_reserve(const void *message, struct refusal *why)
{
	const struct hbm_wire_reserve *reserve = message;
	uint64_t named = 0;
	int status = HBM_OK;

	for (uint32_t i = 0; status == HBM_OK && i < reserve->count; i++) {
		uint32_t device = reserve->changes[i].device;

		status = validate_zero_of("changes", i, reserve->changes[i].zero, why);
		if (status == HBM_OK && device >= HBM_WIRE_DEVICES_MAX)
			status = validate_refuse(why, HBM_INVALID,
						 "changes[%u].device is %u, expected 0 to %d", i,
						 device, HBM_WIRE_DEVICES_MAX - 1);
		if (status != HBM_OK)
			break;

		if (named >> device & 1)
			status = validate_refuse(why, HBM_INVALID,
						 "changes[%u].device is %u, which is named twice",
						 i, device);
		named |= UINT64_C(1) << device;
	}

	return status;
}

static int validate_check_board_open(const void *message, struct refusal *why)
{
	const struct hbm_wire_board_open *open = message;

	return open->records > 0
		       ? HBM_OK
		       : validate_refuse(why, HBM_INVALID, "records is 0, expected at least 1");
}

static int validate_check_ask(const void *message, struct refusal *why)
{
	const struct hbm_wire_ask *ask = message;
	unsigned tiers = ask->ask == HBM_ASK_SUSPEND ? HBM_TIERS : 1;
	int status = HBM_OK;

	if (ask->ask != HBM_ASK_SUSPEND && ask->ask != HBM_ASK_RESUME)
		return validate_refuse(why, HBM_UNSUPPORTED, "ask is %u, expected %d or %d",
				       ask->ask, HBM_ASK_SUSPEND, HBM_ASK_RESUME);
	if (ask->tier >= tiers)
		return validate_refuse(why, HBM_INVALID, "tier is %u, expected 0%s", ask->tier,
				       tiers > 1 ? " to 3" : "");

	status = validate_zero("device", ask->device, why);

	return status == HBM_OK ? validate_zero("bytes", ask->bytes, why) : status;
}

/* Printable, so that an operator can read and type it. */
static int validate_publication(const char name[HBM_WIRE_NAME_BYTES], struct refusal *why)
{
	int status = validate_text("name", name, why);
	if (status != HBM_OK)
		return status;
	if (name[0] == 0)
		return validate_refuse(why, HBM_INVALID, "name is empty");

	for (size_t i = 0; name[i] != 0; i++)
		if (name[i] <= ' ' || name[i] > '~')
			return validate_refuse(
				why, HBM_INVALID,
				"name has byte %u at %zu, expected a printable ASCII "
				"character and no space",
				(unsigned char)name[i], i);

	return HBM_OK;
}

static int validate_check_publish(const void *message, struct refusal *why)
{
	const struct hbm_wire_publish *publish = message;
	int status = validate_flags("flags", publish->flags, HBM_WIRE_PUBLISH_GROUP, why);

	if (status == HBM_OK && publish->flags == 0)
		status = validate_zero("gid", publish->gid, why);

	return status == HBM_OK ? validate_publication(publish->name, why) : status;
}

static int validate_check_attach(const void *message, struct refusal *why)
{
	const struct hbm_wire_attach *attach = message;
	int status = validate_flags("flags", attach->flags, HBM_WIRE_ATTACH_WRITE, why);

	return status == HBM_OK ? validate_publication(attach->name, why) : status;
}

static int validate_check_unpublish(const void *message, struct refusal *why)
{
	const struct hbm_wire_unpublish *unpublish = message;

	return validate_publication(unpublish->name, why);
}

static int validate_check_count(const void *message, struct refusal *why)
{
	const struct hbm_wire_count *count = message;
	int status = validate_flags("flags", count->flags, HBM_WIRE_COUNT_ONE, why);

	return status != HBM_OK || !validate_is_reserved(&count->key)
		       ? status
		       : validate_refuse(why, HBM_INVALID, "key is all zero, which is reserved");
}

static int validate_check_query(const void *message, struct refusal *why)
{
	const struct hbm_wire_query *query = message;
	if (query->kind > 0 && query->kind < HBM_QUERY_KINDS)
		return HBM_OK;
	return validate_refuse(why, HBM_UNSUPPORTED, "kind is %u, expected 1 to %d", query->kind,
			       HBM_QUERY_KINDS - 1);
}

/* ---- the table ---- */

/* FORM_<opcode>: what the list of opcodes does not say. One without a form does not compile. */
#define KEYS                                                                                       \
	.count_at = offsetof(struct hbm_wire_keys, count), .record = sizeof(struct hbm_wire_key),  \
	.check = validate_check_keys
#define BLOCKS                                                                                     \
	.count_at = offsetof(struct hbm_wire_blocks, count),                                       \
	.record = sizeof(struct hbm_wire_block),                                                   \
	.segments_at = offsetof(struct hbm_wire_blocks, segments), .check = validate_check_blocks
#define RANGES                                                                                     \
	.count_at = offsetof(struct hbm_wire_ranges, count),                                       \
	.record = sizeof(struct hbm_wire_range),                                                   \
	.zero_at = offsetof(struct hbm_wire_ranges, zero), .check = validate_check_ranges

#define FORM_HELLO .check = validate_check_hello
#define FORM_REGION_CREATE .zero_at = offsetof(struct hbm_wire_region_create, zero)
#define FORM_REGION_DESTROY .zero_at = offsetof(struct hbm_wire_region_destroy, zero)
#define FORM_COMMIT RANGES
#define FORM_DECOMMIT RANGES
#define FORM_NAMESPACE_OPEN .check = validate_check_namespace
#define FORM_NAMESPACE_CLOSE .zero_at = offsetof(struct hbm_wire_namespace_ref, zero)
#define FORM_LOOKUP KEYS
#define FORM_STORE BLOCKS
#define FORM_LOAD BLOCKS
#define FORM_PREFETCH KEYS
#define FORM_TOUCH KEYS
#define FORM_PIN KEYS
#define FORM_UNPIN KEYS
#define FORM_REMOVE KEYS
#define FORM_EVICT .check = validate_check_evict
#define FORM_QUERY .zero_at = offsetof(struct hbm_wire_query, zero), .check = validate_check_query
#define FORM_PING .check = NULL /* a bare header */
#define FORM_CANCEL                                                                                \
	.zero_at = offsetof(struct hbm_wire_cancel, zero), .check = validate_check_cancel
#define FORM_NAMESPACE_DROP .check = validate_check_drop
#define FORM_SESSION_END .check = NULL
#define FORM_REGION_IMPORT .check = validate_check_import
#define FORM_MOVE KEYS
#define FORM_SHARE                                                                                 \
	.count_at = offsetof(struct hbm_wire_shares, count),                                       \
	.record = sizeof(struct hbm_wire_share),                                                   \
	.zero_at = offsetof(struct hbm_wire_shares, zero), .check = validate_check_shares

#define FORM_BORROW                                                                                \
	.count_at = offsetof(struct hbm_wire_borrow, count),                                       \
	.record = sizeof(struct hbm_wire_key), .check = validate_check_borrow
#define FORM_RETURN                                                                                \
	.count_at = offsetof(struct hbm_wire_return, count), .record = sizeof(uint64_t),           \
	.zero_at = offsetof(struct hbm_wire_return, zero)
#define FORM_RESERVE                                                                               \
	.count_at = offsetof(struct hbm_wire_reserve, count),                                      \
	.record = sizeof(struct hbm_wire_reserve_change), .check = validate_check_reserve
#define FORM_MEMORY .check = NULL
#define FORM_BOARD_OPEN                                                                            \
	.zero_at = offsetof(struct hbm_wire_board_open, zero), .check = validate_check_board_open
#define FORM_BOARD_CLOSE .zero_at = offsetof(struct hbm_wire_board_ref, zero)
#define FORM_ASK .zero_at = offsetof(struct hbm_wire_ask, zero), .check = validate_check_ask

#define FORM_PUBLISH                                                                               \
	.zero_at = offsetof(struct hbm_wire_publish, zero), .check = validate_check_publish
#define FORM_ATTACH .check = validate_check_attach
#define FORM_UNPUBLISH                                                                             \
	.zero_at = offsetof(struct hbm_wire_unpublish, zero), .check = validate_check_unpublish
#define FORM_COUNT .check = validate_check_count

#define FORM(opcode, value, request, reply)                                                        \
	[value] = {.name = #opcode, .fixed = sizeof(struct request), FORM_##opcode},
static const struct form forms[HBM_WIRE_OPCODES] = {HBM_OPCODE_LIST(FORM)};

static uint32_t validate_field(const void *message, size_t at)
{
	uint32_t value;
	memcpy(&value, (const char *)message + at, sizeof(value));
	return value;
}

static const struct form form_encoded = {
	.name = "NAMESPACE_OPEN",
	.fixed = sizeof(struct hbm_wire_namespace_open_encoded),
	.check = validate_check_encoding,
};

static const struct form form_flags = {
	.name = "NAMESPACE_OPEN",
	.fixed = sizeof(struct hbm_wire_namespace_open_flags),
	.zero_at = offsetof(struct hbm_wire_namespace_open_flags, zero),
	.check = validate_check_open_flags,
};

/* NAMESPACE_OPEN, by number, with an encoding or with flags, is the one request with several
 * forms; the size tells which. */
static const struct form *form_of(const struct hbm_wire_header *header)
{
	if (header->opcode >= HBM_WIRE_OPCODES || !forms[header->opcode].name)
		return NULL;
	if (header->opcode == HBM_WIRE_NAMESPACE_OPEN &&
	    header->size == sizeof(struct hbm_wire_namespace_ref))
		return &forms[HBM_WIRE_NAMESPACE_CLOSE];
	if (header->opcode == HBM_WIRE_NAMESPACE_OPEN && header->size == form_encoded.fixed)
		return &form_encoded;
	if (header->opcode == HBM_WIRE_NAMESPACE_OPEN && header->size == form_flags.fixed)
		return &form_flags;

	return &forms[header->opcode];
}

/* Bytes of a message with these counts: at most 2^32 records of each array, so there is no
 * overflow. */
static uint64_t validate_expected_size(const struct form *form, const void *message)
{
	uint64_t expected = form->fixed;
	if (form->count_at)
		expected += (uint64_t)validate_field(message, form->count_at) * form->record;
	if (form->segments_at)
		expected += (uint64_t)validate_field(message, form->segments_at) *
			    sizeof(struct hbm_wire_range);
	return expected;
}

static int validate_check_size(const struct form *form, const void *message, size_t size,
			       struct refusal *why)
{
	if (size < form->fixed || (size != form->fixed && !form->count_at))
		return validate_refuse(why, HBM_INVALID, "size is %zu, expected %s%zu", size,
				       form->count_at ? "at least " : "", form->fixed);
	if (!form->count_at)
		return HBM_OK;

	uint32_t count = validate_field(message, form->count_at);
	uint64_t expected = validate_expected_size(form, message);
	if (count == 0)
		return validate_refuse(why, HBM_INVALID, "count is 0, expected at least 1");
	if (size == expected)
		return HBM_OK;
	if (!form->segments_at)
		return validate_refuse(why, HBM_INVALID,
				       "size is %zu, expected %" PRIu64 ", as count is %u", size,
				       expected, count);

	return validate_refuse(why, HBM_INVALID,
			       "size is %zu, expected %" PRIu64
			       ", as count is %u and segments is %u",
			       size, expected, count, validate_field(message, form->segments_at));
}

static int validate_check_header(const struct hbm_wire_header *header, struct refusal *why)
{
	int status = validate_flags("header.flags", header->flags, 0, why);
	if (status == HBM_OK && header->status != 0)
		status = validate_refuse(why, HBM_INVALID, "header.status is %d, expected 0",
					 header->status);
	return status == HBM_OK ? validate_zero("header.zero", header->zero, why) : status;
}

static int validate_check_form(const struct form *form, const void *message, size_t size,
			       struct refusal *why)
{
	int status = validate_check_header(message, why);
	if (status == HBM_OK)
		status = validate_check_size(form, message, size, why);
	if (status == HBM_OK && form->zero_at)
		status = validate_zero("zero", validate_field(message, form->zero_at), why);
	if (status == HBM_OK && form->check)
		status = form->check(message, why);
	return status;
}

/* A HELLO that has passed its form. */
static int validate_greeting(const struct hbm_wire_hello *hello, bool greeted, struct refusal *why)
{
	if (greeted)
		return validate_refuse(why, HBM_INVALID, "a second HELLO");
	if (hello->magic != HBM_WIRE_MAGIC)
		return validate_refuse(why, -EPROTO, "magic is %u, expected %u", hello->magic,
				       HBM_WIRE_MAGIC);
	return HBM_OK;
}

int validate_message(const void *message, size_t size, bool greeted, struct refusal *why)
{
	const struct hbm_wire_header *header = message;
	if (size < sizeof(*header))
		return validate_refuse(why, -EPROTO, "%zu bytes came, expected a header of %zu",
				       size, sizeof(*header));
	if (header->size != size)
		return validate_refuse(why, -EPROTO, "header.size is %u, expected %zu, which came",
				       header->size, size);
	if (!greeted && header->opcode != HBM_WIRE_HELLO)
		return validate_refuse(why, -EPROTO,
				       "header.opcode is %u before HELLO, expected %d",
				       header->opcode, HBM_WIRE_HELLO);

	const struct form *form = form_of(header);
	if (!form)
		return validate_refuse(why, HBM_UNSUPPORTED,
				       "header.opcode is %u, expected 1 to %d", header->opcode,
				       HBM_WIRE_OPCODES - 1);

	int status = validate_check_form(form, message, size, why);
	if (status == HBM_OK && header->opcode == HBM_WIRE_HELLO)
		status = validate_greeting(message, greeted, why);

	return status;
}

int validate_descriptor(const void *message, int verdict, int fd, struct refusal *why)
{
	const struct hbm_wire_region_import *import = message;
	bool is_import = import->header.opcode == HBM_WIRE_REGION_IMPORT;

	if (fd != -1 && !is_import)
		return validate_refuse(why, -EPROTO, "unexpected file descriptors");
	if (verdict != HBM_OK || !is_import)
		return verdict;

	bool expected = import->kind == HBM_WIRE_GUEST_FD;
	if (fd == -EMFILE)
		return validate_refuse(why, HBM_LIMIT, "the daemon has no file descriptors left");
	if (expected != (fd >= 0))
		return validate_refuse(why, HBM_INVALID, "%s descriptor came, expected %s",
				       expected ? "no" : "a", expected ? "one" : "none");

	return HBM_OK;
}

const char *validate_opcode_name(unsigned opcode)
{
	return opcode < HBM_WIRE_OPCODES ? forms[opcode].name : NULL;
}
