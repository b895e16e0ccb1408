/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab_books: what a pool of slabs counts. The budget is at every moment the sum of
 *
 * 	leased		in a region of a live session
 * 	quarantined	in a region of a session whose process may still be alive
 * 	retiring	freed, its handle being released on the control worker
 * 	held		released, and not free: its client still holds it (held.h)
 * 	ready		created ahead, never exported
 * 	uncreated	budget without a handle yet
 *
 * Beside that sum stands what sessions have reserved (promise.h):
 *
 * 	free		what a request can have: ready, uncreated, or being released and never
 * 			handed out
 * 	promised	of it, to sessions that have reserved and not used it
 * 	due		the same, or what requests wait for where that is more
 */
#pragma once

#include <stdint.h>

struct slabs_books {
	uint64_t budget, leased, quarantined, retiring, ready, uncreated, held;
	uint64_t free, promised, due;
};
