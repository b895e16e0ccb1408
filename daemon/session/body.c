/* SPDX-License-Identifier: Apache-2.0 */
/* body: see body.h. */
#include "daemon/session/body.h"

#include <inttypes.h>

#define BLOCK_FLAGS (HBM_WIRE_BLOCK_PIN | HBM_WIRE_BLOCK_LEND | HBM_WIRE_BLOCK_DURABLE)

int body_hello(const void *message, struct refusal *why)
{
	const struct hbm_wire_hello *hello = message;
	return field_text("name", hello->name, why);
}

int body_ranges(const void *message, struct refusal *why)
{
	const struct hbm_wire_ranges *ranges = message;
	int status = HBM_OK;
	for (uint32_t i = 0; status == HBM_OK && i < ranges->count; i++)
		status = field_zero_of("ranges", i, ranges->ranges[i].zero, why);
	return status;
}

static int body_share_flags(uint32_t i, uint32_t flags, struct refusal *why)
{
	uint32_t unknown = flags & ~(HBM_WIRE_READ_ONLY | HBM_WIRE_OF_LOAN);

	return unknown == 0
		       ? HBM_OK
		       : field_refuse(why, HBM_UNSUPPORTED,
				      "shares[%u].flags is %u, unknown are %#x", i, flags, unknown);
}

int body_shares(const void *message, struct refusal *why)
{
	const struct hbm_wire_shares *shares = message;
	int status = HBM_OK;

	for (uint32_t i = 0; status == HBM_OK && i < shares->count; i++) {
		status = field_zero_of("shares", i, shares->shares[i].zero, why);
		if (status == HBM_OK)
			status = body_share_flags(i, shares->shares[i].flags, why);
	}

	return status;
}

int body_namespace(const void *message, struct refusal *why)
{
	const struct hbm_wire_namespace_spec *spec =
		&((const struct hbm_wire_namespace_open *)message)->spec;
	int status = field_text("model", spec->model, why);
	if (status == HBM_OK)
		status = field_text("layout", spec->layout, why);
	if (status == HBM_OK)
		status = field_text("salt", spec->salt, why);
	return status;
}

/* What LOSSLESS needs it has, and what a client encodes has its logical size. */
int body_encoding(const void *message, struct refusal *why)
{
	/* The form with flags begins as that one. */
	const struct hbm_wire_namespace_open_encoded *open = message;
	const struct hbm_wire_encoding *encoding = &open->encoding;
	uint32_t element = encoding->element_bytes;
	bool lossless = encoding->encoding == HBM_ENCODING_LOSSLESS;
	bool by_client = encoding->encoding > HBM_ENCODING_LOSSLESS;
	int status = body_namespace(message, why);
	if (status != HBM_OK)
		return status;

	if (encoding->encoding >= HBM_ENCODINGS)
		return field_refuse(why, HBM_UNSUPPORTED, "encoding is %u, expected 0 to %d",
				    encoding->encoding, HBM_ENCODINGS - 1);
	if (lossless && element != 1 && element != 2 && element != 4)
		return field_refuse(why, HBM_UNSUPPORTED,
				    "encoding is %u and element_bytes is %u, expected 1, 2 or 4",
				    encoding->encoding, element);
	if (!lossless && element != 0)
		return field_zero("element_bytes", element, why);
	if (!by_client)
		return field_zero("logical_bytes", encoding->logical_bytes, why);
	if (encoding->logical_bytes == 0)
		return field_refuse(why, HBM_INVALID,
				    "logical_bytes is 0, expected the size of a block before it "
				    "is encoded");

	return HBM_OK;
}

int body_open_flags(const void *message, struct refusal *why)
{
	const struct hbm_wire_namespace_open_flags *open = message;
	int status = body_encoding(message, why);

	return status == HBM_OK ? field_flags("flags", open->flags,
					      HBM_WIRE_EPHEMERAL | HBM_WIRE_MEMORY_ONLY |
						      HBM_WIRE_WIPE_ON_FREE,
					      why)
				: status;
}

int body_open_group(const void *message, struct refusal *why)
{
	const struct hbm_wire_namespace_open_group *open = message;
	int status = body_open_flags(message, why);

	return status == HBM_OK ? field_text("group", open->group, why) : status;
}

static int body_no_reserved(const struct hbm_wire_key *keys, uint32_t count, struct refusal *why)
{
	for (uint32_t i = 0; i < count; i++)
		if (field_is_reserved(&keys[i]))
			return field_refuse(why, HBM_INVALID,
					    "keys[%u] is all zero, which is reserved", i);

	return HBM_OK;
}

