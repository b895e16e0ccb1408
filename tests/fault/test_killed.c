/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything at once: while clients work, calls of the daemon fail, its disk fails, comes short
 * or hangs, its device refuses, and at a random moment it is killed, or clients are, or both; then
 * the next daemon begins in the same folder. No byte is ever wrong, the books balance, the
 * next client is served, and nothing is left. And the same with a keeper, by which the daemon
 * comes back and its clients go on. HBM_TEST_RUNS: how many times of each (defaults below); each run
 * prints what it does, from the seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/effort.h"
#include "tests/support/fault.h"
#include "tests/support/keeper_rig.h"
#include "tests/support/seed.h"
#include "tests/support/stage.h"
#include "tests/support/work.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CLIENTS = 3, RUNS = 12, CALLS = 400, LINE = 96, MOMENT_US = 250000, PAUSE_US = 2000 };
enum { KEPT_RUNS = 3, KILLS = 4 }; /* with a keeper: kills of a run */

static struct seed seed;
static struct fault_page *faults;
static char variable[FAULT_VARIABLE];

/* ---- a client ---- */

static void work_on(const struct spawn *spawn, uint64_t number)
{
	static struct work work;

	(void)number;
	child_tell();

	for (;;) {
		work_do(spawn, &work);
		if (work_outcome(&work) == WORK_WRONG)
			exit(WORK_WRONG);
		usleep(PAUSE_US); /* there may be no daemon */
	}
}

/* ---- what goes wrong ---- */

static const char *disk_fault(char text[LINE])
{
	static const char *const kinds[] = {"EIO", "ENOSPC", "short", "3ms", "hang"};
	uint64_t n = 1 + seed_below(&seed, 40);
	const char *kind = kinds[seed_below(&seed, sizeof(kinds) / sizeof(kinds[0]))];

	if (seed_below(&seed, 3) == 0)
		snprintf(text, LINE, "nvme.fail=");
	else
		snprintf(text, LINE, "nvme.fail=%s:%llu-%llu:%s",
			 seed_below(&seed, 2) ? "write" : "read", (unsigned long long)n,
			 (unsigned long long)(n + seed_below(&seed, 4)), kind);

	return text;
}

/* After the calls of the start. */
static const char *device_fault(char text[LINE])
{
	static const char *const calls[] = {"cuMemMap",
					    "cuMemcpyDtoHAsync",
					    "cuMemcpyHtoDAsync",
					    "cuMemSetAccess",
					    "cuMemExportToShareableHandle",
					    "cuMemUnmap"};

	if (seed_below(&seed, 2) == 0)
		snprintf(text, LINE, "soft.fail=");
	else
		snprintf(text, LINE, "soft.fail=%s:%llu",
			 calls[seed_below(&seed, sizeof(calls) / sizeof(calls[0]))],
			 (unsigned long long)(30 + seed_below(&seed, 60)));

	return text;
}

static void arm(void)
{
	static const struct {
		unsigned kinds;
		int error;
	} choices[] = {
		{FAULT_MEMORY, ENOMEM},     {FAULT_SEND, ENOBUFS}, {FAULT_RECEIVE, ENOMEM},
		{FAULT_DESCRIPTOR, EMFILE}, {FAULT_WAIT, ENOMEM},  {FAULT_THREAD, EAGAIN},
		{FAULT_FILE, ENOSPC},       {FAULT_FILE, EIO},
	};
	size_t choice = seed_below(&seed, sizeof(choices) / sizeof(choices[0]));
	uint64_t first = 1 + seed_below(&seed, CALLS), count = 1 + seed_below(&seed, 5);

	print_message("calls %#x, %llu-%llu: %s; ", choices[choice].kinds,
		      (unsigned long long)first, (unsigned long long)(first + count - 1),
		      strerror(choices[choice].error));
	fault_arm(faults, choices[choice].kinds, choices[choice].error, first, count);
}

/* ---- a run ---- */

static void start(bool faulty)
{
	char disk[LINE] = "nvme.fail=", device[LINE] = "soft.fail=";
	const char *const sets[] = {WORK_SETS,
				    "nvme.timeout_ms=200",
				    faulty ? disk_fault(disk) : disk,
				    faulty ? device_fault(device) : device,
				    seed_below(&seed, 2) ? "hbmd.io=threads" : "hbmd.io=io_uring",
				    NULL};

	spawn_start(&daemon_, sets, (const char *[]){variable, NULL});
	if (faulty)
		print_message("%s %s %s; ", disk, device, sets[sizeof(sets) / sizeof(sets[0]) - 2]);
}

static void expect_not_wrong(int status)
{
	if (status == 128 + SIGKILL || status == WORK_CLEAN || status == WORK_REFUSED)
		return;
	spawn_show_log(&daemon_);
	fail_msg("a client ended with %d", status);
}

static void end_clients(struct child clients[CLIENTS], unsigned from)
{
	for (unsigned i = from; i < CLIENTS; i++)
		expect_not_wrong(child_kill(&clients[i]));
}

