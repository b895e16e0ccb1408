/* SPDX-License-Identifier: Apache-2.0 */
/* spawn_log: what a spawned daemon has logged: see spawn.h. A thread of the daemon writes
 * the log, so what a reply was about may be written a moment after it. */
#include "tests/support/spawn.h"
#include "tests/support/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Without waiting for what may be the test's own pipe. */
static FILE *spawn_log_open(const struct spawn *spawn)
{
	int fd = open(spawn->log, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? NULL : fdopen(fd, "r");
}

/* Waits until what has been logged so far is written. */
static void spawn_log_await(const struct spawn *spawn)
{
	char thread[32];

	while (spawn->pid > 0 && thread_find(spawn->pid, "hbmd-log", thread, sizeof(thread)) &&
	       !thread_is_asleep(spawn->pid, thread))
		poll(NULL, 0, 1);
}

unsigned spawn_log_lines(const struct spawn *spawn, const char *text)
{
	char line[1024];
	unsigned count = 0;

	spawn_log_await(spawn);
	FILE *log = spawn_log_open(spawn);
	while (log && fgets(line, sizeof(line), log))
		count += strstr(line, text) != NULL;
	if (log)
		fclose(log);

	return count;
}

bool spawn_logged(const struct spawn *spawn, const char *text)
{
	return spawn_log_lines(spawn, text) > 0;
}

void spawn_forget_log(const struct spawn *spawn)
{
	unlink(spawn->log);
}

void spawn_show_log(const struct spawn *spawn)
{
	char line[1024];

	spawn_log_await(spawn);
	FILE *log = spawn_log_open(spawn);
	while (log && fgets(line, sizeof(line), log))
		print_error("hbmd: %s", line);
	if (log)
		fclose(log);
}
