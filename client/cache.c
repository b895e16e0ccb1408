/* SPDX-License-Identifier: Apache-2.0 */
/* cache: requests that carry only keys, and requests of operators. STORE and LOAD are in
 * block.c. */
#include "client/cache.h"

#include "client/error.h"
#include "client/parts.h"
#include "client/status.h"

#include <errno.h>
#include <string.h>

/* keys of a message */
#define KEYS_MOST ((HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_keys)) / sizeof(hbm_key))

bool hbm_key_is_valid(const hbm_key *key)
{
	static const hbm_key reserved;
	return memcmp(key, &reserved, sizeof(reserved)) != 0;
}

static bool cache_results_are_valid(const struct ticket *ticket, const struct message *message)
{
	const struct hbm_wire_results *reply = (const void *)message->header;
	return message->header->status == HBM_OK && !(message->header->flags & HBM_WIRE_MORE) &&
	       message->fds.count == 0 && message->size >= sizeof(*reply) &&
	       reply->count == ticket->answer.count &&
	       message->size == sizeof(*reply) + reply->count * sizeof(reply->results[0]) &&
	       reply->done <= reply->count;
}

static int cache_reply_results(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	(void)hbm;
	if (hbm_reply_is_refusal(message))
		return message->header->status;
	if (!cache_results_are_valid(ticket, message))
		return TICKET_BROKEN;

	const struct hbm_wire_results *reply = (const void *)message->header;
	if (ticket->answer.results)
		memcpy(ticket->answer.results, reply->results,
		       reply->count * sizeof(reply->results[0]));

	if (ticket->answer.lookup)
		*ticket->answer.lookup =
			(struct hbm_lookup){.resident = reply->done, .load_ns = reply->load_ns};

	return HBM_OK;
}

const struct ticket_kind hbm_kind_results = {.reply = cache_reply_results};

static int cache_reply_amount(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	const struct hbm_wire_amount *reply = (const void *)message->header;
	struct hbm_amount *amount = ticket->answer.body;

	(void)hbm;
	if (hbm_reply_is_refusal(message))
		return message->header->status;
	if (message->header->status != HBM_OK || message->header->flags & HBM_WIRE_MORE ||
	    message->fds.count > 0 || message->size != sizeof(*reply))
		return TICKET_BROKEN;

	if (amount)
		*amount = (struct hbm_amount){.blocks = reply->blocks, .bytes = reply->bytes};

	return HBM_OK;
}

const struct ticket_kind hbm_kind_amount = {.reply = cache_reply_amount};

static int cache_keys_check(struct hbm *hbm, const hbm_key *keys, size_t count)
{
	if (count == 0)
		return hbm_fail(hbm, HBM_INVALID, "no keys");
	if (count > UINT32_MAX)
		return hbm_fail(hbm, HBM_LIMIT, "%zu keys: a call has at most %u", count,
				UINT32_MAX);

	for (size_t i = 0; i < count; i++)
		if (!hbm_key_is_valid(&keys[i]))
			return hbm_fail(hbm, HBM_INVALID, "key %zu is all zero, which is reserved",
					i);

	return 0;
}

struct keys_call {
	enum hbm_wire_opcode op;
	struct hbm_wire_keys *message;
	const hbm_key *keys;
	size_t count;
	struct ticket_answer answer;
};

/* The request of the keys from `first` on, as many as fit. */
static void cache_keys_request(const struct keys_call *call, size_t first, struct request *request)
{
	size_t left = call->count - first, count = left < KEYS_MOST ? left : KEYS_MOST;

	call->message->count = (uint32_t)count;
	*request = (struct request){
		.opcode = call->op,
		.kind = &hbm_kind_results,
		.answer = call->answer,
		.pieces = {{call->message, sizeof(*call->message)},
			   {(void *)&call->keys[first], count * sizeof(*call->keys)}},
		.piece_count = 2,
	};
	request->answer.count = (uint32_t)count;
	if (call->answer.results)
		request->answer.results = &call->answer.results[first];
}

static int cache_keys_submit_parts(struct hbm *hbm, const struct keys_call *call,
				   hbm_ticket *ticket)
{
	size_t count = (call->count + KEYS_MOST - 1) / KEYS_MOST;
	struct parts *parts = hbm_parts_new(hbm, call->op, (uint32_t)count, call->answer.lookup);
	struct request request;
	bool made = parts;

	for (size_t first = 0; made && first < call->count; first += KEYS_MOST) {
		cache_keys_request(call, first, &request);
		made = hbm_parts_add(hbm, parts, &request);
	}
	if (made)
		return hbm_parts_submit(hbm, parts, ticket);

	hbm_parts_free(hbm, parts);

	return hbm_fail(hbm, -ENOMEM, "%s not sent: %s", hbm_opcode_name(call->op),
			hbm_strerror(-ENOMEM));
}

