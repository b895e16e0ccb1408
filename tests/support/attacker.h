/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attacker: one connection of an attack, which never blocks once it is open: what the
 * kernel does not take is sent later, and replies are taken as they come.
 */
#pragma once

#include <hbm/hbm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct spawn;

struct attacker {
	int socket;               /* -1: not connected */
	int doorbell;             /* -1: not greeted */
	_Atomic uint64_t *fences; /* NULL: not greeted */
	uint32_t number;          /* among those of the attack */
	uint32_t ns, region;
	uint64_t turn;   /* messages sent on this connection */
	uint64_t cursor; /* where its next QUERY begins */
	uint64_t in_flight;
	bool is_blocked; /* the kernel did not take the last message */
};

/* Connects, and greets unless `is_bare`. 0; or the daemon's status, RAW_DROPPED or
 * -errno, and there is no connection. */
int attacker_open(struct attacker *attacker, const struct spawn *spawn, bool is_bare);
void attacker_close(struct attacker *attacker);
/* Becomes uid 65534, if the process is root's; false: it is an operator still. */
bool attacker_become_nobody(void);
/* Sends it with an id of its own. False if the kernel has no room for it. */
bool attacker_send(struct attacker *attacker, struct hbm_wire_header *message);
/* Takes one reply: its size, 0 if there is none yet, -1 if the daemon has hung up.
 * Descriptors that come with it are closed unless `keep` says otherwise. */
#define ATTACKER_REPLY_BYTES 131072
int attacker_take(struct attacker *attacker, void *reply, bool keep);
