/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/serve_namespace.h"

#include "daemon/base/checked.h"
#include "daemon/base/clock.h"
#include "daemon/base/reason.h"
#include "daemon/cache/cache.h"
#include "daemon/catalog/catalog.h"
#include "daemon/config/config.h"

#include <stdlib.h>
#include <string.h>

/* Of a block before a client encoded it, for each byte after: bounds the sums of logical bytes.
 * No encoding has so few bits. */
#define LOGICAL_MOST 64

struct namespace_open {
	struct list link; /* in session->opens */
	struct charge charge;
	uint16_t ns;
};

uint64_t serve_namespace_open_bytes(void)
{
	return sizeof(struct namespace_open);
}

static struct namespace_open *serve_namespace_find_open(const struct session *session, uint32_t ns)
{
	list_for_each (node, &session->opens) {
		struct namespace_open *open = container_of(node, struct namespace_open, link);
		if (open->ns == ns)
			return open;
	}
	return NULL;
}

bool session_has_namespace(const struct session *session, uint32_t ns)
{
	return serve_namespace_find_open(session, ns) != NULL;
}

void session_mark_namespaces(const struct session *session, bool open[UINT16_MAX + 1])
{
	list_for_each (node, &session->opens)
		open[container_of(node, struct namespace_open, link)->ns] = true;
}

static uint32_t serve_namespace_flags(const struct hbm_wire_header *message)
{
	/* The form with a group begins as this one. */
	const struct hbm_wire_namespace_open_flags *open = (const void *)message;

	return message->size >= sizeof(*open) ? open->flags : 0;
}

/* NULL: none. */
static const char *serve_namespace_group(const struct hbm_wire_header *message)
{
	const struct hbm_wire_namespace_open_group *open = (const void *)message;

	return message->size == sizeof(*open) ? open->group : NULL;
}

int serve_namespace_check_tier(const struct hbmd *hbmd, uint32_t ns, uint32_t tier,
			       const struct reason *why)
{
	if (tier != HBM_TIER_NVME || !namespaces_get(hbmd->cache->namespaces, ns)->memory_only)
		return HBM_OK;

	return reason_set(
		why, HBM_INVALID,
		"blocks of namespace %u stay in memory, none is on NVMe: it was opened so, "
		"or has a salt and nvme.salted is no",
		ns);
}

int serve_namespace_check_durable(const struct hbmd *hbmd, uint32_t ns, uint32_t tier,
				  const struct reason *why)
{
	const char *lacks = NULL;

	if (tier != HBM_TIER_NONE && tier != HBM_TIER_NVME)
		return reason_set(why, HBM_INVALID, "what is durable is on NVMe, not in %s",
				  tier_name(tier));
	if (!hbmd->nvme)
		lacks = "an NVMe tier (nvme.path)";
	else if (!hbmd->catalog || !catalog_keeps(hbmd->catalog))
		lacks = "a catalog (nvme.catalog) that can be used";
	else if (hbmd->config->checksum == CONFIG_CHECKSUM_OFF)
		lacks = "checksums (hbmd.checksum)";
	if (lacks)
		return reason_set(why, HBM_UNSUPPORTED,
				  "nothing can be durable: this hbmd is without %s", lacks);

	if (namespaces_get(hbmd->cache->namespaces, ns)->ephemeral)
		return reason_set(why, HBM_INVALID,
				  "blocks of namespace %u are not durable: it is ephemeral", ns);

	return serve_namespace_check_tier(hbmd, ns, HBM_TIER_NVME, why);
}

static void serve_namespace_reply_opened(struct hbmd *hbmd, struct request *request,
					 uint16_t number)
{
	const struct namespace *ns = namespaces_get(hbmd->cache->namespaces, number);
	struct hbm_wire_namespace_reply reply = {.ns = number, .block_bytes = ns->block_bytes};
	memcpy(reply.fingerprint, ns->fingerprint, sizeof(reply.fingerprint));
	request_reply(request, HBM_OK, &reply.ns, sizeof(reply) - sizeof(reply.header));
}