/* Device and deadline are for PREFETCH and MOVE only, and a device for MOVE to HBM; a time also
 * for RETAIN with a priority. */
static int body_moves_only(const struct hbm_wire_keys *keys, struct refusal *why)
{
	unsigned opcode = keys->header.opcode;
	if (opcode == HBM_WIRE_PREFETCH)
		return HBM_OK;

	bool to_hbm = opcode == HBM_WIRE_MOVE && keys->flags == HBM_TIER_HBM;
	bool timed = opcode == HBM_WIRE_MOVE || (opcode == HBM_WIRE_RETAIN && keys->flags > 0);
	int status = to_hbm ? HBM_OK : field_zero("device", keys->device, why);

	return status == HBM_OK && !timed ? field_zero("deadline_us", keys->deadline_us, why)
					  : status;
}

static int body_keys_flags(const struct hbm_wire_keys *keys, struct refusal *why)
{
	unsigned opcode = keys->header.opcode;
	bool pins = opcode == HBM_WIRE_PIN || opcode == HBM_WIRE_UNPIN;
	if (opcode == HBM_WIRE_RETAIN)
		return keys->flags <= HBM_WIRE_PRIORITY_MAX
			       ? HBM_OK
			       : field_refuse(why, HBM_INVALID,
					      "flags is %u, expected a priority, 0 to %u",
					      keys->flags, HBM_WIRE_PRIORITY_MAX);
	if (opcode != HBM_WIRE_MOVE)
		return field_flags("flags", keys->flags, pins ? HBM_WIRE_KEEP : 0, why);

	if (keys->flags > HBM_TIER_NONE && keys->flags < HBM_TIERS)
		return HBM_OK;
	return field_refuse(why, HBM_INVALID, "flags is %u, expected a tier, 1 to %d", keys->flags,
			    HBM_TIERS - 1);
}

int body_keys(const void *message, struct refusal *why)
{
	const struct hbm_wire_keys *keys = message;
	int status = body_keys_flags(keys, why);
	if (status == HBM_OK)
		status = body_moves_only(keys, why);

	return status == HBM_OK ? body_no_reserved(keys->keys, keys->count, why) : status;
}

/* Where a block goes, and whether it is pinned there: for STORE only. */
static int body_placing(const struct hbm_wire_blocks *blocks, uint32_t i, struct refusal *why)
{
	const struct hbm_wire_block *block = &blocks->blocks[i];
	bool is_store = blocks->header.opcode == HBM_WIRE_STORE;

	if (block->tier >= (is_store ? HBM_TIERS : 1))
		return field_refuse(why, HBM_INVALID, "blocks[%u].tier is %u, expected 0%s", i,
				    block->tier, is_store ? " to 3" : "");
	if (block->flags & ~(is_store ? BLOCK_FLAGS : 0))
		return field_refuse(why, HBM_UNSUPPORTED, "blocks[%u].flags is %u, expected 0%s", i,
				    block->flags, is_store ? " to 7" : "");

	return HBM_OK;
}

static int body_block(const struct hbm_wire_blocks *blocks, uint32_t i, struct refusal *why)
{
	const struct hbm_wire_block *block = &blocks->blocks[i];
	int status = body_placing(blocks, i, why);
	if (status != HBM_OK)
		return status;

	if (field_is_reserved(&block->key))
		return field_refuse(why, HBM_INVALID,
				    "blocks[%u].key is all zero, which is reserved", i);
	if (blocks->header.opcode == HBM_WIRE_LOAD && !field_is_reserved(&block->parent))
		return field_refuse(why, HBM_INVALID,
				    "blocks[%u].parent is a key, expected all zero in a LOAD", i);
	if (block->flags & HBM_WIRE_BLOCK_PIN && !field_is_reserved(&block->parent))
		return field_refuse(why, HBM_UNSUPPORTED,
				    "blocks[%u].parent is a key, expected all zero, as flags is "
				    "%u: only roots are pinned as they are stored",
				    i, block->flags);
	if (block->segments == 0)
		return field_refuse(why, HBM_INVALID,
				    "blocks[%u].segments is 0, expected at least 1", i);

	return HBM_OK;
}

static int body_segments(const struct hbm_wire_blocks *blocks, struct refusal *why)
{
	const struct hbm_wire_range *segments = (const void *)&blocks->blocks[blocks->count];
	int status = HBM_OK;
	for (uint32_t i = 0; status == HBM_OK && i < blocks->segments; i++)
		status = field_zero_of("segments", i, segments[i].zero, why);
	return status;
}

