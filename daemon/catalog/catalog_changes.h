/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_changes: for each block number, which record the catalog's file has of it; and the
 * numbers whose records may be wrong, in the order in which they became so. One that changes
 * again before it is written is there once: what is written is what it is by then. So the
 * queue has no more than there are blocks, whatever the file does.
 *
 * Of a flush of the data that has failed it is not known what the disk has: the kernel may count as
 * written what is not, and succeed the next time. So the bytes that were in the tier by then, and
 * that no flush before had taken, are in doubt until they are written again, to other extents.
 *
 * A table by number, reserved once and touched where blocks have been on NVMe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of one block number. */
struct catalog_entry {
	uint64_t stamp; /* of its record; 0: there is none */
	uint32_t unit;
	uint32_t next; /* in the queue; of the last its own number; 0: it is not in it */
	uint32_t came; /* failed flushes when its bytes came, and one; 0: they are flushed */
};

struct catalog_changes {
	struct catalog_entry *table;
	size_t bytes;
	uint32_t first, last; /* 0: the queue is empty */
	uint64_t queued;
	uint64_t taken;   /* so far, from the queue */
	uint64_t records; /* entries that have one */
	uint32_t failed;  /* flushes of the data */
};

int catalog_changes_open(struct catalog_changes *changes, uint64_t max_blocks); /* -ENOMEM */
void catalog_changes_close(struct catalog_changes *changes);
uint64_t catalog_changes_bytes_for(uint64_t max_blocks); /* its table, when full */

/* Its record may be wrong. No-op if it is known. */
void catalog_changes_mark(struct catalog_changes *changes, uint32_t number);
/* The first, which leaves the queue; 0: there is none. */
uint32_t catalog_changes_take(struct catalog_changes *changes);
/* Its bytes have been written to the tier; a flush that has begun afterwards has taken them, unless
 * they are in doubt; a flush has failed. And: whether they are in doubt. */
void catalog_changes_came(struct catalog_changes *changes, uint32_t number);
void catalog_changes_flushed(struct catalog_changes *changes, uint32_t number);
void catalog_changes_fail(struct catalog_changes *changes);
bool catalog_changes_doubt(const struct catalog_changes *changes, uint32_t number);
/* What its record is from now on; stamp 0: it has none. */
void catalog_changes_record(struct catalog_changes *changes, uint32_t number, uint64_t stamp,
			    uint32_t unit);
