/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest: device memory that a client allocated itself and lends to the daemon, open in the
 * daemon's context. A guest region has one, and no slabs.
 *
 * 	by descriptor	an allocation of cuMemCreate(), exported by the client: imported, mapped
 * 			as a whole, its handle released. The mapping keeps the memory.
 * 	by handle	memory of cuMemAlloc(), by cuIpcGetMemHandle(): opened, and closed again.
 * 			The client's memory is to stay until then.
 *
 * What comes from a client may be anything. The driver's refusal is an answer to the client:
 * it is neither logged nor counted as a failure of the device, unless it is sticky. Nothing
 * stays open or mapped after a refusal. A handle that is open already is refused: the driver
 * does not say how often it would have to be closed.
 *
 * Memory of a copy whose end is not known stays open until the daemon ends.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/base/reason.h"
#include "daemon/device/device.h"

#include <hbm/wire.h>

struct guest {
	uint32_t kind; /* HBM_WIRE_GUEST_FD, HBM_WIRE_GUEST_IPC; 0: there is none */
	int fd;        /* the caller's, for guest_open() */
	struct device *device;
	uint64_t bytes;
	CUipcMemHandle handle;
	bool kept; /* a copy may use it: guest_close() leaves it open */
	/* The outcome. */
	CUdeviceptr address;
	int status;       /* of guest_open(), while result is CUDA_SUCCESS */
	const char *call; /* the last that failed, with that result */
	CUresult result;
	uint64_t has;     /* bytes of the allocation, where that is what is wrong */
	struct list link; /* in device->handles, while a handle is open */
};

/* Both on the device's control thread. */
void guest_open(struct guest *guest);
void guest_close(struct guest *guest);
/* On the loop thread, after guest_open(): HBM_OK, or the refusal with its reason. */
int guest_outcome(const struct guest *guest, const struct reason *why);
/* "fd", "ipc"; "" for none. */
const char *guest_kind_name(uint32_t kind);
