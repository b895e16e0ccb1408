/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdpass: messages with file descriptors over a Unix SOCK_SEQPACKET socket, for the
 * daemon and the client library. One function sends, one receives, and no other code
 * knows control messages. Neither raises SIGPIPE or leaks a descriptor.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <hbm/wire.h>

/* The descriptors of a received message: close-on-exec, and owned by the receiver. */
struct fdpass_fds {
	size_t count;
	bool lost;                  /* this process is out of descriptors: none was kept */
	int list[HBM_WIRE_FDS_MAX]; /* -1: taken */
};

#define FDPASS_WAIT 1u /* wait until there is a message */
#define FDPASS_PEEK 2u /* the message stays there; the fds are copies */

/* Sends one message with up to HBM_WIRE_FDS_MAX borrowed fds, without blocking. 0, or
 * negative errno; nothing was sent then: -EAGAIN (the socket is full), -EMSGSIZE (it
 * never will fit), -ETOOMANYREFS (too many fds of this user are in flight), -EPIPE. */
int fdpass_send(int socket, const struct iovec *iov, size_t iov_count, const int *fds,
		size_t fd_count);

/*
 * Receives one message of up to `room` bytes, and its fds into *fds; fds NULL: it may
 * have none. Returns the message's size, 0 when the peer has closed (or sent an empty
 * message, which no peer of ours does), or negative errno: -EAGAIN; -EMSGSIZE: longer
 * than room; -EPROTO: fds where none may be. On an error no fd is kept.
 *
 * If this process runs out of descriptors, the message is returned without any fds, and
 * fds->lost is set: the caller may need its content to free what the fds stood for.
 */
ssize_t fdpass_receive(int socket, void *bytes, size_t room, struct fdpass_fds *fds,
		       unsigned flags);

/* The same without waiting, from a peer whose fds this thread must not close (foreign_fd.h):
 * none is closed, even on an error. fds->lost: some are missing, though others may be there. */
ssize_t fdpass_receive_foreign(int socket, void *bytes, size_t room, struct fdpass_fds *fds);

/* Whether this process, or the system, is out of descriptors now. For use after an error
 * that does not say so, such as a device driver's. */
bool fdpass_exhausted(void);

/* Closes the fds that were not taken. */
void fdpass_close(struct fdpass_fds *fds);
