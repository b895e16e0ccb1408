/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme_flight: what is in flight of the NVMe tier, and how much may be: I/Os (the depth), and
 * bytes (the window), beyond which no I/O is begun. What has been issued cannot be passed:
 * it is at most the window and one I/O.
 *
 * With a fixed depth the window is four times the largest I/O, and 8 MiB at least. Else both
 * follow the disk (nvme_depth.h). The one that keeps more from being begun is the one that is
 * tried: the depth while I/Os are small, the window while they are large.
 */
#pragma once

#include "daemon/tier/nvme_depth.h"

#define NVME_FLIGHT_DEPTH 16u      /* at first, or the most there may be */
#define NVME_FLIGHT_WINDOW 4u      /* at first, and with a fixed depth; in units of */
#define NVME_FLIGHT_WINDOW_MAX 16u /* the largest I/O, or this if it is smaller: */
#define NVME_FLIGHT_UNIT (2ull << 20)

struct nvme_flight {
	unsigned ios;
	uint64_t bytes;
	/* the rest is its own */
	struct nvme_depth depth, window;
	uint64_t unit;
};

/* depth: fixed; 0: found by trying, from 1 to depth_max. */
void nvme_flight_open(struct nvme_flight *flight, unsigned depth, unsigned depth_max,
		      uint64_t largest);
unsigned nvme_flight_depth(const struct nvme_flight *flight);
uint64_t nvme_flight_window(const struct nvme_flight *flight);
bool nvme_flight_has_room(const struct nvme_flight *flight);
void nvme_flight_begin(struct nvme_flight *flight, uint64_t bytes);
/* An I/O goes on with fewer bytes. */
void nvme_flight_shorten(struct nvme_flight *flight, uint64_t bytes);
/* One has ended; `moved` of its bytes were. */
void nvme_flight_end(struct nvme_flight *flight, uint64_t bytes, uint64_t moved, uint64_t now_ns);
/* All has been begun that may be. */
void nvme_flight_look(struct nvme_flight *flight, uint64_t now_ns);
