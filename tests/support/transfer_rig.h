/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer_rig: transfers without blocks: tier_rig with two devices and tier_memory, ends of
 * every kind, and a way to see and change the bytes of an end without the code under test.
 * A test sets up transfer_rig->rig.config between transfer_rig_new() and
 * transfer_rig_open().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/move/transfer.h"
#include "tests/support/tier_memory.h"
#include "tests/support/tier_rig.h"

enum end_kind {
	END_SPANS_0, /* memory of device 0 */
	END_SPANS_1,
	END_HBM_0, /* the tier of device 0 */
	END_HBM_1,
	END_DDR,
	END_NVME,
	END_MEMORY, /* tier_memory */
	END_NOTHING,
	END_KINDS
};

enum { TRANSFER_BYTES = 64 * 1024, TRANSFER_SPANS = 6 };

/* One end of a transfer, of TRANSFER_BYTES. */
struct end {
	enum end_kind kind;
	struct transfer_end end;
	struct span spans[TRANSFER_SPANS];
};

struct transfer_rig {
	struct rig rig;
	struct tier_memory memory;
	struct transfer_context context;
};

/* A transfer of a test. */
struct trial {
	struct transfer transfer;
	struct transfer_rig *rig;
	unsigned done, on_host; /* how often they were called */
};

struct transfer_rig *transfer_rig_new(void);
void transfer_rig_open(struct transfer_rig *rig);
/* Checks that every extent is free again, and that the process leaked nothing. */
void transfer_rig_end(struct transfer_rig *rig);

const char *end_name(enum end_kind kind);
/* Allocates an extent where there is a tier. Spans lie in one piece, in the first half of
 * the client's memory if it is to be read, in the second if it is to be written. */
void end_open(struct transfer_rig *rig, struct end *end, enum end_kind kind, bool target);
void end_close(struct transfer_rig *rig, struct end *end);
/* Cuts the spans: `count` pieces of these sizes and the rest, last first in memory. */
void end_cut(struct end *end, const uint64_t *sizes, uint32_t count);
void end_get(struct transfer_rig *rig, const struct end *end, unsigned char *bytes);
void end_put(struct transfer_rig *rig, const struct end *end, const unsigned char *bytes);

/* Begins the transfer of a trial whose ends, checksum and mode are set. */
void trial_begin(struct transfer_rig *rig, struct trial *trial);
/* Waits for done(), which may have been called. */
void trial_wait(struct trial *trial);
