/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/log_peers.h"

#include <stddef.h>

#include "daemon/base/log.h"

#define SECOND_NS UINT64_C(1000000000)

static const char *const log_peers_causes[LOG_CAUSES] = {
	[LOG_CAUSE_DROPPED] = "dropped sessions",
	[LOG_CAUSE_CLOSED] = "closed sessions",
	[LOG_CAUSE_REJECTED] = "rejected connections",
};

static bool log_peers_is_over(const struct log_peer *peer, uint64_t now_ns)
{
	return now_ns >= peer->second_ns + SECOND_NS;
}

/* Ends its second: from now on the quota is free. */
static void log_peers_tell(struct log_peer *peer, bool one_user)
{
	unsigned long long suppressed = peer->suppressed;

	if (suppressed > 0 && one_user)
		log_warning("%s: %llu more lines about %s suppressed", peer->who.name, suppressed,
			    log_peers_causes[peer->cause]);
	else if (suppressed > 0)
		log_warning("other users: %llu more lines about %s suppressed", suppressed,
			    log_peers_causes[peer->cause]);

	*peer = (struct log_peer){0};
}

void log_peers_sweep(struct log_peers *peers, uint64_t now_ns)
{
	if (now_ns < peers->swept_ns + SECOND_NS)
		return;

	peers->swept_ns = now_ns;
	for (size_t i = 0; i < LOG_PEERS_MAX; i++)
		if (log_peers_is_over(&peers->pairs[i], now_ns))
			log_peers_tell(&peers->pairs[i], true);

	for (size_t i = 0; i < LOG_CAUSES; i++)
		if (log_peers_is_over(&peers->others[i], now_ns))
			log_peers_tell(&peers->others[i], false);
}

/* The pair's quota; else a free one; else the one that others share. */
static struct log_peer *log_peers_find(struct log_peers *peers, enum log_cause cause,
				       const struct log_who *who)
{
	struct log_peer *vacant = &peers->others[cause];

	for (size_t i = 0; i < LOG_PEERS_MAX; i++) {
		struct log_peer *peer = &peers->pairs[i];

		if (peer->second_ns == 0)
			vacant = peer;
		else if (peer->cause == cause && peer->who.number == who->number)
			return peer;
	}

	return vacant;
}

bool log_peers_may(struct log_peers *peers, enum log_cause cause, const struct log_who *who,
		   uint64_t now_ns)
{
	uint64_t most = who->lines;

	log_peers_sweep(peers, now_ns);

	struct log_peer *peer = log_peers_find(peers, cause, who);
	if (peer->second_ns == 0)
		*peer = (struct log_peer){.cause = cause, .who = *who, .second_ns = now_ns};
	if (peer == &peers->others[cause] && most > LOG_PEERS_LINES)
		most = LOG_PEERS_LINES;

	if (peer->lines >= most) {
		peer->suppressed++;
		return false;
	}

	peer->lines++;

	return true;
}
