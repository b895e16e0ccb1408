/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ddr_memfd: the memfd behind the daemon's host memory (ddr.h): a new one, or the one of the
 * daemon before this one with the bytes that are in it. Of one that is larger or smaller than is
 * wanted now the bytes that are in both stay. It knows nothing of what they are.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Returns a memfd of so many bytes, or negative errno and one line in error. Huge pages: of 2 MiB
 * each, reserved by the host. */
int ddr_memfd_new(uint64_t bytes, bool hugepages, char *error, size_t error_size);
/* Gives a memfd of the daemon before that size. Beyond the first `used` bytes it takes no memory then. -EPROTO:
 * it is no memfd, or has pages of the other kind; or what ftruncate(2) and fallocate(2) say. It stays
 * the caller's. */
int ddr_memfd_adopt(int fd, uint64_t bytes, uint64_t used, bool hugepages);
/* The bytes of memory that such a memfd takes already. */
uint64_t ddr_memfd_taken(int fd);
