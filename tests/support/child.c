/* SPDX-License-Identifier: Apache-2.0 */
/* child: see child.h. Its arguments are "--child PART FOLDER NUMBER FD", the last a
 * pipe's end for what it tells. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 60000

static int mouth = -1; /* in a child */

void child_main(int argc, char **argv, const struct child_part *parts)
{
	struct spawn spawn;

	if (argc != 6 || strcmp(argv[1], "--child") != 0)
		return;

	spawn_of(&spawn, argv[3]);
	mouth = atoi(argv[5]);
	fcntl(mouth, F_SETFD, FD_CLOEXEC);

	for (; parts->name; parts++) {
		if (strcmp(parts->name, argv[2]) == 0) {
			parts->play(&spawn, strtoull(argv[4], NULL, 10));
			exit(0);
		}
	}

	fprintf(stderr, "there is no part %s\n", argv[2]);
	exit(125);
}

void child_tell(void)
{
	if (write(mouth, "", 1) != 1)
		_exit(124);
}

static void become(const char *part, const struct spawn *spawn, uint64_t number, int fd, pid_t test)
{
	char number_text[24], fd_text[16];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != test)
		_exit(126);

	fcntl(fd, F_SETFD, 0);
	snprintf(number_text, sizeof(number_text), "%" PRIu64, number);
	snprintf(fd_text, sizeof(fd_text), "%d", fd);
	execl("/proc/self/exe", part, "--child", part, spawn->dir, number_text, fd_text,
	      (char *)NULL);
	_exit(127);
}

void child_start(struct child *child, const char *part, const struct spawn *spawn, uint64_t number)
{
	const pid_t test = getpid();
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		become(part, spawn, number, ends[1], test);

	close(ends[1]);
	*child = (struct child){.pid = pid, .ear = ends[0]};
}

void child_await(struct child *child)
{
	struct pollfd poller = {.fd = child->ear, .events = POLLIN};
	char byte;
	if (poll(&poller, 1, PATIENCE_MS) == 1 && read(child->ear, &byte, 1) == 1)
		return;
	fail_msg("the child said nothing and ended with %d", child_kill(child));
}

int child_wait(struct child *child)
{
	int status;
	assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
	close(child->ear);
	*child = (struct child){.ear = -1};
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int child_kill(struct child *child)
{
	kill(child->pid, SIGKILL);
	return child_wait(child);
}
