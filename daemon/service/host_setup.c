/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/host_setup.h"

#include "daemon/config/config.h"
#include "daemon/device/copy_queue.h"
#include "daemon/device/host_device.h"
#include "daemon/region/slab.h"
#include "daemon/serve/hbmd.h"
#include "daemon/tier/ddr_size.h"

static int host_setup_open_queues(const struct hbmd *hbmd, struct device *host)
{
	const struct copy_queue_options options = {.loop = hbmd->loop,
						   .link_stats = hbmd->link_stats,
						   .in_flight = hbmd->config->device_copy_in_flight,
						   .issue = {.host_chunk = UINT64_MAX}};
	int r = copy_queue_new(&host->queues[COPY_D2H], host, COPY_D2H, &options);

	return r < 0 ? r : copy_queue_new(&host->queues[COPY_H2D], host, COPY_H2D, &options);
}

int host_setup_open(struct hbmd *hbmd)
{
	struct memory_limit limit;
	memory_limit_read(&limit, "");
	uint64_t bytes = ddr_size_regions(hbmd->config, &limit);
	if (bytes == 0)
		return 0;

	int r = host_device_open(hbmd->devices, bytes, hbmd->loop);
	struct device *host = hbmd->devices->host;
	if (r == 0)
		r = slabs_open(&host->slabs, host, hbmd->loop, bytes, hbmd->config->device_slab,
			       hbmd->region_kept);

	return r < 0 ? r : host_setup_open_queues(hbmd, host);
}

void host_setup_close(struct hbmd *hbmd)
{
	struct device *host = hbmd->devices->host;
	if (!host)
		return;

	host->queues[COPY_D2H] = copy_queue_free(host->queues[COPY_D2H]);
	host->queues[COPY_H2D] = copy_queue_free(host->queues[COPY_H2D]);
	host->slabs = slabs_close(host->slabs);
	host_device_close(hbmd->devices);
}
