/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tail: the slabs of a sequence that hold its last tokens and will hold the next ones, and
 * states. They cannot be shared, as they are written; they are copied.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct hbm_region;
struct hbm_sequence;
struct ranges;
struct slot;

/* Adds to the pool's ranges to grow what a slot lacks for a copy of the tail. */
void hbm_tail_gather(const struct hbm_sequence *sequence, const struct slot *slot);
/* Adds the tail's slabs, as they lie in a slot that begins at an offset of a region. */
void hbm_tail_each(const struct hbm_sequence *sequence, struct hbm_region *region, uint64_t offset,
		   struct ranges *ranges);
/* Queues the copies to a slot at that address. False: the device refuses one. */
bool hbm_tail_copy(const struct hbm_sequence *sequence, uint64_t address);
