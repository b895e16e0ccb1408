/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices: opening all of them, and closing. A half-opened set closes like a whole one. The
 * daemon uses every device the driver shows; CUDA_VISIBLE_DEVICES makes the driver hide some.
 *
 * To retain the context of a device takes it up to half a second, so each does that on its own
 * control thread, at the same time as the others.
 */
#include <errno.h>
#include <limits.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/config/config.h"
#include "daemon/device/device_facts.h"
#include "kernels/driver/hardware.h"

static enum driver_choice devices_driver_choice(const struct config *config)
{
	switch (config->driver) {
	case CONFIG_DRIVER_CUDA:
		return DRIVER_CUDA;
	case CONFIG_DRIVER_SOFT:
		return DRIVER_SOFT;
	default:
		return DRIVER_AUTO;
	}
}

static int devices_open_driver(struct devices *devices, const struct config *config, char *error,
			       size_t error_size)
{
	struct driver_soft_options soft = {
		.devices = (uint32_t)config->soft_devices,
		.memory = config->soft_memory,
		.card = config->soft_card,
		.d2h_gib_s = config->soft_d2h_gib_s,
		.h2d_gib_s = config->soft_h2d_gib_s,
		.latency_us = config->soft_latency_us,
		.fail = config->soft_fail && *config->soft_fail ? config->soft_fail : NULL,
	};
	struct driver *driver;
	int r = driver_open(&driver, devices_driver_choice(config), &soft, error, error_size);
	size_t length = r == -EIO ? strlen(error) : 0;
	if (r == -EIO)
		snprintf(error + length, error_size - length,
			 ": the kernel's log and nvidia-smi may say why; hbmd.driver = soft would "
			 "do without");

	if (r < 0)
		return r;

	devices->driver = driver;
	devices->kind = driver->kind;
	const char *note =
		driver->kind == HBM_DRIVER_CUDA ? "" : " (host memory in place of a GPU)";
	const char *why = config->driver != CONFIG_DRIVER_AUTO ? "as configured"
			  : driver->kind == HBM_DRIVER_CUDA    ? "auto: a CUDA device answers"
							       : "auto: ";
	log_notice("device driver: %s%s, %s%s", driver_kind_name(driver->kind), note, why,
		   driver->passed_over);

	return 0;
}

static int devices_refuse(const struct devices *devices, const char *call, CUresult result,
			  char *error, size_t error_size)
{
	snprintf(error, error_size, "%s failed: %s", call,
		 driver_error_name(devices->driver, result));
	return result == CUDA_ERROR_OUT_OF_MEMORY ? -ENOMEM : -EIO;
}

/* ---- one device ---- */

static int devices_ask(struct devices *devices, uint32_t index, char *error, size_t error_size)
{
	struct device *device = &devices->list[index];

	device->driver = devices->driver;
	device->index = index;
	device->numa = &devices->numa;
	device->all = &devices->gate;
	list_init(&device->handles);
	device_late_open(device);
	const char *call;
	CUresult result = device_facts_ask(device, &call);
	if (result != CUDA_SUCCESS)
		return devices_refuse(devices, call, result, error, error_size);

	device_facts_ask_node(device);

	return device_check(device, error, error_size);
}

/* What a control thread does first. */
struct opening {
	struct job job;
	struct device *device;
	sem_t *ended;
	CUresult result;
};

static CUresult devices_enter(struct device *device)
{
	CUresult r = device_enter(device);
	if (r != CUDA_SUCCESS)
		r = device_enter(
			device); /* retried: a transient failure would cost every region of this device */

	if (r != CUDA_SUCCESS)
		device_note_failure(device, "cuCtxSetCurrent", r);

	return r;
}

static void devices_run_opening(struct job *job)
{
	struct opening *opening = container_of(job, struct opening, job);
	struct device *device = opening->device;

	device_run_near(device);
	opening->result =
		device->driver->cuDevicePrimaryCtxRetain(&device->context, device->handle);
	if (opening->result == CUDA_SUCCESS && devices_enter(device) == CUDA_SUCCESS)
		device_read_free(device);

	sem_post(opening->ended);
}

static int devices_start_one(struct opening *opening, struct loop *loop)
{
	struct device *device = opening->device;
	char name[24]; /* large enough for any number, though a thread name shows 15 bytes */

	snprintf(name, sizeof(name), "control-%u", device->index);
	int r = worker_new(&device->control, loop, name, NULL, NULL);
	if (r < 0)
		return r;

	worker_gate(device->control, device->all);
	device->read_ns = clock_now();
	opening->job.run = devices_run_opening;
	worker_post(device->control, &opening->job);

	return 0;
}

