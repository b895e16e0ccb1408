/* SPDX-License-Identifier: Apache-2.0 */
/* listener: the daemon's listening socket: inherited from the service manager, or created
 * at a path. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct config;

struct listener {
	int fd;
	char *path; /* the socket file to remove, made by this process; NULL: none */
};

/*
 * Takes over the inherited socket; without one (-1), creates one at config->socket with
 * its mode and group. A path with a live daemon, or one that is not a socket, is refused;
 * a stale socket file is replaced. On failure negative errno and one line in error.
 */
int listener_open(struct listener *out, int inherited, const struct config *config, char *error,
		  size_t error_size);
void listener_close(
	struct listener *listener); /* removes the socket file it made; accepts a closed one */
