/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/restore.h"

#include "daemon/base/log.h"
#include "daemon/region/region_restore.h"
#include "daemon/serve/hbmd.h"
#include "daemon/serve/server.h"
#include "daemon/session/session.h"

static struct regions *restore_find(void *arg, uint64_t session)
{
	const struct hbmd *hbmd = arg;
	struct session *found = server_find_session(hbmd->server, session);

	return found ? &found->regions : NULL;
}

void restore_regions(struct hbmd *hbmd)
{
	if (!hbmd->region_kept)
		return;

	const struct region_restore form = {
		.kept = hbmd->region_kept,
		.devices = hbmd->devices,
		.publications = hbmd->publications,
		.find = restore_find,
		.arg = hbmd,
	};
	struct region_restored done = regions_restore(&form);

	if (done.regions + done.publications > 0)
		log_notice("regions of the daemon before: %llu with %llu slots, and %llu published",
			   (unsigned long long)done.regions, (unsigned long long)done.slots,
			   (unsigned long long)done.publications);
	if (done.lost > 0)
		log_warning("%llu regions of the daemon before are not there any more",
			    (unsigned long long)done.lost);

	list_for_each (node, server_sessions(hbmd->server)) {
		struct session *session = container_of(node, struct session, link);
		regions_go_on(&session->regions, hbmd->region_kept);
	}
}