static int body_fences(const struct hbm_wire_blocks *blocks, struct refusal *why)
{
	int status = field_slot("ready_slot", blocks->ready_slot, why);
	if (status == HBM_OK)
		status = field_slot("fence_slot", blocks->fence_slot, why);
	if (status != HBM_OK || blocks->failed_slot == 0)
		return status;

	if (blocks->failed_slot >= HBM_WIRE_FENCES)
		return field_refuse(why, HBM_INVALID,
				    "failed_slot is %u, expected 1 to %d, or 0 for none",
				    blocks->failed_slot, HBM_WIRE_FENCES - 1);
	if (blocks->failed_slot == blocks->fence_slot)
		return field_refuse(why, HBM_INVALID, "failed_slot is %u, as fence_slot is",
				    blocks->failed_slot);

	return HBM_OK;
}

int body_blocks(const void *message, struct refusal *why)
{
	const struct hbm_wire_blocks *blocks = message;
	int status = body_fences(blocks, why);
	uint64_t segments = 0;
	for (uint32_t i = 0; status == HBM_OK && i < blocks->count; i++) {
		status = body_block(blocks, i, why);
		segments += blocks->blocks[i].segments; /* both 32 bits: no overflow */
	}

	if (status != HBM_OK)
		return status;
	if (segments != blocks->segments)
		return field_refuse(why, HBM_INVALID,
				    "segments is %u, expected %" PRIu64 ", the sum over the blocks",
				    blocks->segments, segments);

	return body_segments(blocks, why);
}

/* A tier by its kind, and its device where it is of one. */
static int body_tier(uint32_t tier, uint32_t device, struct refusal *why)
{
	if (tier == HBM_TIER_NONE || tier >= HBM_TIERS)
		return field_refuse(why, HBM_INVALID, "tier is %u, expected 1 to %d", tier,
				    HBM_TIERS - 1);
	return tier == HBM_TIER_HBM ? HBM_OK : field_zero("device", device, why);
}

int body_evict(const void *message, struct refusal *why)
{
	const struct hbm_wire_evict *evict = message;
	return body_tier(evict->tier, evict->device, why);
}

int body_resize(const void *message, struct refusal *why)
{
	const struct hbm_wire_resize *resize = message;
	return body_tier(resize->tier, resize->device, why);
}

int body_drain(const void *message, struct refusal *why)
{
	const struct hbm_wire_drain *drain = message;
	int status = field_flags("flags", drain->flags, HBM_WIRE_DRAIN_CANCEL, why);

	return status == HBM_OK ? field_zero("zero", drain->zero, why) : status;
}

int body_cancel(const void *message, struct refusal *why)
{
	const struct hbm_wire_cancel *cancel = message;
	int status = field_flags("flags", cancel->flags, HBM_WIRE_ALL, why);
	if (status != HBM_OK || cancel->flags == 0)
		return status;
	return field_zero("target", cancel->target, why); /* the flag is for all requests */
}

int body_drop(const void *message, struct refusal *why)
{
	const struct hbm_wire_namespace_drop *drop = message;
	return field_flags("flags", drop->flags, HBM_WIRE_PINNED, why);
}

int body_import(const void *message, struct refusal *why)
{
	const struct hbm_wire_region_import *import = message;

	if (import->kind != HBM_WIRE_GUEST_FD && import->kind != HBM_WIRE_GUEST_IPC)
		return field_refuse(why, HBM_INVALID, "kind is %u, expected %u or %u", import->kind,
				    HBM_WIRE_GUEST_FD, HBM_WIRE_GUEST_IPC);

	for (size_t i = 0; import->kind == HBM_WIRE_GUEST_FD && i < sizeof(import->handle); i++)
		if (import->handle[i] != 0)
			return field_refuse(why, HBM_INVALID,
					    "handle has byte %u at %zu, expected 0",
					    import->handle[i], i);

	return HBM_OK;
}

int body_borrow(const void *message, struct refusal *why)
{
	const struct hbm_wire_borrow *borrow = message;
	int status = field_flags("flags", borrow->flags, HBM_WIRE_BORROW_READY, why);

	return status == HBM_OK ? body_no_reserved(borrow->keys, borrow->count, why) : status;
}

