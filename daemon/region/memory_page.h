/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_page: what clients read of the devices' memory without a call: a page with a record
 * for each device (struct hbm_wire_memory), that the daemon writes and every client maps for
 * reading.
 *
 * A record is written on the loop thread between two increments of its sequence, which is odd
 * meanwhile: a reader that saw the same even number before and after has read one moment. The
 * memfd is sealed against every write but through the daemon's own mapping
 * (F_SEAL_FUTURE_WRITE), and against a change of its size. A client that reopens the descriptor
 * has the same file, and the same seals.
 */
#pragma once

#include <hbm/wire.h>

struct memory_page {
	int fd;                          /* borrowed by those who hand it out */
	struct hbm_wire_memory *devices; /* HBM_WIRE_DEVICES_MAX */
};

int memory_page_open(struct memory_page *page);   /* negative errno */
void memory_page_close(struct memory_page *page); /* accepts a zeroed one */
/* Its sequence is ignored. */
void memory_page_write(struct memory_page *page, uint32_t device,
		       const struct hbm_wire_memory *record);
