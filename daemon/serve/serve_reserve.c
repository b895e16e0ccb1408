/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_reserve: the handlers of RESERVE and MEMORY. A RESERVE that waits keeps its request,
 * parked as one is that waits for its fence: it delays no other request of its session. It
 * ends by what comes first: memory, its timeout, a CANCEL, a drain, or the end of its session. One
 * without a timeout waits for no other client: but where copies for lending are idle, it is
 * answered when these have come back, in a moment.
 */
#include "daemon/serve/serve_reserve.h"

#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/device/device.h"
#include "daemon/region/region.h"
#include "daemon/region/reservations.h"
#include "daemon/region/slab.h"
#include "daemon/serve/drain.h"

#define MS 1000000ull

/* A RESERVE. Only one that waits has more than its request and reservation. */
struct reserve {
	struct hbmd *hbmd;
	struct request *request;
	struct reservation reservation;
	struct session_wait wait;
	struct timer timeout;
	struct charge charge;
};

static const struct hbm_wire_reserve *serve_reserve_message(const struct request *request)
{
	return (const void *)request->message;
}

/* The reason names the first device that has too little. */
static void serve_reserve_refuse_for_space(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_reserve *message = serve_reserve_message(request);

	for (uint32_t i = 0; i < message->count; i++) {
		const struct hbm_wire_reserve_change *change = &message->changes[i];
		struct slabs_books books = slabs_books(hbmd->devices->list[change->device].slabs);
		uint64_t left = books.due < books.free ? books.free - books.due : 0;
		uint64_t waiting = reservations_waiting(hbmd->reservations, change->device);
		if (change->bytes <= 0 || ((uint64_t)change->bytes <= left && waiting == 0))
			continue;

		request_refuse(request, HBM_NO_SPACE,
			       "device %u: %llu of %llu bytes for regions are free and not "
			       "promised; %llu requests wait for more",
			       change->device, (unsigned long long)left,
			       (unsigned long long)books.budget, (unsigned long long)waiting);
		return;
	}

	request_refuse(request, HBM_NO_SPACE, "more than a device's memory for regions");
}

/* ---- Waiting ---- */

static void serve_reserve_refuse_for_limit(struct hbmd *hbmd, struct request *request,
					   const struct reservation *reservation, uint64_t more)
{
	uint64_t growth;
	const struct promise *bounded =
		reservations_bounded(hbmd->reservations, reservation, &growth);

	if (bounded)
		request_refuse_limit_of(request, bounded->tenant, LEDGER_DEVICE_MEMORY, growth);
	else
		request_refuse_limit(request, LEDGER_RESERVED, more);
}

/* It waits no longer: frees it and answers. */
static void serve_reserve_end(struct reserve *reserve, int status)
{
	struct hbmd *hbmd = reserve->hbmd;
	struct request *request = reserve->request;
	struct reservation reservation = reserve->reservation;

	loop_timer_stop(hbmd->loop, &reserve->timeout);
	session_end_plain_wait(request->session, &reserve->wait);
	ledger_release(&reserve->charge);
	free(reserve);

	if (status == HBM_OK)
		request_reply(request, HBM_OK, NULL, 0);
	else if (status == HBM_LIMIT)
		serve_reserve_refuse_for_limit(hbmd, request, &reservation, reservation.more);
	else if (status == HBM_NO_SPACE)
		serve_reserve_refuse_for_space(hbmd, request);
	else
		request_refuse(request, status, "%s",
			       status == HBM_TIMEOUT     ? "not enough memory came free in time"
			       : status == HBM_CANCELLED ? "cancelled while it waited for memory"
			       : status == HBM_DRAINING  ? DRAIN_REFUSAL
							 : "the session has ended");
}

static void serve_reserve_done(struct reservation *reservation, int status)
{
	serve_reserve_end(container_of(reservation, struct reserve, reservation), status);
}

static void serve_reserve_stop(struct reserve *reserve, int status)
{
	reservations_leave(reserve->hbmd->reservations, &reserve->reservation);
	serve_reserve_end(reserve, status);
}

