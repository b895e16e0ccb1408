/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper_socket: where a keeper hears its daemon, as sd_notify(3) speaks. The address is an
 * abstract one, which leaves nothing behind and which any process of the network namespace can
 * send to: what does not come from the daemon's own process is dropped, and its descriptors never
 * become this process's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "daemon/service/keeper_message.h"

#define KEEPER_ADDRESS_BYTES 128
#define KEEPER_FDS_MAX 253 /* of a datagram; the kernel's limit */

struct keeper_datagram {
	struct keeper_message message;
	size_t count;
	int fds[KEEPER_FDS_MAX]; /* the receiver's */
};

/* As NOTIFY_SOCKET= has it in address. Negative errno. */
int keeper_socket_open(int *socket, char address[KEEPER_ADDRESS_BYTES]);
/* The next datagram of that process, without waiting. False: there is none. One whose
 * text says nothing, or whose descriptors this process has no room for, has none. */
bool keeper_socket_receive(int socket, pid_t pid, struct keeper_datagram *out);
void keeper_datagram_close(const struct keeper_datagram *datagram);
