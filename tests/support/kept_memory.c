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
#include <sys/stat.h>
#include <unistd.h>

/* Beyond that there are only addresses. */
#define MOST ((off_t)4 << 30)
#define PIECE ((size_t)1 << 20)

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

/* The process's own descriptor, opened anew, if it is of such a memfd; else -1. */
static int kept_memory_open(const struct spawn *spawn, const char *number, const char *memfd)
{
	char path[320], target[128], wanted[64];

	snprintf(wanted, sizeof(wanted), "/memfd:%s", memfd);
	snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)spawn->pid, number);
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	return n > 0 && strncmp(target, wanted, strlen(wanted)) == 0
		       ? open(path, O_RDWR | O_CLOEXEC)
		       : -1;
}

static void kept_memory_flip_at(int fd, off_t at)
{
	unsigned char byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 4;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

void kept_memory_flip(const struct spawn *spawn, const char *memfd, const void *bytes, size_t size,
		      size_t offset)
{
	char path[64];
	struct stat memory;
	ino_t inode = 0;
	bool done = false;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)spawn->pid);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	for (const struct dirent *entry; (entry = readdir(dir));) {
		int fd = kept_memory_open(spawn, entry->d_name, memfd);
		if (fd < 0)
			continue;

		assert_int_equal(fstat(fd, &memory), 0);
		off_t found = kept_memory_find(fd, 0, bytes, size);
		if (found >= 0 && memory.st_ino != inode) {
			assert_false(done);
			assert_int_equal(kept_memory_find(fd, found + 1, bytes, size), -1);
			kept_memory_flip_at(fd, found + (off_t)offset);
			inode = memory.st_ino;
			done = true;
		}
		close(fd);
	}
	closedir(dir);
	if (!done)
		fail_msg("it is in no %s", memfd);
}
