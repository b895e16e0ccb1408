/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_limit: how much memory this process can use before the kernel kills it: the
 * host's memory, or the least hard limit (memory.max, memory.limit_in_bytes) of the memory
 * cgroup it is in and of those above it, as far up as they can be seen. Cgroup v1, v2 and
 * both side by side. What others in a cgroup use, soft limits and swap do not count.
 */
#pragma once

#include <stdint.h>

struct memory_limit {
	uint64_t host;  /* bytes the host has */
	uint64_t bytes; /* how many of them are available */
	/* folder of the cgroup with that limit, maybe truncated; "": no limit below
	 * host */
	char cgroup[256];
};

/* root: a folder that stands for /, with proc/self and the cgroups; "" except in tests.
 * Anything unreadable is no limit. */
void memory_limit_read(struct memory_limit *out, const char *root);
