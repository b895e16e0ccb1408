/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme_io: reads and writes of the NVMe tier. Operations of one block each are queued
 * (nvme_queue.h). nvme_io_dispatch() turns the queue into as few and as large I/Os as it can
 * by joining operations that are neighbours on the disk, and keeps as many in flight as may
 * be (nvme_flight.h). An operation larger than `merge` becomes several I/Os.
 *
 * One function (nvme_io.c, nvme_io_completed) handles every result of an I/O: complete,
 * short, interrupted, failed. If an I/O of several operations fails, each operation is
 * retried alone, so that a bad sector costs only the block on it. Block I/O cannot be
 * cancelled: the memory must stay valid until done().
 *
 * While the disk is silent (nvme_watch.h) nothing more is given to it: what is queued, and
 * what is submitted, fails with -ECANCELED at the next nvme_io_dispatch().
 */
#pragma once

#include "daemon/base/link_stats.h"
#include "daemon/loop/loop.h"
#include "daemon/tier/nvme_faults.h"
#include "daemon/tier/nvme_flight.h"
#include "daemon/tier/nvme_queue.h"
#include "daemon/tier/nvme_watch.h"

struct nvme_io;

struct nvme_io_options {
	struct loop *loop;
	struct link_stats *link_stats;
	int fd;             /* borrowed; O_DIRECT where the file system supports it */
	uint64_t start;     /* the file offset of the tier's offset 0; a multiple of 4 KiB */
	unsigned depth;     /* I/Os in flight; 0: found by trying, */
	unsigned depth_max; /* from 1 to this */
	uint64_t merge;     /* bytes of the largest joined I/O */
	const struct nvme_faults *faults; /* copied; NULL: none */
	const char *hang_file;            /* of nvme_hold.h; copied; NULL: none */
	struct nvme_watch_options watch;  /* without a loop: not watched */
};

int nvme_io_new(struct nvme_io **out, const struct nvme_io_options *options); /* -ENOMEM */
const struct nvme_watch *nvme_io_watch(const struct nvme_io *nvme_io);
/* What is in flight, and may be at present. */
const struct nvme_flight *nvme_io_flight(const struct nvme_io *nvme_io);
struct nvme_io *nvme_io_free(struct nvme_io *nvme_io); /* nothing may be in flight */
/* Sets the function to call after the done() calls of one I/O. */
void nvme_io_on_batch(struct nvme_io *nvme_io, void (*batch_done)(void *arg), void *arg);
void nvme_io_submit(struct nvme_io *nvme_io, struct nvme_op *op, bool urgent);
/* A request waits for it now: what is still queued of it becomes urgent, in that payer's
 * turns. Before done(). */
void nvme_io_hasten(struct nvme_io *nvme_io, struct nvme_op *op, struct fair_payer payer);
void nvme_io_dispatch(struct nvme_io *nvme_io);
