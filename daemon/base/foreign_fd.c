/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_fd: see foreign_fd.h. */
#include "daemon/base/foreign_fd.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <hbm/wire.h>

#define FOREIGN_FD_STACK 65536u

static unsigned closing; /* threads that close some; atomic */

struct closer {
	void (*run)(struct closer *closer);
	size_t count;
	int fds[];
};

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

bool foreign_fd_may_stay(int fd)
{
	return __atomic_load_n(&closing, __ATOMIC_RELAXED) < FOREIGN_FDS_CLOSING ||
	       foreign_fd_is_quick(fd);
}

/* ---- the thread ---- */

static void *foreign_fd_run(void *arg)
{
	struct closer *closer = arg;

	closer->run(closer);
	free(closer);
	__atomic_sub_fetch(&closing, 1, __ATOMIC_RELAXED);

	return NULL;
}

static bool foreign_fd_start_thread(struct closer *closer)
{
	pthread_attr_t attributes;
	pthread_t thread;

	if (pthread_attr_init(&attributes) != 0)
		return false;

	int r = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (r == 0)
		r = pthread_attr_setstacksize(&attributes, FOREIGN_FD_STACK);
	if (r == 0)
		r = pthread_create(&thread, &attributes, foreign_fd_run, closer);
	pthread_attr_destroy(&attributes);

	return r == 0;
}

/* Without memory or a thread it is done here. */
static void foreign_fd_begin(void (*run)(struct closer *closer), const int *fds, size_t count)
{
	struct closer *closer = malloc(sizeof(*closer) + count * sizeof(*fds));
	if (!closer) {
		for (size_t i = 0; i < count; i++)
			close(fds[i]);
		return;
	}

	*closer = (struct closer){.run = run, .count = count};
	memcpy(closer->fds, fds, count * sizeof(*fds));
	__atomic_add_fetch(&closing, 1, __ATOMIC_RELAXED);
	if (!foreign_fd_start_thread(closer))
		foreign_fd_run(closer);
}

/* ---- descriptors ---- */

static void foreign_fd_close_all(struct closer *closer)
{
	for (size_t i = 0; i < closer->count; i++)
		close(closer->fds[i]);
}

void foreign_fds_close(const int *fds, size_t count)
{
	int slow[HBM_WIRE_FDS_MAX];
	size_t slow_count = 0;

	assert(count <= HBM_WIRE_FDS_MAX);
	for (size_t i = 0; i < count; i++)
		if (foreign_fd_is_quick(fds[i]))
			close(fds[i]);
		else
			slow[slow_count++] = fds[i];

	if (slow_count > 0)
		foreign_fd_begin(foreign_fd_close_all, slow, slow_count);
}

void foreign_fd_close(int fd)
{
	foreign_fds_close(&fd, 1);
}

/* ---- sockets ---- */

/* Receives a message, its descriptors not received. False: there is none. An empty one
 * differs from the end by the credentials that come with it, for which there is no room. */
static bool foreign_fd_drop_message(int socket, int flags)
{
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n = recvmsg(socket, &message, MSG_DONTWAIT | flags);

	return n > 0 || (n == 0 && (message.msg_flags & MSG_CTRUNC) != 0);
}

/* Others may have the socket open a moment longer: its messages go first. */
static void foreign_fd_drain(struct closer *closer)
{
	while (foreign_fd_drop_message(closer->fds[0], 0))
		;
	close(closer->fds[0]);
}

void foreign_fd_close_socket(int socket)
{
	shutdown(socket, SHUT_RDWR);
	setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int));
	if (foreign_fd_drop_message(socket, MSG_PEEK))
		foreign_fd_begin(foreign_fd_drain, &socket, 1);
	else
		close(socket);
}
