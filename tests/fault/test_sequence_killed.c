/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client with sequences is killed at its system calls: nothing is left of it, and the books
 * balance.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/play_stage.h"
#include "tests/support/seed.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static void stop_here(const struct pool_rig *rig)
{
	(void)rig;
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
}

static void stop_no_more(void)
{
	exit(0);
}

/* A client that its test stops at each of its system calls. */
static void play_traced(const struct spawn *spawn, uint64_t number)
{
	struct pool_play play;

	(void)number;
	pool_play_begins = stop_here;
	pool_play_ends = stop_no_more;
	pool_play(spawn, &play);
}

/* Each run takes a new client as far; where they begin is chosen anew, so that in time all stops
 * have their turn. */
#define STRIDE 29

/* Lets the client make so many entries into and returns from system calls, then kills it.
 * Whether it was still there. */
static bool kill_at(uint64_t stops)
{
	struct child child;
	int status;

	child_start(&child, "traced", &daemon_, 0);
	assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
	for (uint64_t i = 0; WIFSTOPPED(status) && i < stops; i++) {
		assert_int_equal(ptrace(PTRACE_SYSCALL, child.pid, NULL, NULL), 0);
		assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
	}
	if (!WIFSTOPPED(status)) {
		child.pid = 0;
		close(child.ear);
		return false;
	}
	assert_int_equal(child_kill(&child), 128 + SIGKILL);

	return true;
}

static void test_a_client_that_is_killed_at_every_step(void **state)
{
	(void)state;
	play_stage_start();
	unsigned kills = 0;
	struct seed seed;

	seed_open(&seed, "kills");

	for (uint64_t stops = seed_below(&seed, STRIDE); kill_at(stops); stops += STRIDE) {
		play_stage_check();
		kills++;
	}
	print_message("%u kills\n", kills);
	assert_in_range(kills, 10, 500);
	play_stage_finish();
}

static const struct child_part parts[] = {{"traced", play_traced}, {NULL, NULL}};

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_client_that_is_killed_at_every_step,
						stage_setup, stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
