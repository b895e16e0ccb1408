/* SPDX-License-Identifier: Apache-2.0 */
/* memory_search: where in another process's memory some bytes are, by whether a core dump
 * of it would hold them. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

struct memory_search {
	size_t dumped, hidden; /* how often they were found, in mappings of either sort */
};

/* Fails the test if the memory cannot be read. Bytes that span two mappings, or that begin
 * in one MiB of a mapping and end in the next, are found as well. */
struct memory_search memory_search(pid_t pid, const void *bytes, size_t size);
