/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/device_nodes.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/device/device.h"
#include "daemon/state/keep.h"

#define BUS_ID_BYTES 32

/* The number in the name of its node; -1: that cannot be told. */
static int device_nodes_minor(const struct device *device, const char *facts)
{
	char bus[BUS_ID_BYTES] = "", path[PATH_MAX], line[256];
	int minor = -1;

	if (device->driver->cuDeviceGetPCIBusId(bus, sizeof(bus), device->handle) != CUDA_SUCCESS)
		return -1;
	for (char *c = bus; *c; c++)
		*c = (char)tolower((unsigned char)*c);

	snprintf(path, sizeof(path), "%s/%s/information", facts, bus);
	FILE *file = fopen(path, "re");
	while (file && minor < 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, "Device Minor: %d", &minor) != 1)
			minor = -1;
	if (file)
		fclose(file);

	return minor;
}

static void device_nodes_keep_one(int minor, const char *folder)
{
	char path[PATH_MAX], name[KEEP_NAME_BYTES];

	snprintf(name, sizeof(name), "device-%d", minor);
	int fd = keep_take(name);
	if (fd >= 0) { /* it is kept already */
		close(fd);
		return;
	}

	snprintf(path, sizeof(path), "%s/nvidia%d", folder, minor);
	fd = open(path, O_RDWR | O_CLOEXEC);
	int r = fd < 0 ? -errno : keep_put(name, fd);
	if (r < 0)
		log_notice("%s is not kept open while no daemon runs: %s", path, strerror(-r));
	if (fd >= 0)
		close(fd);
}

void device_nodes_keep(const struct devices *devices, const char *facts, const char *folder)
{
	if (devices->kind != HBM_DRIVER_CUDA || !keep_is_there())
		return;

	for (uint32_t i = 0; i < devices->count; i++) {
		int minor = device_nodes_minor(&devices->list[i], facts);
		if (minor >= 0)
			device_nodes_keep_one(minor, folder);
	}
}
