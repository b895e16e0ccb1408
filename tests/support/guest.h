/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest: connections of another user. As root a test can have them; otherwise it is skipped.
 * The process stays what it is: the credentials of a connection are those of connect().
 */
#pragma once

#include "tests/support/spawn.h"

#include <sys/types.h>

#define GUEST 65534
#define OTHER_GUEST 65533

/* Lets other users reach the daemon's socket; skips the test if it does not run as root.
 * The daemon is started with hbmd.socket_mode=0666. */
void guest_admit(const struct spawn *spawn);
/* For a child process: becomes that user, in the daemon's folder, and connects without end;
 * keeps the last `held` connections, and says HELLO on them or nothing. Does not return. */
void guest_flood(const struct spawn *spawn, uid_t uid, unsigned held, bool greets)
	__attribute__((noreturn));
/* A socket of that user. */
int guest_connect(const struct spawn *spawn, uid_t uid);
/* The same, after HELLO: its status, and the socket in *out, which is closed unless it is
 * HBM_OK. RAW_DROPPED: the daemon hung up. */
int guest_greet(const struct spawn *spawn, uid_t uid, int *out);
