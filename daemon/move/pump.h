/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pump: decides when a move begins, and frees space if something waits for an extent.
 *
 * Why it never deadlocks: resources are allocated in one order, an extent of the target,
 * then a staging buffer, and nothing that waits for an extent has one. The tiers together
 * have more extents than blocks, by the headroom, so some move can always begin, and what
 * is staged has its target already. Whose turn it is for an extent makes no difference: all
 * that wait for one hold nothing that the others need, and what is freed goes to the one
 * whose turn it is, until that has enough. When pump_run() returns, a transfer is active, or
 * nothing waits for an extent and every inbound queue is empty but those of lost tiers.
 *
 * Blocks that the cache has left to be dropped give extents back: that goes on here, in
 * slices between turns of the loop.
 *
 * A tier that is silent keeps no client waiting: moves to it and from it are given up, and a
 * transfer that it does not answer does not count as active.
 */
#pragma once

#include "daemon/move/mover.h"

/* From now on every batch of completions is followed by pump_run(), and drops go on in the
 * background of the loop, until mover_free(). */
void pump_start(struct mover *mover, struct loop *loop);
/* Starts what can be started. To be called after every change of targets. */
void pump_run(struct mover *mover);
