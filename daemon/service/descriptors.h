/* SPDX-License-Identifier: Apache-2.0 */
/*
 * descriptors: what RLIMIT_NOFILE leaves for clients. Their sessions and commits are charged
 * for the descriptors that they need (LEDGER_DESCRIPTORS), so that no number of them leaves
 * the daemon without any, and operators get in.
 *
 * 	RLIMIT_NOFILE = open at start + soft slabs + silent connections + operators' sessions
 * 	                + spare + clients
 *
 * The kernel counts what lies unread in sockets apart from these, against the same number
 * (LEDGER_UNREAD_FDS).
 *
 * Where the limit is low, silent connections take at most a quarter of what is not open yet,
 * and operators and the spare an eighth each.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct hbmd;

struct descriptors {
	uint64_t limit;     /* RLIMIT_NOFILE */
	uint64_t in_use;    /* by the daemon itself, sooner or later */
	uint64_t silent;    /* connections without HELLO that fit */
	uint64_t operators; /* descriptors kept for sessions of operators */
	uint64_t clients;   /* what is left */
};

/* Divides the limit: there may be so many silent connections, and so many sessions of
 * operators. */
struct descriptors descriptors_divide(uint64_t limit, uint64_t in_use, uint64_t silent,
				      uint64_t operators);
/* How many may lie unread in sockets of clients, of which the kernel lets there be as many
 * as files: an eighth is kept for operators, and one message can always be sent. A daemon that
 * parks (parking.h) leaves half of all for what it parks. */
uint64_t descriptors_unread(uint64_t limit, uint64_t configured, bool parks);
/* Sets the limits of the ledger accordingly, and logs what fits if that is less than is
 * configured. Once everything is open. */
void descriptors_apply(struct hbmd *hbmd);
