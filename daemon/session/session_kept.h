/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_kept: the record of a session that outlives the daemon: who its client is, and the
 * token with which it comes back (session_away.h). It is there from HELLO, before the reply
 * leaves, until the session is freed: so as long as its process may have memory mapped. Its word
 * says whether the session is dead.
 *
 * What a session has besides is kept where it belongs, under the session's number; its fence
 * page and its doorbell are parked.
 */
#pragma once

#include <hbm/wire.h>
#include <stdbool.h>
#include <stdint.h>

struct state;

struct session_kept {
	uint64_t id;
	uint64_t connected_ns; /* CLOCK_BOOTTIME: another process that has the ID began later */
	uint32_t pid, uid, gid, zero;
	uint8_t token[HBM_WIRE_TOKEN_BYTES]; /* all zero: its client does not come back */
	char name[HBM_WIRE_NAME_BYTES];
};

/* Writes a record, whose time it sets, and with `returns` its token. STATE_NONE: the table is
 * full, or there is no randomness. */
uint32_t session_kept_add(struct state *state, struct session_kept *kept, bool returns);
/* The session is dead: no daemon lets its client come back. Accepts STATE_NONE. */
void session_kept_died(struct state *state, uint32_t record);
void session_kept_drop(struct state *state, uint32_t record); /* it is freed; the same */
bool session_kept_is_dead(const struct state *state, uint32_t record);
