/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme_io_rig: reads and writes of an NVMe tier on a file of its own, with the loop of either
 * engine: operations that are submitted, and a run until each has ended, once.
 */
#pragma once

#include "daemon/loop/loop.h"
#include "daemon/tier/nvme_io.h"
#include "tests/support/leaks.h"

#define NVME_IO_BLOCK 4096ull
enum {
	NVME_IO_BLOCKS = 256,
	NVME_IO_OPS = 4096,   /* at most, of a run */
	NVME_IO_DEPTH_MAX = 6 /* with a depth of 0 */
};

struct nvme_io_work {
	struct nvme_op op;
	struct nvme_io_rig *rig;
	unsigned over; /* how often done() was called */
	unsigned turn; /* as which it ended */
};

struct nvme_io_rig {
	struct leaks leaks;
	struct loop *loop;
	struct link_stats *link_stats;
	struct nvme_io *nvme_io;
	int fd;
	struct timer watchdog;
	struct nvme_io_work works[NVME_IO_OPS];
	unsigned used, ended;
	char *memory; /* a block for each work */
};

struct nvme_io_rig *nvme_io_rig_new(enum loop_engine engine);
/* What lies before the tier's first byte is to be as it was. */
void nvme_io_rig_free(struct nvme_io_rig *rig);
/* A tier on the file; a new one on the same file. */
void nvme_io_rig_open(struct nvme_io_rig *rig, unsigned depth, uint64_t merge, const char *fault);
void nvme_io_rig_reopen(struct nvme_io_rig *rig, unsigned depth, uint64_t merge, const char *fault);

struct nvme_io_work *nvme_io_rig_submit_for(struct nvme_io_rig *rig, uint64_t payer, bool write,
					    uint64_t block, uint64_t blocks, bool urgent);
struct nvme_io_work *nvme_io_rig_submit(struct nvme_io_rig *rig, bool write, uint64_t block,
					uint64_t blocks, bool urgent);
/* Until all that was submitted has ended. */
void nvme_io_rig_run(struct nvme_io_rig *rig);
/* The next run begins anew. */
void nvme_io_rig_forget(struct nvme_io_rig *rig);

/* The bytes of a block that was written so often. */
void nvme_io_rig_fill(char *memory, uint64_t block, unsigned version);
void nvme_io_rig_assert_block(const char *memory, uint64_t block, unsigned version);
/* Writes all blocks, in ascending order. */
void nvme_io_rig_write_all(struct nvme_io_rig *rig, unsigned version);
/* I/Os of a link that were counted so far, and its intervals that are kept. */
uint64_t nvme_io_rig_ios(struct nvme_io_rig *rig, enum hbm_link link, uint64_t *intervals);

/* A check with the threads, then with io_uring where that may be used. */
void nvme_io_rig_for_both(void (*check)(enum loop_engine engine));
