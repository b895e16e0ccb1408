/* SPDX-License-Identifier: Apache-2.0 */
/* session: see session.h. */
#include "client/plan/session.h"

#include "daemon/loading.h"

#include <assert.h>

#define SECONDS_PER_HOUR 3600

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static double links_out(const struct plan_hardware *hardware)
{
	return hardware->gpus * hardware->link.out_bytes_s;
}

static double links_in(const struct plan_hardware *hardware)
{
	return hardware->gpus * hardware->link.in_bytes_s;
}

/* Over a full-duplex link the slower direction hides the other. */
static void link_switch(const struct plan_hardware *hardware, struct plan_point *point)
{
	double kv = (double)point->kv_bytes;
	double out_s = kv / links_out(hardware), in_s = kv / links_in(hardware);
	point->switch_s = out_s + in_s;
	point->switch_duplex_s = out_s > in_s ? out_s : in_s;
	point->switch_wall.resource = PLAN_LINK;
	/* One direction at a time: of what both could move in that time. */
	point->switch_wall.used[PLAN_LINK] = 2 * kv / (point->switch_s * (links_out(hardware) + links_in(hardware)));
}

/* Whether loading `context` tokens takes no longer than computing them anew. The ratio of the two never grows with the
 * context. */
static bool loading_wins(const struct plan_model *model, const struct plan_hardware *hardware,
			 const struct plan_load *load, double bytes_s, uint64_t context)
{
	uint64_t bytes;
	return plan_kv_bytes(model, load, context, &bytes) == 0 &&
	       (double)bytes / bytes_s <= plan_prefill_compute_s(model, hardware, load, context);
}

static uint64_t break_even(const struct plan_model *model, const struct plan_hardware *hardware,
			   const struct plan_load *load, double bytes_s)
{
	uint64_t below = 0, enough = PLAN_CONTEXT_MAX;
	if (!loading_wins(model, hardware, load, bytes_s, enough))
		return 0;
	while (enough - below > 1) {
		uint64_t middle = below + (enough - below) / 2;
		if (loading_wins(model, hardware, load, bytes_s, middle))
			enough = middle;
		else
			below = middle;
	}
	return enough;
}

/* S = P + R·(D/C + X), and what follows from it: sessions in an hour; users that one host keeps busy when each of them
 * thinks for a while between two rounds. */
static double session(const struct plan_load *load, const struct plan_point *point, double switch_s)
{
	if (point->concurrency == 0)
		return 0;
	double answer_s = point->decode_s / (double)point->concurrency;
	return point->prefill_s + (double)load->rounds * (answer_s + switch_s);
}

static double per_hour(double session_s)
{
	return session_s > 0 ? SECONDS_PER_HOUR / session_s : 0;
}

static double sustainable(const struct plan_load *load, double session_s)
{
	return session_s > 0 ? (session_s + (double)load->rounds * load->think_s) / session_s : 0;
}

/* One user's cache through the link and, for NVMe, the drive; with rates of one direction. */
static double pass_s(const struct plan_point *point, double link_bytes_s, double nvme_bytes_s)
{
	struct loading_rates rates = {.link_bytes_s = link_bytes_s, .nvme_bytes_s = nvme_bytes_s};
	bool nvme = nvme_bytes_s > 0;
	return loading_seconds(&rates, 0, nvme ? 0 : point->kv_bytes, nvme ? point->kv_bytes : 0);
}

/* A drive reads and writes no faster at once than one after the other. */
static void add_drive(const struct plan_hardware *hardware, const struct plan_point *point,
		      struct plan_parking *parking)
{
	double kv = (double)point->kv_bytes;
	double drive_s = kv / hardware->nvme.out_bytes_s + kv / hardware->nvme.in_bytes_s;
	parking->duplex_s = drive_s > parking->duplex_s ? drive_s : parking->duplex_s;
	parking->wall.resource = drive_s >= point->switch_s ? PLAN_NVME : PLAN_LINK;
	parking->wall.used[PLAN_NVME] = drive_s / parking->serial_s;
	parking->wall.used[PLAN_LINK] *= point->switch_s / parking->serial_s;
}

