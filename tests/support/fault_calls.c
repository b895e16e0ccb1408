/* SPDX-License-Identifier: Apache-2.0 */
/* fault_calls: the calls that fail: see fault.h. The linker gives a call of malloc() to
 * __wrap_malloc(), and what __real_malloc() says to malloc(). */
#include "tests/support/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct fault_page *fault_page;

void fault_use(struct fault_page *page)
{
	fault_page = page;
}

bool fault_now(enum fault_kind kind)
{
	struct fault_page *page = fault_page;
	if (!page || !(atomic_load(&page->kinds) & kind))
		return false;

	uint64_t call = atomic_fetch_add(&page->calls, 1) + 1;
	if (call < atomic_load(&page->first) || call > atomic_load(&page->last))
		return false;

	atomic_fetch_add(&page->failed, 1);
	errno = atomic_load(&page->error);

	return true;
}

/*
 * A wrapper of what has fixed arguments: it returns `failure` where the call is to fail.
 * CALL(malloc, FAULT_MEMORY, NULL, void *, (size_t size), (size))
 */
#define CALL(name, kind, failure, type, parameters, arguments)                                     \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		return fault_now(kind) ? (failure) : __real_##name arguments;                      \
	}

/* ---- Memory ---- */

CALL(malloc, FAULT_MEMORY, NULL, void *, (size_t size), (size))
CALL(calloc, FAULT_MEMORY, NULL, void *, (size_t count, size_t size), (count, size))
CALL(realloc, FAULT_MEMORY, NULL, void *, (void *old, size_t size), (old, size))
CALL(reallocarray, FAULT_MEMORY, NULL, void *, (void *old, size_t count, size_t size),
     (old, count, size))
CALL(aligned_alloc, FAULT_MEMORY, NULL, void *, (size_t alignment, size_t size), (alignment, size))
CALL(strdup, FAULT_MEMORY, NULL, char *, (const char *text), (text))
CALL(strndup, FAULT_MEMORY, NULL, char *, (const char *text, size_t size), (text, size))
CALL(mmap, FAULT_MEMORY, MAP_FAILED, void *,
     (void *address, size_t size, int protection, int flags, int fd, off_t offset),
     (address, size, protection, flags, fd, offset))

__attribute__((format(printf, 2, 0))) static int fault_vasprintf(char **out, const char *format,
								 va_list arguments)
{
	return fault_now(FAULT_MEMORY) ? -1 : vasprintf(out, format, arguments);
}

int __wrap_asprintf(char **out, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **out, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int length = fault_vasprintf(out, format, arguments);
	va_end(arguments);
	return length;
}

/* What _FORTIFY_SOURCE makes of it. */
int __wrap___asprintf_chk(char **out, int flag, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int __wrap___asprintf_chk(char **out, int flag, const char *format, ...)
{
	va_list arguments;
	(void)flag;
	va_start(arguments, format);
	int length = fault_vasprintf(out, format, arguments);
	va_end(arguments);
	return length;
}

/* ---- Messages ---- */

CALL(sendmsg, FAULT_SEND, -1, ssize_t, (int fd, const struct msghdr *message, int flags),
     (fd, message, flags))
CALL(recvmsg, FAULT_RECEIVE, -1, ssize_t, (int fd, struct msghdr *message, int flags),
     (fd, message, flags))

/* ---- Descriptors ---- */

CALL(accept4, FAULT_DESCRIPTOR, -1, int,
     (int fd, struct sockaddr *address, socklen_t *size, int flags), (fd, address, size, flags))
CALL(eventfd, FAULT_DESCRIPTOR, -1, int, (unsigned count, int flags), (count, flags))
CALL(memfd_create, FAULT_DESCRIPTOR, -1, int, (const char *name, unsigned flags), (name, flags))
CALL(socket, FAULT_DESCRIPTOR, -1, int, (int domain, int type, int protocol),
     (domain, type, protocol))
CALL(epoll_create1, FAULT_DESCRIPTOR, -1, int, (int flags), (flags))
CALL(signalfd, FAULT_DESCRIPTOR, -1, int, (int fd, const void *set, int flags), (fd, set, flags))
CALL(fopen, FAULT_DESCRIPTOR, NULL, FILE *, (const char *path, const char *mode), (path, mode))

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *size);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
	bool is_new = level == SOL_SOCKET && name == SO_PEERPIDFD;
	return is_new && fault_now(FAULT_DESCRIPTOR)
		       ? -1
		       : __real_getsockopt(fd, level, name, value, size);
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...)
{
	va_list arguments;
	va_start(arguments, command);
	long argument = va_arg(arguments, long); /* all that we pass are int */
	va_end(arguments);
	return command == F_DUPFD_CLOEXEC && fault_now(FAULT_DESCRIPTOR)
		       ? -1
		       : __real_fcntl(fd, command, argument);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
	va_list arguments;
	va_start(arguments, flags);
	mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
	va_end(arguments);
	return fault_now(FAULT_DESCRIPTOR) ? -1 : __real_open(path, flags, mode);
}

