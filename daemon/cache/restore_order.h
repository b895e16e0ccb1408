/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore_order: the order of the blocks that are to be restored (block_restore.h): who continues
 * whom among them, which comes first, and which lies before which. It reads records and changes
 * none.
 */
#pragma once

#include "daemon/cache/block_records.h"

/* In their order: what is beyond DONE is settled. */
enum restore_state {
	RESTORE_MISSING, /* not all of its bytes are in service yet */
	RESTORE_CLAIMED,
	RESTORE_CLASHES, /* its bytes, or its key, are those of another one */
	RESTORE_DONE,
	RESTORE_LET_GO,
};

struct restore_entry {
	uint32_t record;      /* its index */
	uint32_t unit, units; /* its extent in the tier of that number: */
	uint32_t tier;
	uint32_t claimed_unit; /* of it so far; of no meaning while claimed is 0 */
	uint32_t claimed;
	uint32_t parent;  /* the entry that it continues; 0: none of these */
	uint32_t waiting; /* the first entry that waits for it, through next; 0: none */
	uint32_t next;
	uint32_t number; /* of its block */
	uint32_t state;  /* enum restore_state */
};

/* Sorts entries [1, count], of which record and extent are known: those that came last first, and
 * each behind its parent. Sets `parent`, and RESTORE_CLASHES where two are of one extent or of
 * one key. by_unit[count] gets the others by their tiers and extents, of which none overlap; those
 * that clash are behind them. -ENOMEM. */
int restore_order(const struct block_records *records, struct restore_entry *list,
		  uint32_t *by_unit, uint32_t count);
uint64_t restore_order_bytes_for(uint64_t count); /* that it needs meanwhile */
