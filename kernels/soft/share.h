/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share: the file behind a backing, and how other processes come by it. The file's name says which device the memory
 * is of, and seals keep its size: one process must not be able to cut the file under another's mapping.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* An fd of new, zeroed memory; -errno. */
int share_create(unsigned device, uint64_t bytes);
/* Whether anybody has the file besides this fd. Good for an fd that share_reopen() made. */
bool share_is_held(int fd);
