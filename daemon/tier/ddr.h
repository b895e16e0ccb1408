/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ddr: the daemon's host memory, one memfd mapped once: first the staging buffer, then
 * the DDR tier's headroom and capacity. Touching pages and registering them with the
 * devices takes seconds per GiB, so a few workers do it in the background, in chunks.
 * Each chunk becomes usable when it is ready. The daemon serves meanwhile. A tier that is
 * resized later gets chunks and gives chunks back in the same way: ddr_resize.h.
 *
 * Chunks (ddr.chunk) are at most 1 GiB, because a driver that pins memory holds locks that stop other
 * processes. A device copy never crosses from one registration into the next
 * (copy_queue.c splits it).
 */
#pragma once

#include "daemon/device/device.h"
#include "daemon/tier/tier.h"

struct config;
struct ddr;

/*
 * Creates the mapping, sets up the two tiers in it, and starts the workers. `kept` is the memory
 * of the daemon before (ddr_memfd.h), or -1; the descriptor is consumed. progress() is
 * called on the loop thread for each chunk, usable or failed. Returns negative errno and
 * one line in error.
 */
int ddr_open(struct ddr **out, const struct config *config, int kept, struct tier *staging,
	     struct tier *ddr, struct devices *devices, struct loop *loop,
	     void (*progress)(void *arg), void *arg, char *error, size_t error_size);
int ddr_fd(const struct ddr *ddr); /* of the memory; stays its own */
/* Whether the memory is that of the daemon before, with what was in it. */
bool ddr_is_adopted(const struct ddr *ddr);
/* Stops the workers, unregisters, unmaps. No copy may be in flight. The loop may still
 * hold completions of the workers, so it must not run afterwards. */
struct ddr *ddr_close(struct ddr *ddr);
bool ddr_warm(const struct ddr *ddr); /* whether every chunk is usable or has failed */
/* Whether part of the staging buffer failed: nothing can pass between NVMe and
 * devices. */
bool ddr_broken(const struct ddr *ddr);
const char *ddr_base(const struct ddr *ddr);
uint64_t ddr_bytes(const struct ddr *ddr); /* of its memory now, staging and headroom included */
