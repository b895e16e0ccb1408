/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wiper: overwrites extents with zeros before they are free: those that blocks of namespaces with
 * wipe_on_free have left in any tier and in staging, and what of an NVMe file may have such bytes
 * after a crash (nvme_file.h).
 *
 * 	            tier_wipe()          wiper_run()             tier_free()
 * 	moving ------------> waiting --------------> overwritten ------------> free
 * 	                        ^  the tier is silent  |  \  it cannot be written
 * 	                        `----------------------'   `----------------> failed
 *
 * Until then the extent counts as moving, and nothing uses it. Host memory is overwritten by the
 * threads of the hash pool; other tiers are written to, WIPER_PIECE at a time, from a piece of
 * staging that is zero and that is there only while something is to be overwritten. At most
 * WIPER_IN_FLIGHT extents of each tier at a time; each takes the turns of who is charged for the
 * namespace, so that what one user leaves delays the others as its transfers would.
 *
 * When no namespace with wipe_on_free is left, and nothing of such in memory, the state says so
 * (namespace.h): the next daemon finds memory as it is.
 *
 * What cannot be written stays as it is, out of service, and the tier's `wipes.kept` says so: it
 * is overwritten at the next start if it can be then.
 */
#pragma once

#include "daemon/cache/cache.h"
#include "daemon/move/transfer.h"

struct wiper;

enum { WIPER_IN_FLIGHT = 4 };
#define WIPER_PIECE (1ull << 20)
/* What may be left to overwrite on a disk when the daemon stops, about a second's worth, is; of
 * more nothing, because the next start does it. */
#define WIPER_STOP_BYTES (1ull << 30)

struct wiper_options {
	struct cache *cache;
	struct transfer_context *context;
	/* An extent could not be overwritten, and is moving still: HBM_IO. Its device may be lost:
	 * HBM_DEVICE, and the tier may be, when this returns; then it is freed. */
	void (*failed)(void *arg, struct place place, uint64_t bytes, int status);
	void (*ready)(void *arg); /* wiper_run() has something to begin */
	void *arg;
};

int wiper_new(struct wiper **out, const struct wiper_options *options); /* -ENOMEM */
struct wiper *wiper_free(struct wiper *wiper); /* accepts NULL, returns NULL */
/* Begins what can begin. */
void wiper_run(struct wiper *wiper);
/* Whether some wait, and not for a tier that is silent. */
bool wiper_waits(const struct wiper *wiper);
/* A silent tier does not answer what is in flight; or it answers again. */
void wiper_hold(struct wiper *wiper, struct tier *tier, bool hold);
void wiper_stop(struct wiper *wiper);