/* ---- Waiting ---- */

CALL(poll, FAULT_WAIT, -1, int, (struct pollfd * fds, nfds_t count, int timeout),
     (fds, count, timeout))
CALL(epoll_wait, FAULT_WAIT, -1, int, (int fd, struct epoll_event *events, int count, int timeout),
     (fd, events, count, timeout))
CALL(io_uring_submit, FAULT_WAIT, -errno, int, (struct io_uring * ring), (ring))
CALL(io_uring_submit_and_get_events, FAULT_WAIT, -errno, int, (struct io_uring * ring), (ring))
CALL(io_uring_submit_and_wait_timeout, FAULT_WAIT, -errno, int,
     (struct io_uring * ring, struct io_uring_cqe **cqe, unsigned count,
      struct __kernel_timespec *time, sigset_t *set),
     (ring, cqe, count, time, set))

int __real_epoll_ctl(int fd, int operation, int other, struct epoll_event *event);
int __wrap_epoll_ctl(int fd, int operation, int other, struct epoll_event *event);
int __wrap_epoll_ctl(int fd, int operation, int other, struct epoll_event *event)
{
	return operation == EPOLL_CTL_ADD && fault_now(FAULT_DESCRIPTOR)
		       ? -1
		       : __real_epoll_ctl(fd, operation, other, event);
}

/* ---- Files ---- */

CALL(pread, FAULT_FILE, -1, ssize_t, (int fd, void *bytes, size_t size, off_t offset),
     (fd, bytes, size, offset))
CALL(pwrite, FAULT_FILE, -1, ssize_t, (int fd, const void *bytes, size_t size, off_t offset),
     (fd, bytes, size, offset))
CALL(fallocate, FAULT_FILE, -1, int, (int fd, int mode, off_t offset, off_t size),
     (fd, mode, offset, size))
CALL(ftruncate, FAULT_FILE, -1, int, (int fd, off_t size), (fd, size))
CALL(fdatasync, FAULT_FILE, -1, int, (int fd), (fd))
CALL(flock, FAULT_FILE, -1, int, (int fd, int operation), (fd, operation))
CALL(mkdir, FAULT_FILE, -1, int, (const char *path, mode_t mode), (path, mode))
CALL(bind, FAULT_FILE, -1, int, (int fd, const struct sockaddr *address, socklen_t size),
     (fd, address, size))
CALL(listen, FAULT_FILE, -1, int, (int fd, int count), (fd, count))
CALL(chmod, FAULT_FILE, -1, int, (const char *path, mode_t mode), (path, mode))

/* ---- Threads ---- */

CALL(pthread_create, FAULT_THREAD, EAGAIN, int,
     (pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *), void *arg),
     (thread, attributes, run, arg))

/* ---- The daemon's page ---- */

/* Before main(), so that every call of it counts. */
__attribute__((constructor)) static void fault_find_page(void)
{
	const char *path = getenv("HBM_FAULTS");
	int fd = path ? __real_open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0)
		return;

	void *page = __real_mmap(NULL, sizeof(struct fault_page), PROT_READ | PROT_WRITE,
				 MAP_SHARED, fd, 0);
	close(fd);
	if (page != MAP_FAILED)
		fault_page = page;
}
