/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_rig: a session on soft_pool's devices, with the test as its client on the other
 * end of a socket and as its server behind the hooks. The teardown checks that the session
 * ended once, and that it left nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/list.h"
#include "daemon/ledger/ledger.h"
#include "daemon/session/session.h"
#include "tests/support/soft_pool.h"

#define SESSION_RIG_REQUESTS 16 /* in flight, at most */

struct session_rig {
	struct soft_pool pool;
	struct ledger ledger;
	struct session_owner owner;
	struct session *session;
	int client;  /* the other end */
	bool park;   /* keep requests instead of answering them */
	size_t cost; /* bytes charged for each of them */
	struct list parked;
	uint64_t arrived_count, died, freed;
	struct counters counters;
	uint64_t wanted;
};

/* cmocka's setup and teardown; the test connects. */
int session_rig_setup(void **state);
int session_rig_teardown(void **state);

/* The client's side. */
void session_rig_connect(struct session_rig *rig);
void session_rig_say(struct session_rig *rig, const void *message, size_t size);
void session_rig_ping(struct session_rig *rig, uint64_t id);
void session_rig_hello(struct session_rig *rig);
/* Connects, says HELLO, and takes the fence page and the doorbell; NULL: closes them. */
void session_rig_greet(struct session_rig *rig, int fds[2]);
/* Waits for the next reply; its size. Its header is checked. */
size_t session_rig_hear(struct session_rig *rig, void *message, size_t room, unsigned opcode,
			uint64_t id, int status);

/* The server's side: answers the requests it has kept, with HBM_OK. */
void session_rig_answer(struct session_rig *rig);

/* Lets the loop turn a while, for what must not happen. */
void session_rig_idle(struct session_rig *rig);
/* For pool_run(): there is a reply; the session has died; it is freed; as many requests as
 * are wanted have come; the loop has turned as often as an unsigned says. */
bool session_rig_can_read(void *rig);
bool session_rig_is_dead(void *rig);
bool session_rig_is_freed(void *rig);
bool session_rig_has_arrived(void *rig);
bool session_rig_turned(void *turns);
