/* SPDX-License-Identifier: Apache-2.0 */
/* kept_memory: memory that a keeper (keeper_rig.h) has for its daemon, changed behind its back. */
#pragma once

#include <stddef.h>

struct spawn;

/* Finds `bytes` in the memfd of that name, the one place where they are, and inverts a bit of the
 * byte at `offset` from there. Fails the test if they are not there, or twice. */
void kept_memory_flip(const struct spawn *spawn, const char *memfd, const void *bytes, size_t size,
		      size_t offset);
