/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft: what libhbmsoft.so exports beside the cu entry points: how it is set up, told to fail, and asked what it holds.
 * driver.c uses the first two; tests find the others by dlsym(driver->library, ...).
 */
#pragma once

#include "kernels/cuda_abi.h"
#include "kernels/driver.h"

#include <stdint.h>

#define SOFT_EXPORT __attribute__((visibility("default")))

/*
 * Takes a use of the library by one driver table. The first user's options hold; with NULL the environment's HBM_SOFT
 * ("devices=2,memory=4GiB,d2h=10,h2d=10,latency_us=5") and else the defaults. Faults are options->fail or else the
 * environment's HBM_SOFT_FAIL. A later user is refused (-EBUSY) if it names other devices or memory; its faults are
 * added. -EINVAL: an option or a variable cannot be understood. Every success is to be paired with hbm_soft_release().
 */
SOFT_EXPORT int hbm_soft_configure(const struct driver_soft_options *options);
/* Drops a use. The last one ends all streams, frees all memory and forgets options, faults and counts. */
SOFT_EXPORT void hbm_soft_release(void);

/*
 * Makes the nth call from now on of an entry point ("cuMemCreate", without a version suffix; "*" for any) fail with
 * result. name NULL: forgets all faults, also those configured. -EINVAL: no such entry point, or nth is 0. -ENOSPC: too
 * many.
 */
SOFT_EXPORT int hbm_soft_fail(const char *name, unsigned nth, CUresult result);
/* The same from a list "name:N[+][:code],...", N counted from now on: with "+" the N-th call and all after it fail. The
 * code is a number or a constant's name; left out it is CUDA_ERROR_OUT_OF_MEMORY for cuMemCreate, cuMemAddressReserve
 * and cuMemHostRegister, else CUDA_ERROR_UNKNOWN. All or nothing. */
SOFT_EXPORT int hbm_soft_faults(const char *list);
/* How often an entry point was called since configuration, "*" for all that faults on "*" count; UINT64_MAX: unknown.
 */
SOFT_EXPORT uint64_t hbm_soft_calls(const char *name);

/*
 * How many of a kind exist: "contexts" (retained primary contexts), "handles" (allocations, mapped or referred to),
 * "mappings", "reservations", "registrations", "streams", "events". UINT64_MAX: no such kind.
 */
SOFT_EXPORT uint64_t hbm_soft_live(const char *kind);
