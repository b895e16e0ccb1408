/* SPDX-License-Identifier: Apache-2.0 */
/* plan_live: see plan_live.h. */
#include "client/ctl/plan_live.h"
#include "client/ctl/plan_switch.h"
#include "client/ctl/query.h"
#include "client/ctl/view.h"

double plan_measure_ratio(const struct plan_measure *measure)
{
	return measure->theoretical_bytes_s > 0
		       ? measure->measured_bytes_s / measure->theoretical_bytes_s
		       : 0;
}

double plan_switch_ratio(const struct plan_switch *performed)
{
	double took_s = performed->out_s + performed->in_s;
	return took_s > 0 ? performed->theoretical_s / took_s : 0;
}

/* A link's theoretical rate. A copy within HBM has half its bandwidth, since every byte is
 * read and written. */
static double plan_live_theory_of(const struct plan_hardware *theory, uint32_t link)
{
	switch (link) {
	case HBM_LINK_D2D:
		return theory->hbm_bytes_s / 2;
	case HBM_LINK_D2H:
		return theory->link.out_bytes_s;
	case HBM_LINK_H2D:
		return theory->link.in_bytes_s;
	case HBM_LINK_NVME_WRITE:
		return theory->nvme.out_bytes_s;
	case HBM_LINK_NVME_READ:
		return theory->nvme.in_bytes_s;
	default:
		return 0;
	}
}

static double plan_live_slower(double a, double b)
{
	return a < b ? a : b;
}

/* Out and in, in theory; 0 where a rate of it is not known. */
static double plan_live_switch_theory(const struct plan_hardware *theory,
				      const struct plan_switch *performed)
{
	double out = theory->link.out_bytes_s, in = theory->link.in_bytes_s;

	if (performed->tier == HBM_TIER_HBM)
		out = in = theory->hbm_bytes_s / 2;
	if (performed->tier == HBM_TIER_NVME) {
		out = plan_live_slower(out, theory->nvme.out_bytes_s);
		in = plan_live_slower(in, theory->nvme.in_bytes_s);
	}

	return out > 0 && in > 0 ? (double)performed->bytes / out + (double)performed->bytes / in
				 : 0;
}

static int plan_live_read_links(struct ctl *ctl, const struct plan_hardware *theory,
				struct plan_live *live, double rates[HBM_LINKS])
{
	struct query links;
	int status = query_all(ctl->hbm, HBM_QUERY_LINKS, &links);
	if (status != 0)
		return ctl_refused(ctl->hbm, "links", status);

	for (size_t i = 0; i < links.count && live->link_count < HBM_LINKS; i++) {
		const struct hbm_wire_link *link = query_record(&links, i);
		double rate =
			link->busy_ns ? (double)link->bytes / ((double)link->busy_ns / 1e9) : 0;
		if (link->link < HBM_LINKS)
			rates[link->link] = rate;
		live->links[live->link_count++] =
			(struct plan_measure){view_name(&view_links, link->link),
					      plan_live_theory_of(theory, link->link), rate};
	}

	query_clear(&links);

	return CTL_DONE;
}

/* Every device counts as large as the smallest. */
static int plan_live_read_devices(struct ctl *ctl, struct plan_request *request)
{
	struct query devices;
	int status = query_all(ctl->hbm, HBM_QUERY_DEVICES, &devices);
	if (status != 0)
		return ctl_refused(ctl->hbm, "devices", status);

	uint64_t least = UINT64_MAX;
	uint32_t count = 0;
	for (size_t i = 0; i < devices.count; i++) {
		const struct hbm_wire_device *device = query_record(&devices, i);
		if (device->index == HBM_DEVICE_HOST)
			continue;
		least = device->total < least ? device->total : least;
		count++;
	}

	if (count > 0) {
		request->hardware.gpus = count;
		request->hardware.hbm_bytes = least;
		request->hbm_note = "as the daemon's devices have it";
	}

	query_clear(&devices);

	return CTL_DONE;
}

