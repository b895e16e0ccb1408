/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suspend: a group of sequences on its way out: what their tokens use is planned as a
 * departure, and when all of it is stored their slots are emptied.
 */
#pragma once

#include <hbm/wire.h>
#include <stdbool.h>
#include <stddef.h>

struct carry;
struct hbm_pool;
struct hbm_sequence;

/* Stops the sequences, and plans what is to be stored, each slab once. */
int hbm_suspend_plan(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count,
		     enum hbm_tier tier, struct carry *departure);
/* Gives back all that is mapped in their slots. What the device refuses to unmap stays, and is
 * loaded into when they are resumed. Negative errno: the connection has ended. */
int hbm_suspend_empty(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count);
/* They are as they were before. lost: but for slabs that did not come back. */
void hbm_suspend_undo(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count,
		      bool lost);
