/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inherited: the descriptors that the service manager passed at the start
 * (sd_listen_fds(3)): the listening socket of a socket unit, and whatever an earlier run
 * put into the manager's descriptor store. Each has a name, and each name has one taker.
 * A descriptor that nobody takes is an error of the unit, or of an older or newer hbmd:
 * it is refused by name, as serving without it would lose what it stands for, silently.
 */
#pragma once

#include <stddef.h>

struct inherited {
	int socket; /* listening, SOCK_SEQPACKET, non-blocking; -1: none was passed */
};

/* Takes every descriptor of one name; there may be several, or none. */
struct inherited_taker {
	const char *name;
	/* 0: the descriptor is the taker's. On failure negative errno and one line in
	 * error, and it is not. */
	int (*take)(void *arg, int fd, char *error, size_t error_size);
	void *arg;
};

/*
 * Gives every descriptor to the taker of its name. The listening socket needs none: it
 * has the name "hbmd" that hbmd.socket gives it, or "hbmd.socket", or no name at all. All
 * are close-on-exec, and the environment no longer names them. On failure negative errno,
 * one line in error, and every descriptor that no taker has is closed.
 */
int inherited_open(struct inherited *out, const struct inherited_taker *takers, size_t taker_count,
		   char *error, size_t error_size);
/* Closes the socket if it is still here; takes one that was closed before. */
void inherited_close(struct inherited *inherited);