static int plan_live_read_tiers(struct ctl *ctl, struct plan_hardware *hardware)
{
	struct query tiers;
	int status = query_all(ctl->hbm, HBM_QUERY_TIERS, &tiers);
	if (status != 0)
		return ctl_refused(ctl->hbm, "tiers", status);

	hardware->ddr_bytes = hardware->nvme_bytes = 0;
	for (size_t i = 0; i < tiers.count; i++) {
		const struct hbm_wire_tier *tier = query_record(&tiers, i);
		if (tier->tier == HBM_TIER_DDR)
			hardware->ddr_bytes += tier->capacity;
		if (tier->tier == HBM_TIER_NVME)
			hardware->nvme_bytes += tier->capacity;
	}

	query_clear(&tiers);

	return CTL_DONE;
}

/* What is in NVMe before the scratch blocks come. */
static int plan_live_read_ratio(struct ctl *ctl, double *ratio)
{
	struct query tiers;
	int status = query_all(ctl->hbm, HBM_QUERY_TIERS, &tiers);
	if (status != 0)
		return ctl_refused(ctl->hbm, "tiers", status);

	*ratio = 1;
	for (size_t i = 0; i < tiers.count; i++) {
		const struct hbm_wire_tier *tier = query_record(&tiers, i);
		if (tier->tier == HBM_TIER_NVME && tier->bytes > 0)
			*ratio = (double)tier->logical_bytes / (double)tier->bytes;
	}

	query_clear(&tiers);

	return CTL_DONE;
}

/* Of a KV cache that is encoded anyway, what that saves is in the plan already. */
static void plan_live_use_ratio(struct plan_request *request, double ratio)
{
	double bytes = (double)request->hardware.nvme_bytes * ratio;
	if (request->load.encoding_bits == 0)
		request->hardware.nvme_bytes = (uint64_t)bytes;
}

static void plan_live_use_rate(double measured, double *rate)
{
	if (measured > 0)
		*rate = measured;
}

/* A link that has moved nothing keeps its theory; a drive without either is left out of
 * the plan. */
static void plan_live_use_rates(struct plan_hardware *hardware, const double rates[HBM_LINKS])
{
	plan_live_use_rate(rates[HBM_LINK_D2H], &hardware->link.out_bytes_s);
	plan_live_use_rate(rates[HBM_LINK_H2D], &hardware->link.in_bytes_s);
	plan_live_use_rate(rates[HBM_LINK_NVME_WRITE], &hardware->nvme.out_bytes_s);
	plan_live_use_rate(rates[HBM_LINK_NVME_READ], &hardware->nvme.in_bytes_s);
	if (!(hardware->nvme.out_bytes_s > 0 && hardware->nvme.in_bytes_s > 0))
		hardware->nvme_bytes = 0;
}

int plan_live_measure(struct ctl *ctl, struct plan_request *request, struct plan_live *out)
{
	struct plan_live live = {.link_count = 0};
	struct plan_hardware theory = request->hardware;
	double rates[HBM_LINKS] = {0};

	int r = ctl_connect(ctl);
	if (r == CTL_DONE)
		r = plan_live_read_ratio(ctl, &live.nvme_ratio);
	if (r == CTL_DONE)
		r = plan_switch_perform(ctl, request->switch_bytes, &live);
	if (r == CTL_DONE)
		r = plan_live_read_devices(ctl, request);
	if (r == CTL_DONE)
		r = plan_live_read_tiers(ctl, &request->hardware);
	if (r == CTL_DONE)
		r = plan_live_read_links(ctl, &theory, &live, rates);
	if (r != CTL_DONE)
		return r;

	for (size_t i = 0; i < live.switch_count; i++)
		live.switches[i].theoretical_s =
			plan_live_switch_theory(&theory, &live.switches[i]);

	plan_live_use_rates(&request->hardware, rates);
	plan_live_use_ratio(request, live.nvme_ratio);
	*out = live;

	return CTL_DONE;
}
