/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme_hold: holds the answers of I/Os back, for tests: of a slow disk, and of one that
 * hangs (nvme_faults.h). Answers that are delayed come one after the other, so that a
 * delay is a bandwidth. An answer that hangs comes when a file of a given name does not
 * exist: a test makes the file before, and releases the disk by removing it.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/loop/loop.h"
#include "daemon/tier/nvme_faults.h"

struct nvme_held {
	struct list link;
	uint64_t due_ns;
	bool hangs;
	void (*answer)(struct nvme_held *held);
};

struct nvme_hold {
	struct loop *loop;
	struct timer timer; /* set while an answer is held */
	struct list held;
	uint64_t last_due_ns;
	char *file;
};

/* -ENOMEM. */
int nvme_hold_open(struct nvme_hold *hold, struct loop *loop, const char *file);
void nvme_hold_close(struct nvme_hold *hold); /* nothing may be held */
/* Calls answer() later if the outcome says so, and returns whether it does. */
bool nvme_hold_back(struct nvme_hold *hold, struct nvme_held *held,
		    const struct nvme_outcome *outcome);
