/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme_faults: reads and writes that fail, take long or hang on purpose, for tests:
 * nvme.fail.
 */
#pragma once

#include "daemon/base/reason.h"

#include <stdbool.h>
#include <stdint.h>

enum { NVME_FAULTS_MAX = 16 };

enum nvme_fault_kind {
	NVME_FAULT_ERROR,
	NVME_FAULT_SHORT,
	NVME_FAULT_DELAY,
	NVME_FAULT_HANG,
};

struct nvme_faults {
	struct nvme_fault {
		bool write;
		uint64_t first, last; /* of the I/Os it happens to */
		enum nvme_fault_kind kind;
		int error;         /* negative errno */
		uint64_t delay_ns; /* of each I/O, one after the other */
	} list[NVME_FAULTS_MAX];
	unsigned count;
	uint64_t reads, writes; /* since start */
};

/* What is to become of an I/O. */
struct nvme_outcome {
	int64_t result;
	uint64_t delay_ns;
	bool hangs;
};

/* Reads "read:N:EIO,write:N+:20ms,write:N-M:hang": what happens to the N-th read or write,
 * to all from it on, or to those up to the M-th; "": nothing. 0, -ENOMEM, or -EINVAL and a
 * line in reason. */
int nvme_faults_parse(struct nvme_faults *faults, const char *text, const struct reason *reason);
/* Counts an I/O of that result and returns what is to become of it. */
struct nvme_outcome nvme_faults_apply(struct nvme_faults *faults, bool write, int64_t result);
