/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inherited: the descriptors that the service manager passed at the start
 * (sd_listen_fds(3)): the listening socket of a socket unit, and whatever an earlier run
 * put into the manager's descriptor store (keep.h). Each has a name, and each name one taker.
 * A descriptor without a taker is an error of the unit, or comes from an older or newer
 * hbmd: it is refused by name, because serving without it would silently lose its content.
 */
#pragma once

#include <stddef.h>

struct inherited {
	int socket; /* listening, SOCK_SEQPACKET, non-blocking; -1: none was passed */
};

/* Takes every descriptor whose name begins so; there may be several, or none. */
struct inherited_taker {
	const char *beginning;
	/* 0: the taker owns the descriptor. On failure negative errno and one line in
	 * error, and the taker does not own it. */
	int (*take)(void *arg, const char *name, int fd, char *error, size_t error_size);
	void *arg;
};

/*
 * Passes every descriptor to the taker of its name. The listening socket needs none: its
 * name is "hbmd", as in hbmd.socket, or "hbmd.socket", or empty. All are close-on-exec,
 * and the environment variables are unset. On failure negative errno, one line in error,
 * and every descriptor without an owner is closed.
 */
int inherited_open(struct inherited *out, const struct inherited_taker *takers, size_t taker_count,
		   char *error, size_t error_size);
/* Closes the socket if it is still open; accepts a closed one. */
void inherited_close(struct inherited *inherited);
