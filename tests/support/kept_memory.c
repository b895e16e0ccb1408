/* SPDX-License-Identifier: Apache-2.0 */
/* kept_memory: see kept_memory.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kept_memory.h"

#include "tests/support/spawn.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Beyond that there are only addresses. */
#define MOST ((off_t)4 << 30)
#define PIECE ((size_t)1 << 20)

/* The keeper's own descriptor of it, opened anew. */
static int kept_memory_open(const struct spawn *spawn, const char *memfd)
{
	char path[320], target[128], wanted[64];
	int fd = -1;

	snprintf(wanted, sizeof(wanted), "/memfd:%s ", memfd);
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)spawn->pid);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	for (const struct dirent *entry; fd < 0 && (entry = readdir(dir));) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)spawn->pid, entry->d_name);
		ssize_t n = readlink(path, target, sizeof(target) - 1);
		if (n > 0 && strncmp(target, wanted, strlen(wanted)) == 0)
			fd = open(path, O_RDWR | O_CLOEXEC);
	}
	closedir(dir);
	if (fd < 0)
		fail_msg("the keeper has no %s", memfd);

	return fd;
}

/* Where they are from that offset on; -1: nowhere. Reading a file makes no pages of its holes. */
static off_t kept_memory_find(int fd, off_t from, const void *bytes, size_t size)
{
	static unsigned char piece[PIECE];

	for (ssize_t n; from < MOST && (n = pread(fd, piece, sizeof(piece), from)) >= (ssize_t)size;
	     from += (off_t)(PIECE - size + 1)) {
		const unsigned char *found = memmem(piece, (size_t)n, bytes, size);
		if (found)
			return from + (found - piece);
	}

	return -1;
}

void kept_memory_flip(const struct spawn *spawn, const char *memfd, const void *bytes, size_t size,
		      size_t offset)
{
	int fd = kept_memory_open(spawn, memfd);
	off_t found = kept_memory_find(fd, 0, bytes, size);
	unsigned char byte;

	assert_true(found >= 0);
	assert_int_equal(kept_memory_find(fd, found + 1, bytes, size), -1);
	assert_int_equal(pread(fd, &byte, 1, found + (off_t)offset), 1);
	byte ^= 4;
	assert_int_equal(pwrite(fd, &byte, 1, found + (off_t)offset), 1);
	close(fd);
}
