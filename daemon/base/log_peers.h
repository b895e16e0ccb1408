/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_peers: bounds the log lines that clients cause. Each cause and user has a quota of
 * its own, so that a client that fills its own hides neither those of others nor other
 * lines of its user. What is over the quota is counted, and one line a second tells how
 * much that was.
 *
 * The table is bounded. A quota that has been quiet for a second is given to another pair;
 * while all are busy, further users share one more for each cause.
 *
 * Used on the loop thread alone.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define LOG_PEERS_MAX 64   /* pairs of a cause and a user with a quota of their own */
#define LOG_PEERS_LINES 10 /* in a second, for each pair */

enum log_cause {
	LOG_CAUSE_DROPPED,  /* a session that broke the protocol */
	LOG_CAUSE_CLOSED,   /* a session that failed */
	LOG_CAUSE_REJECTED, /* a connection that became no session */
	LOG_CAUSES
};

struct log_peer {
	enum log_cause cause;
	uid_t uid;
	uint64_t second_ns; /* when its second began; 0: it belongs to no pair */
	uint64_t lines, suppressed;
};

/* Zeroed at first. */
struct log_peers {
	struct log_peer pairs[LOG_PEERS_MAX];
	struct log_peer others[LOG_CAUSES];
	uint64_t swept_ns;
};

/* Tells what was suppressed in seconds that are over; at most once a second. */
void log_peers_sweep(struct log_peers *peers, uint64_t now_ns);
/* Whether to log one more line of that cause and user now. Sweeps
 * first. */
bool log_peers_may(struct log_peers *peers, enum log_cause cause, uid_t uid, uint64_t now_ns);
