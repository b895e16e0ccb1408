/* SPDX-License-Identifier: Apache-2.0 */
/* actor: the director's side, and the messages. See actor.h; what the orders do is in
 * act.c. */
#include "tests/gpu/actor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_S 60
#define END_STEPS 1000 /* of 10 ms: a driver may wait at its end for a stream that waits for ever */

bool message_send(int socket, const void *message, size_t size, int fd)
{
	union {
		struct cmsghdr header;
		char ns[CMSG_SPACE(sizeof(int))];
	} control = {.ns = {0}};
	struct iovec data = {(void *)(uintptr_t)message, size};
	struct msghdr header = {.msg_iov = &data, .msg_iovlen = 1};

	if (fd >= 0) {
		header.msg_control = &control;
		header.msg_controllen = sizeof(control);
		control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	}

	return sendmsg(socket, &header, MSG_NOSIGNAL) == (ssize_t)size;
}

bool message_receive(int socket, void *message, size_t size, int *fd)
{
	union {
		struct cmsghdr header;
		char ns[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec data = {message, size};
	struct msghdr header = {.msg_iov = &data,
				.msg_iovlen = 1,
				.msg_control = &control,
				.msg_controllen = sizeof(control)};
	struct cmsghdr *part;
	int came = -1;
	ssize_t length = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);

	part = length < 0 ? NULL : CMSG_FIRSTHDR(&header);
	if (part && part->cmsg_type == SCM_RIGHTS)
		memcpy(&came, CMSG_DATA(part), sizeof(came));

	if (fd)
		*fd = came;
	else if (came >= 0)
		close(came);

	return length == (ssize_t)size;
}

/* In the child: starts this program anew, as an actor that dies with the director. */
static void become_actor(int socket, pid_t director)
{
	char number[16];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != director)
		_exit(1);

	fcntl(socket, F_SETFD, 0);
	snprintf(number, sizeof(number), "%d", socket);
	execl("/proc/self/exe", "actor", "--actor", number, (char *)NULL);
	_exit(127);
}

bool actor_start(struct actor *actor)
{
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	const pid_t director = getpid();
	int ends[2];

	*actor = (struct actor){.socket = -1};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return false;

	setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	actor->pid = fork();
	if (actor->pid == 0)
		become_actor(ends[1], director);

	close(ends[1]);

	if (actor->pid < 0) {
		close(ends[0]);
		actor->pid = 0;
		return false;
	}

	actor->socket = ends[0];

	return true;
}

static struct answer actor_ask(struct actor *actor, const struct order *order, int fd, int *came)
{
	struct answer answer = {.status = -ECHILD, .text = "the process is gone"};

	if (actor->pid == 0 || !message_send(actor->socket, order, sizeof(*order), fd))
		return answer;

	errno = 0;
	if (message_receive(actor->socket, &answer, sizeof(answer), came))
		return answer;

	answer = (struct answer){.status = -ECHILD, .text = "the process ended"};
	if (errno == EAGAIN)
		answer =
			(struct answer){.status = -ETIMEDOUT, .text = "the process did not answer"};

	actor_kill(actor);

	return answer;
}

struct answer actor_tell(struct actor *actor, const struct order *order, int fd)
{
	return actor_ask(actor, order, fd, NULL);
}

struct answer actor_fetch(struct actor *actor, const struct order *order, int *fd)
{
	*fd = -1;
	return actor_ask(actor, order, -1, fd);
}

void actor_kill(struct actor *actor)
{
	if (actor->pid > 0)
		kill(actor->pid, SIGKILL);
	actor_end(actor);
}

void actor_end(struct actor *actor)
{
	if (actor->pid <= 0)
		return;
	close(actor->socket);

	for (int step = 0; waitpid(actor->pid, NULL, WNOHANG) == 0; step++) {
		if (step == END_STEPS)
			kill(actor->pid, SIGKILL);
		nanosleep(&(const struct timespec){.tv_nsec = 10000000}, NULL);
	}

	*actor = (struct actor){.socket = -1};
}
