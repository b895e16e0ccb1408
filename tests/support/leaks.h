/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leaks: what a process holds: open descriptors, threads, and mappings of memfds and of
 * rings. Taken at the beginning and compared at the end of a test; what appeared in
 * between and is still there was leaked.
 *
 * The real driver, and a soft one that litters, have such things of their own, get more
 * of them at any call, and keep them. Where HBM_TEST_DRIVER or HBM_SOFT says that one of
 * these is in use, only what can be nothing but ours counts: sockets (the driver's are
 * bound to @cuda...), memfds and mappings of them named hbm..., rings, pidfds, regular
 * files, and threads that were given a name that does not begin with cuda. What does not
 * count there (eventfds, pipes, slabs as fds of the device) counts with the soft driver
 * as it is.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct leaks {
	pid_t pid;
	char **things; /* "fd 5 -> socket:[123]", "thread 17", "mapping memfd:pool of 4096 bytes" */
	size_t count;
};

void leaks_begin(struct leaks *leaks); /* of this process */
void leaks_begin_process(struct leaks *leaks, pid_t pid);
/* How many things the process has that it did not have; each is named on stderr. Ends of
 * threads and of rings may take a moment, so it looks again for up to a second before it
 * believes what it sees. Frees the snapshot. */
size_t leaks_end(struct leaks *leaks);
/* Pages of address space that this process has: tables that are not freed show there. */
unsigned long leaks_address_space(void);
/* Whether a descriptor of a process counts, by what /proc says it is: "socket:[123]",
 * "/dev/null", ... */
bool leaks_counts_fd(pid_t pid, const char *target);
/* Whether a thread does, named by its number. */
bool leaks_counts_thread(pid_t pid, const char *thread);
