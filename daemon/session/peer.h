/* SPDX-License-Identifier: Apache-2.0 */
/* peer: identifies the process at the other end of a Unix socket, by the kernel:
 * credentials, and a pidfd to learn of its exit. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	int pidfd; /* the caller's; polls readable when the process that connected is gone */
};

/* The system unit that the process is in; empty: none, or it is gone, or its files in /proc are
 * hidden. Reads one of them. A unit that a user's own manager runs is in user@UID.service. */
void peer_unit(const struct peer *peer, char *unit, size_t size);
/* Whether the process that connected is in a group, by its group or a supplementary one. */
bool peer_in_group(int socket, gid_t gid);
/* Negative errno: -ESRCH if the process is already gone. */
int peer_identify(int socket, struct peer *out);
/* Finds the process again that had the process ID at a time of CLOCK_BOOTTIME: its pidfd, or
 * negative errno: -ESRCH: it is gone. Where its files in /proc are hidden, another that has the
 * ID since passes for it. */
int peer_find(pid_t pid, uint64_t at_ns);
