/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme_depth: how many I/Os of the NVMe tier may be in flight, or how many times as much as the
 * largest of them. A fixed number; or one that follows the disk, by trying: the least with
 * which it is about as fast as with more, since what has been issued cannot be passed by what
 * is urgent.
 *
 * Time is cut into periods. Four of them are a round: with the present depth, twice with
 * another, and with the present one again, so that a disk that gets slower or faster
 * meanwhile favours neither. The other is a quarter more or less, and one at least.
 *
 * 	more	is taken if it moved a fiftieth more bytes in the same time
 * 	less	is taken unless it moved a fiftieth less
 *
 * After a change the same direction is tried again, else the opposite one; at either end
 * there is only one.
 *
 * A period has lasted long enough when eight I/Os for each of its depth have ended, and 10
 * ms have passed. Only I/Os that were begun in it count. While there is less to do than the
 * depth allows, a period says nothing: it begins again.
 *
 * It reads no clock: who calls tells the time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct nvme_depth {
	unsigned now; /* so many may be in flight */
	/* the rest is its own */
	unsigned present; /* the depth that another is compared with */
	unsigned most;    /* 0: it is fixed */
	bool more;        /* what is tried, or was last */
	unsigned period;  /* of the round, from 0 */
	unsigned before;  /* I/Os in flight that were begun before the period */
	unsigned ios;     /* that have ended in it */
	uint64_t bytes;   /* of them */
	uint64_t begun_ns;
	uint64_t moved[2], took_ns[2]; /* in the round; [with the other depth] */
};

/* It stays the first; or is found by trying, from 1 to `most`. */
void nvme_depth_open_fixed(struct nvme_depth *depth, unsigned first);
void nvme_depth_open(struct nvme_depth *depth, unsigned first, unsigned most);
/* An I/O has ended, after which so many are in flight still: I/Os, of whatever size. */
void nvme_depth_ended(struct nvme_depth *depth, uint64_t bytes, unsigned in_flight,
		      uint64_t now_ns);
/* Something else than the depth is why no more are in flight. */
void nvme_depth_unused(struct nvme_depth *depth, unsigned in_flight, uint64_t now_ns);
