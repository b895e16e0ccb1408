/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/host_device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/base/list.h"
#include "daemon/device/host_driver.h"

#define HOST_PAGE 4096 /* slabs are larger */

/* Each daemon's is the same, so that the next one finds what is kept of it. */
static const CUuuid host_device_uuid = {"hbmd host memory"};

static void host_device_init(struct device *device, struct devices *devices, uint64_t bytes)
{
	device->driver = host_driver_open(bytes);
	device->index = HBM_WIRE_DEVICE_HOST;
	device->uuid = host_device_uuid;
	device->total = bytes;
	device->granularity = HOST_PAGE;
	device->numa = &devices->numa;
	device->node = -1; /* near none */
	device->all = &device->host_gate;
	device->read_ns = clock_now();
	snprintf(device->name, sizeof(device->name), "host memory");
	list_init(&device->handles);
	device_late_open(device);
}

int host_device_open(struct devices *devices, uint64_t bytes, struct loop *loop)
{
	struct device *device = calloc(1, sizeof(*device));
	if (!device)
		return -ENOMEM;

	host_device_init(device, devices, bytes);
	device_read_free(device);
	int r = worker_new(&device->control, loop, "control-host", NULL, NULL);
	if (r < 0) {
		host_driver_close();
		free(device);
		return r;
	}

	devices->host = device;

	return 0;
}

void host_device_close(struct devices *devices)
{
	if (!devices->host)
		return;

	devices->host->control = worker_free(devices->host->control);
	host_driver_close();
	free(devices->host);
	devices->host = NULL;
}
