/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int state_dir_lock(const char *path, int *fd, char *error, size_t error_size)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST) {
		int r = -errno;
		snprintf(error, error_size, "hbmd.state_dir: cannot make %s: %s", path, strerror(-r));
		return r;
	}
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0) {
		int r = -errno;
		snprintf(error, error_size, "hbmd.state_dir: cannot open %s: %s", path, strerror(-r));
		return r;
	}
	if (flock(dir, LOCK_EX | LOCK_NB) < 0) {
		close(dir);
		snprintf(error, error_size, "hbmd.state_dir: %s is in use by another hbmd", path);
		return -EBUSY;
	}
	*fd = dir;
	return 0;
}
