/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For LD_PRELOAD: a disk that fails when a test says so (tests/support/disk.h), through the page
 * in the file HBM_DISK: writes, flushes and changes of the size of files whose path ends with "/nvme", or has
 * "/nvme.catalog" at its end or before a suffix. A write that fails has written nothing.
 */
#include "tests/support/disk_page.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DISK_EXPORT __attribute__((visibility("default")))
#define REAL(name, type, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct disk_page *page;

static void disk_map(void)
{
	const char *path = getenv("HBM_DISK");
	int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1;
	void *at = fd < 0 ? MAP_FAILED
			  : mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	page = at == MAP_FAILED ? NULL : at;
	if (fd >= 0)
		syscall(SYS_close, fd);
}

/* The rule for a call on that file; NULL: it is none of those. */
static struct disk_rule *disk_rule(int fd, enum disk_call call)
{
	char link[64], path[PATH_MAX];

	pthread_once(&once, disk_map);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = page ? readlink(link, path, sizeof(path) - 1) : -1;
	if (n < 0)
		return NULL;

	path[n] = '\0';
	const char *name = strrchr(path, '/');
	if (name && strcmp(name, "/nvme") == 0)
		return &page->rules[DISK_DATA][call];
	if (name && strncmp(name, "/nvme.catalog", 13) == 0)
		return &page->rules[DISK_CATALOG][call];

	return NULL;
}

/* The errno that the call ends with; 0: it is made; -1: it hangs. */
static int disk_verdict(struct disk_rule *rule)
{
	uint64_t nth = atomic_fetch_add(&rule->calls, 1) + 1, from = atomic_load(&rule->from);
	int error = atomic_load(&rule->error);

	if (from == 0 || nth < from || nth - from >= atomic_load(&rule->count))
		return 0;

	return error != 0 ? error : -1;
}

/* Whether the call is made. */
static int disk_allows(int fd, enum disk_call call)
{
	struct disk_rule *rule = disk_rule(fd, call);
	int error = rule ? disk_verdict(rule) : 0;

	while (error < 0 && atomic_load(&rule->from) != 0)
		nanosleep(&(const struct timespec){.tv_nsec = 1000000}, NULL);
	if (error > 0)
		errno = error;

	return error <= 0;
}

DISK_EXPORT ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at)
{
	return disk_allows(fd, DISK_WRITE) ? REAL(pwrite, ssize_t, int, const void *, size_t,
						  off_t)(fd, bytes, size, at)
					   : -1;
}

DISK_EXPORT ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at)
{
	return pwrite(fd, bytes, size, at);
}

DISK_EXPORT int fdatasync(int fd)
{
	return disk_allows(fd, DISK_FLUSH) ? (int)syscall(SYS_fdatasync, fd) : -1;
}

DISK_EXPORT int fsync(int fd)
{
	return disk_allows(fd, DISK_FLUSH) ? (int)syscall(SYS_fsync, fd) : -1;
}

DISK_EXPORT int ftruncate(int fd, off_t size)
{
	return disk_allows(fd, DISK_SIZE) ? (int)syscall(SYS_ftruncate, fd, size) : -1;
}

DISK_EXPORT int ftruncate64(int fd, off64_t size)
{
	return ftruncate(fd, size);
}

DISK_EXPORT int fallocate(int fd, int mode, off_t at, off_t size)
{
	return disk_allows(fd, DISK_SIZE) ? (int)syscall(SYS_fallocate, fd, mode, at, size) : -1;
}

DISK_EXPORT int fallocate64(int fd, int mode, off64_t at, off64_t size)
{
	return fallocate(fd, mode, at, size);
}
