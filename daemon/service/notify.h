/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify: tells systemd that the daemon is ready or stopping, a status line, and watchdog
 * pings if it asked for them. Without systemd every call does nothing.
 */
#pragma once

#include "daemon/loop/loop.h"

struct notify;

/* Starts the watchdog pings, at half the interval systemd asked for. */
int notify_open(struct notify **out, struct loop *loop);
struct notify *notify_close(struct notify *notify);
void notify_ready(const char *status);
void notify_status(const char *status);
void notify_stopping(void);
/* Reports why the start fails, before the process exits; systemctl status keeps showing
 * it. */
void notify_failed(const char *reason);
