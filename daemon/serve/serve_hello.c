/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/serve_hello.h"

#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/config/config.h"
#include "daemon/device/device.h"
#include "daemon/region/reconcile.h"
#include "daemon/region/region.h"
#include "daemon/region/reservations.h"
#include "daemon/session/session_away.h"
#include "daemon/session/session_kept.h"
#include "daemon/state/state.h"

/* How long clients wait for all tiers after a restart. A host whose memory takes longer serves
 * with what there is. */
#define WARM_NS 5000000000u

/* ---- HELLO ---- */

/* For display on terminals: control characters are replaced. */
static void serve_hello_copy_name(char to[HBM_WIRE_NAME_BYTES],
				  const char from[HBM_WIRE_NAME_BYTES])
{
	for (size_t i = 0; i < HBM_WIRE_NAME_BYTES; i++) {
		unsigned char c = (unsigned char)from[i];
		to[i] = (char)(c != 0 && (c < 0x20 || c >= 0x7f) ? '?' : c);
	}
}

/* True if refused. */
static bool serve_hello_refuse(struct hbmd *hbmd, struct request *request,
			       const struct hbm_wire_hello *hello)
{
	if (hello->version_min > HBM_WIRE_VERSION || hello->version_max < HBM_WIRE_VERSION)
		request_refuse(request, HBM_UNSUPPORTED,
			       "the daemon speaks version %d, the client %u to %u",
			       HBM_WIRE_VERSION, hello->version_min, hello->version_max);
	else if (server_is_draining(hbmd->server))
		request_refuse(request, HBM_SHUTDOWN, "the daemon is stopping");
	else
		return false;
	return true;
}

static struct hbm_wire_hello_reply serve_hello_reply(const struct hbmd *hbmd,
						     const struct session *session)
{
	struct hbm_wire_hello_reply reply = {
		.magic = HBM_WIRE_MAGIC,
		.version = HBM_WIRE_VERSION,
		.session = session->id,
		.driver = hbmd->devices->kind,
		.devices = hbmd->devices->count,
		.requests_in_flight = (uint32_t)ledger_limit(&session->payer, LEDGER_REQUESTS),
		.regions = (uint32_t)ledger_limit(&session->payer, LEDGER_REGIONS),
		.soft_memory =
			hbmd->devices->kind == HBM_DRIVER_SOFT ? hbmd->config->soft_memory : 0,
	};
	memcpy(reply.boot_id, hbmd->boot_id, sizeof(reply.boot_id));
	for (uint32_t i = 0; i < hbmd->devices->count; i++)
		memcpy(reply.uuids[i], hbmd->devices->list[i].uuid.bytes, sizeof(reply.uuids[i]));

	return reply;
}

/* To the form of HELLO that the request has. */
static void serve_hello_answer(struct hbmd *hbmd, struct request *request,
			       const struct session *session, const int *fds, size_t fd_count)
{
	bool resumes = request->message->size == sizeof(struct hbm_wire_hello_resume);
	struct hbm_wire_hello_resume_reply reply = {
		.hello = serve_hello_reply(hbmd, session),
		.survives = session_survives(session),
	};
	size_t size = resumes ? sizeof(reply) : sizeof(reply.hello);

	if (hbmd->kept)
		memcpy(reply.state, state_identity(hbmd->kept), sizeof(reply.state));
	memcpy(reply.token, session->token, sizeof(reply.token));
	request_reply_fds(request, HBM_OK, &reply.hello.magic, size - sizeof(reply.hello.header),
			  fds, fd_count);
}

static void serve_hello_begin(struct hbmd *hbmd, struct request *request, bool returns)
{
	const struct hbm_wire_hello *hello = (const void *)request->message;
	struct session *session = request->session;
	enum ledger_resource resource;
	uint64_t amount;

	if (session_charge(session, &resource, &amount) != HBM_OK) {
		request_refuse_limit(request, resource, amount);
		return;
	}

	serve_hello_copy_name(session->name, hello->name);
	if (session_keep(session, returns) != HBM_OK) {
		session_uncharge(session);
		request_refuse(request, HBM_LIMIT, "the daemon cannot keep one more session");
		return;
	}

	const int fds[] = {session_fence_fd(session), session_doorbell_fd(session)};
	serve_hello_answer(hbmd, request, session, fds, 2);
	session_greeted(session);
}

