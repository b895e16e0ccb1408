/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share: the file behind device memory, which processes share. Its name says which device
 * the memory belongs to, and of which card (card.h). Seals fix its size, so that no process
 * can truncate a file that another has mapped.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct share {
	unsigned device;
	uint32_t card; /* 0: of none that processes share */
	uint64_t bytes;
};

/* An fd of new, zeroed memory, marked for its card; -errno. */
int share_create(const struct share *share);
/* Whether another fd or mapping has the file. Only valid for an fd from
 * share_reopen(). */
bool share_is_held(int fd);
/* Another description of the same file, open for writing, and marked; -errno. */
int share_reopen(int fd);
/* The same of a file by a path; -EINVAL: it is not device memory. */
int share_open(const char *path);
/* What an fd's memory is. -EINVAL: the fd is not device memory. */
int share_examine(int fd, struct share *share);
