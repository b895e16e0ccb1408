/* SPDX-License-Identifier: Apache-2.0 */
/*
 * idle_checksums: gives the blocks in DDR and HBM their checksums while nothing moves. A
 * block gets one on its way to NVMe at the latest (hbmd.checksum = nvme); one that has it
 * before needs none then, and what lies in memory can be verified. Those in HBM are read through a
 * staging buffer.
 *
 * Where what is in memory outlives the daemon (restoration.h) a block without a checksum would not:
 * there each gets one soon after it has come, one block at a time and behind what is urgent,
 * whether it is quiet or not. Of more than IDLE_CHECKSUMS_FRESH that wait the others wait for quiet.
 *
 * When no block has come to memory for the quiet time, and nothing moves, it walks the table of
 * blocks, in the background of the loop, and has the hash pool compute one at a
 * time. It keeps nothing where it is: a block may move, be dropped and be replaced while its
 * old place is read, and the result is then forgotten.
 */
#pragma once

#include "daemon/move/mover.h"
#include "daemon/tier/hash_pool.h"

#define IDLE_CHECKSUMS_FRESH 4096u

/* Open to its test. */
struct idle_checksums {
	struct mover *mover;
	uint64_t quiet_ns;
	struct block_listener listener;
	struct timer quiet;
	struct background walk;
	struct hash_job job;                  /* of one in host memory; and of one that is not: */
	struct transfer transfer;             /* while it is read the block is in use */
	uint32_t fresh[IDLE_CHECKSUMS_FRESH]; /* numbers of blocks that have come, a ring */
	uint32_t fresh_first, fresh_count;
	bool soon;          /* blocks get theirs as they come */
	uint64_t placed_ns; /* when a block last came to memory */
	uint32_t next;      /* the number to look at; 0: the walk has not begun */
	uint32_t block;     /* whose checksum is being computed, or 0 */
	bool moved;         /* that block has left its place, and may be another by now */
	bool stopped;       /* the mover may be gone */
	bool came;          /* a block came to memory after the walk began */
};

/* -ENOMEM. */
int idle_checksums_new(struct idle_checksums **out, struct mover *mover, uint64_t quiet_ns);
/* From now on blocks get theirs as they come. */
void idle_checksums_hurry(struct idle_checksums *idle);
/* Begins no more: before the mover is freed. Accepts NULL; a second time it does nothing. */
void idle_checksums_stop(struct idle_checksums *idle);
/* After the hash pool is freed, which ends what it has begun. Accepts NULL, returns NULL. */
struct idle_checksums *idle_checksums_free(struct idle_checksums *idle);
