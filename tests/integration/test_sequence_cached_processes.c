/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes of one user that have sequences on one prefix in the cache: they have the same slabs,
 * whoever leaves first, in an orderly way or killed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/cached_stage.h"
#include "tests/support/child.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#define BLOCK CACHED_BLOCK

/* ---- Two processes ---- */

/* Opens a sequence on blocks 1 to 3, compares it, tells, goes on when it has been told to by a
 * signal, and compares again. */
static volatile sig_atomic_t told;

static void hear(int signal)
{
	(void)signal;
	told = 1;
}

static void read_on(const struct spawn *spawn, uint64_t number)
{
	signal(SIGUSR1, hear);
	cached_rig_open(&cached_rig, spawn, cached_rig_layouts[number], BLOCK, &cached_stage_pool);
	cached_rig_chain(&cached_rig, 1, 3);
	struct hbm_sequence *sequence = cached_rig_reopen(&cached_rig, 3 * BLOCK, 3 * CACHED_SLABS);

	cached_rig_expect(&cached_rig, sequence, 3 * BLOCK, 3 * BLOCK, 0);
	child_tell();
	while (!told)
		poll(NULL, 0, 10);

	/* Whatever has become of the lender. */
	cached_rig_expect(&cached_rig, sequence, 3 * BLOCK, 3 * BLOCK, 0);
	cached_rig_grow(&cached_rig, sequence, 4 * BLOCK, 7);
	cached_rig_expect(&cached_rig, sequence, 3 * BLOCK, 4 * BLOCK, 7);
	child_tell();
	for (;;)
		poll(NULL, 0, 1000);
}

static void two_processes(uint64_t number)
{
	struct child child;

	cached_stage_start(cached_rig_layouts[number]);
	struct hbm_sequence *sequence = cached_rig_fill(&cached_rig, 3 * BLOCK + 1);
	const uint64_t slabs = cached_rig_leased(&cached_rig);

	cached_rig_chain(&cached_rig, 1, 3);
	cached_rig_store(&cached_rig, sequence, 0);
	assert_int_equal(cached_rig_leased(&cached_rig), slabs);
	assert_int_equal(cached_rig_device(&cached_rig).lent, 3 * CACHED_SLABS * RIG_SLAB);

	/* The other process has the same slabs, and none of its own. */
	child_start(&child, "read_on", &daemon_, number);
	child_await(&child);
	assert_int_equal(cached_rig_leased(&cached_rig), slabs);
	assert_int_equal(cached_rig_device(&cached_rig).loans, 0);
	assert_true(spawn_balanced(&daemon_));

	/* The lender writes to its own: what it has lent is copied before. */
	assert_int_equal(hbm_sequence_truncate(sequence, BLOCK + 2), 0);
	cached_rig_grow(&cached_rig, sequence, 4 * BLOCK, 1000);
	cached_rig_expect(&cached_rig, sequence, BLOCK + 2, 4 * BLOCK, 1000);

	/* And leaves. */
	cached_stage_close(sequence);
	cached_rig_wait_for_leased(&cached_rig, 3 * CACHED_SLABS);
	kill(child.pid, SIGUSR1);
	child_await(&child);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(child_kill(&child), 128 + SIGKILL);
	cached_rig_wait_for_leased(&cached_rig, 3 * CACHED_SLABS);
	assert_true(spawn_balanced(&daemon_));

	/* Nobody has it: it is there for the next, or for who needs the memory. */
	assert_int_equal(hbm_keys(cached_rig.pool.hbm, HBM_WIRE_REMOVE, cached_rig.ns, 0,
				  cached_rig.keys, 1, NULL),
			 0);
	cached_rig_wait_for_leased(&cached_rig, 0);
	cached_stage_finish();
}

static void test_two_processes_have_one_prefix(void **state)
{
	(void)state;
	for (uint64_t i = 0; cached_rig_layouts[i]; i++)
		two_processes(i);
}

/* Opens a sequence on blocks 1 to 3, and leaves in an orderly way. */
static void visit(const struct spawn *spawn, uint64_t number)
{
	signal(SIGUSR1, hear);
	cached_rig_open(&cached_rig, spawn, cached_rig_layouts[number], BLOCK, &cached_stage_pool);
	cached_rig_chain(&cached_rig, 1, 3);
	cached_rig_expect(&cached_rig, cached_rig_reopen(&cached_rig, 3 * BLOCK, 3 * CACHED_SLABS),
			  3 * BLOCK, 3 * BLOCK, 0);
	child_tell();
	while (!told)
		poll(NULL, 0, 10);
	cached_rig_close(&cached_rig);
}

/* Who leaves takes nothing from the lender: the next one has the same slabs, and no copy. */
static void test_borrowers_come_and_go(void **state)
{
	(void)state;
	cached_stage_start(cached_rig_layouts[0]);
	struct hbm_sequence *sequence = cached_rig_fill(&cached_rig, 3 * BLOCK);
	const uint64_t slabs = cached_rig_leased(&cached_rig);

	cached_rig_chain(&cached_rig, 1, 3);
	cached_rig_store(&cached_rig, sequence, 0);
	for (unsigned i = 0; i < 3; i++) {
		struct child child;

		child_start(&child, "visit", &daemon_, 0);
		child_await(&child);
		assert_int_equal(cached_rig_leased(&cached_rig), slabs);
		kill(child.pid, SIGUSR1);
		assert_int_equal(child_wait(&child), 0);
		assert_int_equal(cached_rig_device(&cached_rig).lent, 3 * CACHED_SLABS * RIG_SLAB);
		assert_true(spawn_balanced(&daemon_));
	}
	assert_int_equal(hbm_keys(cached_rig.pool.hbm, HBM_WIRE_REMOVE, cached_rig.ns, 0,
				  cached_rig.keys, 1, NULL),
			 0);
	cached_stage_finish();
}

