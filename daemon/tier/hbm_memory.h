/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbm_memory: the device memory behind an HBM tier. A device makes some thousands of MiB in a
 * second, so the device's control thread does it in the background, a slab at a time, in turn
 * with what clients ask of it. The tier grows slab by slab, and the daemon serves meanwhile.
 *
 * Where the device has less than it should, the tier stays at the size that it has by then.
 */
#pragma once

#include "daemon/device/device.h"
#include "daemon/tier/tier.h"

struct hbm_memory;

/* Reserves the addresses of a tier that has been initialized and begins to make its memory:
 * bytes and slab as for device_memory_reserve(), bytes not 0. progress() is called on the loop
 * thread for each slab, and when no more will come. Returns a CUresult. */
CUresult hbm_memory_open(struct hbm_memory **out, struct tier *tier, struct device *device,
			 struct loop *loop, uint64_t bytes, uint64_t slab,
			 void (*progress)(void *arg), void *arg);
/* No more is made, and nothing is said of what failed. Accepts NULL. */
void hbm_memory_stop(struct hbm_memory *hbm);
/* No copy may be in flight. For the time after loop_run(). Accepts NULL, returns NULL. */
struct hbm_memory *hbm_memory_close(struct hbm_memory *hbm);
/* Whether the tier is as large as it will be. */
bool hbm_memory_settled(const struct hbm_memory *hbm);
/* Bytes per second of copies to it; 0: not known, or not yet. */
double hbm_memory_rate(const struct hbm_memory *hbm);