/* At most HBM_WIRE_DEVICES_MAX changes, as each is of another device. */
int body_reserve(const void *message, struct refusal *why)
{
	const struct hbm_wire_reserve *reserve = message;
	uint64_t named = 0;
	int status = HBM_OK;

	for (uint32_t i = 0; status == HBM_OK && i < reserve->count; i++) {
		uint32_t device = reserve->changes[i].device;

		status = field_zero_of("changes", i, reserve->changes[i].zero, why);
		if (status == HBM_OK && device >= HBM_WIRE_DEVICES_MAX)
			status = field_refuse(why, HBM_INVALID,
					      "changes[%u].device is %u, expected 0 to %d", i,
					      device, HBM_WIRE_DEVICES_MAX - 1);
		if (status != HBM_OK)
			break;

		if (named >> device & 1)
			status = field_refuse(why, HBM_INVALID,
					      "changes[%u].device is %u, which is named twice", i,
					      device);
		named |= UINT64_C(1) << device;
	}

	return status;
}

int body_board_open(const void *message, struct refusal *why)
{
	const struct hbm_wire_board_open *open = message;

	return open->records > 0
		       ? HBM_OK
		       : field_refuse(why, HBM_INVALID, "records is 0, expected at least 1");
}

int body_ask(const void *message, struct refusal *why)
{
	const struct hbm_wire_ask *ask = message;
	unsigned tiers = ask->ask == HBM_ASK_SUSPEND ? HBM_TIERS : 1;
	int status = HBM_OK;

	if (ask->ask != HBM_ASK_SUSPEND && ask->ask != HBM_ASK_RESUME)
		return field_refuse(why, HBM_UNSUPPORTED, "ask is %u, expected %d or %d", ask->ask,
				    HBM_ASK_SUSPEND, HBM_ASK_RESUME);
	if (ask->tier >= tiers)
		return field_refuse(why, HBM_INVALID, "tier is %u, expected 0%s", ask->tier,
				    tiers > 1 ? " to 3" : "");

	status = field_zero("device", ask->device, why);

	return status == HBM_OK ? field_zero("bytes", ask->bytes, why) : status;
}

/* Printable, so that an operator can read and type it. */
static int body_publication(const char name[HBM_WIRE_NAME_BYTES], struct refusal *why)
{
	int status = field_text("name", name, why);
	if (status != HBM_OK)
		return status;
	if (name[0] == 0)
		return field_refuse(why, HBM_INVALID, "name is empty");

	for (size_t i = 0; name[i] != 0; i++)
		if (name[i] <= ' ' || name[i] > '~')
			return field_refuse(why, HBM_INVALID,
					    "name has byte %u at %zu, expected a printable ASCII "
					    "character and no space",
					    (unsigned char)name[i], i);

	return HBM_OK;
}

int body_publish(const void *message, struct refusal *why)
{
	const struct hbm_wire_publish *publish = message;
	int status = field_flags("flags", publish->flags, HBM_WIRE_PUBLISH_GROUP, why);

	if (status == HBM_OK && publish->flags == 0)
		status = field_zero("gid", publish->gid, why);

	return status == HBM_OK ? body_publication(publish->name, why) : status;
}

int body_attach(const void *message, struct refusal *why)
{
	const struct hbm_wire_attach *attach = message;
	int status = field_flags("flags", attach->flags, HBM_WIRE_ATTACH_WRITE, why);

	return status == HBM_OK ? body_publication(attach->name, why) : status;
}

int body_unpublish(const void *message, struct refusal *why)
{
	const struct hbm_wire_unpublish *unpublish = message;

	return body_publication(unpublish->name, why);
}

int body_count(const void *message, struct refusal *why)
{
	const struct hbm_wire_count *count = message;
	int status = field_flags("flags", count->flags, HBM_WIRE_COUNT_ONE, why);

	return status != HBM_OK || !field_is_reserved(&count->key)
		       ? status
		       : field_refuse(why, HBM_INVALID, "key is all zero, which is reserved");
}

int body_tenant_set(const void *message, struct refusal *why)
{
	const struct hbm_wire_tenant_set *set = message;
	int status = field_text("tenant", set->tenant, why);
	if (status == HBM_OK)
		status = field_text("key", set->key, why);

	return status == HBM_OK ? field_text("value", set->value, why) : status;
}

int body_query(const void *message, struct refusal *why)
{
	const struct hbm_wire_query *query = message;
	if (query->kind > 0 && query->kind < HBM_QUERY_KINDS)
		return HBM_OK;
	return field_refuse(why, HBM_UNSUPPORTED, "kind is %u, expected 1 to %d", query->kind,
			    HBM_QUERY_KINDS - 1);
}
