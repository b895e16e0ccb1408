/* SPDX-License-Identifier: Apache-2.0 */
/* no_daemon: why a connection could not be made, and what to do about it, in one line. */
#pragma once

#include <stddef.h>

/* status: what hbm_connect() returned. */
void no_daemon_text(char *text, size_t size, const char *socket, int status);
