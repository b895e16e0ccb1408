/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/serve_wiped.h"

#include "daemon/base/clock.h"
#include "daemon/cache/cache.h"
#include "daemon/config/config.h"
#include "daemon/loop/loop.h"
#include "daemon/serve/namespace_room.h"
#include "daemon/serve/serve_namespace.h"
#include "daemon/tier/nvme_file.h"

#include <stdlib.h>

#define MS UINT64_C(1000000)

struct wiped_open {
	struct nvme_file_wait wait;
	struct timer timeout;
	struct hbmd *hbmd;
	struct request *request; /* NULL: it waits no longer */
};

/* Whether blocks of the namespace may be on NVMe is known by then, or they stay in memory. */
static void serve_wiped_go_on(struct hbmd *hbmd, struct request *request)
{
	if (request->session->state >= SESSION_CLOSING)
		request_refuse(request, HBM_SHUTDOWN, "the session has ended");
	else
		serve_namespace_open(hbmd, request);
}

static void serve_wiped_labelled(struct nvme_file_wait *wait, int result)
{
	struct wiped_open *open = container_of(wait, struct wiped_open, wait);
	struct hbmd *hbmd = open->hbmd;
	struct request *request = open->request;

	loop_timer_stop(hbmd->loop, &open->timeout);
	free(open);
	hbmd->label_is_late = false;
	if (result == 0)
		hbmd->cache->nvme_wiped = true;
	if (request)
		serve_wiped_go_on(hbmd, request);
}

/* The disk does not answer. When it does, what comes by then may be there. */
static void serve_wiped_time_out(struct timer *timer)
{
	struct wiped_open *open = container_of(timer, struct wiped_open, timeout);
	struct request *request = open->request;

	open->request = NULL;
	open->hbmd->label_is_late = true;
	serve_wiped_go_on(open->hbmd, request);
}

/* Of memory the state says it (namespace.h). */
static bool serve_wiped_has_to_wait(struct hbmd *hbmd, const struct request *request)
{
	if (request->message->size == sizeof(struct hbm_wire_namespace_ref))
		return false;

	const struct namespace_identity identity = serve_namespace_identity(hbmd, request->message);
	return identity.wipe_on_free && hbmd->nvme && !hbmd->cache->nvme_wiped &&
	       !hbmd->label_is_late && !identity.memory_only;
}

void serve_wiped_open(struct hbmd *hbmd, struct request *request)
{
	if (!serve_wiped_has_to_wait(hbmd, request)) {
		serve_namespace_open(hbmd, request);
		return;
	}

	struct wiped_open *open = malloc(sizeof(*open));
	if (!open) {
		request_refuse(request, HBM_LIMIT, "the daemon is out of memory");
		return;
	}

	*open = (struct wiped_open){.wait = {.done = serve_wiped_labelled},
				    .timeout = {.fire = serve_wiped_time_out},
				    .hbmd = hbmd,
				    .request = request};
	request_charge(request, sizeof(*open));
	loop_timer_set(hbmd->loop, &open->timeout,
		       clock_now() + hbmd->config->nvme_timeout_ms * MS);
	nvme_file_expect_wipes(hbmd->nvme, &open->wait);
}
