/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int state_dir_lock(const char *path, int *fd, char *error, size_t error_size)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST) {
		int r = -errno;
		snprintf(error, error_size, "hbmd.state_dir: cannot make %s: %s", path,
			 strerror(-r));
		return r;
	}

	char name[PATH_MAX];
	if (snprintf(name, sizeof(name), "%s/lock", path) >= (int)sizeof(name)) {
		snprintf(error, error_size, "hbmd.state_dir: the path is too long: %s", path);
		return -ENAMETOOLONG;
	}

	int lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lock < 0) {
		int r = -errno;
		snprintf(error, error_size, "hbmd.state_dir: cannot open %s: %s", name,
			 strerror(-r));
		return r;
	}

	if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
		close(lock);
		snprintf(error, error_size, "hbmd.state_dir: %s is in use by another hbmd", path);
		return -EBUSY;
	}

	*fd = lock;

	return 0;
}

uint64_t state_dir_number(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 ? (uint64_t)status.st_dev << 32 ^ (uint64_t)status.st_ino
				       : 0;
}
