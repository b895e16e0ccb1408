/* SPDX-License-Identifier: Apache-2.0 */
/* serve_share: see serve_share.h. Translates between messages and commit.h, which knows
 * none. */
#include "daemon/serve/serve_share.h"

#include <stdlib.h>

#include "daemon/region/commit.h"

struct shared {
	struct request *request;
	struct commit *commit;
};

static void serve_share_refuse(struct request *request, int status)
{
	const char *why =
		status == HBM_NOT_FOUND
			? "a region or a loan does not exist, or a source is not committed"
		: status == HBM_DENIED
			? "a source is lent, or attached read-only: its target is to be read-only"
		: status == HBM_INVALID
			? "a range is misaligned, outside its region, or of another device or slab "
			  "size than its source; or a target is named twice, or is a source"
		: status == HBM_EXISTS ? "part of a target is already committed or being committed"
		: status == HBM_UNSUPPORTED ? "a range is of a guest region"
		: status == HBM_DEVICE      ? "a device call failed; see the daemon's log"
					    : "the daemon is out of memory";

	request_refuse(request, status, "%s", why);
}

static void serve_share_done(void *arg, int status)
{
	struct shared *shared = arg;

	if (status == HBM_OK)
		request_reply(shared->request, HBM_OK, NULL, 0);
	else
		serve_share_refuse(shared->request, status);

	commit_free(shared->commit);
	free(shared);
}

static uint64_t serve_share_slabs(const struct request *request)
{
	const struct hbm_wire_shares *shares = (const void *)request->message;
	uint64_t slabs = 0;

	for (uint32_t i = 0; i < shares->count; i++) {
		const struct region *region =
			region_find(&request->session->regions, shares->shares[i].target);
		slabs += region ? shares->shares[i].bytes / region_slab(region) : 0;
	}

	return slabs;
}

void serve_share(struct hbmd *hbmd, struct request *request)
{
	(void)hbmd;
	const struct hbm_wire_shares *shares = (const void *)request->message;
	struct shared *shared = calloc(1, sizeof(*shared));
	int status = HBM_NO_SPACE;

	if (shared)
		status = commit_new_share(&shared->commit, &request->session->regions,
					  shares->shares, shares->count);

	if (status == HBM_OK) {
		shared->request = request;
		request_charge(request, sizeof(*shared) + commit_bytes(shared->commit));
		commit_start(shared->commit, serve_share_done, shared);
		return;
	}

	free(shared);
	if (status == HBM_LIMIT)
		request_refuse_limit(request, LEDGER_COMMIT_SLABS, serve_share_slabs(request));
	else
		serve_share_refuse(request, status);
}
