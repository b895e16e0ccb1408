/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/lost_device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/base/clock.h"
#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/base/log_event.h"
#include "daemon/config/config.h"
#include "daemon/device/device.h"
#include "daemon/loop/loop.h"
#include "daemon/state/keep.h"
#include "daemon/state/state.h"

#define LOOK_NS 1000000000ull
#define AGAIN_S 600

struct lost_device {
	struct hbmd *hbmd;
	struct timer timer; /* an error may be seen on any thread */
	void (*restart)(void *arg);
	void *arg;
};

static const struct device *lost_device_find(const struct devices *devices)
{
	for (uint32_t i = 0; i < devices->count; i++)
		if (device_is_broken(&devices->list[i]))
			return &devices->list[i];
	return NULL;
}

/* Seconds, in which daemons of one state have the same zero. */
static uint64_t lost_device_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec + 1;
}

static void lost_device_act(struct lost_device *lost, const struct device *device)
{
	struct state *kept = lost->hbmd->kept;
	uint64_t now = lost_device_now(), last = state_counter(kept, STATE_DEVICE_RESTART);
	char fields[64];

	if (last != 0 && now - last < AGAIN_S) {
		log_warning("device %u: not restarting for it, as that was done %llu s ago",
			    device->index, (unsigned long long)(now - last));
		return;
	}

	state_count_to(kept, STATE_DEVICE_RESTART, now);
	snprintf(fields, sizeof(fields), "HBMD_DEVICE=%u", device->index);
	log_event(LOG_EVENT_DEVICE_RESTART, LOG_NOTICE, fields,
		  "device %u: ending, so that the next daemon can use it", device->index);
	lost->restart(lost->arg);
}

static void lost_device_look(struct timer *timer)
{
	struct lost_device *lost = container_of(timer, struct lost_device, timer);
	const struct device *device = lost_device_find(lost->hbmd->devices);

	if (device)
		lost_device_act(lost, device);
	else
		loop_timer_set(lost->hbmd->loop, timer, clock_now() + LOOK_NS);
}

int lost_device_open(struct lost_device **out, struct hbmd *hbmd, void (*restart)(void *arg),
		     void *arg)
{
	struct lost_device *lost = calloc(1, sizeof(*lost));
	if (!lost)
		return -ENOMEM;

	*lost = (struct lost_device){
		.hbmd = hbmd, .timer = {.fire = lost_device_look}, .restart = restart, .arg = arg};
	if (keep_is_there() && hbmd->config->device_restart)
		loop_timer_set(hbmd->loop, &lost->timer, clock_now() + LOOK_NS);
	*out = lost;

	return 0;
}

struct lost_device *lost_device_close(struct lost_device *lost)
{
	if (lost)
		loop_timer_stop(lost->hbmd->loop, &lost->timer);
	free(lost);
	return NULL;
}
