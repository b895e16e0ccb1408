/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before and after each message that a client sends while it puts a module and lends its slabs,
 * appends one that it borrows, or one that it lends: it is killed. The books balance, what it had
 * comes back, and the next one has the module, or there is none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/module_stage.h"
#include "tests/support/stage.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STEPS_MAX 1000
#define LENDS_AT 1u /* another place than where it was put */

enum act { ACT_PUT, ACT_BORROW, ACT_LEND, ACTS };

/* ---- The client ---- */

static uint64_t steps_left; /* 0: nothing is to happen */

static void step(void)
{
	if (steps_left && --steps_left == 0)
		raise(SIGKILL);
}

/* Instead of the C library's, for the library under test. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	step();
	const ssize_t sent = syscall(SYS_sendmsg, fd, message, flags);

	step();

	return sent;
}

/* Killed at step number / ACTS. */
static void play(const struct spawn *spawn, uint64_t number)
{
	const enum act act = (enum act)(number % ACTS);
	const uint64_t at = act == ACT_BORROW ? MODULE_AT : LENDS_AT;
	struct hbm_sequence *sequence;

	pool_rig_open(&module_rig, spawn, cached_rig_layouts[0], &module_pool);
	sequence = act == ACT_PUT ? module_stage_sequence(MODULE_SOURCE, MODULE_TAG)
				  : module_stage_sequence(at, MODULE_OWN);
	steps_left = number / ACTS;
	assert_int_equal(
		act == ACT_PUT ? module_stage_put(sequence, 1) : module_stage_map(sequence), 0);
	steps_left = 0;
	if (act != ACT_PUT)
		module_stage_expect_mapped(sequence, at, MODULE_OWN);
}

/* ---- The others ---- */

/* Whoever comes next appends it, twice at the same position. */
static void expect_module(enum act act)
{
	const uint64_t at = act == ACT_LEND ? LENDS_AT : MODULE_AT;

	for (unsigned i = 0; i < 2; i++) {
		struct hbm_sequence *next = module_stage_sequence(at, MODULE_OTHER);
		const int r = module_stage_map(next);

		if (r == HBM_NOT_FOUND && act == ACT_PUT)
			assert_int_equal(pool_rig_facts(next).tokens, at);
		else
			assert_int_equal(r, 0);
		if (r == 0) {
			module_stage_expect_mapped(next, at, MODULE_OTHER);
			assert_true(i == 0 || pool_rig_facts(next).lent_bytes > 0);
		}
		module_stage_close(next);
	}
}

static void killed_at_each_step(enum act act)
{
	uint64_t steps = 0;
	int status;

	module_stage_start(NULL, cached_rig_layouts[0]);
	do {
		struct child child;
		struct hbm_sequence *source = act == ACT_PUT ? NULL : module_stage_source();

		child_start(&child, "play", &daemon_, ACTS * ++steps + act);
		status = child_wait(&child);
		assert_true(status == 0 || status == 128 + SIGKILL);
		assert_true(spawn_balanced(&daemon_));
		expect_module(act);
		if (source) {
			module_stage_expect(source, MODULE_FIRST, MODULE_TOKENS, MODULE_FIRST,
					    MODULE_TAG);
			module_stage_close(source);
		}
		module_stage_drop_all();
	} while (status != 0 && steps < STEPS_MAX);
	print_message("%u steps\n", (unsigned)steps - 1);
	assert_int_equal(status, 0);
	assert_true(steps > 12);
	module_stage_finish();
}

static void test_killed_while_it_puts(void **state)
{
	(void)state;
	killed_at_each_step(ACT_PUT);
}

static void test_killed_while_it_borrows(void **state)
{
	(void)state;
	killed_at_each_step(ACT_BORROW);
}

static void test_killed_while_it_lends(void **state)
{
	(void)state;
	killed_at_each_step(ACT_LEND);
}

static const struct child_part parts[] = {{"play", play}, {NULL, NULL}};

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		TEST(test_killed_while_it_puts),
		TEST(test_killed_while_it_borrows),
		TEST(test_killed_while_it_lends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
