/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reborrow: slabs that sequences shared with the cache when they were suspended, borrowed or
 * lent, are borrowed again when they come back: one for all, as before. The stash has a copy,
 * which is loaded where the device does not have the slab any more: nothing is waited for here
 * but replies.
 */
#pragma once

#include <stddef.h>

struct hbm_pool;
struct hbm_sequence;

/* Maps in the empty slots of sequences what of their stashes can be borrowed. 0, or a negative
 * errno. */
int hbm_reborrow(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count);
