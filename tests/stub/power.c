/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For LD_PRELOAD: writes down what a daemon does to the files of one folder, so that a test can
 * make of it what a disk would have had if the power had been cut (tests/support/power.h).
 *
 * HBM_POWER_DIR: files directly in that folder are looked at; HBM_POWER_LOG: where it is
 * written down, as struct power_entry with a name and bytes behind it. A write is written down
 * when it has been made; a flush when it begins and when it has ended, because it is good for
 * what was made before it began.
 */
#include "tests/support/power_entry.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define POWER_EXPORT __attribute__((visibility("default")))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int power_log = -1;
static uint64_t entries;

/* The name in the folder of what a path is; NULL: it is elsewhere. */
static const char *power_name_of(const char *path)
{
	const char *folder = getenv("HBM_POWER_DIR");
	size_t length = folder ? strlen(folder) : 0;

	return folder && strncmp(path, folder, length) == 0 && path[length] == '/' &&
			       !strchr(path + length + 1, '/')
		       ? path + length + 1
		       : NULL;
}

static const char *power_name(int fd, char path[PATH_MAX])
{
	char link[64];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, PATH_MAX - 1);
	if (n < 0)
		return NULL;

	path[n] = '\0';

	return power_name_of(path);
}

/* Returns the number of the entry. */
static uint64_t power_note(enum power_kind kind, const char *name, uint64_t at,
			   const struct iovec *iov, size_t count, uint64_t bytes)
{
	struct power_entry entry = {.kind = kind, .at = at, .bytes = bytes};

	pthread_mutex_lock(&lock);
	if (power_log < 0) {
		const char *path = getenv("HBM_POWER_LOG");
		int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path,
					     O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)
			      : -1;
		power_log = fd < 0 ? -1 : (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 700);
		if (fd >= 0)
			syscall(SYS_close, fd);
	}

	snprintf(entry.name, sizeof(entry.name), "%s", name);
	struct iovec all[2 + 64] = {{&entry, sizeof(entry)}};
	size_t used = 1;
	for (size_t i = 0; i < count && bytes > 0 && used < 66; i++) {
		size_t part = iov[i].iov_len < bytes ? iov[i].iov_len : bytes;
		all[used++] = (struct iovec){iov[i].iov_base, part};
		bytes -= part;
	}

	if (bytes > 0 && count > 0)
		abort(); /* more pieces than this can take */
	syscall(SYS_writev, power_log, all, used);
	uint64_t number = entries++;
	pthread_mutex_unlock(&lock);

	return number;
}

static void power_note_write(int fd, uint64_t at, const struct iovec *iov, int count,
			     ssize_t written)
{
	char path[PATH_MAX];
	const char *name = written > 0 ? power_name(fd, path) : NULL;

	if (name)
		power_note(POWER_WRITE, name, at, iov, (size_t)count, (uint64_t)written);
}

#define REAL(name, type, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

POWER_EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t at)
{
	ssize_t n =
		REAL(pwritev, ssize_t, int, const struct iovec *, int, off_t)(fd, iov, count, at);
	power_note_write(fd, (uint64_t)at, iov, count, n);
	return n;
}

POWER_EXPORT ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t at)
{
	return pwritev(fd, iov, count, at);
}

POWER_EXPORT ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at)
{
	ssize_t n = REAL(pwrite, ssize_t, int, const void *, size_t, off_t)(fd, bytes, size, at);
	power_note_write(fd, (uint64_t)at, &(struct iovec){(void *)(uintptr_t)bytes, size}, 1, n);
	return n;
}

POWER_EXPORT ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at)
{
	return pwrite(fd, bytes, size, at);
}

static int power_flush(int fd, int call)
{
	char path[PATH_MAX];
	const char *name = power_name(fd, path);
	uint64_t begun = name ? power_note(POWER_FLUSH, name, 0, NULL, 0, 0) : 0;
	int r = (int)syscall(call, fd);

	if (name && r == 0)
		power_note(POWER_FLUSHED, name, begun, NULL, 0, 0);

	return r;
}

POWER_EXPORT int fdatasync(int fd)
{
	return power_flush(fd, SYS_fdatasync);
}

POWER_EXPORT int fsync(int fd)
{
	return power_flush(fd, SYS_fsync);
}

static int power_truncate(int fd, off_t length)
{
	char path[PATH_MAX];
	const char *name = power_name(fd, path);
	int r = (int)syscall(SYS_ftruncate, fd, length);

	if (name && r == 0)
		power_note(POWER_TRUNCATE, name, (uint64_t)length, NULL, 0, 0);

	return r;
}

POWER_EXPORT int ftruncate(int fd, off_t length)
{
	return power_truncate(fd, length);
}

POWER_EXPORT int ftruncate64(int fd, off64_t length)
{
	return power_truncate(fd, length);
}

POWER_EXPORT int unlink(const char *path)
{
	const char *name = power_name_of(path);
	int r = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);

	if (name && r == 0)
		power_note(POWER_UNLINK, name, 0, NULL, 0, 0);

	return r;
}

POWER_EXPORT int rename(const char *from, const char *to)
{
	const char *name = power_name_of(from), *end = power_name_of(to);
	int r = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);

	if (name && end && r == 0)
		power_note(POWER_RENAME, name, 0,
			   &(struct iovec){(void *)(uintptr_t)end, strlen(end) + 1}, 1,
			   strlen(end) + 1);

	return r;
}
