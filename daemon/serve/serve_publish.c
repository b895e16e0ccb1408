/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_publish: see serve_publish.h. Translates between messages and publication.h, which
 * knows none. Who may not know of a publication gets the same answer as if there were none.
 */
#include "daemon/serve/serve_publish.h"

#include "daemon/base/reason.h"
#include "daemon/config/config.h"
#include "daemon/device/device.h"
#include "daemon/region/publication.h"
#include "daemon/region/slot.h"
#include "daemon/session/peer.h"
#include "daemon/session/validate.h"

static void serve_publish_refuse_name(struct request *request)
{
	request_refuse(request, HBM_NOT_FOUND, "nothing of that name is published");
}

static bool serve_publish_is_own(const struct session *session, uint32_t uid)
{
	return uid == HBM_WIRE_OWN_UID || uid == session->uid;
}

static struct publication *serve_publish_find(const struct hbmd *hbmd,
					      const struct session *session, uint32_t uid,
					      const char *name)
{
	return publication_find(hbmd->publications, uid == HBM_WIRE_OWN_UID ? session->uid : uid,
				session->user->tenant, name);
}

/* For an operator: of any tenant, the first that has it. */
static struct publication *serve_publish_find_any(const struct hbmd *hbmd, uint32_t uid,
						  const char *name)
{
	struct publication *publication = publication_find(hbmd->publications, uid, NULL, name);

	list_for_each (node, &hbmd->ledger->tenants) {
		const struct tenant *tenant = container_of(node, struct tenant, link);
		if (!publication)
			publication = publication_find(hbmd->publications, uid, tenant, name);
	}

	return publication;
}

/* ---- PUBLISH, UNPUBLISH ---- */

static int serve_publish_publish(const struct hbmd *hbmd, struct session *session,
				 const struct hbm_wire_publish *publish, const struct reason *why)
{
	const struct publication_form form = {
		.name = publish->name,
		.uid = session->uid,
		.tenant = session->user->tenant,
		.for_group = publish->flags & HBM_WIRE_PUBLISH_GROUP,
		.gid = publish->gid,
		.region = region_find(&session->regions, publish->region),
		.offset = publish->offset,
		.bytes = publish->bytes,
	};

	if (!form.region)
		return reason_set(why, HBM_NOT_FOUND, "no region %u", publish->region);
	if (form.for_group && !hbmd->config->device_publish_groups)
		return reason_set(why, HBM_DENIED,
				  "device.publish_groups is no: not for a group, for your user "
				  "alone");

	return publication_new(hbmd->publications, &form, why);
}

void serve_publish(struct hbmd *hbmd, struct request *request)
{
	struct refusal refusal;
	const struct reason why = refusal_reason(&refusal);
	int status =
		serve_publish_publish(hbmd, request->session, (const void *)request->message, &why);

	if (status == HBM_OK)
		request_reply(request, HBM_OK, NULL, 0);
	else
		request_refuse(request, status, "%s", refusal.reason);
}

void serve_unpublish(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_unpublish *unpublish = (const void *)request->message;
	const struct session *session = request->session;
	struct publication *publication = NULL;

	if (serve_publish_is_own(session, unpublish->uid))
		publication = serve_publish_find(hbmd, session, unpublish->uid, unpublish->name);
	if (!publication && session_is_operator(session))
		publication = serve_publish_find_any(hbmd, unpublish->uid, unpublish->name);
	if (!publication) {
		serve_publish_refuse_name(request);
		return;
	}

	publication_withdraw(publication);
	request_reply(request, HBM_OK, NULL, 0);
}

/* ---- ATTACH ---- */

/* NULL: there is none, or the session may not know of it. */
static struct publication *serve_publish_for(const struct hbmd *hbmd, const struct session *session,
					     const struct hbm_wire_attach *attach)
{
	struct publication *publication =
		serve_publish_find(hbmd, session, attach->uid, attach->name);
	if (!publication || serve_publish_is_own(session, attach->uid))
		return publication;

	bool member = publication->for_group &&
		      peer_in_group(session->connection.watch.fd, publication->gid);

	return member ? publication : NULL;
}

static void serve_publish_attached(void *arg, int status, struct region *region)
{
	struct request *request = arg;
	if (status != HBM_OK) {
		request_refuse(request, status,
			       "cannot reserve the address space; see the daemon's log");
		return;
	}

	struct hbm_wire_attached reply = {
		.region = region_id(region),
		.device = region_device(region)->index,
		.address_space = region_address_space(region),
		.slab = region_slab(region),
	};
	request_reply(request, HBM_OK, &reply.region, sizeof(reply) - sizeof(reply.header));
}

static void serve_publish_attach(struct request *request, struct publication *publication,
				 bool read_only)
{
	struct regions *regions = &request->session->regions;
	uint64_t bytes = publication_bytes(publication);
	int status =
		region_attach(regions, publication, read_only, serve_publish_attached, request);

	if (status == HBM_LIMIT && !ledger_has_room(regions->payer, LEDGER_REGIONS, 1))
		request_refuse_limit(request, LEDGER_REGIONS, 1);
	else if (status == HBM_LIMIT)
		request_refuse_limit(request, LEDGER_ADDRESS_SPACE, bytes);
	else if (status != HBM_OK)
		request_refuse(request, status, "the daemon is out of memory");
}

void serve_attach(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_attach *attach = (const void *)request->message;
	struct publication *publication = serve_publish_for(hbmd, request->session, attach);
	bool writes = attach->flags & HBM_WIRE_ATTACH_WRITE;

	if (!publication)
		serve_publish_refuse_name(request);
	else if (writes && !serve_publish_is_own(request->session, attach->uid))
		request_refuse(request, HBM_DENIED, "only its own user may write to it");
	else
		serve_publish_attach(request, publication, !writes);
}
