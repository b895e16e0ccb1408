/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_search: what of another process's memory a core dump would hold, and where some
 * bytes are in it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct memory_search {
	size_t dumped, hidden; /* how often they were found, in mappings of either sort */
};

/* In mappings of up to 1 GiB, and in what there is of larger memory files. Fails the test if the memory cannot be read. Bytes that begin
 * in one MiB of a mapping and end in the next are found as well. */
struct memory_search memory_search(pid_t pid, const void *bytes, size_t size);
/* Whether a core dump would hold a mapping with that text in its name. Fails the test if
 * there is none. */
bool memory_search_dumps(pid_t pid, const char *name);
