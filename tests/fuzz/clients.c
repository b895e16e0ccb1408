/* SPDX-License-Identifier: Apache-2.0 */
/* clients: see clients.h. */
#include "tests/fuzz/clients.h"
#include "tests/fuzz/fuzz.h"

#include "daemon/base/fdpass.h"

#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534
#define CLIENTS_MAX 12 /* at once, with those that wait for an order */

struct client_order {
	bool nobody;
	struct sockaddr_un address;
};

static int parent = -1; /* a socket to it */

static void clients_become_nobody(void)
{
	if (geteuid() != 0)
		return;
	if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
		_exit(1);
}

/* In the process of a client: waits for an order, and then to be killed. */
static void clients_run(int orders)
{
	pid_t pid = getpid();
	struct iovec piece = {&pid, sizeof(pid)};
	struct client_order order;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (recv(orders, &order, sizeof(order), 0) != sizeof(order))
		_exit(1);
	if (order.nobody)
		clients_become_nobody();
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* another user's was forgotten */

	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	bool connected = fd >= 0 && connect(fd, (const struct sockaddr *)&order.address,
					    sizeof(order.address)) == 0;
	if (fdpass_send(orders, &piece, 1, &fd, connected ? 1 : 0) < 0)
		_exit(1);

	close(fd);
	close(orders);
	for (;;)
		pause();
}

/* Some are made before they are wanted. */
static void clients_serve(int orders)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned alive = 0;;) {
		for (; alive < CLIENTS_MAX; alive++)
			if (fork() == 0)
				clients_run(orders);
		if (waitpid(-1, NULL, 0) < 0)
			_exit(1);
		alive--;
	}
}

void clients_init(void)
{
	int ends[2];

	fuzz_check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
	pid_t pid = fork();
	fuzz_check(pid >= 0);
	if (pid == 0) {
		close(ends[0]);
		clients_serve(ends[1]);
	}

	close(ends[1]);
	parent = ends[0];
}

int clients_connect(const char *path, bool nobody, pid_t *pid)
{
	struct client_order order = {.nobody = nobody, .address = {.sun_family = AF_UNIX}};
	struct fdpass_fds fds;

	fuzz_check(strlen(path) < sizeof(order.address.sun_path));
	strcpy(order.address.sun_path, path);
	fuzz_check(send(parent, &order, sizeof(order), 0) == sizeof(order));
	fuzz_check(fdpass_receive(parent, pid, sizeof(*pid), &fds, FDPASS_WAIT) == sizeof(*pid));
	fuzz_check(fds.count == 1);

	return fds.list[0];
}
