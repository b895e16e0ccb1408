/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share: the file behind device memory, which processes share. Its name says which device
 * the memory belongs to. Seals fix its size, so that no process can truncate a file that
 * another has mapped.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SHARE_NAME "hbm-soft-device-"

/* Whether a file of this name is device memory, and of which device. */
bool share_device_of(const char *name, unsigned *device);
/* Files of this folder are device memory, too, by their names; "": of none. It is kept. */
void share_also_in(const char *folder);
/* An fd of new, zeroed memory; -errno. */
int share_create(unsigned device, uint64_t bytes);
/* Whether another fd or mapping has the file. Only valid for an fd from
 * share_reopen(). */
bool share_is_held(int fd);
/* Another description of the same file, open for writing; -errno. */
int share_reopen(int fd);
/* The device of an fd's memory and its size, in *device and *bytes. -EINVAL: the fd is not
 * device memory. */
int share_examine(int fd, unsigned *device, uint64_t *bytes);