static void serve_reserve_timed_out(struct timer *timer)
{
	serve_reserve_stop(container_of(timer, struct reserve, timeout), HBM_TIMEOUT);
}

static void serve_reserve_stopped(struct session_wait *wait, int status)
{
	serve_reserve_stop(container_of(wait, struct reserve, wait), status);
}

/* Lets a copy of it wait. HBM_OK, HBM_LIMIT: too many wait; HBM_NO_SPACE: no memory. */
static int serve_reserve_wait(struct hbmd *hbmd, struct request *request,
			      const struct reservation *reservation)
{
	struct session *session = request->session;
	uint64_t ms = serve_reserve_message(request)->timeout_ms;
	struct reserve *reserve = malloc(sizeof(*reserve));
	if (!reserve)
		return HBM_NO_SPACE;

	*reserve = (struct reserve){
		.hbmd = hbmd,
		.request = request,
		.reservation = *reservation,
		.wait = {.id = request->message->id, .fire = serve_reserve_stopped},
		.timeout.fire = serve_reserve_timed_out,
	};
	reserve->reservation.done = serve_reserve_done;
	reserve->reservation.brief = ms == 0;
	if (ledger_charge(&reserve->charge, &session->payer, LEDGER_RESERVES, 1) != HBM_OK) {
		free(reserve);
		return HBM_LIMIT;
	}

	request_charge(request, sizeof(*reserve));
	session_plain_wait(session, &reserve->wait);
	if (ms > 0)
		loop_timer_set(hbmd->loop, &reserve->timeout, clock_now() + ms * MS);
	reservations_wait(hbmd->reservations, &reserve->reservation);

	return HBM_OK;
}

/* ---- RESERVE ---- */

/* What is wrong with it at this daemon, as it is now. True if refused. */
static bool serve_reserve_refuse(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_reserve *message = serve_reserve_message(request);

	for (uint32_t i = 0; i < message->count; i++)
		if (message->changes[i].device >= hbmd->devices->count) {
			request_refuse(request, HBM_INVALID,
				       "changes[%u].device is %u: there are %u", i,
				       message->changes[i].device, hbmd->devices->count);
			return true;
		}

	if (ledger_check(&request->session->payer, LEDGER_RESERVE_MS, message->timeout_ms))
		return false;

	request_refuse_limit(request, LEDGER_RESERVE_MS, message->timeout_ms);

	return true;
}

void serve_reserve(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_reserve *message = serve_reserve_message(request);
	struct session *session = request->session;
	uint64_t more = 0;
	struct reservation reservation = {
		.regions = &session->regions,
		.user = session->uid,
		.changes = message->changes,
		.count = message->count,
	};

	if (serve_reserve_refuse(hbmd, request))
		return;

	int status = reservations_make(hbmd->reservations, &reservation, &more);
	if (status == HBM_OK) {
		request_reply(request, HBM_OK, NULL, 0);
		return;
	}

	if (status == HBM_NO_SPACE && more != UINT64_MAX &&
	    (message->timeout_ms > 0 || reservations_may_come(hbmd->reservations, &reservation))) {
		status = serve_reserve_wait(hbmd, request, &reservation);
		if (status == HBM_LIMIT)
			request_refuse_limit(request, LEDGER_RESERVES, 1);
		else if (status != HBM_OK)
			request_refuse(request, status, "the daemon is out of memory");
		return;
	}

	if (status == HBM_LIMIT)
		serve_reserve_refuse_for_limit(hbmd, request, &reservation, more);
	else
		serve_reserve_refuse_for_space(hbmd, request);
}

/* ---- MEMORY ---- */

void serve_memory(struct hbmd *hbmd, struct request *request)
{
	int fd = reservations_fd(hbmd->reservations);

	if (request_charge_descriptors(request, 1) != HBM_OK)
		request_refuse_limit(request, LEDGER_DESCRIPTORS, 1);
	else
		request_reply_fds(request, HBM_OK, NULL, 0, &fd, 1);
}
