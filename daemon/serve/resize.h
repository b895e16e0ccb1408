/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resize: tiers that become larger or smaller while the daemon serves.
 *
 * 	          lacks extents                  has them, or gets no more
 * 	 begin -----------------> GROWING ---------------------+
 * 	   |                                                   v
 * 	   | what is retired is sorted, what the policy    SETTLING
 * 	   +-- keeps no longer is evicted ---------------->    |  no more than fits
 * 	                                                       v
 * 	 end <---- GIVING BACK <------------------------- VACATING
 * 	            the kernel, or the device,   what is retired is away
 * 	            takes the memory
 *
 * A new size is the policy's from the beginning: a smaller one is never exceeded afterwards but by
 * what is on its way out, and a larger one is used piece by piece as its memory comes into service.
 * Blocks that are kept move within the tier (vacate.h), those that are not go down the cascade.
 *
 * What is refused changes nothing: a size that the pinned blocks do not fit into, or for which there
 * is no memory, by what can be known before. Where memory turns out to be missing, the tier gets
 * its old size back, and the request is refused then. So it is where a disk does not answer for
 * nvme.timeout_ms, but that what goes is gone: the tier keeps its new size.
 *
 * Another request for the same tier takes the place of the one that goes on, which is answered with
 * HBM_CANCELLED. A size lasts until the daemon restarts; then it is the configuration's.
 *
 * What is of each kind of tier, its memory, is behind resize_backing.h.
 */
#pragma once

#include "daemon/serve/hbmd.h"
#include "daemon/tier/tier.h"

struct reason;
struct request;
struct resizes;

int resizes_open(struct hbmd *hbmd); /* -ENOMEM; sets hbmd->resizes */
/* The daemon stops: no resize goes on, and a client that waits for one is refused. Before the mover is
 * freed, and before sessions are. */
void resizes_stop(struct hbmd *hbmd);
void resizes_close(struct hbmd *hbmd); /* after the memory of the tiers */

/* Begins a resize for someone who is told of its end: done(arg, HBM_OK, ""), or a status and one
 * line; or NULL: no one. Refuses at once with a status and a reason, and nothing has changed. */
int resize_begin(struct hbmd *hbmd, struct tier *tier, uint64_t bytes,
		 void (*done)(void *arg, int status, const char *why), void *arg,
		 const struct reason *why);
/* Whether a tier is being resized; and the bytes in the part that goes that are in use. */
bool resize_is_on(const struct hbmd *hbmd, const struct tier *tier);
uint64_t resize_leaving(const struct tier *tier);

/* Whether the last one has failed, so that the tier has the size of before. */
bool resize_was_undone(const struct hbmd *hbmd, const struct tier *tier);

/* The handler of RESIZE. */
void serve_resize(struct hbmd *hbmd, struct request *request);
