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
#define MAPPING_MAX (1ull << 30) /* larger ones are a sanitizer's */

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

/* Of a memory file that is mapped in a room it may grow into, what it has: to read the rest would
 * allocate it. For root alone. */
static size_t search_data(pid_t pid, uint64_t start, uint64_t end, const void *bytes, size_t size)
{
	char path[96];
	size_t count = 0;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)pid, start,
		 end);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;

	for (off_t from = 0, to; (from = lseek(fd, from, SEEK_DATA)) >= 0; from = to) {
		to = lseek(fd, from, SEEK_HOLE);
		count += search_mapping(fd, (uint64_t)from, (uint64_t)to, bytes, size);
	}
	close(fd);

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
	char rights[8], name[256];
};

/* False: the line is another one of smaps. */
static bool read_mapping(const char *line, struct mapping *mapping)
{
	struct mapping read = {0};

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*s %*s %*s %255s", &read.start, &read.end,
		   read.rights, read.name) < 3)
		return false;

	*mapping = read;

	return true;
}

/* The next mapping, as far as its flags; false at the end. */
static bool next_mapping(FILE *mappings, struct mapping *mapping, bool *hidden)
{
	char line[4096];

	while (fgets(line, sizeof(line), mappings)) {
		if (read_mapping(line, mapping) || strncmp(line, "VmFlags:", 8) != 0)
			continue;

		*hidden = strstr(line, " dd") != NULL;
		return true;
	}

	return false;
}

struct memory_search memory_search(pid_t pid, const void *bytes, size_t size)
{
	struct memory_search found = {0, 0};
	struct mapping mapping = {0};
	bool hidden;
	FILE *mappings = open_of(pid, "smaps"), *memory = open_of(pid, "mem");

	while (next_mapping(mappings, &mapping, &hidden)) {
		bool large = mapping.end - mapping.start > MAPPING_MAX;

		if (large && strncmp(mapping.name, "/memfd:", 7) == 0)
			*(hidden ? &found.hidden : &found.dumped) +=
				search_data(pid, mapping.start, mapping.end, bytes, size);
		else if (mapping.rights[0] == 'r' && !large)
			*(hidden ? &found.hidden : &found.dumped) += search_mapping(
				fileno(memory), mapping.start, mapping.end, bytes, size);
	}

	fclose(mappings);
	fclose(memory);

	return found;
}

bool memory_search_dumps(pid_t pid, const char *name)
{
	struct mapping mapping = {0};
	unsigned count = 0, dumped = 0;
	bool hidden;
	FILE *mappings = open_of(pid, "smaps");

	while (next_mapping(mappings, &mapping, &hidden)) {
		count += strstr(mapping.name, name) != NULL;
		dumped += strstr(mapping.name, name) != NULL && !hidden;
	}

	fclose(mappings);
	assert_int_not_equal(count, 0);

	return dumped > 0;
}