/* ---- Clients that are killed ---- */

#define STEPS 7u

static void step(uint64_t at, struct hbm_sequence **lender, struct hbm_sequence **borrower)
{
	switch (at) {
	case 0:
		*lender = cached_rig_fill(&cached_rig, 3 * BLOCK);
		break;
	case 1:
		cached_rig_store(&cached_rig, *lender, 0);
		break;
	case 2:
		*borrower = cached_rig_reopen(&cached_rig, 3 * BLOCK, 6);
		break;
	case 3:
		cached_stage_close(*lender);
		break;
	case 4:
		assert_int_equal(hbm_sequence_fork(*borrower, 1, lender), 0);
		cached_rig_grow(&cached_rig, *lender, 4 * BLOCK, 3);
		break;
	case 5:
		assert_int_equal(hbm_sequence_truncate(*lender, BLOCK + 1), 0);
		cached_rig_grow(&cached_rig, *lender, 2 * BLOCK, 4);
		break;
	default:
		cached_stage_close(*borrower);
	}
}

static void live_and_die(const struct spawn *spawn, uint64_t steps)
{
	struct hbm_sequence *lender = NULL, *borrower = NULL;

	cached_rig_open(&cached_rig, spawn, cached_rig_layouts[0], BLOCK, &cached_stage_pool);
	cached_rig_chain(&cached_rig, 1, 3);
	for (uint64_t i = 0; i < steps; i++)
		step(i, &lender, &borrower);
	kill(getpid(), SIGKILL);
}

/* Borrows what another has stored. */
static void borrow_and_die(const struct spawn *spawn, uint64_t steps)
{
	struct hbm_sequence *fork = NULL, *borrower = NULL;

	cached_rig_open(&cached_rig, spawn, cached_rig_layouts[0], BLOCK, &cached_stage_pool);
	cached_rig_chain(&cached_rig, 1, 3);
	for (uint64_t i = 2; i < steps; i++)
		if (i != 3)
			step(i, &fork, &borrower);
	kill(getpid(), SIGKILL);
}

static void die(const char *part, uint64_t steps)
{
	struct child child;

	child_start(&child, part, &daemon_, steps);
	assert_int_equal(child_wait(&child), 128 + SIGKILL);
}

/* What it has lent stays for the next, as long as its blocks do. */
static void drop_what_is_left(void)
{
	cached_rig_open(&cached_rig, &daemon_, cached_rig_layouts[0], BLOCK, &cached_stage_pool);
	assert_true(spawn_balanced(&daemon_));
	cached_rig_chain(&cached_rig, 1, 3);
	hbm_keys(cached_rig.pool.hbm, HBM_WIRE_REMOVE, cached_rig.ns, 0, cached_rig.keys, 3, NULL);
	cached_rig_wait_for_leased(&cached_rig, 0);
	assert_true(spawn_balanced(&daemon_));
	cached_rig_close(&cached_rig);
}

static void test_killed_at_every_step(void **state)
{
	(void)state;
	for (uint64_t steps = 0; steps <= STEPS; steps++) {
		spawn_start(&daemon_, cached_stage_lends, NULL);
		cached_stage_fds = spawn_fds(&daemon_);
		die("live_and_die", steps);
		drop_what_is_left();
		stage_finish(cached_stage_fds);
	}
}

static void test_borrowers_are_killed_at_every_step(void **state)
{
	(void)state;
	cached_stage_start(cached_rig_layouts[0]);
	struct hbm_sequence *lender = cached_rig_fill(&cached_rig, 3 * BLOCK);
	const uint64_t slabs = cached_rig_leased(&cached_rig);

	cached_rig_chain(&cached_rig, 1, 3);
	cached_rig_store(&cached_rig, lender, 0);
	for (uint64_t steps = 2; steps <= STEPS; steps++) {
		die("borrow_and_die", steps);
		cached_rig_wait_for_leased(&cached_rig, slabs);
		assert_true(spawn_balanced(&daemon_));
		cached_rig_expect(&cached_rig, lender, 3 * BLOCK, 3 * BLOCK, 0);
	}
	cached_rig_close(&cached_rig);
	drop_what_is_left();
	stage_finish(cached_stage_fds);
}

static const struct child_part parts[] = {{"read_on", read_on},
					  {"visit", visit},
					  {"live_and_die", live_and_die},
					  {"borrow_and_die", borrow_and_die},
					  {NULL, NULL}};

#define STAGED(test) cmocka_unit_test_setup_teardown(test, stage_setup, stage_teardown)

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		STAGED(test_two_processes_have_one_prefix),
		STAGED(test_borrowers_come_and_go),
		STAGED(test_killed_at_every_step),
		STAGED(test_borrowers_are_killed_at_every_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
