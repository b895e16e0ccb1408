/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbm_memory: the device memory behind an HBM tier. A device makes some thousands of MiB in a
 * second, so the device's control thread does it in the background, a slab at a time, in turn
 * with what clients ask of it. The tier grows slab by slab, and the daemon serves meanwhile.
 *
 * Where the device has less than it should, the tier stays at the size that it has by then.
 *
 * What a daemon before this one has left there (hbm_kept.h) is mapped where it was, in its turn.
 *
 * It becomes larger and smaller later in the same way, at its end: addresses are reserved for as
 * much as it may ever have. It shrinks by whole slabs, which must be away from the tier
 * (tier_resize.h).
 */
#pragma once

#include "daemon/device/device.h"
#include "daemon/tier/hbm_kept.h"
#include "daemon/tier/tier.h"

struct hbm_memory;

struct hbm_memory_options {
	struct tier *tier; /* initialized */
	struct device *device;
	struct loop *loop;
	uint64_t bytes;             /* a multiple of the device's granularity, not 0 */
	uint64_t most;              /* the same: what it may have later */
	uint64_t slab;              /* the granularity times a power of two */
	struct hbm_kept_place kept; /* where the memory outlives the daemon */
	/* Called on the loop thread for each slab, and when no more will come. */
	void (*progress)(void *arg);
	void *arg;
};

/* Reserves the addresses and begins to make the memory. Returns a CUresult. */
CUresult hbm_memory_open(struct hbm_memory **out, const struct hbm_memory_options *options);
/* No more is made, and nothing is said of what failed. Accepts NULL. */
void hbm_memory_stop(struct hbm_memory *hbm);
/* No copy may be in flight. For the time after loop_run(). Accepts NULL, returns NULL. */
struct hbm_memory *hbm_memory_close(struct hbm_memory *hbm);
/* Whether the tier is as large as it will be. */
bool hbm_memory_settled(const struct hbm_memory *hbm);
/* Bytes per second of copies to it; 0: not known, or not yet. */
double hbm_memory_rate(const struct hbm_memory *hbm);

/* By which it is known to the next daemon; 0: it is not. */
uint32_t hbm_memory_number(const struct hbm_memory *hbm);
/* Bytes from the start that have what the daemon before has left there, or will have: fewer, where
 * it turns out that they cannot be mapped, and then progress() is called before any others take
 * their place. */
uint64_t hbm_memory_of_before(const struct hbm_memory *hbm);

/* Bytes that it has or is to have. */
uint64_t hbm_memory_bytes(const struct hbm_memory *hbm);
/* What it can still grow by. */
uint64_t hbm_memory_room(const struct hbm_memory *hbm);
/* Adds so many bytes, a multiple of the granularity, as at the start. When settled. Where memory is
 * missing, it has fewer afterwards, and hbm_memory_bytes() says so. */
void hbm_memory_grow(struct hbm_memory *hbm, uint64_t bytes);
/* Gives slabs at the end that are away back to the device; given_back(arg, bytes) once, maybe from
 * within. When settled. What the device does not unmap stays. */
void hbm_memory_give_back(struct hbm_memory *hbm, void (*given_back)(void *arg, uint64_t bytes),
			  void *arg);
