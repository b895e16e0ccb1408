/* SPDX-License-Identifier: Apache-2.0 */
/* namespace: opening by spec or by number, and closing. The daemon counts the opens. */
#include "client/cache.h"
#include "client/connection.h"
#include "client/error.h"
#include "client/reconnect.h"
#include "client/request.h"
#include "daemon/base/checked.h"

#include <errno.h>
#include <string.h>

#define NUMBER_BYTES 2 /* of bf16 and fp16 */

/* Copies a string into a zeroed field; NULL means "". */
static bool namespace_name_copy(char field[HBM_WIRE_NAME_BYTES], const char *name)
{
	size_t length = name ? strnlen(name, HBM_WIRE_NAME_BYTES) : 0;
	if (length == HBM_WIRE_NAME_BYTES)
		return false;
	if (length)
		memcpy(field, name, length);
	return true;
}

/* Sends a NAMESPACE_OPEN in either of its forms. block_bytes: the value expected in the
 * reply, or 0: any. */
static int namespace_request(struct hbm *hbm, void *message, size_t bytes, uint64_t block_bytes,
			     struct hbm_wire_namespace_reply *reply)
{
	struct request request = {
		.opcode = HBM_WIRE_NAMESPACE_OPEN,
		.kind = &hbm_kind_fixed,
		.answer = {.body = reply, .size = sizeof(*reply)},
		.pieces = {{message, bytes}},
		.piece_count = 1,
	};
	int rc = hbm_request_query(hbm, &request);
	if (rc)
		return rc;

	if (reply->ns == 0 || reply->block_bytes == 0 ||
	    (block_bytes && reply->block_bytes != block_bytes)) {
		hbm_request_break(hbm, -EPROTO);
		return hbm_fail(hbm, -EPROTO,
				"the daemon opened another namespace than was asked for");
	}

	return hbm_reconnect_opened(hbm, reply->ns, message, bytes)
		       ? 0
		       : hbm_fail(hbm, -ENOMEM, "cannot keep the namespace: %s",
				  hbm_strerror(-ENOMEM));
}

static struct hbm_wire_encoding namespace_encoding(const struct hbm_namespace_options *options)
{
	struct hbm_wire_encoding encoding = {.encoding = options->encoding,
					     .element_bytes = options->element_bytes,
					     .logical_bytes = options->logical_bytes};
	if (options->encoding == HBM_ENCODING_LOSSLESS && encoding.element_bytes == 0)
		encoding.element_bytes = NUMBER_BYTES;

	return encoding;
}

/* Of the shortest form that says it: a plain one is opened by a daemon that knows no encodings
 * and no flags, or no groups, too. */
static size_t namespace_open_bytes(const struct hbm_wire_namespace_open_group *open)
{
	static const struct hbm_wire_encoding raw;

	if (open->group[0])
		return sizeof(*open);
	if (open->flags)
		return sizeof(struct hbm_wire_namespace_open_flags);
	return memcmp(&open->encoding, &raw, sizeof(raw)) == 0
		       ? sizeof(struct hbm_wire_namespace_open)
		       : sizeof(struct hbm_wire_namespace_open_encoded);
}

int hbm_namespace_open(struct hbm *hbm, const struct hbm_namespace_options *options, uint32_t *ns)
{
	struct hbm_wire_namespace_open_group open = {
		.encoding = namespace_encoding(options),
		.spec = {.weights = options->weights, .block_bytes = options->block_bytes},
		.flags = (options->ephemeral ? HBM_WIRE_EPHEMERAL : 0) |
			 (options->memory_only ? HBM_WIRE_MEMORY_ONLY : 0) |
			 (options->wipe_on_free ? HBM_WIRE_WIPE_ON_FREE : 0),
	};
	if (!namespace_name_copy(open.spec.model, options->model) ||
	    !namespace_name_copy(open.spec.layout, options->layout) ||
	    !namespace_name_copy(open.spec.salt, options->salt) ||
	    !namespace_name_copy(open.group, options->group))
		return hbm_fail(hbm, HBM_INVALID,
				"model, layout, salt and group have at most %d bytes",
				HBM_WIRE_NAME_BYTES - 1);

	if (options->block_bytes == 0)
		return hbm_fail(hbm, HBM_INVALID, "block_bytes is 0");

	struct hbm_wire_namespace_reply reply;
	int rc = namespace_request(hbm, &open, namespace_open_bytes(&open), options->block_bytes,
				   &reply);
	explicit_bzero(open.spec.salt, sizeof(open.spec.salt));
	if (rc == 0)
		*ns = reply.ns;

	return rc;
}

int hbm_namespace_attach(struct hbm *hbm, uint32_t ns, uint64_t *block_bytes)
{
	struct hbm_wire_namespace_ref ref = {.ns = ns};
	struct hbm_wire_namespace_reply reply;
	int rc = namespace_request(hbm, &ref, sizeof(ref), 0, &reply);
	if (rc == 0)
		*block_bytes = reply.block_bytes;

	return rc;
}

int hbm_submit_namespace_drop(struct hbm *hbm, uint32_t ns, uint32_t flags,
			      struct hbm_amount *dropped, hbm_ticket *ticket)
{
	if (hbm_check_owner(hbm))
		return -EPERM;
	if (flags & ~HBM_WIRE_PINNED)
		return hbm_fail(hbm, HBM_UNSUPPORTED, "flags %#x: expected HBM_WIRE_PINNED or 0",
				flags);

	struct hbm_wire_namespace_drop drop = {.ns = ns, .flags = flags};
	struct request request = {
		.opcode = HBM_WIRE_NAMESPACE_DROP,
		.kind = &hbm_kind_amount,
		.answer = {.body = dropped},
		.pieces = {{&drop, sizeof(drop)}},
		.piece_count = 1,
	};

	return hbm_request_submit(hbm, &request, ticket);
}

int hbm_namespace_drop(struct hbm *hbm, uint32_t ns, uint32_t flags, struct hbm_amount *dropped)
{
	hbm_ticket ticket;
	int rc = hbm_submit_namespace_drop(hbm, ns, flags, dropped, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

int hbm_namespace_close(struct hbm *hbm, uint32_t ns)
{
	struct hbm_wire_namespace_ref ref = {.ns = ns};
	struct request request = {
		.opcode = HBM_WIRE_NAMESPACE_CLOSE,
		.kind = &hbm_kind_bare,
		.pieces = {{&ref, sizeof(ref)}},
		.piece_count = 1,
	};

	hbm->closes[ns % NAMESPACE_BUCKETS]++;
	hbm_reconnect_closed(hbm, ns);

	return hbm_request_query(hbm, &request);
}
