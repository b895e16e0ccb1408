/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit: checks the counters of a running daemon. It counts again, from the entries of the
 * index, the eviction orders, the extents, the slabs and the charges, and compares with the
 * counts the modules keep. Between two events of the loop everything must agree, whatever is in
 * flight.
 *
 * It goes in steps, between which everything goes on: what has been counted and changes is
 * counted again (recount.h, extent.h, tally.h, ledger.h), so that in the end all is as of one
 * moment, that of the last step, in which it is compared. One at a time.
 */
#pragma once

#include <hbm/wire.h>
#include <stdbool.h>
#include <stdint.h>

struct audit;
struct hbmd;
struct recount;

int audit_new(struct audit **out, struct hbmd *hbmd); /* -ENOMEM */
struct audit *audit_free(struct audit *audit);        /* at any time */
/* One step, over at most `max` entries. False: it is over, and what follows is to be called
 * before anything changes. */
bool audit_some(struct audit *audit, uint32_t max);
/* Fills in the account of each pool, at most `room` of them. Returns how many there
 * are. */
uint32_t audit_accounts(const struct audit *audit, struct hbm_wire_account *accounts,
			uint32_t room);
/* What there is of blocks. */
const struct recount *audit_recount(const struct audit *audit);
