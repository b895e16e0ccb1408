/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/nvme_hold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP_NS 1000000

static void nvme_hold_look_again(struct nvme_hold *hold)
{
	if (!list_empty(&hold->held) && !timer_is_set(&hold->timer))
		loop_timer_set(hold->loop, &hold->timer, clock_now() + STEP_NS);
}

static void nvme_hold_look(struct timer *timer)
{
	struct nvme_hold *hold = container_of(timer, struct nvme_hold, timer);
	bool hangs = access(hold->file, F_OK) == 0;
	struct list due = LIST_INIT(due);

	list_for_each_safe (node, after, &hold->held) {
		const struct nvme_held *held = container_of(node, struct nvme_held, link);
		if (clock_now() < held->due_ns || (held->hangs && hangs))
			continue;
		list_remove(node);
		list_push_back(&due, node);
	}

	for (struct list *node; (node = list_pop_front(&due)) != NULL;) {
		struct nvme_held *held = container_of(node, struct nvme_held, link);
		held->answer(held);
	}

	nvme_hold_look_again(hold);
}

bool nvme_hold_back(struct nvme_hold *hold, struct nvme_held *held,
		    const struct nvme_outcome *outcome)
{
	if (!outcome->hangs && outcome->delay_ns == 0)
		return false;

	uint64_t now = clock_now();
	if (outcome->delay_ns > 0) {
		uint64_t free_ns = hold->last_due_ns > now ? hold->last_due_ns : now;
		hold->last_due_ns = free_ns + outcome->delay_ns;
	}

	held->due_ns = outcome->delay_ns > 0 ? hold->last_due_ns : now;
	held->hangs = outcome->hangs;
	list_push_back(&hold->held, &held->link);
	nvme_hold_look_again(hold);

	return true;
}

int nvme_hold_open(struct nvme_hold *hold, struct loop *loop, const char *file)
{
	*hold = (struct nvme_hold){.loop = loop, .timer = {.fire = nvme_hold_look}};
	list_init(&hold->held);
	hold->file = strdup(file);
	return hold->file ? 0 : -ENOMEM;
}

void nvme_hold_close(struct nvme_hold *hold)
{
	if (hold->loop)
		loop_timer_stop(hold->loop, &hold->timer);
	free(hold->file);
}
