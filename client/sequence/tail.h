/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tail: the slabs of a sequence that hold its last tokens and will hold the next ones, and
 * states. They cannot be shared, as they are written; they are copied.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct hbm_sequence;
struct slot;

/* Adds to the pool's ranges to grow what a slot lacks for a copy of the tail. */
void hbm_tail_gather(const struct hbm_sequence *sequence, const struct slot *slot);
/* Queues the copies to a slot at that address. False: the device refuses one. */
bool hbm_tail_copy(const struct hbm_sequence *sequence, uint64_t address);
