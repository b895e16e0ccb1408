/* SPDX-License-Identifier: Apache-2.0 */
/*
 * validate: see validate.h. A form says where a message's counts are and how large each
 * record is. What the sizes do not say is checked by the body's own check, of body.h.
 */
#include "daemon/session/validate.h"

#include "daemon/session/body.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <string.h>

struct form {
	const char *name;
	uint16_t flags; /* of its header, that are known */
	size_t fixed;   /* bytes before any array */
	/* offset of the uint32_t that counts the records of the array; 0: no array */
	size_t count_at;
	size_t record;      /* bytes of a record */
	size_t segments_at; /* the same for a second array, of ranges */
	size_t zero_at;     /* offset of a uint32_t that must be 0; 0: none */
	body_check *check;
};

/* FORM_<opcode>: what the list of opcodes does not say. One without a form does not compile. */
#define KEYS                                                                                       \
	.count_at = offsetof(struct hbm_wire_keys, count), .record = sizeof(struct hbm_wire_key),  \
	.check = body_keys
#define BLOCKS                                                                                     \
	.flags = HBM_WIRE_MORE, .count_at = offsetof(struct hbm_wire_blocks, count),               \
	.record = sizeof(struct hbm_wire_block),                                                   \
	.segments_at = offsetof(struct hbm_wire_blocks, segments), .check = body_blocks
#define RANGES                                                                                     \
	.count_at = offsetof(struct hbm_wire_ranges, count),                                       \
	.record = sizeof(struct hbm_wire_range),                                                   \
	.zero_at = offsetof(struct hbm_wire_ranges, zero), .check = body_ranges

#define FORM_HELLO .check = body_hello
#define FORM_REGION_CREATE .zero_at = offsetof(struct hbm_wire_region_create, zero)
#define FORM_REGION_DESTROY .zero_at = offsetof(struct hbm_wire_region_destroy, zero)
#define FORM_COMMIT RANGES
#define FORM_DECOMMIT RANGES
#define FORM_RECONCILE RANGES
#define FORM_NAMESPACE_OPEN .check = body_namespace
#define FORM_NAMESPACE_CLOSE .zero_at = offsetof(struct hbm_wire_namespace_ref, zero)
#define FORM_LOOKUP KEYS
#define FORM_STORE BLOCKS
#define FORM_LOAD BLOCKS
#define FORM_PREFETCH KEYS
#define FORM_TOUCH KEYS
#define FORM_PIN KEYS
#define FORM_UNPIN KEYS
#define FORM_REMOVE KEYS
#define FORM_EVICT .check = body_evict
#define FORM_QUERY .zero_at = offsetof(struct hbm_wire_query, zero), .check = body_query
#define FORM_PING .check = NULL /* a bare header */
#define FORM_CANCEL .zero_at = offsetof(struct hbm_wire_cancel, zero), .check = body_cancel
#define FORM_NAMESPACE_DROP .check = body_drop
#define FORM_SESSION_END .check = NULL
#define FORM_REGION_IMPORT .check = body_import
#define FORM_MOVE KEYS
#define FORM_RETAIN KEYS
#define FORM_SHARE                                                                                 \
	.count_at = offsetof(struct hbm_wire_shares, count),                                       \
	.record = sizeof(struct hbm_wire_share),                                                   \
	.zero_at = offsetof(struct hbm_wire_shares, zero), .check = body_shares

#define FORM_BORROW                                                                                \
	.count_at = offsetof(struct hbm_wire_borrow, count),                                       \
	.record = sizeof(struct hbm_wire_key), .check = body_borrow
#define FORM_RETURN                                                                                \
	.count_at = offsetof(struct hbm_wire_return, count), .record = sizeof(uint64_t),           \
	.zero_at = offsetof(struct hbm_wire_return, zero)
#define FORM_RESERVE                                                                               \
	.count_at = offsetof(struct hbm_wire_reserve, count),                                      \
	.record = sizeof(struct hbm_wire_reserve_change), .check = body_reserve
#define FORM_MEMORY .check = NULL
#define FORM_BOARD_OPEN                                                                            \
	.zero_at = offsetof(struct hbm_wire_board_open, zero), .check = body_board_open
#define FORM_BOARD_CLOSE .zero_at = offsetof(struct hbm_wire_board_ref, zero)
#define FORM_ASK .zero_at = offsetof(struct hbm_wire_ask, zero), .check = body_ask

#define FORM_PUBLISH .zero_at = offsetof(struct hbm_wire_publish, zero), .check = body_publish
#define FORM_ATTACH .check = body_attach
#define FORM_UNPUBLISH .zero_at = offsetof(struct hbm_wire_unpublish, zero), .check = body_unpublish
#define FORM_COUNT .check = body_count

#define FORM_TENANT_SET .check = body_tenant_set
#define FORM_WATCH .check = NULL
#define FORM_RESIZE .check = body_resize
#define FORM_DRAIN .check = body_drain