static int devices_end_one(const struct devices *devices, const struct opening *opening,
			   char *error, size_t error_size)
{
	const struct device *device = opening->device;
	if (opening->result != CUDA_SUCCESS)
		return devices_refuse(devices, "cuDevicePrimaryCtxRetain", opening->result, error,
				      error_size);

	log_info("device %u: %s, %s, %llu MiB", device->index, device->name,
		 driver_uuid_text((char[DRIVER_UUID_TEXT]){0}, &device->uuid),
		 (unsigned long long)(device->total >> 20));

	return 0;
}

int devices_start(struct devices *devices, struct loop *loop, char *error, size_t error_size)
{
	struct opening openings[HBM_WIRE_DEVICES_MAX] = {0};
	uint32_t started = 0;
	int r = 0;
	sem_t ended;

	sem_init(&ended, 0, 0);
	for (; r == 0 && started < devices->count; started += r == 0) {
		openings[started].device = &devices->list[started];
		openings[started].ended = &ended;
		r = devices_start_one(&openings[started], loop);
		if (r < 0)
			snprintf(error, error_size, "no thread for device %u", started);
	}

	for (uint32_t i = 0; i < started; i++)
		while (sem_wait(&ended) != 0)
			;

	sem_destroy(&ended);
	for (uint32_t i = 0; r == 0 && i < started; i++)
		r = devices_end_one(devices, &openings[i], error, error_size);

	return r;
}

/* ---- all ---- */

/* Whether the driver hands out memory with what others have left in it. */
static bool devices_leave_memory(const struct devices *devices)
{
	return devices->kind == HBM_DRIVER_CUDA && hardware_leaves_memory();
}

static bool devices_are_scrubbed(const struct devices *devices, const struct config *config)
{
	return config->device_scrub == CONFIG_SCRUB_AUTO ? devices_leave_memory(devices)
							 : config->device_scrub == CONFIG_SCRUB_YES;
}

/* What the host is set up for that the driver's calls do not tell. */
static void devices_warn_of_host(const struct devices *devices, const struct config *config)
{
	char folder[PATH_MAX];

	if (devices->kind != HBM_DRIVER_CUDA)
		return;

	if (devices_leave_memory(devices))
		log_warning("the NVIDIA driver does not clear memory that is given back "
			    "(RMDisableScrubOnFree): %s",
			    devices_are_scrubbed(devices, config)
				    ? "hbmd does, which takes time (device.scrub)"
				    : "clients may see bytes of other clients (device.scrub)");

	if (hardware_has_mps(folder, sizeof(folder)))
		log_warning("MPS pipes in %s: hbmd and all engines must be clients of one MPS "
			    "server, which serves several users with -multiuser-server only",
			    folder);
}

static int devices_open_all(struct devices *devices, const struct config *config, struct loop *loop,
			    char *error, size_t error_size)
{
	int count;
	CUresult result = devices->driver->cuDeviceGetCount(&count);
	if (result != CUDA_SUCCESS)
		return devices_refuse(devices, "cuDeviceGetCount", result, error, error_size);

	if (count < 1 || count > HBM_WIRE_DEVICES_MAX) {
		snprintf(error, error_size, "the driver reports %d devices, expected 1 to %d",
			 count, HBM_WIRE_DEVICES_MAX);
		return -ENODEV;
	}

	unsigned gpus = hardware_gpus();
	if (devices->kind == HBM_DRIVER_CUDA && (unsigned)count < gpus)
		log_error("the driver shows %d of %u GPUs: is each /dev/nvidia<N> there, and may "
			  "hbmd open it? does CUDA_VISIBLE_DEVICES hide any?",
			  count, gpus);
	devices_warn_of_host(devices, config);

	devices->list = calloc((size_t)count, sizeof(*devices->list));
	if (!devices->list) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}

	devices->count = (uint32_t)count;
	for (uint32_t i = 0; i < devices->count; i++) {
		int r = devices_ask(devices, i, error, error_size);
		if (r < 0)
			return r;
		devices->list[i].scrubs = devices_are_scrubbed(devices, config);
	}

	return loop ? devices_start(devices, loop, error, error_size) : 0;
}

int devices_open(struct devices **out, const struct config *config, struct loop *loop, char *error,
		 size_t error_size)
{
	struct devices *devices = calloc(1, sizeof(*devices));
	if (!devices) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}

	numa_read(&devices->numa, hardware_root());
	int r = devices_open_driver(devices, config, error, error_size);
	if (r == 0)
		r = devices_open_all(devices, config, loop, error, error_size);

	if (r < 0) {
		devices_close(devices);
		return r;
	}

	*out = devices;

	return 0;
}

struct devices *devices_close(struct devices *devices)
{
	if (!devices)
		return NULL;

	for (uint32_t i = 0; i < devices->count; i++) {
		struct device *device = &devices->list[i];
		device->control = worker_free(device->control);
		if (device->context)
			device->driver->cuDevicePrimaryCtxRelease(device->handle);
	}

	free(devices->list);
	driver_close(devices->driver);
	free(devices);

	return NULL;
}
