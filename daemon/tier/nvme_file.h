/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme: the file or block device behind the NVMe tier: checked, locked, sized, formatted.
 * It begins with a head, whose first 4 KiB say whose it is, and then come the tier's
 * `size` bytes; a file is exactly that long. Nothing is ever written to a file or device
 * that is neither empty nor labelled ours. The label lies where whoever puts a file
 * system or a partition table on a device writes too: then it is not ours any more.
 *
 * A new file is allocated at once, so that a full disk is found at the start (where the
 * file system cannot allocate, by the room it says it has), and then filled with zeros in
 * the background: a file system makes the first write to unwritten extents cost twice.
 * What has been filled is in service. A label that says "formatted" spares all that the
 * next time. A block device needs no filling.
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

/* bytes before the tier's first: large I/O stays aligned to what devices are made of */
#define NVME_HEAD (1ull << 20)

/* Opens config->nvme_path and sets up the tier; progress() is called on the loop thread
 * as it grows. Negative errno and one line in error. */
int nvme_file_open(struct nvme_file **out, const struct config *config, struct tier *tier,
		   struct loop *loop, void (*progress)(void *arg), void *arg, char *error,
		   size_t error_size);
/* Whether an nvme_file_open() of a path that exists would be refused, but for being in use:
 * the same errors. Changes nothing there. */
int nvme_file_check(const struct config *config, char *error, size_t error_size);
/* Ends a formatting that is under way. A completion of it may still be with the loop,
 * which must not run any more. */
struct nvme_file *nvme_file_close(struct nvme_file *nvme);
int nvme_file_fd(const struct nvme_file *nvme);
unsigned nvme_file_percent(const struct nvme_file *nvme); /* formatted */
bool nvme_file_settled(
	const struct nvme_file *nvme); /* all of it is in service, or all that ever will be */