void serve_namespace_add_open(struct hbmd *hbmd, struct request *request, uint16_t number)
{
	struct session *session = request->session;
	struct namespaces *namespaces = hbmd->cache->namespaces;

	if (session_has_namespace(session, number)) {
		namespaces_unref(namespaces, number);
		serve_namespace_reply_opened(hbmd, request, number);
		return;
	}

	struct namespace_open *open = calloc(1, sizeof(*open));
	int status = open ? ledger_charge(&open->charge, &session->payer, LEDGER_NAMESPACE_OPENS, 1)
			  : HBM_LIMIT;
	if (status != HBM_OK) {
		namespaces_unref(namespaces, number);
		if (!open)
			request_refuse(request, status, "the daemon is out of memory");
		else
			request_refuse_limit(request, LEDGER_NAMESPACE_OPENS, 1);

		free(open);
		return;
	}

	open->ns = number;
	list_push_back(&session->opens, &open->link);
	if (serve_namespace_flags(request->message) & HBM_WIRE_EPHEMERAL)
		namespaces_set_ephemeral(namespaces, number);
	serve_namespace_reply_opened(hbmd, request, number);
}

/* NULL: raw. */
static const struct hbm_wire_encoding *
serve_namespace_encoding(const struct hbm_wire_header *message)
{
	/* The form with flags begins as this one. */
	const struct hbm_wire_namespace_open_encoded *open = (const void *)message;
	static const struct hbm_wire_encoding raw;

	return message->size < sizeof(*open) || memcmp(&open->encoding, &raw, sizeof(raw)) == 0
		       ? NULL
		       : &open->encoding;
}

static bool serve_namespace_salt_may_be_on_nvme(const struct hbmd *hbmd,
						const struct hbm_wire_namespace_spec *spec)
{
	return hbmd->config->nvme_salted || spec->salt[0] == '\0';
}

struct namespace_identity serve_namespace_identity(const struct hbmd *hbmd,
						   const struct hbm_wire_header *message)
{
	const struct hbm_wire_namespace_open *open = (const void *)message;
	bool on_nvme = serve_namespace_salt_may_be_on_nvme(hbmd, &open->spec);

	return (struct namespace_identity){
		.spec = &open->spec,
		.encoding = serve_namespace_encoding(message),
		.memory_only = !on_nvme || serve_namespace_flags(message) & HBM_WIRE_MEMORY_ONLY,
		.wipe_on_free = serve_namespace_flags(message) & HBM_WIRE_WIPE_ON_FREE,
		.group = serve_namespace_group(message),
	};
}

/* What a block needs of the staging buffer at most: itself and, where the daemon encodes it,
 * that too. */
static uint64_t serve_namespace_staging(const struct hbm_wire_encoding *encoding, uint64_t bytes)
{
	bool twice = encoding && encoding->encoding == HBM_ENCODING_LOSSLESS;

	return twice ? 2 * extent_bytes(bytes) : extent_bytes(bytes);
}

/* A block must fit the staging buffer and some tier. */
static int serve_namespace_check_block_bytes(const struct hbmd *hbmd,
					     const struct hbm_wire_encoding *encoding,
					     uint64_t bytes)
{
	if (bytes == 0)
		return HBM_INVALID;
	if (encoding && encoding->logical_bytes != 0 &&
	    (encoding->logical_bytes < bytes || encoding->logical_bytes / bytes > LOGICAL_MOST))
		return HBM_INVALID;
	return ledger_check(&hbmd->ledger->host, LEDGER_BLOCK_BYTES, bytes) &&
			       serve_namespace_staging(encoding, bytes) <=
				       tier_largest_part(hbmd->cache->staging)
		       ? HBM_OK
		       : HBM_LIMIT;
}

bool serve_namespace_is_possible(const struct hbmd *hbmd, const struct namespace_identity *identity)
{
	return (identity->memory_only ||
		serve_namespace_salt_may_be_on_nvme(hbmd, identity->spec)) &&
	       serve_namespace_check_block_bytes(hbmd, identity->encoding,
						 identity->spec->block_bytes) == HBM_OK;
}

bool serve_namespace_may_be_on_nvme(const struct hbmd *hbmd,
				    const struct namespace_identity *identity)
{
	return !identity->memory_only && serve_namespace_is_possible(hbmd, identity);
}

