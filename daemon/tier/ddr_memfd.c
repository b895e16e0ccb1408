/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/ddr_memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define HUGE_SHIFT 21u /* 2 MiB */
#define BLOCK 512u     /* of stat.st_blocks */

int ddr_memfd_new(uint64_t bytes, bool hugepages, char *error, size_t error_size)
{
	unsigned flags =
		MFD_CLOEXEC | (hugepages ? MFD_HUGETLB | (HUGE_SHIFT << MFD_HUGE_SHIFT) : 0);
	int fd = memfd_create("hbmd-ddr", flags);
	if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0)
		return fd;

	int r = -errno;
	snprintf(error, error_size, "ddr: cannot create a memfd of %llu bytes: %s",
		 (unsigned long long)bytes, strerror(-r));
	if (fd >= 0)
		close(fd);

	return r;
}

uint64_t ddr_memfd_taken(int fd)
{
	struct stat stat;
	return fstat(fd, &stat) == 0 ? (uint64_t)stat.st_blocks * BLOCK : 0;
}

int ddr_memfd_adopt(int fd, uint64_t bytes, uint64_t used, bool hugepages)
{
	struct statfs system;

	/* Only a memfd has seals. */
	if (fcntl(fd, F_GET_SEALS) < 0 || fstatfs(fd, &system) < 0 ||
	    (system.f_type == HUGETLBFS_MAGIC) != hugepages)
		return -EPROTO;

	struct stat stat;
	if (fstat(fd, &stat) < 0 ||
	    ((uint64_t)stat.st_size != bytes && ftruncate(fd, (off_t)bytes) < 0))
		return -errno;
	if (used < bytes && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)used,
				      (off_t)(bytes - used)) < 0)
		return -errno;

	return 0;
}
