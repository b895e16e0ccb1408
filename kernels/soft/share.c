/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel counts open file descriptions for writing, not fds. Its answer to a request
 * for a write lease tells whether ours is the only one. A mapping keeps its description
 * open.
 */
#include "kernels/soft/share.h"

#include "kernels/soft/options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static const char *also_in = ""; /* a folder */

void share_also_in(const char *folder)
{
	also_in = folder;
}

static bool share_is_also_in(const char *path, unsigned *device)
{
	size_t length = strlen(also_in);

	return length > 0 && strncmp(path, also_in, length) == 0 && path[length] == '/' &&
	       share_device_of(path + length + 1, device);
}

static int share_size(int fd, uint64_t bytes)
{
	if (ftruncate(fd, (off_t)bytes) < 0 || fcntl(fd, F_ADD_SEALS, FILE_SEALS) < 0)
		return -errno;
	return 0;
}

int share_create(unsigned device, uint64_t bytes)
{
	char name[64];
	int fd, result;

	snprintf(name, sizeof(name), SHARE_NAME "%u", device);
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;

	result = share_size(fd, bytes);
	if (result < 0) {
		close(fd);
		return result;
	}

	return fd;
}

bool share_device_of(const char *name, unsigned *device)
{
	return strncmp(name, SHARE_NAME, sizeof(SHARE_NAME) - 1) == 0 &&
	       sscanf(name + sizeof(SHARE_NAME) - 1, "%u", device) == 1;
}

bool share_is_held(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
		return errno == EAGAIN || errno == EACCES; /* of another user's file: unknown */
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return false;
}

int share_reopen(int fd)
{
	char path[64];
	int reopened;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reopened = open(path, O_RDWR | O_CLOEXEC);

	return reopened < 0 ? -errno : reopened;
}

int share_examine(int fd, unsigned *device, uint64_t *bytes)
{
	static const char prefix[] = "/memfd:";
	char path[64], target[2 * SOFT_PATH_MAX];
	struct stat status;
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0 || fstat(fd, &status) < 0)
		return -EINVAL;

	target[length] = '\0';
	if (!share_is_also_in(target, device) &&
	    (strncmp(target, prefix, sizeof(prefix) - 1) != 0 ||
	     !share_device_of(target + sizeof(prefix) - 1, device) ||
	     (fcntl(fd, F_GET_SEALS) & FILE_SEALS) != FILE_SEALS))
		return -EINVAL;
	if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return -EINVAL;
	if (status.st_size <= 0 || (uint64_t)status.st_size % SOFT_GRANULARITY != 0)
		return -EINVAL;

	*bytes = (uint64_t)status.st_size;

	return 0;
}
