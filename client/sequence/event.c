/* SPDX-License-Identifier: Apache-2.0 */
/* event: see event.h. */
#include "client/sequence/event.h"

#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/show.h"

static void event_push(struct hbm_sequence *sequence)
{
	if (list_empty(&sequence->event) && !sequence->is_opening)
		list_push_back(&sequence->pool->events, &sequence->event);
}

void hbm_event_overrun(struct hbm_sequence *sequence)
{
	sequence->pool->totals.overruns++;
	sequence->overrun_due = true;
	hbm_show_event(sequence->pool, sequence->index, HBM_SEQUENCE_NOW_OVERRUN);
	event_push(sequence);
}

static void event_asked(struct hbm_sequence *sequence, const struct hbm_wire_ask *ask)
{
	sequence->asked = ask->ask;
	sequence->asked_tier = ask->tier;
	event_push(sequence);
}

void hbm_event_opened(struct hbm_sequence *sequence)
{
	sequence->is_opening = false;
	if (sequence->asked != 0)
		event_push(sequence);
}

void hbm_event_heard(struct board *board, const struct hbm_wire_ask *ask)
{
	struct hbm_pool *pool = container_of(board, struct hbm_pool, board);

	if (ask->ask == HBM_ASK_PRESSURE && ask->device == pool->region->device)
		pool->pressure = ask->bytes;
	if ((ask->ask != HBM_ASK_SUSPEND && ask->ask != HBM_ASK_RESUME) || ask->tier >= HBM_TIERS)
		return;

	list_for_each (node, &pool->open) {
		struct hbm_sequence *sequence = container_of(node, struct hbm_sequence, link);

		if (ask->sequence == 0 || sequence->number == ask->sequence)
			event_asked(sequence, ask);
	}
}

/* One of a sequence that has some; it stays in the queue if it has another. */
static void event_take(struct hbm_sequence *sequence, struct hbm_event *event)
{
	*event = (struct hbm_event){.kind = HBM_EVENT_OVERRUN,
				    .sequence = sequence,
				    .tokens = sequence->tokens,
				    .expected = sequence->expected};
	if (!sequence->overrun_due) {
		event->kind =
			sequence->asked == HBM_ASK_SUSPEND ? HBM_EVENT_SUSPEND : HBM_EVENT_RESUME;
		event->tier = (enum hbm_tier)sequence->asked_tier;
		sequence->asked = 0;
	}
	sequence->overrun_due = false;

	if (sequence->asked == 0)
		list_remove(&sequence->event);
}

static int event_next(struct hbm_pool *pool, struct hbm_event *event)
{
	if (pool->pressure > 0) {
		*event = (struct hbm_event){.kind = HBM_EVENT_PRESSURE, .bytes = pool->pressure};
		pool->pressure = 0;
		return 0;
	}
	if (list_empty(&pool->events))
		return HBM_NOT_FOUND;

	event_take(container_of(pool->events.next, struct hbm_sequence, event), event);

	return 0;
}

int hbm_pool_event(struct hbm_pool *pool, struct hbm_event *event)
{
	hbm_pool_lock(pool);
	hbm_board_listen(pool->hbm, &pool->board);
	int r = event_next(pool, event);
	hbm_pool_unlock(pool);

	return r;
}
