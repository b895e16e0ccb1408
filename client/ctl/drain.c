/* SPDX-License-Identifier: Apache-2.0 */
#include "client/ctl/drain.h"

#include "client/ctl/ctl.h"
#include "client/ctl/units.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LOOK_MS 500

enum { DRAIN_CANCEL, DRAIN_WITHIN };
const struct option_spec drain_options[] = {
	[DRAIN_CANCEL] = {"cancel", NULL, "end the drain that goes on"},
	[DRAIN_WITHIN] = {"within", "SECONDS",
			  "give up after so long; the daemon serves as before then"},
	{NULL, NULL, NULL},
};

struct left {
	uint64_t leased, cached;
};

static int drain_see_device(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_device *device = record;
	struct left *left = arg;

	(void)bytes;
	left->leased += device->leased;

	return 0;
}

static int drain_see_tier(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;
	struct left *left = arg;

	(void)bytes;
	if (tier->tier != HBM_TIER_NVME)
		left->cached += tier->bytes;

	return 0;
}

/* A line where something has changed. The daemon may stop at any moment. */
static void drain_show(struct ctl *ctl, struct left *shown)
{
	struct left now = {0, 0};

	if (hbm_query(ctl->hbm, HBM_QUERY_DEVICES, drain_see_device, &now) != 0 ||
	    hbm_query(ctl->hbm, HBM_QUERY_TIERS, drain_see_tier, &now) != 0 ||
	    memcmp(&now, shown, sizeof(now)) == 0)
		return;

	*shown = now;
	if (ctl->json)
		return;

	printf("%s leased, ", units_bytes(now.leased).text);
	printf("%s cached in memory\n", units_bytes(now.cached).text);
	fflush(stdout);
}

static int drain_report(struct ctl *ctl, const char *outcome)
{
	if (ctl->json)
		return ctl_print_json(json_pack("{s:s}", "drain", outcome));

	printf("%s\n", outcome);

	return CTL_DONE;
}

static int drain_wait(struct ctl *ctl, uint64_t within_s)
{
	struct left shown = {UINT64_MAX, UINT64_MAX};
	hbm_ticket ticket;
	int status = hbm_submit_drain(ctl->hbm, within_s * 1000, &ticket);
	if (status != 0)
		return ctl_refused(ctl->hbm, "drain", status);

	while ((status = hbm_wait(ctl->hbm, ticket, LOOK_MS)) == -ETIMEDOUT)
		drain_show(ctl, &shown);

	return status == 0 ? drain_report(ctl, "drained") : ctl_refused(ctl->hbm, "drain", status);
}

static int drain_end(struct ctl *ctl)
{
	int status = hbm_drain_cancel(ctl->hbm);

	return status == 0 ? drain_report(ctl, "cancelled")
			   : ctl_refused(ctl->hbm, "drain --cancel", status);
}

int drain_run(struct ctl *ctl)
{
	const char *within = ctl->options.values[DRAIN_WITHIN];
	bool cancel = ctl->options.values[DRAIN_CANCEL];
	uint64_t within_s = 0;
	int r = ctl_count(ctl, "--within", within, &within_s);
	if (r == CTL_DONE && within && (cancel || within_s == 0 || within_s > UINT32_MAX))
		r = ctl_usage(ctl,
			      cancel ? "--within is of no use with --cancel"
				     : "--within %s: expected seconds, at least 1",
			      within);
	if (r == CTL_DONE)
		r = ctl_connect(ctl);
	if (r != CTL_DONE)
		return r;

	return cancel ? drain_end(ctl) : drain_wait(ctl, within_s);
}
