/* SPDX-License-Identifier: Apache-2.0 */
/* resume: see resume.h. */
#include "client/sequence/resume.h"

#include "client/sequence/ahead.h"
#include "client/sequence/arrival.h"
#include "client/sequence/mark.h"
#include "client/sequence/pool.h"
#include "client/sequence/reborrow.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"
#include "client/sequence/suspend.h"

#include <errno.h>

/* What the device has refused to unmap before. */
static int resume_empty(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count)
{
	int r = hbm_suspend_empty(pool, sequences, count);

	for (size_t i = 0; i < count && r == 0; i++)
		if (sequences[i]->slot->slabs > 0)
			r = hbm_pool_fail(pool, HBM_DEVICE,
					  "slabs of before that the device refuses to unmap");

	return r;
}

int hbm_resume_plan(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count,
		    struct arrival *arrival)
{
	int r = resume_empty(pool, sequences, count);

	for (size_t i = 0; i < count; i++)
		hbm_sequence_turn(sequences[i], HBM_SEQUENCE_RESUMING);
	if (r == 0)
		r = hbm_reborrow(pool, sequences, count);
	if (r)
		return r;
	if (hbm_arrival_plan(pool, arrival, sequences, count))
		return 0;

	return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the list of what is to be loaded");
}

void hbm_resume_finish(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		hbm_stash_clear(&pool->stashes, &sequences[i]->stash);
		hbm_sequence_turn(sequences[i], HBM_SEQUENCE_OPEN);
		sequences[i]->is_idle = false;
		hbm_sequence_refresh(sequences[i]);
		hbm_mark_set(pool, sequences[i]->index);
	}
	if (count > 0)
		hbm_ahead_wake(pool);
}

void hbm_resume_undo(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count)
{
	hbm_suspend_empty(pool, sequences, count);
	for (size_t i = 0; i < count; i++)
		hbm_sequence_turn(sequences[i], HBM_SEQUENCE_SUSPENDED);
}
