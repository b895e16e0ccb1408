/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/driver/hardware.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NVIDIA 0x10de
#define DISPLAY_CLASS 0x03 /* the first byte of three: VGA and 3D controllers */

const char *hardware_root(void)
{
	const char *root = secure_getenv("HBM_HARDWARE_ROOT");

	return root != NULL ? root : "";
}

/* A number in a file of a device of the PCI bus; 0: it cannot be read. */
static unsigned long hardware_number(const char *folder, const char *device, const char *name)
{
	char path[PATH_MAX], text[32] = "";
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s/%s", folder, device, name);
	file = fopen(path, "re");
	if (file == NULL)
		return 0;
	if (fgets(text, sizeof(text), file) == NULL)
		text[0] = '\0';
	fclose(file);

	return strtoul(text, NULL, 16);
}

static bool hardware_is_display(const char *folder, const char *device)
{
	return hardware_number(folder, device, "vendor") == NVIDIA &&
	       hardware_number(folder, device, "class") >> 16 == DISPLAY_CLASS;
}

static bool hardware_is_on_bus(char *where, size_t size)
{
	char folder[PATH_MAX];
	DIR *devices;
	bool found = false;

	snprintf(folder, sizeof(folder), "%s/sys/bus/pci/devices", hardware_root());
	devices = opendir(folder);
	if (devices == NULL)
		return false;

	for (const struct dirent *entry; !found && (entry = readdir(devices)) != NULL;) {
		found = entry->d_name[0] != '.' && hardware_is_display(folder, entry->d_name);
		if (found)
			snprintf(where, size, "PCI device %s", entry->d_name);
	}

	closedir(devices);

	return found;
}

bool hardware_has_nvidia(char *where, size_t size)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/proc/driver/nvidia/version", hardware_root());
	if (access(path, F_OK) == 0) {
		snprintf(where, size, "/proc/driver/nvidia");
		return true;
	}

	return hardware_is_on_bus(where, size);
}

unsigned hardware_gpus(void)
{
	char folder[PATH_MAX];
	unsigned count = 0;
	DIR *gpus;

	snprintf(folder, sizeof(folder), "%s/proc/driver/nvidia/gpus", hardware_root());
	gpus = opendir(folder);
	if (gpus == NULL)
		return 0;

	for (const struct dirent *entry; (entry = readdir(gpus)) != NULL;)
		count += entry->d_name[0] != '.';
	closedir(gpus);

	return count;
}

/* The last of several values counts no more than the first: either may be the driver's. */
static bool hardware_line_sets(const char *line, const char *key)
{
	size_t length = strlen(key);

	for (const char *at = line; (at = strcasestr(at, key)) != NULL;) {
		at += length;
		if (*at == '=' && strtoul(at + 1, NULL, 0) != 0)
			return true;
	}

	return false;
}

bool hardware_leaves_memory(void)
{
	char path[PATH_MAX], *line = NULL;
	size_t size = 0;
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "%s/proc/driver/nvidia/params", hardware_root());
	file = fopen(path, "re");
	if (file == NULL)
		return false;

	while (!found && getline(&line, &size, file) >= 0)
		found = hardware_line_sets(line, "RMDisableScrubOnFree");

	free(line);
	fclose(file);

	return found;
}

bool hardware_has_mps(char *folder, size_t size)
{
	const char *set = secure_getenv("CUDA_MPS_PIPE_DIRECTORY");
	char path[PATH_MAX];

	if (set != NULL && set[0] != '\0') {
		snprintf(folder, size, "%s", set);
		return true;
	}

	snprintf(path, sizeof(path), "%s/tmp/nvidia-mps", hardware_root());
	if (access(path, F_OK) != 0)
		return false;
	snprintf(folder, size, "/tmp/nvidia-mps");

	return true;
}
