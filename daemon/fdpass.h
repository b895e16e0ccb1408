/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdpass: messages with file descriptors over a Unix SOCK_SEQPACKET socket. One function sends, one receives, and they
 * are the only ones that know control messages. Neither ever blocks, raises SIGPIPE or leaks a descriptor.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Sends one message with up to HBM_WIRE_FDS_MAX borrowed fds. 0, or negative errno; nothing was sent then: -EAGAIN (the
 * socket is full), -EMSGSIZE (it never will fit), -ETOOMANYREFS (too many fds of this user are under way), -EPIPE. */
int fdpass_send(int socket, const struct iovec *iov, size_t iov_count, const int *fds, size_t fd_count);

/*
 * Receives one message into room bytes and up to *fd_count fds, which are close-on-exec and the caller's from then on;
 * *fd_count becomes their number. Returns the message's size, 0 when the peer has closed (or sent an empty message,
 * which no peer of ours does), or negative errno: -EAGAIN; -EMSGSIZE: longer than room; -EPROTO: more fds than asked
 * for, or fds lost because this process has no room for them. On an error no fd is kept.
 */
ssize_t fdpass_receive(int socket, void *bytes, size_t room, int *fds, size_t *fd_count);
