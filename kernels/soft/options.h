/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options: the number, size and speed of soft devices. They come from the caller, else the
 * environment, else the defaults. Only the environment sets the others, and it does so even if
 * the caller gives options: tests use them for daemon and clients alike.
 */
#pragma once

#include "kernels/soft/calls.h"
#include "kernels/soft/soft.h"

#include <stdbool.h>
#include <stdint.h>

#define SOFT_DEVICES_MAX 16u
#define SOFT_GRANULARITY (2u << 20) /* of device memory */
#define SOFT_PATH_MAX 192u
#define SOFT_MEMORY_DEFAULT (1ull << 30)

struct options {
	uint32_t devices;
	uint64_t memory;             /* bytes per device, a multiple of the granularity */
	double d2h_gib_s, h2d_gib_s; /* 0: no limit */
	double latency_us;
	uint64_t at_once;         /* bytes that a call copies itself */
	bool litter;              /* litter.h */
	char card[SOFT_PATH_MAX]; /* a shared one, card.h; "": none */
	uint64_t inherited;       /* the same; the caller's. 0: none */
	uint64_t context_bytes;   /* of memory, for each context */
	double slice_us;          /* sm.h */
	double call_us;           /* that each call to a stream holds its context's lock */
	uint64_t dirt;            /* each word of new memory; 0: it is clear */
	bool unmap_waits;         /* unmapping and granting access wait for streams */
	char hold[SOFT_PATH_MAX]; /* hold.h; "": none */
	/* delay of each call of an entry point; for cuInit, of a process's first call */
	uint32_t slow_us[CALLS];
};

/* Applies `given` or the environment (HBM_SOFT) to the defaults. 0 or -EINVAL. */
int options_resolve(struct options *out, const struct driver_soft_options *given);