#define FORM(opcode, value, request, reply)                                                        \
	[value] = {.name = #opcode, .fixed = sizeof(struct request), FORM_##opcode},
static const struct form forms[HBM_WIRE_OPCODES] = {HBM_OPCODE_LIST(FORM)};

static uint32_t validate_field(const void *message, size_t at)
{
	uint32_t value;
	memcpy(&value, (const char *)message + at, sizeof(value));
	return value;
}

static const struct form form_resume = {
	.name = "HELLO",
	.fixed = sizeof(struct hbm_wire_hello_resume),
	.check = body_hello,
};

static const struct form form_encoded = {
	.name = "NAMESPACE_OPEN",
	.fixed = sizeof(struct hbm_wire_namespace_open_encoded),
	.check = body_encoding,
};

static const struct form form_flags = {
	.name = "NAMESPACE_OPEN",
	.fixed = sizeof(struct hbm_wire_namespace_open_flags),
	.zero_at = offsetof(struct hbm_wire_namespace_open_flags, zero),
	.check = body_open_flags,
};

static const struct form form_group = {
	.name = "NAMESPACE_OPEN",
	.fixed = sizeof(struct hbm_wire_namespace_open_group),
	.zero_at = offsetof(struct hbm_wire_namespace_open_group, zero),
	.check = body_open_group,
};

/* HELLO, to go on with a session, and NAMESPACE_OPEN, by number, with an encoding, flags or a group,
 * are the requests with several forms; the size tells which. */
static const struct form *form_of(const struct hbm_wire_header *header)
{
	if (header->opcode >= HBM_WIRE_OPCODES || !forms[header->opcode].name)
		return NULL;
	if (header->opcode == HBM_WIRE_HELLO && header->size == form_resume.fixed)
		return &form_resume;
	if (header->opcode == HBM_WIRE_NAMESPACE_OPEN &&
	    header->size == sizeof(struct hbm_wire_namespace_ref))
		return &forms[HBM_WIRE_NAMESPACE_CLOSE];
	if (header->opcode == HBM_WIRE_NAMESPACE_OPEN && header->size == form_encoded.fixed)
		return &form_encoded;
	if (header->opcode == HBM_WIRE_NAMESPACE_OPEN && header->size == form_flags.fixed)
		return &form_flags;
	if (header->opcode == HBM_WIRE_NAMESPACE_OPEN && header->size == form_group.fixed)
		return &form_group;

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
		return field_refuse(why, HBM_INVALID, "size is %zu, expected %s%zu", size,
				    form->count_at ? "at least " : "", form->fixed);
	if (!form->count_at)
		return HBM_OK;

	uint32_t count = validate_field(message, form->count_at);
	uint64_t expected = validate_expected_size(form, message);
	if (count == 0)
		return field_refuse(why, HBM_INVALID, "count is 0, expected at least 1");
	if (size == expected)
		return HBM_OK;
	if (!form->segments_at)
		return field_refuse(why, HBM_INVALID,
				    "size is %zu, expected %" PRIu64 ", as count is %u", size,
				    expected, count);

	return field_refuse(why, HBM_INVALID,
			    "size is %zu, expected %" PRIu64 ", as count is %u and segments is %u",
			    size, expected, count, validate_field(message, form->segments_at));
}

static int validate_check_header(const struct form *form, const struct hbm_wire_header *header,
				 struct refusal *why)
{
	int status = field_flags("header.flags", header->flags, form->flags, why);
	if (status == HBM_OK && header->status != 0)
		status = field_refuse(why, HBM_INVALID, "header.status is %d, expected 0",
				      header->status);
	return status == HBM_OK ? field_zero("header.zero", header->zero, why) : status;
}

static int validate_check_form(const struct form *form, const void *message, size_t size,
			       struct refusal *why)
{
	int status = validate_check_header(form, message, why);
	if (status == HBM_OK)
		status = validate_check_size(form, message, size, why);
	if (status == HBM_OK && form->zero_at)
		status = field_zero("zero", validate_field(message, form->zero_at), why);
	if (status == HBM_OK && form->check)
		status = form->check(message, why);
	return status;
}

/* A HELLO that has passed its form. */
static int validate_greeting(const struct hbm_wire_hello *hello, bool greeted, struct refusal *why)
{
	if (greeted)
		return field_refuse(why, HBM_INVALID, "a second HELLO");
	if (hello->magic != HBM_WIRE_MAGIC)
		return field_refuse(why, -EPROTO, "magic is %u, expected %u", hello->magic,
				    HBM_WIRE_MAGIC);
	return HBM_OK;
}

int validate_message(const void *message, size_t size, bool greeted, struct refusal *why)
{
	const struct hbm_wire_header *header = message;
	if (size < sizeof(*header))
		return field_refuse(why, -EPROTO, "%zu bytes came, expected a header of %zu", size,
				    sizeof(*header));
	if (header->size != size)
		return field_refuse(why, -EPROTO, "header.size is %u, expected %zu, which came",
				    header->size, size);
	if (!greeted && header->opcode != HBM_WIRE_HELLO)
		return field_refuse(why, -EPROTO, "header.opcode is %u before HELLO, expected %d",
				    header->opcode, HBM_WIRE_HELLO);

	const struct form *form = form_of(header);
	if (!form)
		return field_refuse(why, HBM_UNSUPPORTED, "header.opcode is %u, expected 1 to %d",
				    header->opcode, HBM_WIRE_OPCODES - 1);

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
		return field_refuse(why, -EPROTO, "unexpected file descriptors");
	if (verdict != HBM_OK || !is_import)
		return verdict;

	bool expected = import->kind == HBM_WIRE_GUEST_FD;
	if (fd == -EMFILE)
		return field_refuse(why, HBM_LIMIT, "the daemon has no file descriptors left");
	if (expected != (fd >= 0))
		return field_refuse(why, HBM_INVALID, "%s descriptor came, expected %s",
				    expected ? "no" : "a", expected ? "one" : "none");

	return HBM_OK;
}

const char *validate_opcode_name(unsigned opcode)
{
	return opcode < HBM_WIRE_OPCODES ? forms[opcode].name : NULL;
}
