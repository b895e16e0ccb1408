/* SPDX-License-Identifier: Apache-2.0 */
/* peer: who is at the other end of a Unix socket, as the kernel says: credentials, and a
 * pidfd to see its end. */
#pragma once

#include <sys/types.h>

struct peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	int pidfd; /* the caller's; polls readable when the process that connected is gone */
};

/* Negative errno: -ESRCH when the process is gone already. */
int peer_identify(int socket, struct peer *out);
