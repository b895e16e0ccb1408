/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_late: late copies (copy_queue.h), whose memory must not be used before they are known
 * to be over. They are when the whole context has been synchronised with success, by a call
 * that began after they were issued; or when that call says a sticky error, which has ended
 * all work. Any other answer loses the device, and then it will never be known.
 *
 * Marks are numbered. One question is asked at a time, on the control thread, for all marks
 * that were made before it.
 */
#include "daemon/device/device.h"

#include "daemon/base/list.h"
#include "daemon/base/log.h"

static void device_late_run(struct job *job)
{
	struct device *device = container_of(job, struct device, late.job);

	device->late.result = device->driver->cuCtxSynchronize();
	if (device->late.result != CUDA_SUCCESS)
		device_lose(device, "cuCtxSynchronize", device->late.result,
			    "no answer after another failure");
}

static void device_late_ask(struct device *device)
{
	if (!device->control)
		device->late.never = true;
	if (device->late.asking > 0 || device->late.marks == device->late.over ||
	    device->late.never)
		return;

	device->late.asking = device->late.marks;
	worker_post(device->control, &device->late.job);
}

static void device_late_tell(struct device *device)
{
	list_for_each_safe (node, after, &device->late.listeners) {
		struct late_listener *listener = container_of(node, struct late_listener, link);
		listener->settled(listener);
	}
}

static void device_late_answered(struct job *job)
{
	struct device *device = container_of(job, struct device, late.job);
	CUresult result = device->late.result;

	if (result == CUDA_SUCCESS || driver_error_is_sticky(result)) {
		device->late.over = device->late.asking;
		__atomic_store_n(&device->late.logged, false, __ATOMIC_RELAXED);
		log_notice("device %u: its copies have ended: their memory is used again",
			   device->index);
	} else {
		device->late.never = true;
		log_error(
			"device %u: it will not be known whether its copies have ended: their "
			"memory is not used again until hbmd restarts (failed, and quarantined, in "
			"hbmctl)",
			device->index);
	}

	device->late.asking = 0;
	device_late_tell(device);
	device_late_ask(device);
}

void device_late_open(struct device *device)
{
	device->late =
		(struct device_late){.job = {.run = device_late_run, .done = device_late_answered}};
	list_init(&device->late.listeners);
}

void device_note_late(struct device *device)
{
	if (!__atomic_exchange_n(&device->late.logged, true, __ATOMIC_RELAXED))
		log_error("device %u: cannot tell whether copies have ended: their memory is not "
			  "used until it is known (failed, and quarantined, in hbmctl)",
			  device->index);
}

uint64_t device_late_mark(struct device *device)
{
	uint64_t mark = ++device->late.marks;

	if (device_is_lost(device))
		device->late.never = true;
	device_late_ask(device);

	return mark;
}

bool device_late_is_over(const struct device *device, uint64_t mark)
{
	return mark <= device->late.over;
}

bool device_late_never(const struct device *device)
{
	return device->late.never;
}

void device_late_listen(struct device *device, struct late_listener *listener)
{
	list_push_back(&device->late.listeners, &listener->link);
}
