/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_bench: what the tests of the soft driver's kernels share: kernels that are registered,
 * their module in the current context of a soft_device, a stream, and device memory that
 * they work on.
 */
#pragma once

#include "tests/support/soft_device.h"

struct soft_bench {
	const struct soft_device *soft;
	const struct driver *driver;
	CUmodule module;
	CUdeviceptr memory; /* GRANULE bytes */
	CUstream stream;
};

/* What the module is made of. Its entries: fill, look, spin, fail and call, which do what
 * the functions below say; bounded and exact, which do nothing, in blocks of at most 64 by 2
 * by 1 and of 32; nobodys, which has no kernel. */
extern const char soft_bench_text[];

void soft_bench_open(struct soft_bench *bench, const struct soft_device *soft);
void soft_bench_close(struct soft_bench *bench);

CUfunction soft_bench_function(const struct soft_bench *bench, const char *name);
/* One block of 32. "look" says in host memory, named by its address, what it was launched
 * with. */
CUresult soft_bench_launch(const struct soft_bench *bench, const char *name, CUstream stream,
			   void **params);
/* Writes words of that value. */
CUresult soft_bench_fill(const struct soft_bench *bench, CUdeviceptr target, uint32_t value,
			 uint32_t count);
/* The kernel ends with that result. */
void soft_bench_fail(const struct soft_bench *bench, CUresult result);
/* Launches the kernel that reads a word (0: none) and is over when the gate is open, and
 * waits until it runs. */
void soft_bench_spin(const struct soft_bench *bench, uint64_t gate[2], CUdeviceptr target);
void soft_bench_open_gate(uint64_t *gate);
/* "call" calls this driver, and this is what it was told. */
extern const struct driver *soft_bench_called;
extern CUresult soft_bench_result;

/* Until the stream is done. */
CUresult soft_bench_wait(const struct soft_bench *bench);
uint32_t soft_bench_word(const struct soft_bench *bench, CUdeviceptr address);