static void park(const struct plan_model *model, const struct plan_hardware *hardware, const struct plan_load *load,
		 const struct plan_point *point, bool nvme, struct plan_parking *parking)
{
	struct plan_link none = {0, 0};
	const struct plan_link *drive = nvme ? &hardware->nvme : &none;
	parking->users = (nvme ? hardware->nvme_bytes : hardware->ddr_bytes) / point->kv_bytes;
	parking->wall = point->switch_wall;
	parking->duplex_s = point->switch_duplex_s;
	parking->out_s = pass_s(point, links_out(hardware), drive->out_bytes_s);
	parking->in_s = pass_s(point, links_in(hardware), drive->in_bytes_s);
	parking->serial_s = parking->out_s + parking->in_s;
	if (nvme)
		add_drive(hardware, point, parking);
	double in_bytes_s = nvme ? smaller(links_in(hardware), drive->in_bytes_s) : links_in(hardware);
	parking->break_even = break_even(model, hardware, load, in_bytes_s);
	parking->session_s = session(load, point, parking->serial_s);
	parking->sessions_per_hour = per_hour(parking->session_s);
	parking->sustainable_users = sustainable(load, parking->session_s);
}

/* Of the users beyond concurrency as many as there is room for are in DDR, the next in NVMe. One without a place is
 * computed anew each time. Where no tier is named, the host is taken to have room. */
static double mean_switch(const struct plan_hardware *hardware, const struct plan_load *load, struct plan_point *point)
{
	uint64_t parked = load->users > point->concurrency ? load->users - point->concurrency : 0;
	if (parked == 0)
		return 0;
	if (hardware->ddr_bytes == 0 && hardware->nvme_bytes == 0)
		return point->switch_s;
	point->users_in_ddr = least(parked, point->ddr.users);
	point->users_in_nvme = least(parked - point->users_in_ddr, point->nvme.users);
	point->users_without_place = parked - point->users_in_ddr - point->users_in_nvme;
	return ((double)point->users_in_ddr * point->ddr.serial_s +
		(double)point->users_in_nvme * point->nvme.serial_s +
		(double)point->users_without_place * point->prefill_s) /
	       (double)parked;
}

void plan_sessions(const struct plan_model *model, const struct plan_hardware *hardware, const struct plan_load *load,
		   struct plan_point *point)
{
	assert(point->kv_bytes > 0);
	link_switch(hardware, point);
	if (hardware->ddr_bytes)
		park(model, hardware, load, point, false, &point->ddr);
	if (hardware->nvme_bytes)
		park(model, hardware, load, point, true, &point->nvme);
	point->session_s = session(load, point, mean_switch(hardware, load, point));
	point->sessions_per_hour = per_hour(point->session_s);
	point->sustainable_users = sustainable(load, point->session_s);
}

/* The longest context whose cache is at most `room` bytes. */
static uint64_t longest_context(const struct plan_model *model, const struct plan_load *load, uint64_t room)
{
	uint64_t fits = 0, beyond = PLAN_CONTEXT_MAX + 1;
	while (beyond - fits > 1) {
		uint64_t middle = fits + (beyond - fits) / 2, bytes;
		if (plan_kv_bytes(model, load, middle, &bytes) == 0 && bytes <= room)
			fits = middle;
		else
			beyond = middle;
	}
	return fits;
}

struct plan_fit plan_fit_of(const struct plan_model *model, const struct plan_hardware *hardware,
			    const struct plan_load *load, const struct plan_point *point)
{
	unsigned __int128 needed = (unsigned __int128)point->weight_bytes + point->kv_bytes;
	uint64_t hbm = point->hbm_bytes;
	uint64_t room = hbm > point->weight_bytes ? hbm - point->weight_bytes : 0;
	struct plan_fit fit = {
		.missing_bytes = needed > hbm ? (uint64_t)(needed - hbm) : 0,
		.gpus = (uint64_t)((needed + hardware->hbm_bytes - 1) / hardware->hbm_bytes),
		.context = longest_context(model, load, room),
		.keep = smaller(1, (double)room / (double)point->kv_bytes),
	};
	if (hbm > point->kv_bytes)
		fit.weight_bits =
			smaller(model->weight_bits, (double)(hbm - point->kv_bytes) * 8 / (double)model->params);
	return fit;
}
