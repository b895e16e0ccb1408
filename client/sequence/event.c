/* SPDX-License-Identifier: Apache-2.0 */
/* event: see event.h. */
#include "client/sequence/event.h"

#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"

void hbm_event_overrun(struct hbm_sequence *sequence)
{
	sequence->pool->totals.overruns++;
	list_push_back(&sequence->pool->events, &sequence->event);
}

int hbm_pool_event(struct hbm_pool *pool, struct hbm_event *event)
{
	int r = HBM_NOT_FOUND;

	hbm_pool_lock(pool);
	struct list *node = list_pop_front(&pool->events);
	if (node) {
		struct hbm_sequence *sequence = container_of(node, struct hbm_sequence, event);

		*event = (struct hbm_event){.kind = HBM_EVENT_OVERRUN,
					    .sequence = sequence,
					    .tokens = sequence->tokens,
					    .expected = sequence->expected};
		r = 0;
	}
	hbm_pool_unlock(pool);

	return r;
}
