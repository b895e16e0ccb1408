/* SPDX-License-Identifier: Apache-2.0 */
/* wire_form: see wire_form.h. */
#include "tests/support/wire_form.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ANY(name, bytes)                                                                           \
	{                                                                                          \
		name, WIRE_NUMBER, bytes, 5, 0, WIRE_HIGHEST(bytes), 0, NULL                       \
	}
#define FROM(name, bytes, low, high)                                                               \
	{                                                                                          \
		name, WIRE_NUMBER, bytes, low, low, high, HBM_INVALID, NULL                        \
	}
#define ONLY(name, bytes, value) FROM(name, bytes, value, value)
#define ZERO(name, bytes) ONLY(name, bytes, 0)
#define FLAGS(name, bytes, known)                                                                  \
	{                                                                                          \
		name, WIRE_NUMBER, bytes, 0, 0, known, HBM_UNSUPPORTED, NULL                       \
	}
#define SLOTS(name)                                                                                \
	{                                                                                          \
		name, WIRE_SLOT, 4, 0, 0, HBM_WIRE_FENCES - 1, HBM_INVALID, NULL                   \
	}
#define STRING(name)                                                                               \
	{                                                                                          \
		name, WIRE_TEXT, HBM_WIRE_NAME_BYTES, 0, 0, 0, HBM_INVALID, NULL                   \
	}
/* One that is not empty. */
#define NAME(name)                                                                                 \
	{                                                                                          \
		name, WIRE_NAME, HBM_WIRE_NAME_BYTES, 0, 0, 0, HBM_INVALID, NULL                   \
	}
#define A_KEY(name, kind)                                                                          \
	{                                                                                          \
		name, kind, HBM_WIRE_KEY_BYTES, 0, 0, 0, HBM_INVALID, NULL                         \
	}
/* An array's length, which the size of the message gives away. */
#define COUNT(name, value)                                                                         \
	{                                                                                          \
		name, WIRE_NUMBER, 4, value, value, value, HBM_INVALID, NULL                       \
	}
/* One of several numbers that must add up to `segments`. */
#define PART(name, value)                                                                          \
	{                                                                                          \
		name, WIRE_NUMBER, 4, value, value, value, HBM_INVALID, "segments is "             \
	}
#define RANGE(name)                                                                                \
	ANY(name ".region", 4), ZERO(name ".zero", 4), ANY(name ".offset", 8), ANY(name ".bytes", 8)
#define BLOCK(name, parent, segments, tiers, flags)                                                \
	A_KEY(name ".key", WIRE_KEY), A_KEY(name ".parent", parent),                               \
		PART(name ".segments", segments), FROM(name ".tier", 2, 0, tiers),                 \
		FLAGS(name ".flags", 2, flags)
/* How the memory of a guest region comes, and eight bytes of its handle. */
#define KIND(value)                                                                                \
	{                                                                                          \
		"kind", WIRE_NUMBER, 4, value, HBM_WIRE_GUEST_FD, HBM_WIRE_GUEST_IPC, HBM_INVALID, \
			NULL                                                                       \
	}
#define HANDLE(value, high)                                                                        \
	{                                                                                          \
		"handle", WIRE_NUMBER, 8, value, 0, high, HBM_INVALID, "handle has byte "          \
	}
#define SHARE_OF(name)                                                                             \
	ANY(name ".source", 4), ANY(name ".target", 4), ANY(name ".source_offset", 8),             \
		ANY(name ".target_offset", 8), ANY(name ".bytes", 8),                              \
		FLAGS(name ".flags", 4, HBM_WIRE_READ_ONLY | HBM_WIRE_OF_LOAN),                    \
		ZERO(name ".zero", 4)
#define RANGES COUNT("count", 2), ZERO("zero", 4), RANGE("ranges[0]"), RANGE("ranges[1]")
#define KEYS(flags)                                                                                \
	ANY("ns", 4), COUNT("count", 2), ZERO("device", 4), FLAGS("flags", 4, flags),              \
		ZERO("deadline_us", 8), A_KEY("keys[0]", WIRE_KEY), A_KEY("keys[1]", WIRE_KEY)
