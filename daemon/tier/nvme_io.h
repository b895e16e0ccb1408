/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk: reads and writes of the NVMe tier. Operations of one block each are queued;
 * nvme_io_dispatch() turns what is queued into as few and as large I/Os as it can,
 * joining operations that are neighbours on the disk, and keeps `depth` of them under
 * way. Operations someone waits for go before those nobody does, except that every eighth
 * I/O goes to the others.
 *
 * One function (disk.c, io_done) knows what may become of an I/O: complete, short,
 * interrupted, failed. An I/O of several operations that fails is taken apart and each
 * operation tried alone, so that a bad sector costs the block it is under and no other.
 * Block I/O cannot be cancelled: memory belongs to the disk until done().
 */
#pragma once

#include "daemon/base/link_stats.h"
#include "daemon/loop/loop.h"

struct nvme_io;

struct nvme_op {
	bool write;
	uint64_t offset, bytes; /* multiples of 4 KiB */
	char *memory;           /* aligned to 4 KiB */
	int error;              /* 0 or negative errno */
	void (*done)(struct nvme_op *op);
	struct nvme_op *next; /* the disk's */
};

struct nvme_io_options {
	struct loop *loop;
	struct link_stats *link_stats;
	int fd;         /* borrowed; O_DIRECT where the file system has it */
	uint64_t start; /* where in it offset 0 lies; a multiple of 4 KiB */
	unsigned depth;
	uint64_t merge; /* bytes of the largest joined I/O */
	/* "read:N:EIO", "write:N:short", comma-separated: what to do to the N-th I/O;
	 * "" for none */
	const char *fail;
};

int nvme_io_new(struct nvme_io **out,
		const struct nvme_io_options *options); /* -EINVAL: fail cannot be parsed */
struct nvme_io *nvme_io_free(struct nvme_io *nvme_io);  /* nothing may be under way */
/* What to call after the done() calls of one I/O. */
void nvme_io_on_batch(struct nvme_io *nvme_io, void (*batch_done)(void *arg), void *arg);
void nvme_io_submit(struct nvme_io *nvme_io, struct nvme_op *op, bool urgent);
void nvme_io_dispatch(struct nvme_io *nvme_io);
