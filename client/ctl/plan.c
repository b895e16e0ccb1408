/* SPDX-License-Identifier: Apache-2.0 */
/* plan: see plan.h. */
#include "client/ctl/plan.h"
#include "client/ctl/plan_document.h"
#include "client/ctl/plan_live.h"
#include "client/ctl/plan_plot.h"
#include "client/ctl/plan_request.h"
#include "client/ctl/plan_show.h"

const char plan_details[] =
	"Four metrics, each with one piece of hardware for a wall: concurrency, prefill, decode, context switch.\n"
	"The hardware is --gpu, or --hbm, --flops, --bandwidth and --link, or with --live what the daemon has.\n"
	"All times are lower bounds at peak rates; K is 1,000 tokens. Formulas: hbm-plan(7).\n";

static const char *option(const struct ctl *ctl, enum plan_option which)
{
	return ctl->options.values[which];
}

static int check_outputs(const struct ctl *ctl, const struct plan_request *request)
{
	const char *path = option(ctl, PLAN_OPTION_PLOT);
	bool live = option(ctl, PLAN_OPTION_LIVE) != NULL;
	if (option(ctl, PLAN_OPTION_CSV) && ctl->json)
		return ctl_usage(ctl, "expected --csv or --json, not both");
	if (option(ctl, PLAN_OPTION_CSV) && live)
		return ctl_usage(ctl, "what --live measures is not in --csv: use --json");
	if (option(ctl, PLAN_OPTION_SWITCH_BYTES) && !live)
		return ctl_usage(ctl, "--switch-bytes takes --live");
	return path ? plan_plot_check(ctl, path, request) : CTL_DONE;
}

static int compute(const struct ctl *ctl, const struct plan_request *request, struct plan_point *points)
{
	for (size_t i = 0; i < request->context_count; i++) {
		struct plan_load load = request->load;
		load.context = request->contexts[i];
		if (plan_compute(&request->model, &request->hardware, &load, &points[i]) < 0)
			return ctl_usage(ctl, "these sizes come to more than 2^64 bytes");
	}
	return CTL_DONE;
}

static int show(const struct ctl *ctl, const struct plan_request *request, const struct plan_point *points,
		const struct plan_live *live)
{
	const char *path = option(ctl, PLAN_OPTION_PLOT);
	int r = path ? plan_plot(path, request, points) : CTL_DONE;
	if (r != CTL_DONE)
		return r;
	if (ctl->json)
		return plan_document_json(request, points, live);
	if (option(ctl, PLAN_OPTION_CSV))
		return plan_document_csv(request, points);
	return plan_show(request, points, live);
}

int plan_run(struct ctl *ctl)
{
	struct plan_request request = {.hbm_note = ""};
	struct plan_point points[PLAN_CONTEXTS_MAX];
	struct plan_live measured, *live = option(ctl, PLAN_OPTION_LIVE) ? &measured : NULL;
	int r = plan_request_load(ctl, &request);
	if (r == CTL_DONE)
		r = plan_request_hardware(ctl, &request);
	if (r == CTL_DONE)
		r = check_outputs(ctl, &request);
	if (r == CTL_DONE)
		r = plan_request_complete(ctl, &request, live != NULL);
	if (r == CTL_DONE && live)
		r = plan_live_measure(ctl, &request, live);
	if (r == CTL_DONE && live)
		r = plan_request_complete(ctl, &request, false);
	if (r == CTL_DONE)
		r = compute(ctl, &request, points);
	return r == CTL_DONE ? show(ctl, &request, points, live) : r;
}
