/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk: has a daemon's disk fail: the n-th write, flush or change of size from now on of the NVMe file or of its
 * catalog, while the daemon runs.
 */
#pragma once

#include "tests/support/disk_page.h"
#include "tests/support/spawn.h"

struct disk {
	struct disk_page *page;
	char variables[3][256];
	const char *env[4]; /* for the daemon's start */
};

void disk_open(struct disk *disk, const struct spawn *spawn);
void disk_close(struct disk *disk);
/* Calls n to n + count - 1 from now on. error 0: they hang until disk_mend(). */
void disk_fail(struct disk *disk, enum disk_file file, enum disk_call call, uint64_t n,
	       uint64_t count, int error);
/* How many of such calls there were since. */
uint64_t disk_calls(const struct disk *disk, enum disk_file file, enum disk_call call);
void disk_mend(struct disk *disk);