/* Whatever is left of the run is right, and all of it can be removed. */
static void check(void)
{
	unsigned fds = spawn_fds(&daemon_);

	expect_not_wrong(work_client(&daemon_));
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	work_clear(&daemon_);
	assert_int_equal(work_client(&daemon_), WORK_CLEAN);
	stage_finish(fds);
}

static void run(void)
{
	struct child clients[CLIENTS];
	uint64_t victim = seed_below(&seed, 3), moment = seed_below(&seed, MOMENT_US);

	start(true);
	for (unsigned i = 0; i < CLIENTS; i++)
		child_start(&clients[i], "killed", &daemon_, i);
	for (unsigned i = 0; i < CLIENTS; i++)
		child_await(&clients[i]);

	arm();
	usleep((useconds_t)moment);
	print_message("%s killed after %llu us\n",
		      victim == 0   ? "daemon"
		      : victim == 1 ? "client"
				    : "client and daemon",
		      (unsigned long long)moment);
	if (victim != 0)
		expect_not_wrong(child_kill(&clients[0]));
	if (victim == 1) {
		usleep((useconds_t)seed_below(&seed, MOMENT_US / 4));
		end_clients(clients, 1);
	}

	spawn_kill(&daemon_);
	if (victim != 1)
		end_clients(clients, victim == 2);

	fault_disarm(faults);
	start(false);
	check();
	spawn_forget_log(&daemon_);
}

static void test_killed_while_everything_fails(void **state)
{
	const char *runs = getenv("HBM_TEST_RUNS");
	unsigned long count = runs ? strtoul(runs, NULL, 10) : effort_of(RUNS);

	(void)state;
	spawn_needs_soft();
	faults = fault_open(&daemon_, variable);
	for (unsigned long i = 0; i < count; i++) {
		print_message("%lu: ", i);
		run();
	}
}

/* ---- with a keeper ---- */

static void end_client(struct child *client, uint64_t number)
{
	expect_not_wrong(child_kill(client));
	child_start(client, "killed", &daemon_, number);
	child_await(client);
}

static void kill_some(struct child clients[CLIENTS])
{
	for (unsigned i = 0; i < KILLS; i++) {
		uint64_t victim = seed_below(&seed, 4), moment = seed_below(&seed, MOMENT_US);

		arm();
		usleep((useconds_t)moment);
		print_message("%s killed after %llu us\n",
			      victim == 0   ? "client"
			      : victim == 1 ? "client and daemon"
					    : "daemon",
			      (unsigned long long)moment);
		if (victim > 0)
			keeper_kill_now(&daemon_);
		if (victim < 2)
			end_client(&clients[seed_below(&seed, CLIENTS)], CLIENTS + i);
	}
}

/* As check(), where what clients had is kept until they have ended. */
static void check_kept(unsigned fds, unsigned stored)
{
	keeper_kill(&daemon_);
	expect_not_wrong(work_client(&daemon_));
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	work_clear(&daemon_);
	assert_int_equal(work_client(&daemon_), WORK_CLEAN);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));

	struct spawn view = keeper_view(&daemon_);
	spawn_expect_fds(&view, fds);
	assert_int_equal(keeper_stored(&daemon_), stored);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

static void run_kept(const char *card)
{
	struct child clients[CLIENTS];
	const char *const sets[] = {
		WORK_SETS, seed_below(&seed, 2) ? "hbmd.io=threads" : "hbmd.io=io_uring", NULL};

	keeper_start(&daemon_, sets, (const char *[]){variable, card, NULL});
	struct spawn view = keeper_view(&daemon_);
	unsigned fds = spawn_fds(&view), stored = keeper_stored(&daemon_);

	for (unsigned i = 0; i < CLIENTS; i++)
		child_start(&clients[i], "killed", &daemon_, i);
	for (unsigned i = 0; i < CLIENTS; i++)
		child_await(&clients[i]);
	kill_some(clients);
	fault_disarm(faults);
	end_clients(clients, 0);
	check_kept(fds, stored);
	spawn_forget_log(&daemon_);
}

static void test_killed_and_kept(void **state)
{
	const char *runs = getenv("HBM_TEST_RUNS");
	unsigned long count = runs ? strtoul(runs, NULL, 10) : effort_of(KEPT_RUNS);
	char card[LINE + 64];

	(void)state;
	spawn_needs_soft();
	faults = fault_open(&daemon_, variable);
	snprintf(card, sizeof(card), "HBM_SOFT=card=%s.card", daemon_.dir);
	assert_int_equal(mkdir(card + sizeof("HBM_SOFT=card=") - 1, 0755), 0);
	for (unsigned long i = 0; i < count; i++) {
		print_message("%lu: ", i);
		run_kept(card);
	}
	assert_int_equal(rmdir(card + sizeof("HBM_SOFT=card=") - 1), 0); /* nothing is left */
}

static int teardown(void **state)
{
	faults = fault_close(faults);
	return stage_teardown(state);
}

int main(int argc, char **argv)
{
	const struct child_part parts[] = {{"killed", work_on}, work_parts[0], {NULL, NULL}};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_killed_while_everything_fails, stage_setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_killed_and_kept, stage_setup, teardown),
	};

	child_main(argc, argv, parts);
	seed_open(&seed, "test_killed");

	return cmocka_run_group_tests(tests, NULL, NULL);
}
