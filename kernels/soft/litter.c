/* SPDX-License-Identifier: Apache-2.0 */
/* litter: see litter.h. */
#include "kernels/soft/litter.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LATE_CALLS 100u /* calls between two that leak something */
#define LATE_MAX 4u
#define MEMORY_BYTES 65536u

static void litter_drop_file(void)
{
	(void)!open("/dev/zero", O_RDWR | O_CLOEXEC);
}

static void litter_drop_event(void)
{
	(void)!eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static void litter_drop_pipe(void)
{
	int ends[2];

	(void)!pipe2(ends, O_CLOEXEC | O_NONBLOCK);
}

static void litter_drop_socket(unsigned number)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int length = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "cuda-soft-%d-%u",
			      (int)getpid(), number);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd >= 0 &&
	    bind(fd, (struct sockaddr *)&address,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) < 0)
		close(fd);
}

static void litter_drop_memory(void)
{
	int fd = memfd_create("cuda-soft", MFD_CLOEXEC);

	if (fd >= 0 && ftruncate(fd, MEMORY_BYTES) == 0)
		(void)mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

/* It receives the signals that its creator does not block, like the real driver's
 * threads. */
static void *litter_lie_idle(void *name)
{
	if (name != NULL)
		pthread_setname_np(pthread_self(), name);
	for (;;)
		pause();
	return NULL;
}

static void litter_drop_thread(const char *name)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, litter_lie_idle, (void *)(uintptr_t)name) == 0)
		pthread_detach(thread);
}

static void litter_drop_at_start(void)
{
	litter_drop_file();
	litter_drop_file();
	litter_drop_event();
	litter_drop_pipe();
	litter_drop_socket(0);
}

static void litter_drop_with_context(void)
{
	litter_drop_file();
	litter_drop_event();
	(void)!epoll_create1(EPOLL_CLOEXEC);
	litter_drop_memory();
	litter_drop_thread("cuda-EvtHandlr");
	litter_drop_thread(NULL);
}

static void litter_drop_late(void)
{
	static atomic_uint dropped;
	unsigned number = atomic_fetch_add(&dropped, 1);

	if (number >= LATE_MAX)
		return;

	litter_drop_file();
	litter_drop_event();
	litter_drop_socket(1 + number);
}

void litter_drop(enum call call, uint64_t nth)
{
	static pthread_once_t start = PTHREAD_ONCE_INIT, context = PTHREAD_ONCE_INIT;

	pthread_once(&start, litter_drop_at_start);
	if (call == CALL_cuDevicePrimaryCtxRetain)
		pthread_once(&context, litter_drop_with_context);
	if (nth != 0 && nth % LATE_CALLS == 0)
		litter_drop_late();
}
