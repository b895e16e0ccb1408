/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme: the file or block device behind the NVMe tier: checked, locked, sized, formatted. The tier's `size` bytes come
 * first, then one 4 KiB label that says whose it is; a file is exactly that long. Nothing is ever written to a file or
 * device that is neither empty nor labelled ours.
 *
 * A new file is allocated at once, so that a full disk is found at the start, and then filled with zeros in the
 * background: a file system makes the first write to unwritten extents cost twice. What has been filled is in service.
 * A label that says "formatted" spares all that the next time. A block device needs no filling.
 *
 * One daemon at a time: an exclusive flock for as long as it is open. Contents are not kept over a restart yet: every
 * start begins with an empty tier.
 */
#pragma once

#include "daemon/cache.h"
#include "daemon/loop.h"

struct config;
struct nvme;

/* Opens config->nvme_path and sets up cache's NVMe tier; progress() is called on the loop thread as it grows. Negative
 * errno and one line in error. */
int nvme_open(struct nvme **out, const struct config *config, struct cache *cache, struct loop *loop,
	      void (*progress)(void *arg), void *arg, char *error, size_t error_size);
/* Ends a formatting that is under way. A completion of it may still be with the loop, which must not run any more. */
struct nvme *nvme_close(struct nvme *nvme);
int nvme_fd(const struct nvme *nvme);
unsigned nvme_percent(const struct nvme *nvme); /* formatted */