/* Sends `message` and the keys after it. The caller has filled in its ns, device, flags and
 * deadline. */
static int cache_keys_submit(struct hbm *hbm, enum hbm_wire_opcode op,
			     struct hbm_wire_keys *message, const hbm_key *keys, size_t count,
			     struct ticket_answer answer, hbm_ticket *ticket)
{
	if (hbm_check_owner(hbm))
		return -EPERM;

	int rc = cache_keys_check(hbm, keys, count);
	if (rc)
		return rc;

	struct keys_call call = {op, message, keys, count, answer};
	struct request request;
	if (count > KEYS_MOST)
		return cache_keys_submit_parts(hbm, &call, ticket);

	cache_keys_request(&call, 0, &request);

	return hbm_request_submit(hbm, &request, ticket);
}

static int cache_tier_check(struct hbm *hbm, enum hbm_tier tier, uint32_t device)
{
	if (tier <= HBM_TIER_NONE || tier >= HBM_TIERS)
		return hbm_fail(hbm, HBM_INVALID, "there is no tier %d", (int)tier);

	if (device && (tier != HBM_TIER_HBM || device >= hbm->info.devices))
		return hbm_fail(hbm, HBM_INVALID,
				"device %u: only the HBM tier has devices, %u of them", device,
				hbm->info.devices);

	return 0;
}

int hbm_submit_lookup(struct hbm *hbm, uint32_t ns, const hbm_key *keys, size_t count,
		      struct hbm_lookup *answer, hbm_result *results, hbm_ticket *ticket)
{
	struct hbm_wire_keys message = {.ns = ns};
	struct ticket_answer where = {.lookup = answer, .results = results};
	return cache_keys_submit(hbm, HBM_WIRE_LOOKUP, &message, keys, count, where, ticket);
}

int hbm_submit_prefetch(struct hbm *hbm, uint32_t ns, uint32_t device, const hbm_key *keys,
			size_t count, uint64_t deadline_us, hbm_result *results, hbm_ticket *ticket)
{
	if (device >= hbm->info.devices && device != HBM_DEVICE_HOST)
		return hbm_fail(hbm, HBM_INVALID, "device %u: the daemon has %u", device,
				hbm->info.devices);

	struct hbm_wire_keys message = {.ns = ns, .device = device, .deadline_us = deadline_us};
	struct ticket_answer where = {.results = results};
	return cache_keys_submit(hbm, HBM_WIRE_PREFETCH, &message, keys, count, where, ticket);
}

int hbm_submit_keys(struct hbm *hbm, enum hbm_wire_opcode op, uint32_t ns, uint32_t flags,
		    const hbm_key *keys, size_t count, hbm_result *results, hbm_ticket *ticket)
{
	bool pin = op == HBM_WIRE_PIN || op == HBM_WIRE_UNPIN;
	if (!pin && op != HBM_WIRE_TOUCH && op != HBM_WIRE_REMOVE)
		return hbm_fail(hbm, HBM_INVALID, "opcode %d is not touch, pin, unpin or remove",
				(int)op);

	if (flags & ~(pin ? HBM_WIRE_KEEP : 0))
		return hbm_fail(hbm, HBM_UNSUPPORTED,
				"flags %#x: only pin and unpin have one, HBM_WIRE_KEEP", flags);

	struct hbm_wire_keys message = {.ns = ns, .flags = flags};
	struct ticket_answer where = {.results = results};

	return cache_keys_submit(hbm, op, &message, keys, count, where, ticket);
}

int hbm_submit_move_by(struct hbm *hbm, uint32_t ns, enum hbm_tier tier, uint32_t device,
		       uint64_t deadline_us, const hbm_key *keys, size_t count, hbm_result *results,
		       hbm_ticket *ticket)
{
	int rc = cache_tier_check(hbm, tier, device);
	if (rc)
		return rc;

	struct hbm_wire_keys message = {
		.ns = ns, .device = device, .flags = tier, .deadline_us = deadline_us};
	struct ticket_answer where = {.results = results};

	return cache_keys_submit(hbm, HBM_WIRE_MOVE, &message, keys, count, where, ticket);
}

