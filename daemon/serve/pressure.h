/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pressure: tells sessions that have sequences when a device is short of memory for regions:
 * when less than device.watermark is free and not promised. So an engine can suspend what it
 * can best do without before a step of it is refused. Only the engine knows what that is, and
 * only the client can unmap it: the daemon takes nothing but what is lent and idle (lend.h),
 * which makes way first.
 *
 * Each session is told once of each device, until it has as much again as it should; one that
 * opens its first board in the meantime is told then. A notice that a session has no room for
 * is not repeated. Pools are looked at from the top of the loop, so that what is short only
 * within a turn is none.
 */
#pragma once

#include "daemon/serve/hbmd.h"

struct pressure;

/* The reservations and the server are open. -ENOMEM. */
int pressure_open(struct pressure **out, struct hbmd *hbmd);
struct pressure *pressure_close(struct pressure *pressure); /* accepts NULL, returns NULL */
/* A session has opened a board. */
void pressure_look(struct pressure *pressure);
