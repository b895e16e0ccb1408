/* SPDX-License-Identifier: Apache-2.0 */
/* kept_memory: memory that a keeper (keeper_rig.h), or its daemon, has, changed behind its back. */
#pragma once

#include <stddef.h>

struct spawn;

/* Finds `bytes` in the memfds of the process whose names begin so, the one place where they are, and
 * inverts a bit of the byte at `offset` from there. Fails the test if they are not there, or twice.
 * The process is the keeper; of keeper_view() it is the daemon, whose device memory is kept where it
 * cannot be reached otherwise. */
void kept_memory_flip(const struct spawn *spawn, const char *memfd, const void *bytes, size_t size,
		      size_t offset);