#define BLOCKS(parent, tiers, flags)                                                               \
	ANY("ns", 4), COUNT("count", 2), COUNT("segments", 3), SLOTS("ready_slot"),                \
		ANY("ready_value", 8), SLOTS("fence_slot"),                                        \
		FROM("failed_slot", 4, 0, HBM_WIRE_FENCES - 1), ANY("fence_value", 8),             \
		BLOCK("blocks[0]", parent, 1, tiers, flags),                                       \
		BLOCK("blocks[1]", parent, 2, tiers, flags), RANGE("segments[0]"),                 \
		RANGE("segments[1]"), RANGE("segments[2]")

#define RANGES_BYTES (sizeof(struct hbm_wire_ranges) + 2 * sizeof(struct hbm_wire_range))
#define SHARES_BYTES (sizeof(struct hbm_wire_shares) + 2 * sizeof(struct hbm_wire_share))
#define KEYS_BYTES (sizeof(struct hbm_wire_keys) + 2 * sizeof(struct hbm_wire_key))
#define BLOCKS_BYTES                                                                               \
	(sizeof(struct hbm_wire_blocks) + 2 * sizeof(struct hbm_wire_block) +                      \
	 3 * sizeof(struct hbm_wire_range))

const struct wire_form wire_forms[] = {
	{HBM_WIRE_HELLO,
	 sizeof(struct hbm_wire_hello),
	 {{"magic", WIRE_NUMBER, 4, HBM_WIRE_MAGIC, HBM_WIRE_MAGIC, HBM_WIRE_MAGIC, -EPROTO, NULL},
	  ANY("version_min", 2),
	  ANY("version_max", 2),
	  STRING("name")}},
	{HBM_WIRE_HELLO, /* to go on with a session */
	 sizeof(struct hbm_wire_hello_resume),
	 {{"magic", WIRE_NUMBER, 4, HBM_WIRE_MAGIC, HBM_WIRE_MAGIC, HBM_WIRE_MAGIC, -EPROTO, NULL},
	  ANY("version_min", 2),
	  ANY("version_max", 2),
	  STRING("name"),
	  ANY("session", 8),
	  ANY("state", 8),
	  ANY("state", 8),
	  ANY("token", 8),
	  ANY("token", 8)}},
	{HBM_WIRE_REGION_CREATE,
	 sizeof(struct hbm_wire_region_create),
	 {ANY("device", 4), ZERO("zero", 4), ANY("address_space", 8), ANY("slab", 8)}},
	{HBM_WIRE_REGION_DESTROY,
	 sizeof(struct hbm_wire_region_destroy),
	 {ANY("region", 4), ZERO("zero", 4)}},
	{HBM_WIRE_COMMIT, RANGES_BYTES, {RANGES}},
	{HBM_WIRE_DECOMMIT, RANGES_BYTES, {RANGES}},
	{HBM_WIRE_RECONCILE, RANGES_BYTES, {RANGES}},
	{HBM_WIRE_NAMESPACE_OPEN,
	 sizeof(struct hbm_wire_namespace_open),
	 {STRING("model"), STRING("layout"), STRING("salt"), ANY("weights", 8),
	  ANY("block_bytes", 8)}},
	{HBM_WIRE_NAMESPACE_OPEN, /* of encoded blocks */
	 sizeof(struct hbm_wire_namespace_open_encoded),
	 {STRING("model"),
	  STRING("layout"),
	  STRING("salt"),
	  ANY("weights", 8),
	  ANY("block_bytes", 8),
	  {"encoding", WIRE_NUMBER, 4, HBM_ENCODING_FP8, HBM_ENCODING_FP8, HBM_ENCODINGS - 1,
	   HBM_UNSUPPORTED, NULL},
	  ZERO("element_bytes", 4),
	  FROM("logical_bytes", 8, 1, UINT64_MAX)}},
	{HBM_WIRE_NAMESPACE_OPEN, /* with flags */
	 sizeof(struct hbm_wire_namespace_open_flags),
	 {STRING("model"),
	  STRING("layout"),
	  STRING("salt"),
	  ANY("weights", 8),
	  ANY("block_bytes", 8),
	  {"encoding", WIRE_NUMBER, 4, HBM_ENCODING_FP8, HBM_ENCODING_FP8, HBM_ENCODINGS - 1,
	   HBM_UNSUPPORTED, NULL},
	  ZERO("element_bytes", 4),
	  FROM("logical_bytes", 8, 1, UINT64_MAX),
	  FLAGS("flags", 4, HBM_WIRE_EPHEMERAL | HBM_WIRE_MEMORY_ONLY | HBM_WIRE_WIPE_ON_FREE),
	  ZERO("zero", 4)}},
	{HBM_WIRE_NAMESPACE_OPEN, /* with a group */
	 sizeof(struct hbm_wire_namespace_open_group),
	 {STRING("model"),
	  STRING("layout"),
	  STRING("salt"),
	  ANY("weights", 8),
	  ANY("block_bytes", 8),
	  {"encoding", WIRE_NUMBER, 4, HBM_ENCODING_FP8, HBM_ENCODING_FP8, HBM_ENCODINGS - 1,
	   HBM_UNSUPPORTED, NULL},
	  ZERO("element_bytes", 4),
	  FROM("logical_bytes", 8, 1, UINT64_MAX),
	  FLAGS("flags", 4, HBM_WIRE_EPHEMERAL | HBM_WIRE_MEMORY_ONLY | HBM_WIRE_WIPE_ON_FREE),
	  ZERO("zero", 4),
	  STRING("group")}},
	{HBM_WIRE_NAMESPACE_OPEN, /* by number */
	 sizeof(struct hbm_wire_namespace_ref),
	 {ANY("ns", 4), ZERO("zero", 4)}},
	{HBM_WIRE_NAMESPACE_CLOSE,
	 sizeof(struct hbm_wire_namespace_ref),
	 {ANY("ns", 4), ZERO("zero", 4)}},
	{HBM_WIRE_NAMESPACE_DROP,
	 sizeof(struct hbm_wire_namespace_drop),
	 {ANY("ns", 4), FLAGS("flags", 4, HBM_WIRE_PINNED)}},
	{HBM_WIRE_SESSION_END, sizeof(struct hbm_wire_session_ref), {ANY("session", 8)}},
	{HBM_WIRE_REGION_IMPORT, /* by handle: any */
	 sizeof(struct hbm_wire_region_import),
	 {ANY("device", 4), KIND(HBM_WIRE_GUEST_IPC), ANY("bytes", 8), HANDLE(0, WIRE_HIGHEST(8)),
	  HANDLE(0, WIRE_HIGHEST(8)), HANDLE(0, WIRE_HIGHEST(8)), HANDLE(0, WIRE_HIGHEST(8)),
	  HANDLE(0, WIRE_HIGHEST(8)), HANDLE(0, WIRE_HIGHEST(8)), HANDLE(0, WIRE_HIGHEST(8)),
	  HANDLE(0, WIRE_HIGHEST(8))}},
	{HBM_WIRE_REGION_IMPORT, /* by descriptor: no handle */
	 sizeof(struct hbm_wire_region_import),
	 {ANY("device", 4), KIND(HBM_WIRE_GUEST_FD), ANY("bytes", 8), HANDLE(0, 0), HANDLE(0, 0),
	  HANDLE(0, 0), HANDLE(0, 0), HANDLE(0, 0), HANDLE(0, 0), HANDLE(0, 0), HANDLE(0, 0)}},
	{HBM_WIRE_BORROW,
	 sizeof(struct hbm_wire_borrow) + 2 * sizeof(struct hbm_wire_key),
	 {ANY("ns", 4), COUNT("count", 2), ANY("device", 4),
	  FLAGS("flags", 4, HBM_WIRE_BORROW_READY), ANY("piece", 8), A_KEY("keys[0]", WIRE_KEY),
	  A_KEY("keys[1]", WIRE_KEY)}},
	{HBM_WIRE_RETURN,
	 sizeof(struct hbm_wire_return) + 2 * sizeof(uint64_t),
	 {COUNT("count", 2), ZERO("zero", 4), ANY("loans[0]", 8), ANY("loans[1]", 8)}},
	{HBM_WIRE_SHARE,
	 SHARES_BYTES,
	 {COUNT("count", 2), ZERO("zero", 4), SHARE_OF("shares[0]"), SHARE_OF("shares[1]")}},
	{HBM_WIRE_RESERVE, /* each of another device */
	 sizeof(struct hbm_wire_reserve) + 2 * sizeof(struct hbm_wire_reserve_change),
	 {COUNT("count", 2), ANY("timeout_ms", 4),
	  FROM("changes[0].device", 4, 0, HBM_WIRE_DEVICES_MAX - 1), ZERO("changes[0].zero", 4),
	  ANY("changes[0].bytes", 8), FROM("changes[1].device", 4, 1, HBM_WIRE_DEVICES_MAX - 1),
	  ZERO("changes[1].zero", 4), ANY("changes[1].bytes", 8)}},
	{HBM_WIRE_MEMORY, sizeof(struct hbm_wire_header), {{.kind = WIRE_END}}},
	{HBM_WIRE_PUBLISH,
	 sizeof(struct hbm_wire_publish),
	 {ANY("region", 4), FLAGS("flags", 4, HBM_WIRE_PUBLISH_GROUP), ANY("offset", 8),
	  ANY("bytes", 8), ZERO("gid", 4), ZERO("zero", 4), NAME("name")}},
	{HBM_WIRE_ATTACH,
	 sizeof(struct hbm_wire_attach),
	 {ANY("uid", 4), FLAGS("flags", 4, HBM_WIRE_ATTACH_WRITE), NAME("name")}},
	{HBM_WIRE_UNPUBLISH,
	 sizeof(struct hbm_wire_unpublish),
	 {ANY("uid", 4), ZERO("zero", 4), NAME("name")}},
	{HBM_WIRE_COUNT,
	 sizeof(struct hbm_wire_count),
	 {ANY("ns", 4), FLAGS("flags", 4, HBM_WIRE_COUNT_ONE), A_KEY("key", WIRE_KEY)}},
	{HBM_WIRE_WATCH,
	 sizeof(struct hbm_wire_watch),
	 {ANY("ns", 4), ANY("most", 4), ANY("after", 8)}},
	{HBM_WIRE_LOOKUP, KEYS_BYTES, {KEYS(0)}},
	{HBM_WIRE_STORE,
	 BLOCKS_BYTES,
	 {BLOCKS(WIRE_ANY_KEY, HBM_TIERS - 1,
		 HBM_WIRE_BLOCK_PIN | HBM_WIRE_BLOCK_LEND | HBM_WIRE_BLOCK_DURABLE)}},
	{HBM_WIRE_LOAD, BLOCKS_BYTES, {BLOCKS(WIRE_NO_KEY, 0, 0)}},
	{HBM_WIRE_PREFETCH,
	 KEYS_BYTES,
	 {ANY("ns", 4), COUNT("count", 2), ANY("device", 4), FLAGS("flags", 4, 0),
	  ANY("deadline_us", 8), A_KEY("keys[0]", WIRE_KEY), A_KEY("keys[1]", WIRE_KEY)}},
	{HBM_WIRE_TOUCH, KEYS_BYTES, {KEYS(0)}},
	{HBM_WIRE_PIN, KEYS_BYTES, {KEYS(HBM_WIRE_KEEP)}},
	{HBM_WIRE_UNPIN, KEYS_BYTES, {KEYS(HBM_WIRE_KEEP)}},
	{HBM_WIRE_REMOVE, KEYS_BYTES, {KEYS(0)}},
	{HBM_WIRE_RETAIN, /* no longer, or as long as may be */
	 KEYS_BYTES,
	 {ANY("ns", 4),
	  COUNT("count", 2),
	  ZERO("device", 4),
	  {"flags", WIRE_NUMBER, 4, 0, 0, HBM_WIRE_PRIORITY_MAX, HBM_INVALID, NULL},
	  ZERO("deadline_us", 8),
	  A_KEY("keys[0]", WIRE_KEY),
	  A_KEY("keys[1]", WIRE_KEY)}},
	{HBM_WIRE_MOVE, /* to memory or disk, of no device */
	 KEYS_BYTES,
	 {ANY("ns", 4),
	  COUNT("count", 2),
	  ZERO("device", 4),
	  {"flags", WIRE_NUMBER, 4, HBM_TIER_DDR, HBM_TIER_HBM, HBM_TIERS - 1, HBM_INVALID, NULL},
	  ANY("deadline_us", 8),
	  A_KEY("keys[0]", WIRE_KEY),
	  A_KEY("keys[1]", WIRE_KEY)}},
	{HBM_WIRE_MOVE, /* to a device's */
	 KEYS_BYTES,
	 {ANY("ns", 4),
	  COUNT("count", 2),
	  ANY("device", 4),
	  {"flags", WIRE_NUMBER, 4, HBM_TIER_HBM, HBM_TIER_HBM, HBM_TIER_HBM, HBM_INVALID,
	   "device is 5, expected 0"},
	  ANY("deadline_us", 8),
	  A_KEY("keys[0]", WIRE_KEY),
	  A_KEY("keys[1]", WIRE_KEY)}},
	{HBM_WIRE_EVICT,
	 sizeof(struct hbm_wire_evict),
	 {{"tier", WIRE_NUMBER, 4, HBM_TIER_DDR, HBM_TIER_HBM, HBM_TIER_NVME, HBM_INVALID, NULL},
	  ZERO("device", 4),
	  ANY("bytes", 8)}},
	{HBM_WIRE_EVICT, /* a device where there are some */
	 sizeof(struct hbm_wire_evict),
	 {{"tier", WIRE_NUMBER, 4, HBM_TIER_HBM, HBM_TIER_HBM, HBM_TIER_HBM, HBM_INVALID,
	   "device is 5, expected 0"},
	  ANY("device", 4),
	  ANY("bytes", 8)}},
	{HBM_WIRE_DRAIN,
	 sizeof(struct hbm_wire_drain),
	 {FLAGS("flags", 4, HBM_WIRE_DRAIN_CANCEL), ZERO("zero", 4), ANY("timeout_ms", 8)}},
	{HBM_WIRE_RESIZE,
	 sizeof(struct hbm_wire_resize),
	 {{"tier", WIRE_NUMBER, 4, HBM_TIER_DDR, HBM_TIER_HBM, HBM_TIER_NVME, HBM_INVALID, NULL},
	  ZERO("device", 4),
	  ANY("bytes", 8)}},
	{HBM_WIRE_RESIZE, /* a device where there are some */
	 sizeof(struct hbm_wire_resize),
	 {{"tier", WIRE_NUMBER, 4, HBM_TIER_HBM, HBM_TIER_HBM, HBM_TIER_HBM, HBM_INVALID,
	   "device is 5, expected 0"},
	  ANY("device", 4),
	  ANY("bytes", 8)}},
	{HBM_WIRE_QUERY,
	 sizeof(struct hbm_wire_query),
	 {{"kind", WIRE_NUMBER, 4, 1, 1, HBM_QUERY_KINDS - 1, HBM_UNSUPPORTED, NULL},
	  ZERO("zero", 4),
	  ANY("cursor", 8)}},
	{HBM_WIRE_BOARD_OPEN,
	 sizeof(struct hbm_wire_board_open),
	 {FROM("records", 4, 1, UINT32_MAX), ZERO("zero", 4)}},
	{HBM_WIRE_BOARD_CLOSE,
	 sizeof(struct hbm_wire_board_ref),
	 {ANY("board", 4), ZERO("zero", 4)}},
	{HBM_WIRE_ASK, /* to suspend: without a tier, the other ask is as good */
	 sizeof(struct hbm_wire_ask),
	 {ANY("session", 8),
	  ANY("sequence", 8),
	  {"ask", WIRE_NUMBER, 4, HBM_ASK_SUSPEND, HBM_ASK_SUSPEND, HBM_ASK_RESUME, HBM_UNSUPPORTED,
	   NULL},
	  FROM("tier", 4, 0, HBM_TIERS - 1),
	  ZERO("device", 4),
	  ZERO("zero", 4),
	  ZERO("bytes", 8)}},
	{HBM_WIRE_ASK, /* to resume */
	 sizeof(struct hbm_wire_ask),
	 {ANY("session", 8),
	  ANY("sequence", 8),
	  {"ask", WIRE_NUMBER, 4, HBM_ASK_RESUME, HBM_ASK_SUSPEND, HBM_ASK_RESUME, HBM_UNSUPPORTED,
	   NULL},
	  ZERO("tier", 4),
	  ZERO("device", 4),
	  ZERO("zero", 4),
	  ZERO("bytes", 8)}},
	{HBM_WIRE_TENANT_SET,
	 sizeof(struct hbm_wire_tenant_set),
	 {STRING("tenant"), STRING("key"), STRING("value")}},
	{HBM_WIRE_PING, sizeof(struct hbm_wire_header), {{.kind = WIRE_END}}},
	{HBM_WIRE_CANCEL, /* one request */
	 sizeof(struct hbm_wire_cancel),
	 {ANY("target", 8),
	  {"flags", WIRE_NUMBER, 4, 0, 0, 0, HBM_INVALID, "target is 5, expected 0"},
	  ZERO("zero", 4)}},
	{HBM_WIRE_CANCEL, /* all: the flag is set in what follows it */
	 sizeof(struct hbm_wire_cancel),
	 {ZERO("target", 8),
	  {"flags", WIRE_NUMBER, 4, HBM_WIRE_ALL, 0, HBM_WIRE_ALL, HBM_UNSUPPORTED, NULL},
	  ZERO("zero", 4)}},
};

