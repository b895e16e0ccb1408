/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel counts open file descriptions for writing, not fds. Its answer to a request
 * for a write lease tells whether ours is the only one. A mapping keeps its description
 * open.
 */
#include "kernels/soft/share.h"

#include "kernels/soft/mark.h"
#include "kernels/soft/options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHARE_NAME "hbm-soft-device-"
#define FILE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int share_size(int fd, uint64_t bytes)
{
	if (ftruncate(fd, (off_t)bytes) < 0 || fcntl(fd, F_ADD_SEALS, FILE_SEALS) < 0)
		return -errno;
	return 0;
}

static int share_mark(int fd, const struct share *share)
{
	return share->card == 0 ? 0 : mark_set(fd, share->card, share->device, share->bytes);
}

int share_create(const struct share *share)
{
	char name[64];
	int fd, result;

	snprintf(name, sizeof(name), share->card == 0 ? SHARE_NAME "%u" : SHARE_NAME "%u-%x",
		 share->device, share->card);
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;

	result = share_size(fd, share->bytes);
	if (result == 0)
		result = share_mark(fd, share);
	if (result < 0) {
		close(fd);
		return result;
	}

	return fd;
}

bool share_is_held(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
		return errno == EAGAIN;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return false;
}

int share_open(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), result;
	struct share share;

	if (fd < 0)
		return -errno;

	result = share_examine(fd, &share);
	if (result == 0)
		result = share_mark(fd, &share);
	if (result < 0) {
		close(fd);
		return result;
	}

	return fd;
}

int share_reopen(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);

	return share_open(path);
}

static bool share_name_read(const char *target, struct share *share)
{
	share->card = 0;

	return sscanf(target, "/memfd:" SHARE_NAME "%u-%x", &share->device, &share->card) >= 1 &&
	       share->device < SOFT_DEVICES_MAX && share->card <= MARK_CARD_MAX;
}

int share_examine(int fd, struct share *share)
{
	struct share seen;
	char path[64], target[128];
	struct stat status;
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0 || fstat(fd, &status) < 0)
		return -EINVAL;

	target[length] = '\0';
	if (!share_name_read(target, &seen))
		return -EINVAL;
	if ((fcntl(fd, F_GET_SEALS) & FILE_SEALS) != FILE_SEALS ||
	    (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return -EINVAL;
	if (status.st_size <= 0 || (uint64_t)status.st_size % SOFT_GRANULARITY != 0)
		return -EINVAL;

	seen.bytes = (uint64_t)status.st_size;
	*share = seen;

	return 0;
}
