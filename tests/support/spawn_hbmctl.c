/* SPDX-License-Identifier: Apache-2.0 */
/* spawn_hbmctl: hbmctl against a spawned daemon: see spawn.h. */
#include "tests/support/spawn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS 64

/* In the child: hbmctl, as `uid` where that is another user. */
static void become_hbmctl(int program, uid_t uid, int out, const char **argv)
{
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	if (uid == geteuid() || (setgid(uid) == 0 && setuid(uid) == 0))
		fexecve(program, (char *const *)(uintptr_t)argv, environ);
	_exit(127);
}

/* Takes what is said there, and keeps as much as there is room for. */
static void read_to_end(int fd, char *out, size_t size)
{
	char scrap[4096];
	size_t filled = 0;

	for (ssize_t n; (n = read(fd, filled + 1 < size ? out + filled : scrap,
				  filled + 1 < size ? size - 1 - filled : sizeof(scrap))) > 0;)
		filled += filled + 1 < size ? (size_t)n : 0;

	if (size > 0)
		out[filled] = '\0';
}

int spawn_hbmctl_as(const struct spawn *spawn, uid_t uid, const char *const *arguments, char *out,
		    size_t size)
{
	const char *argv[ARGUMENTS] = {"hbmctl", "--socket", spawn->socket};
	size_t argc = 3;
	int pipes[2], status, program = open(spawn_path("hbmctl"), O_RDONLY | O_CLOEXEC);

	for (; *arguments; arguments++) {
		assert_in_range(argc, 0, ARGUMENTS - 2);
		argv[argc++] = *arguments;
	}

	assert_true(program >= 0);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		become_hbmctl(program, uid, pipes[1], argv);

	close(program);
	close(pipes[1]);
	read_to_end(pipes[0], out, size);
	close(pipes[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);

	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int spawn_hbmctl(const struct spawn *spawn, const char *const *arguments, char *out, size_t size)
{
	return spawn_hbmctl_as(spawn, geteuid(), arguments, out, size);
}
