/* SPDX-License-Identifier: Apache-2.0 */
/* nvme_faults: reads and writes that fail on purpose, for tests: nvme.fail. */
#pragma once

#include "daemon/base/reason.h"

#include <stdbool.h>
#include <stdint.h>

enum { NVME_FAULTS_MAX = 16 };

struct nvme_faults {
	struct nvme_fault {
		bool write;
		uint64_t nth;
		int error; /* negative errno, or 0 for a short I/O */
	} list[NVME_FAULTS_MAX];
	unsigned count;
	uint64_t reads, writes; /* since start */
};

/* Reads "read:N:EIO,write:N:short": what happens to the N-th read or write; "": nothing.
 * 0, -ENOMEM, or -EINVAL and a line in reason. */
int nvme_faults_parse(struct nvme_faults *faults, const char *text, const struct reason *reason);
/* Counts an I/O and returns what its result is to be. */
int64_t nvme_faults_apply(struct nvme_faults *faults, bool write, int64_t result);
