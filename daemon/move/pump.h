/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pump: decides when a move begins, and frees space when a slot is waited for.
 *
 * Why it always goes on: resources are taken in one order, slot of the target, then
 * staging buffer, and nothing that waits for a slot has one. As the slots of all tiers
 * together outnumber the blocks by the reserves, some move can always begin; whatever is
 * staged has its target already. So nothing deadlocks, whatever the tiers are full of.
 * pump_run() ends with: a transfer is active, or nobody waits for a slot and every inbound
 * queue is empty.
 */
#pragma once

#include "daemon/move/mover.h"

/* From now on every batch of completions is followed by pump_run(), until mover_free(). */
void pump_start(struct mover *mover);
/* Starts what can be started. To be called after every change of policy. */
void pump_run(struct mover *mover);
