/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/nvme_flight.h"

void nvme_flight_open(struct nvme_flight *flight, unsigned depth, unsigned depth_max,
		      uint64_t largest)
{
	*flight = (struct nvme_flight){.unit = largest > NVME_FLIGHT_UNIT ? largest
									  : NVME_FLIGHT_UNIT};

	if (depth > 0) {
		nvme_depth_open_fixed(&flight->depth, depth);
		nvme_depth_open_fixed(&flight->window, NVME_FLIGHT_WINDOW);
	} else {
		nvme_depth_open(&flight->depth, NVME_FLIGHT_DEPTH, depth_max);
		nvme_depth_open(&flight->window, NVME_FLIGHT_WINDOW, NVME_FLIGHT_WINDOW_MAX);
	}
}

unsigned nvme_flight_depth(const struct nvme_flight *flight)
{
	return flight->depth.now;
}

uint64_t nvme_flight_window(const struct nvme_flight *flight)
{
	return flight->window.now * flight->unit;
}

bool nvme_flight_has_room(const struct nvme_flight *flight)
{
	return flight->ios < flight->depth.now && flight->bytes < nvme_flight_window(flight);
}

void nvme_flight_begin(struct nvme_flight *flight, uint64_t bytes)
{
	flight->ios++;
	flight->bytes += bytes;
}

void nvme_flight_shorten(struct nvme_flight *flight, uint64_t bytes)
{
	flight->bytes -= bytes;
}

void nvme_flight_end(struct nvme_flight *flight, uint64_t bytes, uint64_t moved, uint64_t now_ns)
{
	flight->ios--;
	flight->bytes -= bytes;
	nvme_depth_ended(&flight->depth, moved, flight->ios, now_ns);
	nvme_depth_ended(&flight->window, moved, flight->ios, now_ns);
}

void nvme_flight_look(struct nvme_flight *flight, uint64_t now_ns)
{
	if (flight->ios < flight->depth.now)
		nvme_depth_unused(&flight->depth, flight->ios, now_ns);
	if (flight->bytes < nvme_flight_window(flight))
		nvme_depth_unused(&flight->window, flight->ios, now_ns);
}
