/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leaks: what a process holds: open descriptors, threads, and mappings of memfds and of rings. Taken at the beginning
 * and compared at the end of a test; what appeared in between and is still there was leaked.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

struct leaks {
	pid_t pid;
	char **things; /* "fd 5 -> socket:[123]", "thread 17", "mapping memfd:pool of 4096 bytes" */
	size_t count;
};

void leaks_begin(struct leaks *leaks); /* of this process */
void leaks_begin_process(struct leaks *leaks, pid_t pid);
/* How many things the process has that it did not have; each is named on stderr. Ends of threads and of rings may take
 * a moment, so it looks again for up to a second before it believes what it sees. Frees the snapshot. */
size_t leaks_end(struct leaks *leaks);
