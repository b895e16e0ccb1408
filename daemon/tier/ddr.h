/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host: the daemon's host memory, one memfd mapped once: first the staging area, then the
 * DDR tier's reserve and capacity. Touching pages and registering them with the devices
 * takes seconds per GiB, so it is done in the background by a few workers, in chunks, and
 * each chunk enters service when it is ready. The daemon serves meanwhile.
 *
 * Chunks are at most 1 GiB, because a driver holds locks that stop other processes while
 * it pins; a device copy never crosses from one registration into the next (copy_queue.c
 * cuts it).
 */
#pragma once

#include "daemon/device/device.h"
#include "daemon/tier/tier.h"

struct config;
struct ddr;

/* bytes per registration, counted from the base: the first is in service soon */
#define DDR_CHUNK (256ull << 20)

/*
 * Makes the mapping, sets up the two tiers in it, and starts the workers. progress() is
 * called on the loop thread for each chunk, in service or failed. Negative errno and one
 * line in error.
 */
int ddr_open(struct ddr **out, const struct config *config, struct tier *staging, struct tier *ddr,
	     struct devices *devices, struct loop *loop, void (*progress)(void *arg), void *arg,
	     char *error, size_t error_size);
/* Stops the workers, unregisters, unmaps. Nothing may be copying. Completions of the
 * workers may still be with the loop, which must not run any more. */
struct ddr *ddr_close(struct ddr *ddr);
bool ddr_warm(const struct ddr *ddr); /* no chunk is still being prepared */
/* The staging area is not whole and will not be: nothing can pass between NVMe and
 * devices. */
bool ddr_broken(const struct ddr *ddr);
const char *ddr_base(const struct ddr *ddr);
