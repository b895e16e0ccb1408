/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wipes: the extents of a tier whose bytes are to be overwritten before they are free: what
 * blocks of some namespaces have left, and what was not known to be free at the start. They are
 * taken out by who overwrites them (daemon/move/wiper.h), the last one first.
 *
 * Where there is no memory for one more, its bytes stay: `kept` says so for as long as the daemon
 * runs, and the extent is not to be used again.
 */
#pragma once

#include "daemon/base/fair_queue.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wipe {
	uint32_t unit;
	uint64_t bytes;
	struct fair_payer payer;
};

struct wipes {
	struct wipe *list; /* [count] */
	size_t count, capacity;
	uint64_t bytes; /* of these, and of those that are being overwritten */
	bool kept;      /* bytes of one stay that could not be remembered, or overwritten */
};

/* False: there is no memory, and it is kept. */
bool wipes_add(struct wipes *wipes, const struct wipe *wipe);
/* The next one; false: there is none. Its bytes count until wipes_end(). */
bool wipes_take(struct wipes *wipes, struct wipe *wipe);
void wipes_end(struct wipes *wipes, const struct wipe *wipe);
void wipes_clear(struct wipes *wipes);
