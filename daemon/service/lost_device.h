/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lost_device: a sticky error ends what this process can do with a device, and not what another
 * can. So where what the daemon has is kept, it ends, and the next one has the device again; once
 * in ten minutes, because an error that comes back at once would take the other devices along.
 * Where nothing is kept it goes on without the device, as it does without one that has no answer.
 */
#pragma once

#include "daemon/serve/hbmd.h"

struct lost_device;

/* restart() is called once, on the loop thread, where the daemon is to end. -ENOMEM. */
int lost_device_open(struct lost_device **out, struct hbmd *hbmd, void (*restart)(void *arg),
		     void *arg);
struct lost_device *lost_device_close(struct lost_device *lost); /* accepts NULL, returns NULL */
