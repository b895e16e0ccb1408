/* SPDX-License-Identifier: Apache-2.0 */
/* session: see session.h. */
#include "client/plan/session.h"
#include "client/plan/cost.h"

#include "daemon/base/loading.h"

#include <assert.h>

#define SECONDS_PER_HOUR 3600

static double session_min_rate(double a, double b)
{
	return a < b ? a : b;
}

static uint64_t session_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Bytes of one copy of a cache in a second, over all links. */
static double session_out_bytes_s(const struct plan_hardware *hardware)
{
	return hardware->gpus * hardware->link.out_bytes_s;
}

static double session_in_bytes_s(const struct plan_hardware *hardware,
				 const struct plan_point *point)
{
	return hardware->gpus * hardware->link.in_bytes_s / point->kv_copies;
}

/* Over a full-duplex link the slower direction hides the other. */
static void session_link_switch(const struct plan_hardware *hardware, struct plan_point *point)
{
	double kv = (double)point->kv_bytes;
	double out_s = kv / session_out_bytes_s(hardware),
	       in_s = kv / session_in_bytes_s(hardware, point);

	point->switch_s = out_s + in_s;
	point->switch_duplex_s = out_s > in_s ? out_s : in_s;

	/* One direction at a time: a part of what both could move in that time. */
	double moved = kv * (1 + point->kv_copies);
	double both_bytes_s =
		hardware->gpus * (hardware->link.out_bytes_s + hardware->link.in_bytes_s);
	point->switch_wall.resource = PLAN_LINK;
	point->switch_wall.used[PLAN_LINK] = moved / (point->switch_s * both_bytes_s);
}

/* Whether loading `context` tokens takes no longer than computing them again. The ratio of
 * the two times never grows with the context. */
static bool session_loading_wins(const struct plan_model *model,
				 const struct plan_hardware *hardware, const struct plan_load *load,
				 double bytes_s, uint64_t context)
{
	uint64_t bytes;

	return plan_kv_bytes(model, load, context, &bytes) == 0 &&
	       (double)bytes / bytes_s <= plan_prefill_compute_s(model, hardware, load, context);
}

static uint64_t session_break_even(const struct plan_model *model,
				   const struct plan_hardware *hardware,
				   const struct plan_load *load, double bytes_s)
{
	uint64_t below = 0, enough = PLAN_CONTEXT_MAX;

	if (!session_loading_wins(model, hardware, load, bytes_s, enough))
		return 0;

	while (enough - below > 1) {
		uint64_t middle = below + (enough - below) / 2;

		if (session_loading_wins(model, hardware, load, bytes_s, middle))
			enough = middle;
		else
			below = middle;
	}

	return enough;
}

/* S = P + R·(D/C + X). 0: no user fits. */
static double session_total_s(const struct plan_load *load, const struct plan_point *point,
			      double switch_s)
{
	if (point->concurrency == 0)
		return 0;

	double answer_s = point->decode_s / (double)point->concurrency;
	return point->prefill_s + (double)load->rounds * (answer_s + switch_s);
}

static double session_per_hour(double session_s)
{
	return session_s > 0 ? SECONDS_PER_HOUR / session_s : 0;
}

/* Users that one host can serve if each of them thinks for a while between two rounds. */
static double session_sustainable(const struct plan_load *load, double session_s)
{
	return session_s > 0 ? (session_s + (double)load->rounds * load->think_s) / session_s : 0;
}

/* One user's cache over the links and, for NVMe, the drive; with rates of one
 * direction. */
static double session_transfer_s(const struct plan_point *point, double link_bytes_s,
				 double nvme_bytes_s)
{
	struct loading_rates rates = {.link_bytes_s = link_bytes_s, .nvme_bytes_s = nvme_bytes_s};
	bool nvme = nvme_bytes_s > 0;

	return loading_seconds(&rates, 0, nvme ? 0 : point->kv_bytes, nvme ? point->kv_bytes : 0);
}

