/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_switch: a context switch, performed. A scratch region is filled, and for each tier its blocks are stored under
 * keys of their own, pushed down until they lie there, loaded back, and compared byte by byte.
 *
 * Pushing down takes an operator, and takes the least recently used first: it is done only while nobody else's blocks
 * are in a tier above the one that is meant, and only where there is free room. What cannot be measured is left out,
 * with the reason in the note.
 */
#pragma once

#include "client/ctl/plan_live.h"

/* The switches and the note of *live. Returns the exit status: CTL_DONE also when no tier could be measured. */
int plan_switch_perform(struct ctl *ctl, uint64_t bytes, struct plan_live *live);
