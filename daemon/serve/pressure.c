/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/pressure.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/config/config.h"
#include "daemon/device/device.h"
#include "daemon/region/lend.h"
#include "daemon/region/reservations.h"
#include "daemon/region/slab.h"
#include "daemon/serve/server.h"

/* BACK: what a device lacks is on its way back: no session is told, of it or of its end. */
enum pressure_level { PRESSURE_NONE, PRESSURE_BACK, PRESSURE_SHORT };

struct pressure {
	struct hbmd *hbmd;
	struct post look;
	bool looks;                                       /* it is posted */
	enum pressure_level levels[HBM_WIRE_DEVICES_MAX]; /* at the last look */
	uint64_t watermarks[HBM_WIRE_DEVICES_MAX];
};

/* What a device lacks; 0: nothing. */
static uint64_t pressure_lack(const struct pressure *pressure, uint32_t number)
{
	struct slabs_books books = slabs_books(pressure->hbmd->devices->list[number].slabs);
	uint64_t left = books.due < books.free ? books.free - books.due : 0;
	uint64_t watermark = pressure->watermarks[number];

	return left < watermark ? watermark - left : 0;
}

/* What it lacks beyond what is being released. */
static uint64_t pressure_short(const struct pressure *pressure, uint32_t number)
{
	struct slabs_books books = slabs_books(pressure->hbmd->devices->list[number].slabs);
	uint64_t lack = pressure_lack(pressure, number);
	uint64_t back = books.ready + books.uncreated + books.retiring - books.free;

	return lack > back ? lack - back : 0;
}

static enum pressure_level pressure_level(const struct pressure *pressure, uint32_t number)
{
	if (pressure_lack(pressure, number) == 0)
		return PRESSURE_NONE;

	return pressure_short(pressure, number) > 0 ? PRESSURE_SHORT : PRESSURE_BACK;
}

void pressure_look(struct pressure *pressure)
{
	if (!pressure || pressure->looks)
		return;

	pressure->looks = true;
	loop_post(pressure->hbmd->loop, &pressure->look);
}

static void pressure_changed(void *arg, uint32_t device)
{
	struct pressure *pressure = arg;

	if (pressure_level(pressure, device) != pressure->levels[device])
		pressure_look(pressure);
}

/* Tells a session of what it has not been told. */
static void pressure_tell(struct session *session, uint32_t device, uint64_t lack)
{
	const uint64_t bit = UINT64_C(1) << device;
	const struct hbm_wire_ask ask = {
		.session = session->id, .ask = HBM_ASK_PRESSURE, .device = device, .bytes = lack};

	if (lack == 0)
		session->pressed &= ~bit;
	else if (!(session->pressed & bit) && session_ask(session, &ask) != HBM_NOT_FOUND)
		session->pressed |= bit;
}

static void pressure_look_at(struct pressure *pressure, uint32_t number)
{
	struct hbmd *hbmd = pressure->hbmd;
	uint64_t wanted = pressure_short(pressure, number);

	if (wanted > 0)
		(void)lend_give_back(hbmd->devices->list[number].lend, wanted);

	pressure->levels[number] = lend_gives_back(hbmd->devices->list[number].lend)
					   ? PRESSURE_BACK
					   : pressure_level(pressure, number);
	if (pressure->levels[number] == PRESSURE_BACK)
		return;

	const uint64_t lack = pressure_lack(pressure, number);
	list_for_each (node, server_sessions(hbmd->server))
		pressure_tell(container_of(node, struct session, link), number, lack);
}

static void pressure_run(struct post *post)
{
	struct pressure *pressure = container_of(post, struct pressure, look);

	pressure->looks = false;
	for (uint32_t i = 0; i < pressure->hbmd->devices->count; i++)
		pressure_look_at(pressure, i);
}

int pressure_open(struct pressure **out, struct hbmd *hbmd)
{
	struct pressure *pressure = calloc(1, sizeof(*pressure));
	if (!pressure)
		return -ENOMEM;

	pressure->hbmd = hbmd;
	pressure->look.run = pressure_run;
	for (uint32_t i = 0; i < hbmd->devices->count; i++) {
		uint64_t memory =
			config_size_of(hbmd->config->device_memory, hbmd->devices->list[i].total);
		pressure->watermarks[i] = config_size_of(hbmd->config->device_watermark, memory);
	}

	reservations_on_change(hbmd->reservations, pressure_changed, pressure);
	*out = pressure;

	return 0;
}

struct pressure *pressure_close(struct pressure *pressure)
{
	if (!pressure)
		return NULL;

	reservations_on_change(pressure->hbmd->reservations, NULL, NULL);
	loop_flush(pressure->hbmd->loop);
	free(pressure);

	return NULL;
}
