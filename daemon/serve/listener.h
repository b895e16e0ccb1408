/* SPDX-License-Identifier: Apache-2.0 */
/* listener: the daemon's listening socket: inherited from the service manager, or made at
 * a path of the file system. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct config;

struct listener {
	int fd;
	char *path; /* of the socket file this process made, to be removed; NULL: none */
};

/*
 * Takes over the socket that was inherited; without one (-1), makes one at config->socket
 * with its mode and group. A path where a daemon answers, and one that is no socket, are
 * refused; a stale socket file is replaced. On failure negative errno and one line in
 * error.
 */
int listener_open(struct listener *out, int inherited, const struct config *config, char *error,
		  size_t error_size);
void listener_close(
	struct listener *listener); /* removes the socket file it made; takes one closed before */
