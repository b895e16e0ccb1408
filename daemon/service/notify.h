/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify: what systemd is told: ready, a line of status, stopping, and signs of life if
 * it asked for them. Without systemd every call does nothing.
 */
#pragma once

#include "daemon/loop/loop.h"

struct notify;

/* Starts the watchdog's signs of life, at half the interval systemd asked for. */
int notify_open(struct notify **out, struct loop *loop);
struct notify *notify_close(struct notify *notify);
void notify_ready(const char *status);
void notify_status(const char *status);
void notify_stopping(void);
/* The reason why the start fails, before the process ends: what systemctl status shows
 * from then on. */
void notify_failed(const char *reason);
