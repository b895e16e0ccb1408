/* SPDX-License-Identifier: Apache-2.0 */
/* keeper_rig: see keeper_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/keeper_rig.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 30000
#define STEP_US 500
/* Of the keeper itself: its signals and its socket, beside standard input and output. */
#define OWN_FDS 5

static void sleep_us(long us)
{
	const struct timespec time = {us / 1000000, us % 1000000 * 1000};
	nanosleep(&time, NULL);
}

void keeper_launch(struct spawn *spawn, const char *const *sets, const char *const *env)
{
	static const char *const many[] = {"--starts", "1000000", NULL};

	if (!spawn->keeper_options)
		spawn->keeper_options = many;
	spawn_launch(spawn, sets, env);
}

void keeper_start(struct spawn *spawn, const char *const *sets, const char *const *env)
{
	keeper_launch(spawn, sets, env);
	spawn_wait_warm(spawn);
}

pid_t keeper_daemon(const struct spawn *spawn)
{
	char path[64];
	int pid = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)spawn->pid, (int)spawn->pid);
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	if (fscanf(file, "%d", &pid) != 1)
		pid = 0;
	fclose(file);

	return pid;
}

void keeper_kill_now(const struct spawn *spawn)
{
	pid_t pid = keeper_daemon(spawn);
	if (pid > 0)
		kill(pid, SIGKILL);
}

void keeper_kill_within(const struct spawn *spawn, struct seed *seed, unsigned most_us)
{
	sleep_us((long)seed_below(seed, most_us + 1));
	keeper_kill_now(spawn);
}

void keeper_await_next(struct spawn *spawn, pid_t before)
{
	for (long waited = 0; waited < WAIT_MS * 1000L; waited += STEP_US) {
		pid_t pid = keeper_daemon(spawn);
		if (pid > 0 && pid != before) {
			spawn_wait_warm(spawn);
			if (keeper_daemon(spawn) == pid)
				return;
		}

		sleep_us(STEP_US);
	}

	spawn_show_log(spawn);
	fail_msg("the keeper has not started hbmd again");
}

void keeper_kill(struct spawn *spawn)
{
	pid_t before = keeper_daemon(spawn);
	keeper_kill_now(spawn);
	keeper_await_next(spawn, before);
}

void keeper_renew(struct spawn *spawn)
{
	pid_t before = keeper_daemon(spawn);
	kill(spawn->pid, SIGUSR2);
	keeper_await_next(spawn, before);
}

struct spawn keeper_view(const struct spawn *spawn)
{
	struct spawn view = *spawn;
	view.pid = keeper_daemon(spawn);
	return view;
}

unsigned keeper_stored(const struct spawn *spawn)
{
	char path[64];
	unsigned count = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)spawn->pid);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	assert_true(count >= OWN_FDS + 2); /* "." and ".." */

	return count - 2 - OWN_FDS;
}
