/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_away: sessions of an earlier daemon, whose clients come back to them.
 *
 * Such a session is made of its record. Its process lives, which is found again by its ID and the
 * time at which it had it; nothing of what it has is quarantined. It is away until its client
 * says HELLO with its token: then the socket of that connection, which is a session of its own
 * until then, becomes its own, and it goes on. A client that does not come back leaves it away
 * until its process ends, as it leaves a dead one.
 *
 * 	record --> away --> live
 * 	              \---> dead    its process has ended; or it was dead already, has no token,
 * 	                            or its fence page is lost: its memory is quarantined
 *
 * The token binds nothing but the session: who has it must be the same process (its ID, while
 * that process lives) of the same user. A client that is refused learns only that it is.
 */
#pragma once

#include "daemon/session/session.h"

/* For how long a client that has come back may still be opening its namespaces again: as long as
 * libhbm waits for one answer. */
#define SESSION_REOPENS_NS UINT64_C(10000000000)

/* For how long one that has come back may not have said yet what it has (RECONCILE): as long as libhbm
 * waits for a daemon, unless it is told otherwise. Then nothing of it that has no user waits for it. */
#define SESSION_RECONCILES_NS UINT64_C(60000000000)

/* What of a session is passed on as descriptors. */
enum session_away_part { SESSION_AWAY_FENCES, SESSION_AWAY_DOORBELL };

/* Makes the session of a record, away. -ESRCH: its process has ended, and the record is dropped.
 * After another negative errno it stays: the process may live, and have its memory mapped. */
int session_restore(struct session **out, struct session_owner *owner, uint32_t record);
/* Takes a descriptor that an earlier daemon has parked for it, and consumes it. */
void session_restore_part(struct session *session, enum session_away_part part, int fd);
/* All that it has is restored: it waits for its client, or is dead now if that cannot come. May
 * free it. */
void session_restored(struct session *session);

/* Whether the client of that greeting session may go on with one that is away. */
bool session_may_return(const struct session *away, const struct session *greeting,
			const uint8_t token[HBM_WIRE_TOKEN_BYTES]);
/* Moves the connection of the request's session, which ends, to that one, which is live then; the
 * reply to the request goes there. Negative errno: the connection has ended. */
int session_return(struct session *away, struct request *request);
/* Whether its client may still have to come back, or to ask for what it had open. */
bool session_is_awaited(const struct session *session);
