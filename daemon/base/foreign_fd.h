/* SPDX-License-Identifier: Apache-2.0 */
/*
 * foreign_fd: descriptors that a client has sent. They may be of any file, also one whose
 * close() waits for another process: of a file system in user space, a socket that lingers.
 * The event loop must not wait for that, so a descriptor is closed by a thread of its own,
 * unless it is of a kind whose close() never waits, as those of devices and memory files are.
 *
 * When FOREIGN_FDS_CLOSING of them hang in close(), none is to be received any more until one
 * has returned. At the end of the process the kernel ends those threads.
 */
#pragma once

#include <stdbool.h>

#define FOREIGN_FDS_CLOSING 16

/* Whether another one may be received. */
bool foreign_fds_may_come(void);
/* Closes it, soon. Any thread. */
void foreign_fd_close(int fd);
