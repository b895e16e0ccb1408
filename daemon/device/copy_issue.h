/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_issue: how the pieces of copies become calls of the driver. There are three ways,
 * counted apart:
 *
 * 	ROWS	a run of at least rows_least rows at a constant stride: one call for all
 * 		those that one registration of host memory holds
 * 	BATCH	what remains, if it is at least batch_least: one call for all of it
 * 	SINGLE	a call for each
 *
 * Within a device a batch comes before all else, and for a single row too: only its call
 * can ask the device to copy without its compute units, where an engine's kernels run.
 *
 * A batch that the driver refuses is issued as single copies, so that a copy which cannot be
 * issued fails alone; if each of them could be, no further batch is tried.
 */
#pragma once

#include "daemon/base/link_stats.h"
#include "daemon/device/copy.h"
#include "daemon/device/device.h"

#define COPY_ISSUE_PIECES 512 /* of one batch */

struct copy_issue_options {
	uint32_t rows_least, batch_least; /* 0: never */
	/* host memory is registered in pieces of this size, counted from ddr_base: no
	 * single device copy crosses from one to the next */
	uint64_t host_chunk;
	const char *ddr_base;
};

struct copy_issue {
	struct device *device;
	enum copy_direction kind;
	struct copy_issue_options options;
	bool batches; /* the driver has them and refuses none */
	CUstream stream;
	struct link_ways ways; /* since copy_issue_begin() */
	/* what waits for a batch */
	uint32_t count;
	struct copy *copies[COPY_ISSUE_PIECES];
	CUdeviceptr targets[COPY_ISSUE_PIECES], sources[COPY_ISSUE_PIECES];
	size_t sizes[COPY_ISSUE_PIECES];
};

void copy_issue_open(struct copy_issue *issue, struct device *device, enum copy_direction kind,
		     const struct copy_issue_options *options);
/* What follows is on one thread, where the device's context is current. */
void copy_issue_begin(struct copy_issue *issue, CUstream stream);
/* Of a copy that has failed nothing more is issued; one that cannot be issued fails. */
void copy_issue_piece(struct copy_issue *issue, struct copy *copy, struct copy_piece piece);
/* Issues what waits for a batch. */
void copy_issue_end(struct copy_issue *issue);
