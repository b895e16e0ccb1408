/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_peers: bounds the log lines that clients cause. Each cause and tenant, or user that is one
 * alone, has a quota of its own, so that a client that fills its own hides neither those of
 * others nor other lines of its tenant. What is over the quota is counted, and one line a second
 * tells how much that was.
 *
 * The table is bounded. A quota that has been quiet for a second is given to another pair;
 * while all are busy, further ones share one more for each cause, of LOG_PEERS_LINES.
 *
 * Used on the loop thread alone.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LOG_PEERS_MAX 64   /* pairs of a cause and a tenant with a quota of their own */
#define LOG_PEERS_LINES 10 /* in a second, for each pair, by default */

enum log_cause {
	LOG_CAUSE_DROPPED,  /* a session that broke the protocol */
	LOG_CAUSE_CLOSED,   /* a session that failed */
	LOG_CAUSE_REJECTED, /* a connection that became no session */
	LOG_CAUSES
};

/* Who causes lines. */
struct log_who {
	uint64_t number; /* as of user_number() */
	uint64_t lines;  /* that it may cause in a second */
	char name[48];   /* "uid 1000" */
};

struct log_peer {
	enum log_cause cause;
	struct log_who who;
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
/* Whether to log one more line of that cause now. Sweeps first. */
bool log_peers_may(struct log_peers *peers, enum log_cause cause, const struct log_who *who,
		   uint64_t now_ns);
