/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sequences where something fails: the n-th allocation of the library, the n-th device call
 * in its process, and the n-th in the daemon, for n = 1, 2, ... until none is reached. What
 * is refused has changed nothing, and works when it is tried again; nothing is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/fault.h"
#include "tests/support/pool_play.h"
#include "tests/support/seed.h"
#include "tests/support/soft_calls.h"
#include "tests/support/stage.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEPS_MAX 500

static struct fault_page page;
static struct soft_calls soft;
static unsigned nth;
static const char *call;
static bool reached;

static void start(void)
{
	/* Half of it may be pinned, and as much is on its way out and in. */
	static const char *const sets[] = {"nvme.size=128MiB", NULL};

	spawn_needs_soft();
	spawn_start(&daemon_, sets, NULL);
}

static void check(void)
{
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

/* ---- Memory ---- */

static void memory_begins(const struct pool_rig *rig)
{
	(void)rig;
	fault_use(&page);
	fault_arm(&page, FAULT_MEMORY, ENOMEM, nth, 1);
}

static void memory_ends(void)
{
	reached = fault_disarm(&page) > 0;
	fault_use(NULL);
}

static void test_memory(void **state)
{
	(void)state;
	struct pool_play play;
	unsigned refused = 0;

	start();
	const unsigned fds = spawn_fds(&daemon_);
	pool_play_begins = memory_begins;
	pool_play_ends = memory_ends;
	reached = true;
	for (nth = 1; reached && nth < STEPS_MAX; nth++) {
		pool_play(&daemon_, &play);
		assert_false(play.ended);
		refused += play.refused;
		check();
	}
	assert_in_range(nth, 10, STEPS_MAX - 1);
	assert_in_range(refused, 10, STEPS_MAX);
	stage_finish(fds);
}

/* ---- The device ---- */

static uint64_t calls_before;

static void device_begins(const struct pool_rig *rig)
{
	soft = soft_calls_of(rig->kv.driver);
	calls_before = soft.calls(call);
	soft.fail_nth(call, nth, CUDA_ERROR_OUT_OF_MEMORY);
}

static void device_ends(void)
{
	reached = soft.calls(call) - calls_before >= nth;
	soft.fail_nth(NULL, 0, CUDA_SUCCESS);
}

static void test_device_calls(void **state)
{
	(void)state;
	static const char *const calls[] = {
		"cuMemMap",
		"cuMemUnmap",
		"cuMemSetAccess",
		"cuMemRetainAllocationHandle",
		"cuMemcpyDtoDAsync",
		"cuStreamSynchronize",
		"cuStreamCreate",
		"cuMemImportFromShareableHandle",
		"cuMemAddressReserve",
		"cuLaunchKernel",
		"cuModuleLoadData",
	};
	struct pool_play play;
	unsigned refused = 0;

	start();
	const unsigned fds = spawn_fds(&daemon_);
	pool_play_begins = device_begins;
	pool_play_ends = device_ends;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		const unsigned before = refused;

		call = calls[i];
		reached = true;
		for (nth = 1; reached && nth < STEPS_MAX; nth++) {
			pool_play(&daemon_, &play);
			assert_false(play.ended);
			refused += play.refused;
			check();
		}
		print_message("%s: %u calls, %u refusals\n", call, nth - 2, refused - before);
		assert_in_range(nth, 2, STEPS_MAX - 1);
	}
	/* Where the call is tried again by itself, as an unmapping is, nothing is refused. */
	assert_in_range(refused, 40, 2 * STEPS_MAX);
	stage_finish(fds);
}

/* ---- The end of the client ---- */

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
	start();
	const unsigned fds = spawn_fds(&daemon_);
	unsigned kills = 0;
	struct seed seed;

	seed_open(&seed, "kills");

	for (uint64_t stops = seed_below(&seed, STRIDE); kill_at(stops); stops += STRIDE) {
		check();
		kills++;
	}
	print_message("%u kills\n", kills);
	assert_in_range(kills, 10, 500);
	stage_finish(fds);
}

static const struct child_part parts[] = {{"traced", play_traced}, {NULL, NULL}};

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_memory),
		TEST(test_device_calls),
		TEST(test_a_client_that_is_killed_at_every_step),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
