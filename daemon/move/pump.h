/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pump: decides when a move begins, and frees space if something waits for an extent.
 *
 * Why it never deadlocks: resources are allocated in one order, an extent of the target,
 * then a staging buffer, and nothing that waits for an extent has one. The tiers together
 * have more extents than blocks, by the headroom, so some move can always begin, and what
 * is staged has its target already. A block that is encoded on the way to a disk has an
 * extent there for all of it, or for what it was encoded as before, and gives the end back
 * once it has been encoded; and it asks for staging once. So it waits for nothing that it
 * has not when it begins, but staging. Whose turn it is for an extent makes no difference: all
 * that wait for one hold nothing that the others need, and what is freed goes to the one
 * whose turn it is, until that has enough. When pump_run() returns, a transfer is active, or
 * nothing waits for an extent and every inbound queue is empty but those of lost tiers, or
 * it goes on in the background: a queue may have as many blocks as the cache, most of which
 * have got another target since, and a thousand moves may be able to begin.
 *
 * Moves with a deadline (due_moves.h) take turns with those on the inbound queue of their tier,
 * block by block, so that neither waits for all of the other. All above holds for both.
 *
 * Blocks that the cache has left to be dropped give extents back: that goes on here, in
 * slices between turns of the loop.
 *
 * A disk that is behind: where blocks are stored faster than they can be written, those on
 * their way down would fill every headroom, and each store would cost what a write costs.
 * Some moves to the disk have begun, as many as io_share.h allows; the blocks that wait for
 * their turn are on its inbound queue, and have nothing but the extents they leave. While
 *
 * 	a store waits for an extent (no one else's wait is cut short: what a load waits for
 * 	is read, and evictions of an operator have time),
 * 	the oldest write in flight is older than nvme.behind_ms (a disk that keeps up never
 * 	is, so the cascade is exact then), and
 * 	the tier that the first of those blocks leaves has no extent for what wants one,
 *
 * that block goes away instead of down, and the next one, until an extent is free there.
 * That frees extents and takes none, so the argument above stands. The bound has no key: it
 * is what the headrooms leave when the disk has its half.
 *
 * A tier that is silent keeps no client waiting: moves to it and from it are given up, and a
 * transfer that it does not answer does not count as active.
 */
#pragma once

#include "daemon/move/mover.h"

/* From now on every batch of completions is followed by pump_run(), and drops and long runs
 * go on in the background of the loop, until mover_free(). */
void pump_start(struct mover *mover, struct loop *loop);
/* Starts what can be started. To be called after every change of targets. */
void pump_run(struct mover *mover);
/* The same when clients have had their turn. */
void pump_soon(struct mover *mover);
