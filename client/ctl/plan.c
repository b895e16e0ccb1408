/* SPDX-License-Identifier: Apache-2.0 */
/* plan: see plan.h. */
#include "client/ctl/plan.h"
#include "client/ctl/plan_document.h"
#include "client/ctl/plan_layout.h"
#include "client/ctl/plan_list.h"
#include "client/ctl/plan_live.h"
#include "client/ctl/plan_plot.h"
#include "client/ctl/plan_request.h"
#include "client/ctl/plan_show.h"

const char plan_details[] =
	"Four metrics, each limited by one piece of hardware: concurrency, prefill, decode and\n"
	"context switch. The hardware is --gpu, or --hbm, --flops, --bandwidth and --link, or "
	"with\n"
	"--live that of the daemon.\n"
	"Names may be short: H100, DeepSeek-V3. --list prints them all.\n"
	"All times are lower bounds at peak rates; K is 1,000 tokens. See hbm-plan(7).\n"
	"The exit status is 1 if no context length leaves room for one user.\n";

static const char *plan_option(const struct ctl *ctl, enum plan_option which)
{
	return ctl->options.values[which];
}

static int plan_check_outputs(const struct ctl *ctl, const struct plan_request *request)
{
	const char *path = plan_option(ctl, PLAN_OPTION_PLOT);
	bool live = plan_option(ctl, PLAN_OPTION_LIVE) != NULL;
	if (plan_option(ctl, PLAN_OPTION_CSV) && ctl->json)
		return ctl_usage(ctl, "expected --csv or --json, not both");
	if (plan_option(ctl, PLAN_OPTION_CSV) && live)
		return ctl_usage(ctl, "--csv does not have what --live measures: use --json");
	if (plan_option(ctl, PLAN_OPTION_CSV) && plan_option(ctl, PLAN_OPTION_LAYOUT))
		return ctl_usage(ctl, "--csv does not have what --layout shows: use --json");
	if (plan_option(ctl, PLAN_OPTION_SWITCH_BYTES) && !live)
		return ctl_usage(ctl, "--switch-bytes needs --live");

	return path ? plan_plot_check(ctl, path, request) : CTL_DONE;
}

static int plan_points(const struct ctl *ctl, const struct plan_request *request,
		       struct plan_point *points)
{
	for (size_t i = 0; i < request->context_count; i++) {
		struct plan_load load = request->load;

		load.context = request->contexts[i];
		if (plan_compute(&request->model, &request->hardware, &load, &points[i]) < 0)
			return ctl_usage(ctl, "these sizes come to more than 2^64 bytes");
	}
	return CTL_DONE;
}

static int plan_print(const struct ctl *ctl, const struct plan_request *request,
		      const struct plan_point *points, const struct hbm_layout *layout,
		      const struct plan_live *live)
{
	const char *path = plan_option(ctl, PLAN_OPTION_PLOT);
	int r = path ? plan_plot(path, request, points) : CTL_DONE;

	if (r != CTL_DONE)
		return r;
	if (ctl->json)
		return plan_document_json(request, points, layout, live);
	if (plan_option(ctl, PLAN_OPTION_CSV))
		return plan_document_csv(request, points);

	return plan_show(request, points, layout, live);
}

/* CTL_FAILED if no context length leaves room for one user. */
static int plan_exit_status(const struct plan_request *request, const struct plan_point *points)
{
	for (size_t i = 0; i < request->context_count; i++) {
		if (points[i].concurrency > 0)
			return CTL_DONE;
	}
	return CTL_FAILED;
}

/* Resolves the options, and measures the daemon into *live unless it is NULL. */
static int plan_resolve(struct ctl *ctl, struct plan_request *request, struct plan_live *live)
{
	int r = plan_request_load(ctl, request);
	if (r == CTL_DONE)
		r = plan_request_hardware(ctl, request);
	if (r == CTL_DONE)
		r = plan_check_outputs(ctl, request);
	if (r == CTL_DONE)
		r = plan_request_complete(ctl, request, live != NULL);
	if (r != CTL_DONE || !live)
		return r;

	r = plan_live_measure(ctl, request, live);

	return r == CTL_DONE ? plan_request_complete(ctl, request, false) : r;
}

int plan_run(struct ctl *ctl)
{
	struct plan_request request = {.hbm_note = ""};
	struct plan_point points[PLAN_CONTEXTS_MAX];
	struct hbm_layout *layout = NULL;
	struct plan_live measured, *live = plan_option(ctl, PLAN_OPTION_LIVE) ? &measured : NULL;
	bool list;

	int r = plan_request_list(ctl, &list);
	if (r != CTL_DONE || list)
		return r == CTL_DONE ? plan_list(ctl) : r;

	r = plan_resolve(ctl, &request, live);
	if (r == CTL_DONE)
		r = plan_points(ctl, &request, points);
	if (r == CTL_DONE)
		r = plan_layout_open(ctl, &request, &layout);
	if (r == CTL_DONE)
		r = plan_print(ctl, &request, points, layout, live);
	hbm_layout_free(layout);

	return r == CTL_DONE ? plan_exit_status(&request, points) : r;
}