static void serve_namespace_open_by_number(struct hbmd *hbmd, struct request *request,
					   uint32_t number)
{
	if (!session_is_operator(request->session)) {
		request_refuse(request, HBM_DENIED,
			       "only uid 0 and the daemon's uid open a namespace by number");
	} else if (!namespaces_get(hbmd->cache->namespaces, number)) {
		request_refuse(request, HBM_NOT_FOUND, "no namespace %u", number);
	} else {
		namespaces_ref(hbmd->cache->namespaces, (uint16_t)number);
		serve_namespace_add_open(hbmd, request, (uint16_t)number);
	}
}

/* Refuses an open whose blocks would be too large, or empty: status says which. */
static void serve_namespace_refuse_size(struct hbmd *hbmd, struct request *request, int status,
					uint64_t bytes)
{
	bool twice = serve_namespace_staging(serve_namespace_encoding(request->message), 1) >
		     EXTENT_UNIT;

	if (status == HBM_INVALID && bytes > 0)
		request_refuse(request, status,
			       "logical_bytes is not between block_bytes and %d times that",
			       LOGICAL_MOST);
	else if (status == HBM_INVALID)
		request_refuse(request, status, "block_bytes is 0");
	else if (!ledger_has_room(&hbmd->ledger->host, LEDGER_BLOCK_BYTES, bytes))
		request_refuse_limit(request, LEDGER_BLOCK_BYTES, bytes);
	else
		request_refuse(request, status,
			       "block_bytes %llu%s; the staging buffer (ddr.staging) has %llu",
			       (unsigned long long)bytes,
			       twice ? ", of which lossless needs twice" : "",
			       (unsigned long long)tier_largest_part(hbmd->cache->staging));
}

/* Whether this user's tenant has guessed at too many salts. A namespace that is new is a guess that
 * was wrong. */
static bool serve_namespace_guesses_too_fast(const struct hbmd *hbmd, const struct session *session,
					     const struct namespace_identity *identity)
{
	struct guesses *guesses = &session->owner->guesses;

	if (identity->spec->salt[0] == '\0' || session_is_operator(session))
		return false;
	if (!guesses_may(guesses, user_number(session->user), user_guesses(session->user),
			 clock_now()))
		return true;

	if (namespaces_find(hbmd->cache->namespaces, identity, session->user) == 0)
		guesses_count(guesses, user_number(session->user), clock_now());

	return false;
}

bool serve_namespace_answer_open(struct hbmd *hbmd, struct request *request)
{
	if (request->message->size == sizeof(struct hbm_wire_namespace_ref)) {
		serve_namespace_open_by_number(
			hbmd, request,
			((const struct hbm_wire_namespace_ref *)request->message)->ns);
		return true;
	}

	const struct namespace_identity identity = serve_namespace_identity(hbmd, request->message);
	uint64_t bytes = identity.spec->block_bytes;
	int status = serve_namespace_check_block_bytes(hbmd, identity.encoding, bytes);
	if (status != HBM_OK) {
		serve_namespace_refuse_size(hbmd, request, status, bytes);
		return true;
	}

	if (serve_namespace_guesses_too_fast(hbmd, request->session, &identity)) {
		request_refuse(request, HBM_LIMIT,
			       "this user has opened too many namespaces with a new salt: one is "
			       "allowed each second");
		return true;
	}

	if (!namespaces_may_join(hbmd->cache->namespaces, &identity, request->session->user)) {
		request_refuse(request, HBM_LIMIT,
			       "the group has %d namespaces of that model, weights and salt, "
			       "the most that one can have",
			       HBM_WIRE_GROUP_MAX);
		return true;
	}

	return false;
}

static void serve_namespace_close_namespace(struct hbmd *hbmd, struct namespace_open *open)
{
	list_remove(&open->link);
	ledger_release(&open->charge);
	namespaces_unref(hbmd->cache->namespaces, open->ns);
	free(open);
}

void serve_namespace_close(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_namespace_ref *ref =
		(const struct hbm_wire_namespace_ref *)request->message;
	struct namespace_open *open = serve_namespace_find_open(request->session, ref->ns);
	if (open)
		serve_namespace_close_namespace(hbmd, open);

	if (open)
		request_reply(request, HBM_OK, NULL, 0);
	else
		request_refuse(request, HBM_NOT_FOUND, "namespace %u is not open in this session",
			       ref->ns);
}

void serve_namespaces_gone(struct hbmd *hbmd, struct session *session)
{
	list_for_each_safe (node, after, &session->opens)
		serve_namespace_close_namespace(hbmd,
						container_of(node, struct namespace_open, link));
}
