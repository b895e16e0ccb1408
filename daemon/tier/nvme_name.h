/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme_name: notices that the path of the NVMe tier no longer names the file that is open:
 * it was deleted, renamed, or another one put in its place. The tier goes on in the open
 * file, whose space is free only when the daemon ends; the log says so once, and once when
 * the path names it again. It looks from time to time, on a thread of its own, because a
 * file system may be slow to answer.
 */
#pragma once

#include "daemon/loop/loop.h"

struct nvme_name;

/* fd and path are borrowed. Negative errno. */
int nvme_name_new(struct nvme_name **out, struct loop *loop, int fd, const char *path,
		  uint64_t interval_ns);
struct nvme_name *nvme_name_free(struct nvme_name *name);
bool nvme_name_is_gone(const struct nvme_name *name); /* accepts NULL */
