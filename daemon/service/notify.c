/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/notify.h"

#include "daemon/base/list.h"

#include <errno.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>

struct notify {
	struct loop *loop;
	struct timer timer;
	uint64_t interval_ns;
};

static void notify_watchdog_fire(struct timer *timer)
{
	struct notify *notify = container_of(timer, struct notify, timer);
	sd_notify(0, "WATCHDOG=1");
	loop_timer_set(notify->loop, timer, clock_now() + notify->interval_ns);
}

int notify_open(struct notify **out, struct loop *loop)
{
	struct notify *notify = calloc(1, sizeof(*notify));
	if (!notify)
		return -ENOMEM;

	notify->loop = loop;
	notify->timer.fire = notify_watchdog_fire;
	uint64_t watchdog_us = 0;
	if (sd_watchdog_enabled(0, &watchdog_us) > 0) {
		notify->interval_ns = watchdog_us * 1000 / 2;
		loop_timer_set(loop, &notify->timer, clock_now() + notify->interval_ns);
	}

	*out = notify;

	return 0;
}

struct notify *notify_close(struct notify *notify)
{
	if (notify)
		loop_timer_stop(notify->loop, &notify->timer);
	free(notify);
	return NULL;
}

void notify_ready(const char *status)
{
	sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void notify_status(const char *status)
{
	sd_notifyf(0, "STATUS=%s", status);
}

void notify_stopping(void)
{
	sd_notify(0, "STOPPING=1\nSTATUS=Draining");
}

void notify_failed(const char *reason)
{
	sd_notifyf(0, "STATUS=Not started: %s", reason);
}