/* The session that the client may go on with, or NULL. */
static struct session *serve_hello_find(const struct hbmd *hbmd, const struct session *greeting,
					const struct hbm_wire_hello_resume *resume)
{
	if (!hbmd->kept ||
	    memcmp(resume->state, state_identity(hbmd->kept), sizeof(resume->state)) != 0)
		return NULL;

	struct session *session = server_find_session(hbmd->server, resume->session);

	return session && session_may_return(session, greeting, resume->token) ? session : NULL;
}

/* Whether what the client finds would be less than what it had: it asks again. */
static bool serve_hello_is_early(const struct hbmd *hbmd)
{
	return hbmd->state == HBMD_WARMING && clock_now() - hbmd->started_ns < WARM_NS;
}

static void serve_hello_resume(struct hbmd *hbmd, struct request *request,
			       const struct hbm_wire_hello_resume *resume)
{
	if (serve_hello_is_early(hbmd)) {
		request_refuse(request, HBM_NO_SPACE, "the tiers are not in service yet");
		return;
	}

	struct session *away = serve_hello_find(hbmd, request->session, resume);

	server_count_resume(hbmd->server, away != NULL);
	if (!away) {
		/* The same to all: nothing is learnt by it. */
		request_refuse(request, HBM_NOT_FOUND,
			       "no session that this process can go on with");
		return;
	}

	(void)session_return(away, request); /* on failure the reply goes nowhere */
	serve_hello_answer(hbmd, request, away, NULL, 0);
}

/* A refused session is unchanged: it may retry HELLO until its greeting times out. */
void serve_hello(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_hello_resume *resume = (const void *)request->message;
	bool returns = request->message->size == sizeof(*resume);

	if (serve_hello_refuse(hbmd, request, &resume->hello))
		return;

	if (returns && resume->session != 0)
		serve_hello_resume(hbmd, request, resume);
	else
		serve_hello_begin(hbmd, request, returns);
}

/* ---- RECONCILE ---- */

static void serve_hello_reconciled(void *arg, int status)
{
	if (status == HBM_OK)
		request_reply(arg, HBM_OK, NULL, 0);
	else
		request_refuse(arg, status, "the daemon is out of memory");
}

/* So much of a device is reserved, as far as the client knows; what it cannot have again it has
 * not. */
static int serve_hello_reserved(struct hbmd *hbmd, struct session *session,
				const struct hbm_wire_range *told)
{
	if (told->offset >= hbmd->devices->count || told->bytes > INT64_MAX)
		return HBM_INVALID;

	struct device *device = &hbmd->devices->list[told->offset];
	const struct promise *promise = regions_promise(&session->regions, device);
	const struct hbm_wire_reserve_change change = {
		.device = device->index,
		.bytes = promise ? (int64_t)told->bytes - (int64_t)promise->reserved : 0};
	struct reservation reservation = {
		.regions = &session->regions, .user = session->uid, .changes = &change, .count = 1};
	uint64_t more;

	if (change.bytes != 0)
		(void)reservations_make(hbmd->reservations, &reservation, &more);

	return HBM_OK;
}

static int serve_hello_tell(struct hbmd *hbmd, struct session *session,
			    const struct hbm_wire_range *told)
{
	return told->region == HBM_WIRE_RESERVED ? serve_hello_reserved(hbmd, session, told)
						 : reconcile_tell(&session->regions, told);
}

static void serve_hello_drop(struct request *request)
{
	struct session *session = request->session;

	session->returned = false;
	int status = reconcile_drop(&session->regions, serve_hello_reconciled, request);
	if (status != HBM_OK)
		serve_hello_reconciled(request, status);
}

void serve_reconcile(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_ranges *told = (const void *)request->message;
	struct session *session = request->session;
	int status = HBM_OK;
	uint32_t i = 0;

	if (!session->returned) {
		request_refuse(
			request, HBM_INVALID,
			"what the session has is known: it did not come from another daemon");
		return;
	}

	while (i < told->count && told->ranges[i].region != 0 &&
	       (status = serve_hello_tell(hbmd, session, &told->ranges[i])) == HBM_OK)
		i++;

	if (status != HBM_OK)
		request_refuse(request, status,
			       "ranges[%u], of region %u: the session does not have that", i,
			       told->ranges[i].region);
	else if (i < told->count)
		serve_hello_drop(request);
	else
		request_reply(request, HBM_OK, NULL, 0);
}
