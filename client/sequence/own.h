/* SPDX-License-Identifier: Apache-2.0 */
/*
 * own: copy on write. Before tokens are written, a sequence gets a copy of its own of the
 * slabs that it shares with others. The copy is made in scratch, and takes the place of the
 * slab when it is complete.
 */
#pragma once

#include <stdint.h>

struct hbm_sequence;

/* Sees to it that what is mapped for tokens [from, end) is the sequence's alone. HBM_DEVICE
 * and the sequence is lost: the device has refused twice to map the copy in place of the
 * slab. Any other refusal has changed nothing. */
int hbm_own(struct hbm_sequence *sequence, uint64_t from, uint64_t end);
