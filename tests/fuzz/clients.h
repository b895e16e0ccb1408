/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clients: processes that connect to a daemon and hand the connection over to this one. To
 * the daemon each is a client with a user and a life of its own, which ends when it is
 * killed; this process speaks for it. Before anything has made a thread, they are given a
 * parent of their own.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

void clients_init(void);
/* Connects to the socket as the user that this process is, or as nobody where that can be
 * done: the connection, and the process to be killed. */
int clients_connect(const char *path, bool nobody, pid_t *pid);