int hbm_submit_move(struct hbm *hbm, uint32_t ns, enum hbm_tier tier, uint32_t device,
		    const hbm_key *keys, size_t count, hbm_result *results, hbm_ticket *ticket)
{
	return hbm_submit_move_by(hbm, ns, tier, device, 0, keys, count, results, ticket);
}

int hbm_submit_retain(struct hbm *hbm, uint32_t ns, uint32_t priority, uint64_t for_us,
		      const hbm_key *keys, size_t count, hbm_result *results, hbm_ticket *ticket)
{
	if (priority > HBM_WIRE_PRIORITY_MAX)
		return hbm_fail(hbm, HBM_INVALID, "priority %u: expected 0 to %u", priority,
				HBM_WIRE_PRIORITY_MAX);
	if (priority == 0 && for_us > 0)
		return hbm_fail(hbm, HBM_INVALID, "blocks are released now, not for %llu us",
				(unsigned long long)for_us);

	struct hbm_wire_keys message = {.ns = ns, .flags = priority, .deadline_us = for_us};
	struct ticket_answer where = {.results = results};

	return cache_keys_submit(hbm, HBM_WIRE_RETAIN, &message, keys, count, where, ticket);
}

/* ---- The blocking forms ---- */

int hbm_lookup(struct hbm *hbm, uint32_t ns, const hbm_key *keys, size_t count,
	       struct hbm_lookup *answer, hbm_result *results)
{
	hbm_ticket ticket;
	int rc = hbm_submit_lookup(hbm, ns, keys, count, answer, results, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

int hbm_prefetch(struct hbm *hbm, uint32_t ns, uint32_t device, const hbm_key *keys, size_t count,
		 uint64_t deadline_us, hbm_result *results)
{
	hbm_ticket ticket;
	int rc = hbm_submit_prefetch(hbm, ns, device, keys, count, deadline_us, results, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

int hbm_keys(struct hbm *hbm, enum hbm_wire_opcode op, uint32_t ns, uint32_t flags,
	     const hbm_key *keys, size_t count, hbm_result *results)
{
	hbm_ticket ticket;
	int rc = hbm_submit_keys(hbm, op, ns, flags, keys, count, results, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

int hbm_move(struct hbm *hbm, uint32_t ns, enum hbm_tier tier, uint32_t device, const hbm_key *keys,
	     size_t count, hbm_result *results)
{
	hbm_ticket ticket;
	int rc = hbm_submit_move(hbm, ns, tier, device, keys, count, results, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

int hbm_move_by(struct hbm *hbm, uint32_t ns, enum hbm_tier tier, uint32_t device,
		uint64_t deadline_us, const hbm_key *keys, size_t count, hbm_result *results)
{
	hbm_ticket ticket;
	int rc = hbm_submit_move_by(hbm, ns, tier, device, deadline_us, keys, count, results,
				    &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

int hbm_count_use(struct hbm *hbm, uint32_t ns, const hbm_key *key, bool one_more, uint64_t *uses)
{
	struct hbm_wire_count count = {
		.ns = ns, .flags = one_more ? HBM_WIRE_COUNT_ONE : 0, .key = *key};
	struct hbm_wire_counted reply;
	struct request request = {
		.opcode = HBM_WIRE_COUNT,
		.kind = &hbm_kind_fixed,
		.answer = {.body = &reply, .size = sizeof(reply)},
		.pieces = {{&count, sizeof(count)}},
		.piece_count = 1,
	};
	int rc = hbm_request_query(hbm, &request);
	if (rc == 0)
		*uses = reply.uses;

	return rc;
}

int hbm_retain(struct hbm *hbm, uint32_t ns, uint32_t priority, uint64_t for_us,
	       const hbm_key *keys, size_t count, hbm_result *results)
{
	hbm_ticket ticket;
	int rc = hbm_submit_retain(hbm, ns, priority, for_us, keys, count, results, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

int hbm_watch(struct hbm *hbm, uint32_t ns, uint64_t *position, struct hbm_wire_cache_event *events,
	      size_t room, size_t *count, uint64_t *missed)
{
	struct hbm_wire_watch watch = {
		.ns = ns,
		.most = room < HBM_WIRE_WATCH_MAX ? (uint32_t)room : HBM_WIRE_WATCH_MAX,
		.after = *position,
	};
	struct hbm_wire_watched reply;
	struct request request = {
		.opcode = HBM_WIRE_WATCH,
		.kind = &hbm_kind_fixed,
		.answer = {.body = &reply, .size = sizeof(reply)},
		.pieces = {{&watch, sizeof(watch)}},
		.piece_count = 1,
	};
	if (room == 0)
		return hbm_fail(hbm, HBM_INVALID, "events asked for, and no room for one");

	int rc = hbm_request_query(hbm, &request);
	if (rc)
		return rc;
	if (reply.count > watch.most || reply.last == 0)
		return hbm_fail(hbm, -EBADMSG, "%u events, %u at most were asked for", reply.count,
				watch.most);

	memcpy(events, reply.events, reply.count * sizeof(*events));
	*position = reply.last;
	*count = reply.count;
	*missed = reply.missed;

	return HBM_OK;
}

/* ---- Operators ---- */

int hbm_evict(struct hbm *hbm, enum hbm_tier tier, uint32_t device, uint64_t bytes,
	      struct hbm_amount *evicted)
{
	int rc = cache_tier_check(hbm, tier, device);
	if (rc)
		return rc;

	struct hbm_wire_evict evict = {.tier = tier, .device = device, .bytes = bytes};
	struct request request = {
		.opcode = HBM_WIRE_EVICT,
		.kind = &hbm_kind_amount,
		.answer = {.body = evicted},
		.pieces = {{&evict, sizeof(evict)}},
		.piece_count = 1,
	};

	return hbm_request_query(hbm, &request);
}

int hbm_ping(struct hbm *hbm)
{
	struct hbm_wire_header header;
	struct request request = {
		.opcode = HBM_WIRE_PING,
		.kind = &hbm_kind_bare,
		.pieces = {{&header, sizeof(header)}},
		.piece_count = 1,
	};
	return hbm_request_query(hbm, &request);
}

int hbm_session_end(struct hbm *hbm, uint64_t session)
{
	struct hbm_wire_session_ref ref = {.session = session};
	struct request request = {
		.opcode = HBM_WIRE_SESSION_END,
		.kind = &hbm_kind_bare,
		.pieces = {{&ref, sizeof(ref)}},
		.piece_count = 1,
	};
	return hbm_request_query(hbm, &request);
}

/* False: it does not fit. */
static bool cache_copy_name(char to[HBM_WIRE_NAME_BYTES], const char *from)
{
	size_t length = strnlen(from, HBM_WIRE_NAME_BYTES);

	memcpy(to, from, length < HBM_WIRE_NAME_BYTES ? length : 0);

	return length < HBM_WIRE_NAME_BYTES;
}

int hbm_tenant_set(struct hbm *hbm, const char *tenant, const char *key, const char *value)
{
	struct hbm_wire_tenant_set set = {0};
	struct request request = {
		.opcode = HBM_WIRE_TENANT_SET,
		.kind = &hbm_kind_bare,
		.pieces = {{&set, sizeof(set)}},
		.piece_count = 1,
	};

	if (!cache_copy_name(set.tenant, tenant) || !cache_copy_name(set.key, key) ||
	    !cache_copy_name(set.value, value))
		return HBM_INVALID;

	return hbm_request_query(hbm, &request);
}

static int cache_drain(struct hbm *hbm, uint32_t flags, uint64_t timeout_ms, hbm_ticket *ticket)
{
	struct hbm_wire_drain drain = {.flags = flags, .timeout_ms = timeout_ms};
	struct request request = {
		.opcode = HBM_WIRE_DRAIN,
		.kind = &hbm_kind_bare,
		.pieces = {{&drain, sizeof(drain)}},
		.piece_count = 1,
	};
	if (hbm_check_owner(hbm))
		return -EPERM;

	return ticket ? hbm_request_submit(hbm, &request, ticket)
		      : hbm_request_query(hbm, &request);
}

int hbm_submit_drain(struct hbm *hbm, uint64_t timeout_ms, hbm_ticket *ticket)
{
	return cache_drain(hbm, 0, timeout_ms, ticket);
}

int hbm_drain_cancel(struct hbm *hbm)
{
	return cache_drain(hbm, HBM_WIRE_DRAIN_CANCEL, 0, NULL);
}

int hbm_resize(struct hbm *hbm, enum hbm_tier tier, uint32_t device, uint64_t bytes)
{
	struct hbm_wire_resize resize = {.tier = tier, .device = device, .bytes = bytes};
	struct request request = {
		.opcode = HBM_WIRE_RESIZE,
		.kind = &hbm_kind_bare,
		.pieces = {{&resize, sizeof(resize)}},
		.piece_count = 1,
	};
	return hbm_request_query(hbm, &request);
}
