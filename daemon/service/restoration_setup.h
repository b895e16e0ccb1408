/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restoration_setup: what a daemon before this one has left of its cache in memory: the memfd of
 * the DDR tier, which is kept as "ddr" (keep.h), the memory of HBM tiers (hbm_kept.h), and the
 * records of namespaces and blocks in the state, which are of use only together; and what keeps
 * blocks longer (restore_marks.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/tier/hbm_kept.h"

struct config;
struct hbmd;
struct ledger;

/* How many blocks may be in DDR and HBM, of the sizes that they have at the start, and have a
 * record. */
uint64_t restoration_setup_blocks(const struct ledger *ledger, const struct config *config);

/* The memfd of the daemon before, for ddr_open(); -1: there is none. */
int restoration_setup_take_ddr(const struct hbmd *hbmd);
/* Where the memory of HBM tiers is kept, for hbm_memory_open(). */
struct hbm_kept_place restoration_setup_hbm(const struct hbmd *hbmd);
/* Makes the namespaces of the daemon before again, and begins to restore their blocks; from now on there are
 * records of all that are in DDR and HBM. When tiers and mover are open and tenants are configured, and
 * before the loop runs. ended(): all that will come back has.
 * Without a state: nothing. Negative errno. */
int restoration_setup_open(struct hbmd *hbmd, void (*ended)(void *arg), void *arg);
/* Says what has come back. */
void restoration_setup_say(const struct hbmd *hbmd);
/* Namespaces of the daemon before without blocks go, unless a client may still open one again: false,
 * and it is to be called later. */
bool restoration_setup_release(struct hbmd *hbmd);
/* Whether all that will come back has. */
bool restoration_setup_has_ended(const struct hbmd *hbmd);
/* DDR or an HBM tier may have grown, or lost what was there before. */
void restoration_setup_progress(struct hbmd *hbmd);
/* What the state has of namespaces and blocks stays, whatever becomes of them: the daemon stops. */
void restoration_setup_close(struct hbmd *hbmd);
