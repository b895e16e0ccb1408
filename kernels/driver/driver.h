/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver: the table of CUDA Driver API entry points everything in this project reaches a
 * device through, and the two ways to fill it: "cuda" (the driver's libcuda.so.1) and
 * "soft" (our libhbmsoft.so, the same entry points over host memory). Nothing else in the
 * project names a cu symbol.
 */
#pragma once

#include "kernels/driver/cuda_abi.h"

#include <hbm/wire.h> /* enum hbm_driver */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum driver_choice { DRIVER_AUTO, DRIVER_CUDA, DRIVER_SOFT };

/* How the soft device is to behave; all zero: its own defaults (one device of 1 GiB, no
 * delays, no faults). */
struct driver_soft_options {
	uint32_t devices;
	uint64_t memory;             /* bytes per device */
	double d2h_gib_s, h2d_gib_s; /* 0: as fast as the host copies */
	double latency_us;           /* added to every copy */
	const char *fail;            /* "cuMemCreate:3[:code],..." */
	/* of one process at a time: the devices are those of the process that gave this number
	 * before; 0: they are new */
	uint64_t card;
};

/* One member for each entry point, named without its version suffix:
 * driver->cuMemCreate(...). Those of DRIVER_OPTIONAL_CALLS and DRIVER_BATCH_CALLS may be
 * NULL. */
struct driver {
	enum hbm_driver kind;
	void *library;
	char passed_over
		[160]; /* why DRIVER_AUTO did not take cuda; "": it was not asked to, or did */
#define DRIVER_CALL(name, symbol, arguments) CUresult(*name) arguments;
	DRIVER_ALL_CALLS(DRIVER_CALL)
#undef DRIVER_CALL
};

/*
 * Loads a driver and calls cuInit. DRIVER_AUTO: cuda; soft only where there is no such
 * library or no device, and the kernel sees no NVIDIA hardware (hardware.h): a device
 * whose driver does not start is not silently replaced by host memory. soft may be NULL:
 * then the environment's HBM_SOFT, else its defaults. On failure a negative errno and one
 * line in error saying what was looked for. libhbmsoft.so is looked for in
 * $HBM_SOFT_DRIVER (a path), then in the folder of the object this function is linked
 * into, in hbm/ below it, in the two folders above it, in hbm/ of the folders for
 * libraries beside it, and in those of /usr/local and /usr. No path depends on what
 * PREFIX was when it was compiled.
 */
int driver_open(struct driver **out, enum driver_choice choice,
		const struct driver_soft_options *soft, char *error, size_t error_size);
/* Where this process finds reserved device memory by itself: on a soft device (hbm_soft_host()); on
 * any other NULL. */
void *driver_host_address(const struct driver *driver, CUdeviceptr address);
/* "cuda", "soft" */
const char *driver_kind_name(enum hbm_driver kind);
struct driver *driver_close(struct driver *driver); /* accepts NULL, returns NULL */
/* Whether the driver can copy a batch with one call. */
bool driver_has_batch(const struct driver *driver);
/*
 * Copies a batch in the order of a stream, which is not NULL: sizes[i] bytes from sources[i]
 * to targets[i], in any order among themselves. Addresses are those of device memory and of
 * registered host memory. CUDA_ERROR_NOT_SUPPORTED: driver_has_batch() is false, or the
 * driver says so. After a failure any of the copies may have been queued.
 */
CUresult driver_copy_batch(const struct driver *driver, CUdeviceptr *targets, CUdeviceptr *sources,
			   size_t *sizes, size_t count, unsigned flags, CUstream stream);
/* Writes "GPU-" and the UUID as nvidia-smi does; returns text. */
#define DRIVER_UUID_TEXT 41
const char *driver_uuid_text(char text[static DRIVER_UUID_TEXT], const CUuuid *uuid);
/* "CUDA_ERROR_OUT_OF_MEMORY", or "CUDA_ERROR_<n>"; never NULL, static. */
const char *driver_error_name(const struct driver *driver, CUresult result);
/* Whether an error is sticky: every later call in the context returns it until the
 * process ends. It need not be the error of the call that returned it, which may have
 * succeeded. */
bool driver_error_is_sticky(CUresult result);
