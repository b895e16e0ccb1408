/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/memory_search.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE (1u << 20)

static size_t count_in(const char *memory, size_t length, const void *bytes, size_t size)
{
	size_t count = 0;
	const char *end = memory + length;

	while ((memory = memmem(memory, (size_t)(end - memory), bytes, size))) {
		count++;
		memory++;
	}

	return count;
}

/* What is not mapped to memory, such as a device's registers, cannot be read and is not
 * dumped. */
static size_t search_mapping(int memory, uint64_t start, uint64_t end, const void *bytes,
			     size_t size)
{
	static char piece[PIECE];
	size_t count = 0;

	while (start < end) {
		size_t length = end - start < PIECE ? (size_t)(end - start) : PIECE;
		ssize_t n = pread(memory, piece, length, (off_t)start);
		if (n <= 0)
			break;

		count += count_in(piece, (size_t)n, bytes, size);
		start += (uint64_t)n;
		if (start < end && (size_t)n >= size)
			start -= size - 1;
	}

	return count;
}

static FILE *open_of(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	FILE *file = fopen(path, "re");
	assert_non_null(file);

	return file;
}

struct mapping {
	uint64_t start, end;
	char rights[8];
};

/* False: the line is another one of smaps. */
static bool read_mapping(const char *line, struct mapping *mapping)
{
	struct mapping read;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s", &read.start, &read.end, read.rights) != 3)
		return false;

	*mapping = read;

	return true;
}

struct memory_search memory_search(pid_t pid, const void *bytes, size_t size)
{
	struct memory_search found = {0, 0};
	struct mapping mapping = {0};
	char line[4096];
	FILE *mappings = open_of(pid, "smaps"), *memory = open_of(pid, "mem");

	while (fgets(line, sizeof(line), mappings)) {
		if (read_mapping(line, &mapping) || strncmp(line, "VmFlags:", 8) != 0 ||
		    mapping.rights[0] != 'r')
			continue;

		size_t count =
			search_mapping(fileno(memory), mapping.start, mapping.end, bytes, size);
		*(strstr(line, " dd") ? &found.hidden : &found.dumped) += count;
	}

	fclose(mappings);
	fclose(memory);

	return found;
}
