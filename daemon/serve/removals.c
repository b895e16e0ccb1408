/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/removals.h"

#include "daemon/base/clock.h"
#include "daemon/catalog/catalog.h"
#include "daemon/config/config.h"
#include "daemon/loop/loop.h"
#include "daemon/move/restoration.h"
#include "daemon/serve/hbmd.h"
#include "daemon/session/session.h"

#include <errno.h>
#include <stdlib.h>

#define MS UINT64_C(1000000)
#define TICK_NS (5 * MS)
#define SLICE 16u /* that go on in one tick */

struct removals {
	struct hbmd *hbmd;
	struct list waits; /* struct removal, the first first */
	struct timer tick;
};

struct removal {
	struct list link;
	struct request *request;
	request_handler *handler;
	uint64_t until_ns;
};

static bool removals_may_go_on(const struct hbmd *hbmd)
{
	return (!hbmd->catalog || catalog_has_settled(hbmd->catalog)) &&
	       (!hbmd->restoration || restoration_has_ended(hbmd->restoration));
}

/* False: it goes on waiting. */
static bool removals_end(struct hbmd *hbmd, const struct removal *removal)
{
	struct request *request = removal->request;

	if (request->session->state >= SESSION_CLOSING)
		request_refuse(request, HBM_SHUTDOWN, "the session has ended");
	else if (hbmd->state == HBMD_STOPPING)
		request_refuse(request, HBM_SHUTDOWN, "the daemon is stopping");
	else if (removals_may_go_on(hbmd))
		removal->handler(hbmd, request);
	else if (clock_now() >= removal->until_ns)
		request_refuse(request, HBM_TIMEOUT,
			       "what was in the tiers before the daemon's start is not all found "
			       "again yet");
	else
		return false;

	return true;
}

static void removals_fire(struct timer *timer)
{
	struct removals *removals = container_of(timer, struct removals, tick);
	unsigned left = SLICE;

	list_for_each_safe (node, after, &removals->waits) {
		struct removal *removal = container_of(node, struct removal, link);
		if (left == 0)
			break;

		if (!removals_end(removals->hbmd, removal))
			continue;

		list_remove(node);
		free(removal);
		left--;
	}

	if (!list_empty(&removals->waits))
		loop_timer_set(removals->hbmd->loop, &removals->tick, clock_now() + TICK_NS);
}

bool removals_wait(struct hbmd *hbmd, struct request *request, request_handler *handler)
{
	struct removals *removals = hbmd->removals;
	if (!removals || removals_may_go_on(hbmd))
		return false;

	struct removal *removal = malloc(sizeof(*removal));
	if (!removal) {
		request_refuse(request, HBM_LIMIT, "the daemon is out of memory");
		return true;
	}

	uint64_t now = clock_now();

	*removal = (struct removal){.request = request,
				    .handler = handler,
				    .until_ns = now + hbmd->config->nvme_timeout_ms * MS};
	request_charge(request, sizeof(*removal));
	list_push_back(&removals->waits, &removal->link);
	if (!timer_is_set(&removals->tick))
		loop_timer_set(hbmd->loop, &removals->tick, now + TICK_NS);

	return true;
}

int removals_open(struct hbmd *hbmd)
{
	struct removals *removals = calloc(1, sizeof(*removals));
	if (!removals)
		return -ENOMEM;

	*removals = (struct removals){.hbmd = hbmd, .tick.fire = removals_fire};
	list_init(&removals->waits);
	hbmd->removals = removals;

	return 0;
}

void removals_stop(struct hbmd *hbmd)
{
	struct removals *removals = hbmd->removals;
	if (!removals)
		return;

	for (struct list *node; (node = list_pop_front(&removals->waits));) {
		struct removal *removal = container_of(node, struct removal, link);

		request_refuse(removal->request, HBM_SHUTDOWN, "the daemon is stopping");
		free(removal);
	}
}

void removals_close(struct hbmd *hbmd)
{
	if (hbmd->removals && hbmd->loop)
		loop_timer_stop(hbmd->loop, &hbmd->removals->tick);
	free(hbmd->removals);
	hbmd->removals = NULL;
}
