/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/serve_wiped.h"

#include "daemon/cache/cache.h"
#include "daemon/serve/namespace_room.h"
#include "daemon/serve/serve_namespace.h"
#include "daemon/state/state.h"
#include "daemon/tier/nvme_file.h"

#include <stdlib.h>

struct wiped_open {
	struct nvme_file_wait wait;
	struct hbmd *hbmd;
	struct request *request;
};

static void serve_wiped_labelled(struct nvme_file_wait *wait, int result)
{
	struct wiped_open *open = container_of(wait, struct wiped_open, wait);
	struct hbmd *hbmd = open->hbmd;
	struct request *request = open->request;

	free(open);
	if (result == 0)
		hbmd->cache->nvme_wiped = true;
	if (request->session->state >= SESSION_CLOSING)
		request_refuse(request, HBM_SHUTDOWN, "the session has ended");
	else
		serve_namespace_open(hbmd, request);
}

/* Which of the tiers' contents the next daemon is not to find as they are has to be known to it
 * before the first such block is there. */
static bool serve_wiped_has_to_wait(struct hbmd *hbmd, const struct request *request)
{
	if (request->message->size == sizeof(struct hbm_wire_namespace_ref))
		return false;

	const struct namespace_identity identity = serve_namespace_identity(hbmd, request->message);
	if (!identity.wipe_on_free)
		return false;
	if (hbmd->kept)
		state_count_to(hbmd->kept, STATE_WIPED, 1);

	return hbmd->nvme && !hbmd->cache->nvme_wiped && !identity.memory_only;
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

	*open = (struct wiped_open){
		.wait = {.done = serve_wiped_labelled}, .hbmd = hbmd, .request = request};
	request_charge(request, sizeof(*open));
	nvme_file_expect_wipes(hbmd->nvme, &open->wait);
}
