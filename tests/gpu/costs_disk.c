/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the disk does alone: a file that was written once, then written again and read,
 * with so many blocks in flight by io_uring, past the page cache. What the NVMe tier is
 * put beside.
 */
#include "tests/gpu/costs.h"

#include "tests/gpu/record.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH 16
#define BLOCK (2 * MIB)
#define PASS_S 10.0 /* a slow disk is measured with fewer blocks */

struct disk {
	struct io_uring ring;
	int file;
	char *buffers;   /* DEPTH blocks */
	uint64_t blocks; /* so many at most */
};

static void disk_queue(struct disk *disk, bool write, uint64_t block, unsigned slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&disk->ring);
	char *buffer = disk->buffers + slot * BLOCK;

	if (write)
		io_uring_prep_write(sqe, disk->file, buffer, BLOCK, block * BLOCK);
	else
		io_uring_prep_read(sqe, disk->file, buffer, BLOCK, block * BLOCK);

	io_uring_sqe_set_data64(sqe, slot);
}

/* Waits for what is in flight: the buffers are the kernel's until then. */
static void disk_drain(struct disk *disk, uint64_t in_flight)
{
	struct io_uring_cqe *cqe;

	for (; in_flight > 0 && io_uring_wait_cqe(&disk->ring, &cqe) == 0; in_flight--)
		io_uring_cqe_seen(&disk->ring, cqe);
}

/* GB a second; negative errno. Of no more blocks from then on than there was time for. */
static double disk_pass(struct disk *disk, bool write)
{
	uint64_t queued = 0, done = 0;
	double began = clock_s();

	while (queued < DEPTH && queued < disk->blocks) {
		disk_queue(disk, write, queued, (unsigned)queued);
		queued++;
	}

	for (; done < queued; done++) {
		struct io_uring_cqe *cqe;

		if (io_uring_submit_and_wait(&disk->ring, 1) < 0 ||
		    io_uring_wait_cqe(&disk->ring, &cqe) < 0)
			return -EIO;

		int result = cqe->res;
		unsigned slot = (unsigned)io_uring_cqe_get_data64(cqe);
		io_uring_cqe_seen(&disk->ring, cqe);

		if (result != (int)BLOCK) {
			disk_drain(disk, queued - done - 1);
			return result < 0 ? result : -EIO;
		}

		if (queued < disk->blocks && clock_s() - began < PASS_S)
			disk_queue(disk, write, queued++, slot);
	}

	disk->blocks = done;

	return (double)(done * BLOCK) / (clock_s() - began) / 1e9;
}

static void disk_report(const char *name, double rate, uint64_t bytes)
{
	if (rate > 0)
		record_number(name, rate, "GB/s", "%s, 16 blocks of 2 MiB in flight",
			      size_text(bytes));
	else
		record(name, OUTCOME_FAIL, "%s", strerror((int)-rate));
}

static void disk_measure(struct disk *disk)
{
	double first = disk_pass(disk, true);

	if (first < 0) {
		disk_report("disk alone", first, 0);
		return;
	}

	double again = disk_pass(disk, true);
	disk_report("disk alone, write", again, disk->blocks * BLOCK);
	double back = disk_pass(disk, false);
	disk_report("disk alone, read", back, disk->blocks * BLOCK);
}

/* False: there is no such file, ring or memory; the reason is recorded. */
static bool disk_open(struct disk *disk, const char *folder)
{
	char path[4096];
	int result;

	snprintf(path, sizeof(path), "%s/gpu_disk", folder);
	disk->file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0600);
	if (disk->file < 0) {
		record("disk alone", OUTCOME_UNSUPPORTED, "%s: %s", path, strerror(errno));
		return false;
	}

	unlink(path);
	result = io_uring_queue_init(DEPTH, &disk->ring, 0);
	disk->buffers = result < 0 ? NULL : aligned_alloc(2 * MIB, DEPTH * BLOCK);
	if (disk->buffers) {
		memset(disk->buffers, 0x3c, DEPTH * BLOCK);
		return true;
	}

	if (result == 0)
		io_uring_queue_exit(&disk->ring);

	record("disk alone", OUTCOME_UNSUPPORTED, "no io_uring: %s",
	       strerror(result < 0 ? -result : ENOMEM));
	close(disk->file);

	return false;
}

void costs_disk(const struct limits *limits)
{
	uint64_t bytes = limits->quick ? 128 * MIB : GIB;
	struct disk disk = {.file = -1};

	if (bytes > limits->disk)
		bytes = limits->disk;

	disk.blocks = bytes / BLOCK;
	if (disk.blocks == 0 || !disk_open(&disk, limits->folder))
		return;

	disk_measure(&disk);
	io_uring_queue_exit(&disk.ring);
	free(disk.buffers);
	close(disk.file);
}
