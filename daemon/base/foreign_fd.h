/* SPDX-License-Identifier: Apache-2.0 */
/*
 * foreign_fd: descriptors that a client has sent. They may be of any file, also one whose
 * close() waits for another process: of a file system in user space, a socket that lingers.
 * The event loop must not wait for that, so a descriptor is closed by a thread of its own,
 * unless it is of a kind whose close() never waits, as those of devices and memory files are.
 *
 * A descriptor that no thread receives is closed by the kernel all the same, in the name of the
 * thread that receives its message, or closes the socket it lies in. So messages are
 * received with room for all descriptors they can have, and sockets that have messages left
 * are closed by a thread.
 *
 * When FOREIGN_FDS_CLOSING threads hang in close(), none is to be taken any more whose close()
 * may wait, until one has returned. At the end of the process the kernel ends those threads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define FOREIGN_FDS_CLOSING 16

/* Whether this one may be kept for its message; else its sender is to be disconnected. */
bool foreign_fd_may_stay(int fd);
/* Closes them, soon, and those whose close() never waits at once. Any thread. */
void foreign_fds_close(const int *fds, size_t count);
void foreign_fd_close(int fd);
/* Shuts a socket down, and closes it with the messages that its peer has left in it. */
void foreign_fd_close_socket(int socket);
