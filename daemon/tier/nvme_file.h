/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme_file: the file or block device behind the NVMe tier: validated, locked, sized,
 * formatted. It starts with a head, whose first 4 KiB are a label with the owner, and
 * then come the tier's `size` bytes; a file is exactly that long. The daemon never writes
 * to a file or device that is neither empty nor labelled as ours. The label occupies the
 * sectors that mkfs and fdisk overwrite, so reformatting a device releases our claim.
 *
 * A new file is allocated at once, so that a full disk is found at the start. Where the
 * file system cannot allocate, its reported free space decides. The file is then filled
 * with zeros in the background, because a file system makes the first write to unwritten
 * extents cost twice. Bytes that have been filled are usable. The label says when a file
 * is formatted, and the next start skips the filling. A block device needs no filling.
 *
 * One daemon at a time: an exclusive flock for as long as it is open, and for a device
 * the kernel's claim that keeps it from being mounted. Contents are not kept over a
 * restart yet: every start begins with an empty tier.
 */
#pragma once

#include "daemon/loop/loop.h"
#include "daemon/tier/tier.h"

struct config;
struct nvme_file;

/* bytes before the tier's first: keeps large I/O aligned to the device's internal
 * blocks */
#define NVME_HEAD (1ull << 20)

/* Opens config->nvme_path and sets up the tier. progress() is called on the loop thread
 * as the tier grows. Returns negative errno and one line in error. */
int nvme_file_open(struct nvme_file **out, const struct config *config, struct tier *tier,
		   struct loop *loop, void (*progress)(void *arg), void *arg, char *error,
		   size_t error_size);
/* Whether an nvme_file_open() of a path that exists would be refused, apart from being in
 * use: the same errors. Changes nothing there. */
int nvme_file_check(const struct config *config, char *error, size_t error_size);
/* Ends a formatting in progress. The loop may still have a completion of it, so it must
 * not run afterwards. */
struct nvme_file *nvme_file_close(struct nvme_file *nvme);
int nvme_file_fd(const struct nvme_file *nvme);
/* Bytes per second that a read of the file reached at startup, before its first bytes
 * became usable; 0: unknown. */
double nvme_file_read_rate(const struct nvme_file *nvme);
unsigned nvme_file_percent(const struct nvme_file *nvme); /* how much is formatted */
bool nvme_file_settled(
	const struct nvme_file *nvme); /* all of it is usable, or the rest never will be */
