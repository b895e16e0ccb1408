/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_switch: performs a context switch and times it. A scratch region is filled, and
 * for each tier its blocks are stored under keys of their own, evicted until they are in
 * that tier, loaded back, and compared byte by byte.
 *
 * Only operators may evict, and eviction takes the least recently used blocks first. So it
 * is done only while the tiers above hold no blocks of others, and only if there is free
 * space. A tier that cannot be measured is left out, with the reason in the note.
 */
#pragma once

#include "client/ctl/ctl.h"
#include "client/ctl/plan_measure.h"

/* The switches and the note of *live. Returns the exit status: CTL_DONE also when no
 * tier could be measured. */
int plan_switch_perform(struct ctl *ctl, uint64_t bytes, struct plan_live *live);