const size_t wire_form_count = sizeof(wire_forms) / sizeof(wire_forms[0]);

void wire_put(unsigned char *to, size_t bytes, uint64_t value)
{
	if (bytes == 2)
		memcpy(to, &(uint16_t){(uint16_t)value}, bytes);
	else if (bytes == 4)
		memcpy(to, &(uint32_t){(uint32_t)value}, bytes);
	else
		memcpy(to, &value, bytes);
}

static void wire_sample_add(struct wire_sample *sample, const struct wire_field *field, size_t *at)
{
	unsigned char *to = sample->bytes + *at;
	assert_true(*at + field->bytes <= sizeof(sample->bytes));
	if (field->kind == WIRE_NUMBER || field->kind == WIRE_SLOT)
		wire_put(to, field->bytes, field->good);
	else if (field->kind == WIRE_TEXT || field->kind == WIRE_NAME)
		memcpy(to, "abc", 3);
	else if (field->kind == WIRE_KEY)
		to[15] = (unsigned char)(*at);

	sample->fields[sample->count] = *field;
	sample->offsets[sample->count++] = *at;
	*at += field->bytes;
}

void wire_sample_make(struct wire_sample *sample, const struct wire_form *form)
{
	/* id 0 is as good as any */
	const struct wire_field header[WIRE_HEADER_FIELDS] = {
		{"header.size", WIRE_NUMBER, 4, form->size, form->size, form->size, -EPROTO, NULL},
		{"header.opcode", WIRE_NUMBER, 2, form->opcode, 0, UINT16_MAX, 0, NULL},
		FLAGS("header.flags", 2, 0),
		ANY("header.id", 8),
		ZERO("header.status", 4),
		ZERO("header.zero", 4),
	};
	size_t at = 0;

	memset(sample, 0, sizeof(*sample));
	sample->form = form;
	for (size_t i = 0; i < WIRE_HEADER_FIELDS; i++)
		wire_sample_add(sample, &header[i], &at);
	for (const struct wire_field *field = form->fields; field->kind != WIRE_END; field++)
		wire_sample_add(sample, field, &at);
	assert_int_equal(at, form->size);
}

void wire_sample_set(struct wire_sample *sample, const char *name, uint64_t value)
{
	for (size_t i = 0; i < sample->count; i++) {
		if (strcmp(sample->fields[i].name, name) == 0) {
			wire_put(sample->bytes + sample->offsets[i], sample->fields[i].bytes,
				 value);
			return;
		}
	}

	fail_msg("%s has no field %s", validate_opcode_name(sample->form->opcode), name);
}

/* A copy of exactly that size lets a sanitizer see reads beyond. */
int wire_sample_verdict(const struct wire_sample *sample, size_t size, struct refusal *why)
{
	void *copy = malloc(size);
	assert_non_null(copy);
	memcpy(copy, sample->bytes, size);
	why->reason[0] = '\0';
	int status = validate_message(copy, size, sample->form->opcode != HBM_WIRE_HELLO, why);
	free(copy);

	return status;
}
