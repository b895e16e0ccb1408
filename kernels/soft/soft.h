/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft: what libhbmsoft.so exports beside the cu entry points: how it is set up, told to
 * fail, given kernels, and asked what it holds. driver.c uses the first two; others find
 * theirs by dlsym(driver->library, ...).
 */
#pragma once

#include "kernels/driver/cuda_abi.h"
#include "kernels/driver/driver.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOFT_EXPORT __attribute__((visibility("default")))

/*
 * Takes a use of the library by one driver table. The first user's options hold; with
 * NULL the environment's HBM_SOFT ("devices=2,memory=4GiB,d2h=10,h2d=10,latency_us=5")
 * and else the defaults. HBM_SOFT's "litter=1" and "slow=cuInit:2000000+cuMemCreate:100"
 * (us) hold with options too. Faults are options->fail or else the environment's
 * HBM_SOFT_FAIL. A later user is refused (-EBUSY) if it names other devices or memory;
 * its faults are added. -EINVAL: an option or a variable cannot be understood. Pair
 * every success with hbm_soft_release().
 */
SOFT_EXPORT int hbm_soft_configure(const struct driver_soft_options *options);
/* Drops a use. The last one ends all streams, frees all memory and forgets options,
 * faults and counts. */
SOFT_EXPORT void hbm_soft_release(void);

/*
 * Makes the nth call from now on of an entry point ("cuMemCreate", without a version
 * suffix; "*" for any) fail with result. name NULL: forgets all faults, also those
 * configured. -EINVAL: no such entry point, or nth is 0. -ENOSPC: too many.
 */
SOFT_EXPORT int hbm_soft_fail(const char *name, unsigned nth, CUresult result);
/* The same from a list "name:N[+][:code],...", N counted from now on: with "+" the N-th
 * call and all after it fail. The code is a number, a constant's name, or "gone": the device
 * of the calling thread's context is gone, see hbm_soft_gone(). Left out it is
 * CUDA_ERROR_OUT_OF_MEMORY for cuMemCreate, cuMemAddressReserve and cuMemHostRegister,
 * else CUDA_ERROR_OPERATING_SYSTEM, which passes. All or nothing. */
SOFT_EXPORT int hbm_soft_faults(const char *list);
/* From now on every call that involves the device says CUDA_ERROR_UNKNOWN, as with a GPU
 * that fell off the bus. -EINVAL: no such device. */
SOFT_EXPORT int hbm_soft_gone(unsigned device);
/* Holds copies back that streams have not begun, until they are let go: they go on whatever
 * happens to their context meanwhile, as a copy engine does. */
SOFT_EXPORT void hbm_soft_hold(bool hold);
/*
 * How often an entry point was called since configuration, "*" for all that faults on "*"
 * count; UINT64_MAX: unknown.
 */
SOFT_EXPORT uint64_t hbm_soft_calls(const char *name);

/*
 * How many of a kind exist: "contexts" (retained primary contexts), "handles"
 * (physical memory, mapped or referred to), "mappings", "reservations", "allocations" (of
 * cuMemAlloc, or opened by cuIpcOpenMemHandle), "registrations", "streams", "events",
 * "modules", "copies held" (hbm_soft_hold); or how often work has waited for
 * the multiprocessors: "slices waited". UINT64_MAX: no such kind.
 */
SOFT_EXPORT uint64_t hbm_soft_live(const char *kind);

/*
 * Copies device memory as the device would, but in no context, not counted, and without
 * faults: for tests. -EFAULT: not mapped throughout with the access needed.
 */
SOFT_EXPORT int hbm_soft_peek(void *target, unsigned device, CUdeviceptr source, size_t bytes);
SOFT_EXPORT int hbm_soft_poke(unsigned device, CUdeviceptr target, const void *source,
			      size_t bytes);

/*
 * The host address of a device address that is reserved; NULL: it is not. What is mapped there the
 * process may access with loads and stores of its own, as on no other device; nothing orders them
 * with its streams, and without a mapping they fault.
 */
SOFT_EXPORT void *hbm_soft_host(CUdeviceptr address);

/*
 * Kernels. There is no interpreter: the soft driver reads the entries of a module's PTX. A
 * launch calls, once for its whole grid, the host function registered for the entry's
 * name. That function handles blocks and threads itself.
 *
 * A kernel accesses device memory through hbm_soft_memory() alone, and returns
 * CUDA_SUCCESS, or the error a device would have met. That error, or
 * CUDA_ERROR_ILLEGAL_ADDRESS where hbm_soft_memory() said NULL, ruins the context, as it
 * would on a device: see kernels/README.md.
 */
#define HBM_SOFT_PARAMS_MAX 64u
#define HBM_SOFT_PARAM_BYTES_MAX 4096u /* of one launch */

struct hbm_soft_launch {
	uint32_t grid[3], block[3]; /* x, y, z */
	uint32_t shared_bytes;      /* the dynamic ones */
	/* What hbm_soft_memory() calls. */
	void *(*memory)(struct hbm_soft_launch *launch, CUdeviceptr address, size_t bytes,
			bool writes);
};

struct hbm_soft_kernel {
	const char *name;            /* of the entry */
	const uint32_t *param_bytes; /* of each parameter: the same as in the PTX */
	uint32_t params;
	/* On the stream's thread; may call no entry point. params[i] is a copy, made at
	 * the call, and aligned to 16. */
	CUresult (*run)(struct hbm_soft_launch *launch, void *const *params);
};

/*
 * Registers the host function for entries of a name. Copies everything except the function,
 * which must stay valid until the last hbm_soft_release(), which removes all kernels. The
 * same kernel may be registered again. -EEXIST: there is another one of that name;
 * -EINVAL: no name, no function, or parameters beyond the limits.
 */
SOFT_EXPORT int hbm_soft_kernel(const struct hbm_soft_kernel *kernel);

/*
 * For a kernel, on the thread it runs on: the host address of [address, address + bytes),
 * valid until the launch ends. The range is memory mapped with access for the launch's
 * device, read-only or not, or a piece of one registration of host memory mapped into it.
 * It cannot be unmapped, narrowed or unregistered until then. NULL: there is no such
 * range, and the kernel must return an error. A range of 0 bytes is valid at any address.
 */
static inline void *hbm_soft_memory(struct hbm_soft_launch *launch, CUdeviceptr address,
				    size_t bytes, bool writes)
{
	return launch->memory(launch, address, bytes, writes);
}
