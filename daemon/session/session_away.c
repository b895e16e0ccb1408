/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/session/session_away.h"

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/session/peer.h"
#include "daemon/session/session_kept.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- Restoring ---- */

/* The time of CLOCK_MONOTONIC at which it connected, which suspends do not make later. */
static uint64_t session_away_connected(const struct session_kept *kept)
{
	struct timespec boot;
	clock_gettime(CLOCK_BOOTTIME, &boot);
	uint64_t now = clock_now(),
		 boot_ns = (uint64_t)boot.tv_sec * 1000000000u + (uint64_t)boot.tv_nsec;
	uint64_t age = boot_ns > kept->connected_ns ? boot_ns - kept->connected_ns : 0;

	return age < now ? now - age : 0;
}

static int session_away_new(struct session **out, struct session_owner *owner,
			    const struct session_kept *kept)
{
	struct peer peer = {.pid = (pid_t)kept->pid, .uid = kept->uid, .gid = kept->gid};
	peer.pidfd = peer_find(peer.pid, kept->connected_ns);
	if (peer.pidfd < 0)
		return peer.pidfd;

	struct user *user = session_user(owner->ledger, &peer);
	struct session *session =
		user ? session_new(owner, SESSION_AWAY, kept->id, user, &peer) : NULL;
	if (!session)
		user_close(user);

	int r = session ? loop_watch(owner->loop, &session->process) : -ENOMEM;
	if (r < 0) {
		session_discard(session);
		close(peer.pidfd);
		return r;
	}

	/* Whatever the limits are now: it has them. */
	ledger_charge_always(&session->charge, &session->payer, LEDGER_SESSIONS, 1);
	ledger_charge_always(&session->descriptors, &session->payer, LEDGER_DESCRIPTORS,
			     SESSION_DESCRIPTORS);
	session->connected_ns = session_away_connected(kept);
	session->away.memfd = session->away.doorbell = -1;
	memcpy(session->name, kept->name, sizeof(session->name));
	memcpy(session->token, kept->token, sizeof(session->token));
	*out = session;

	return 0;
}

int session_restore(struct session **out, struct session_owner *owner, uint32_t record)
{
	const struct session_kept *kept = state_body(owner->state, STATE_SESSIONS, record);
	struct session *session = NULL;
	int r = session_away_new(&session, owner, kept);
	if (r == -ESRCH)
		state_drop(owner->state, STATE_SESSIONS, record);
	if (r < 0)
		return r;

	session->kept = record;
	*out = session;

	return 0;
}

void session_restore_part(struct session *session, enum session_away_part part, int fd)
{
	int *place = part == SESSION_AWAY_FENCES ? &session->away.memfd : &session->away.doorbell;

	/* One that came twice is the same one. */
	if (session->state == SESSION_AWAY && *place < 0)
		*place = fd;
	else
		close(fd);
}

static bool session_away_takes_fences(struct session *session)
{
	uint64_t ready_ns = ledger_limit(&session->payer, LEDGER_READY_MS) * 1000000u;
	int *memfd = &session->away.memfd, *doorbell = &session->away.doorbell;

	if (*memfd >= 0 && *doorbell >= 0 &&
	    fences_adopt(&session->fences, session->owner->loop, ready_ns, *memfd, *doorbell) == 0)
		return true;

	if (*memfd >= 0)
		close(*memfd);
	if (*doorbell >= 0)
		close(*doorbell);
	*memfd = *doorbell = -1;

	return false;
}

void session_restored(struct session *session)
{
	bool waits = session_survives(session) &&
		     !session_kept_is_dead(session->owner->state, session->kept);

	if (session_away_takes_fences(session) && waits)
		log_debug("session %llu: away, pid %d, uid %u", (unsigned long long)session->id,
			  (int)session->pid, session->uid);
	else
		session_end(session);
}

/* ---- Coming back ---- */

/* Takes as long wherever they differ. */
static bool session_away_tokens_match(const uint8_t a[HBM_WIRE_TOKEN_BYTES],
				      const uint8_t b[HBM_WIRE_TOKEN_BYTES])
{
	uint8_t differ = 0;

	for (size_t i = 0; i < HBM_WIRE_TOKEN_BYTES; i++)
		differ |= a[i] ^ b[i];

	return differ == 0;
}

bool session_may_return(const struct session *away, const struct session *greeting,
			const uint8_t token[HBM_WIRE_TOKEN_BYTES])
{
	struct pollfd process = {.fd = away->pidfd, .events = POLLIN};

	/* While its process lives, no other has its ID. A connection that has not been read, or has
	 * ended, is not handed over. */
	return greeting->state == SESSION_GREETING && connection_is_idle(&greeting->connection) &&
	       session_away_tokens_match(away->token, token) && away->state == SESSION_AWAY &&
	       away->uid == greeting->uid && away->pid == greeting->pid &&
	       poll(&process, 1, 0) == 0;
}

int session_return(struct session *away, struct request *request)
{
	struct session *greeting = request->session;
	int socket = connection_hand_over(&greeting->connection);
	int r = session_connect(away, socket);

	session_break(greeting, NULL);
	if (r < 0) {
		close(socket);
		return r;
	}

	request->connection = &away->connection;
	away->returned = true;
	away->returned_ns = clock_now();
	session_greeted(away);

	return 0;
}

bool session_is_awaited(const struct session *session)
{
	if (session->state != SESSION_LIVE || session->returned_ns == 0)
		return session->state == SESSION_AWAY;

	return clock_now() - session->returned_ns <
	       (session->returned ? SESSION_RECONCILES_NS : SESSION_REOPENS_NS);
}
