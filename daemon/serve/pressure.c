/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/pressure.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/config/config.h"
#include "daemon/device/device.h"
#include "daemon/region/reservations.h"
#include "daemon/region/slab.h"
#include "daemon/serve/server.h"

struct pressure {
	struct hbmd *hbmd;
	struct post look;
	bool looks;     /* it is posted */
	uint64_t below; /* the devices that were short at the last look */
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
	bool was_below = pressure->below >> device & 1;

	if ((pressure_lack(pressure, device) > 0) != was_below)
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

static void pressure_run(struct post *post)
{
	struct pressure *pressure = container_of(post, struct pressure, look);
	struct hbmd *hbmd = pressure->hbmd;

	pressure->looks = false;
	pressure->below = 0;

	for (uint32_t i = 0; i < hbmd->devices->count; i++) {
		const uint64_t lack = pressure_lack(pressure, i);

		pressure->below |= (uint64_t)(lack > 0) << i;
		list_for_each (node, server_sessions(hbmd->server))
			pressure_tell(container_of(node, struct session, link), i, lack);
	}
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
