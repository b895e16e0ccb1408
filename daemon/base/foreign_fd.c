/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_fd: see foreign_fd.h. */
#include "daemon/base/foreign_fd.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOREIGN_FD_STACK 65536u

static unsigned closing; /* threads that close one; atomic */

bool foreign_fds_may_come(void)
{
	return __atomic_load_n(&closing, __ATOMIC_RELAXED) < FOREIGN_FDS_CLOSING;
}

/* Whether its close() never waits. Asks no file system: that could wait, too. */
static bool foreign_fd_is_quick(int fd)
{
	struct statx status;

	if (fcntl(fd, F_GET_SEALS) >= 0)
		return true;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status) < 0)
		return false;

	return S_ISCHR(status.stx_mode) || S_ISFIFO(status.stx_mode);
}

static void *foreign_fd_run(void *arg)
{
	close((int)(intptr_t)arg);
	__atomic_sub_fetch(&closing, 1, __ATOMIC_RELAXED);

	return NULL;
}

static bool foreign_fd_start_thread(int fd)
{
	pthread_attr_t attributes;
	pthread_t thread;

	if (pthread_attr_init(&attributes) != 0)
		return false;

	int r = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (r == 0)
		r = pthread_attr_setstacksize(&attributes, FOREIGN_FD_STACK);
	if (r == 0)
		r = pthread_create(&thread, &attributes, foreign_fd_run, (void *)(intptr_t)fd);
	pthread_attr_destroy(&attributes);

	return r == 0;
}

void foreign_fd_close(int fd)
{
	if (foreign_fd_is_quick(fd)) {
		close(fd);
		return;
	}

	__atomic_add_fetch(&closing, 1, __ATOMIC_RELAXED);
	if (!foreign_fd_start_thread(fd))
		foreign_fd_run((void *)(intptr_t)fd);
}
