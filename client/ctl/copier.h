/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copier: synchronous copies to and from device memory, in the device's primary context,
 * where the library maps regions. Devices have the daemon's numbers.
 */
#pragma once

#include <hbm/hbm.h>
#include <stddef.h>
#include <stdint.h>

struct copier;

/* For the memory of a connection's regions on one device. -1 and one line in error. */
int copier_open(struct copier **out, struct hbm *hbm, uint32_t device, char *error,
		size_t error_size);
struct copier *copier_close(struct copier *copier); /* takes NULL, returns NULL */
/* Makes the context current in the calling thread; call it before the thread's first copy.
 * 0, or the driver's error. */
int copier_enter(struct copier *copier);
/* On return the bytes are in device memory, visible to other processes too. 0, or the
 * driver's error. */
int copier_write(struct copier *copier, uint64_t to, const void *from, size_t bytes);
/* 0, or the driver's error. */
int copier_read(struct copier *copier, void *to, uint64_t from, size_t bytes);
/* The name of such an error; never NULL. */
const char *copier_error(const struct copier *copier, int error);