/* A drive does not get faster by reading and writing at the same time. */
static void session_add_drive(const struct plan_hardware *hardware, const struct plan_point *point,
			      struct plan_parking *parking)
{
	double kv = (double)point->kv_bytes;
	double drive_s = kv / hardware->nvme.out_bytes_s + kv / hardware->nvme.in_bytes_s;

	parking->duplex_s = drive_s > parking->duplex_s ? drive_s : parking->duplex_s;
	parking->wall.resource = drive_s >= point->switch_s ? PLAN_NVME : PLAN_LINK;
	parking->wall.used[PLAN_NVME] = drive_s / parking->serial_s;
	parking->wall.used[PLAN_LINK] *= point->switch_s / parking->serial_s;
}

/* A tier holds one copy of each cache. */
static void session_park(const struct plan_model *model, const struct plan_hardware *hardware,
			 const struct plan_load *load, const struct plan_point *point, bool nvme,
			 struct plan_parking *parking)
{
	struct plan_link none = {0, 0};
	const struct plan_link *drive = nvme ? &hardware->nvme : &none;
	double link_in_bytes_s = session_in_bytes_s(hardware, point);

	parking->users = (nvme ? hardware->nvme_bytes : hardware->ddr_bytes) / point->kv_bytes;
	parking->wall = point->switch_wall;
	parking->duplex_s = point->switch_duplex_s;
	parking->out_s =
		session_transfer_s(point, session_out_bytes_s(hardware), drive->out_bytes_s);
	parking->in_s = session_transfer_s(point, link_in_bytes_s, drive->in_bytes_s);
	parking->serial_s = parking->out_s + parking->in_s;
	if (nvme)
		session_add_drive(hardware, point, parking);

	double in_bytes_s =
		nvme ? session_min_rate(link_in_bytes_s, drive->in_bytes_s) : link_in_bytes_s;
	parking->break_even = session_break_even(model, hardware, load, in_bytes_s);

	parking->session_s = session_total_s(load, point, parking->serial_s);
	parking->sessions_per_hour = session_per_hour(parking->session_s);
	parking->sustainable_users = session_sustainable(load, parking->session_s);
}

/* The users beyond concurrency are in DDR as far as there is room, then in NVMe. The
 * context of a user without room is computed again each time. If no tier is named, the
 * host has room for all. */
static double session_mean_switch(const struct plan_hardware *hardware,
				  const struct plan_load *load, struct plan_point *point)
{
	uint64_t parked = load->users > point->concurrency ? load->users - point->concurrency : 0;

	if (parked == 0)
		return 0;
	if (hardware->ddr_bytes == 0 && hardware->nvme_bytes == 0)
		return point->switch_s;

	point->users_in_ddr = session_min(parked, point->ddr.users);
	point->users_in_nvme = session_min(parked - point->users_in_ddr, point->nvme.users);
	point->users_without_place = parked - point->users_in_ddr - point->users_in_nvme;

	double all_s = (double)point->users_in_ddr * point->ddr.serial_s +
		       (double)point->users_in_nvme * point->nvme.serial_s +
		       (double)point->users_without_place * point->prefill_s;

	return all_s / (double)parked;
}

void plan_sessions(const struct plan_model *model, const struct plan_hardware *hardware,
		   const struct plan_load *load, struct plan_point *point)
{
	assert(point->kv_bytes > 0 && point->kv_copies > 0);

	session_link_switch(hardware, point);
	if (hardware->ddr_bytes)
		session_park(model, hardware, load, point, false, &point->ddr);
	if (hardware->nvme_bytes)
		session_park(model, hardware, load, point, true, &point->nvme);

	point->session_s = session_total_s(load, point, session_mean_switch(hardware, load, point));
	point->sessions_per_hour = session_per_hour(point->session_s);
	point->sustainable_users = session_sustainable(load, point->session_s);
}
