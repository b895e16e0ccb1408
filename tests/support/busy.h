/* SPDX-License-Identifier: Apache-2.0 */
/*
 * busy: a kernel that is under way for as long as one says: it writes a value over device
 * memory again and again. What is killed with it in flight is killed as a serving process
 * is, in the middle of its work.
 *
 * The kernel is written twice: for a device in busy.cu, of which clang makes PTX that is
 * part of this module, and for the soft device in busy.c.
 */
#pragma once

#include "kernels/driver/driver.h"

#include <stdint.h>

struct busy {
	const struct driver *driver;
	CUmodule module;
	CUfunction kernel;
};

/* Loads the kernel into the current context; the driver's answer. A busy that was not
 * opened may be closed. */
CUresult busy_open(struct busy *busy, const struct driver *driver);
/* Launches it: [memory, memory + bytes), a multiple of 8, is filled with the word `value`
 * until the time is over. */
CUresult busy_launch(const struct busy *busy, CUstream stream, CUdeviceptr memory, uint64_t bytes,
		     uint64_t value, uint64_t milliseconds);
/* The same on so many of the device's multiprocessors that no other work finds one free. */
CUresult busy_launch_on_all(const struct busy *busy, CUstream stream, CUdeviceptr memory,
			    uint64_t bytes, uint64_t value, uint64_t milliseconds);
/* Nothing of it may be under way. */
CUresult busy_close(struct busy *busy);
