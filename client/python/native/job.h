/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job: a store or load of memory that is in no region. libhbm does it (hbm_submit_store_from()) but
 * for fences, and where the daemon has no host memory for regions but the device is a soft one:
 * then it is copied to landings of the connection, regions of their own, and from there, a piece of
 * the blocks at a time. It goes on whenever replies are handled.
 */
#pragma once

#include "client/python/native/native.h"

struct core;
struct landing;
struct op;

struct job_options {
	bool store;
	uint32_t ns;
	uint64_t block_bytes;
	struct hbm_block
		*blocks; /* their segments are filled in here; owned by the job from now on */
	unsigned char **memory; /* of each block; owned by the job */
	struct hbm_sync sync;
};

struct job;

/* NULL: MemoryError is set, and nothing was taken over. */
struct job *job_new(const struct job_options *options);
struct job *job_free(struct job *job);
/* Begins the op's job, or lets libhbm do it: then the op has none any more. Under the lock. */
int job_begin(struct core *core, struct op *op);
/* Goes on with the op's job; under the lock. -EAGAIN: it has not ended; else its status. */
int job_go(struct core *core, struct op *op);
/* Of the piece that is in flight, or 0. */
hbm_ticket job_ticket(const struct job *job);
/* Frees those of a connection that is closed now, and their regions with it. Returns NULL. */
struct landing *landing_free(struct landing *landing);
