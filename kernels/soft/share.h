/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share: the file behind device memory, which processes share. Its name says which device
 * the memory is of, and seals keep its size: one process must not be able to cut the file
 * under another's mapping.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* An fd of new, zeroed memory; -errno. */
int share_create(unsigned device, uint64_t bytes);
/* Whether another fd or mapping has the file. Only valid for an fd from
 * share_reopen(). */
bool share_is_held(int fd);
/* Another description of the same file, open for writing; -errno. */
int share_reopen(int fd);
/* Which device the memory of an fd is of and its size, in *device and *bytes; -EINVAL if
 * the fd is none of share's. */
int share_examine(int fd, unsigned *device, uint64_t *bytes);
