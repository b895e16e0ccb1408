/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme_watch: watches the I/Os of the NVMe tier that the kernel has and that have not been
 * answered. A disk that hangs fails nothing: the only sign is an I/O that stays.
 *
 *             an I/O is not answered for timeout_ns
 * 	ANSWERS --------------------------------------> SILENT
 * 	   ^                                               |
 * 	   +-----------------------------------------------+
 *             every I/O that was overdue is answered
 *
 * changed() is called at both; both are one line of the log. late() is called from time to
 * time while the oldest I/O is older than late_ns, so that what waits for the disk
 * can look how long. A timer of the loop does all of it; no thread blocks.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/loop/loop.h"

struct nvme_watch_options {
	struct loop *loop;
	uint64_t timeout_ns; /* 0: never */
	uint64_t late_ns;    /* 0: never */
	/* Called from the timer, or from nvme_watch_end(). */
	void (*changed)(void *arg, bool silent);
	void (*late)(void *arg);
	void *arg;
};

struct nvme_watch {
	struct nvme_watch_options options;
	struct timer timer;
	struct list outstanding; /* oldest first */
	bool silent;
	uint64_t silent_since_ns;
	uint64_t hangs; /* how often it became silent */
};

/* An I/O that the kernel has. */
struct nvme_watched {
	struct list link;
	uint64_t since_ns;
	bool write;
};

void nvme_watch_open(struct nvme_watch *watch, const struct nvme_watch_options *options);
void nvme_watch_close(struct nvme_watch *watch); /* nothing may be outstanding */
void nvme_watch_begin(struct nvme_watch *watch, struct nvme_watched *watched);
void nvme_watch_end(struct nvme_watch *watch, struct nvme_watched *watched);
