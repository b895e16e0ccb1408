/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before and after each message that a client sends while it opens a sequence on blocks of the
 * cache, some of which it maps and the last of which it loads: it is killed. What it had of the
 * blocks comes back, who has lent them goes on, and the next one opens a sequence on them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/cached_rig.h"
#include "tests/support/child.h"
#include "tests/support/stage.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WHOLE 2
#define TOKENS (WHOLE * CACHED_BLOCK + 3)
#define SLABS (WHOLE * CACHED_SLABS) /* that are mapped */
#define STEPS_MAX 1000

static const char *const sets[] = {"device.lend=64MiB", "ddr.staging=32MiB", NULL};
static const struct hbm_pool_options usual = {.max_sequences = 4, .warm_bytes = 16 * RIG_SLAB};
static struct cached_rig rig;

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

static void open_rig(const struct spawn *spawn, uint64_t number)
{
	cached_rig_open(&rig, spawn, cached_rig_layouts[number % 3], CACHED_BLOCK, &usual);
	cached_rig_chain(&rig, 1, WHOLE + 1);
	rig.blocks.tokens = TOKENS;
}

/* In a slot that has slabs of a sequence before, with memory that is promised: all that such a
 * call can ask for. Killed at step number / 3. */
static void play(const struct spawn *spawn, uint64_t number)
{
	const struct hbm_sequence_options expects = {.expected = 2 * TOKENS};
	struct hbm_sequence *sequence;
	uint64_t tokens;

	open_rig(spawn, number);
	assert_int_equal(hbm_sequence_close(cached_rig_fill(&rig, TOKENS)), 0);
	steps_left = number / 3;
	assert_int_equal(
		hbm_sequence_open_cached(rig.pool.pool, &expects, &rig.blocks, &sequence, &tokens),
		0);
	steps_left = 0;
	assert_int_equal(tokens, TOKENS);
	cached_rig_expect(&rig, sequence, TOKENS, TOKENS, 0);
}

/* ---- The others ---- */

static bool is_back(const struct hbm_wire_device *before)
{
	const struct hbm_wire_device now = cached_rig_device(&rig);

	return now.leased == before->leased && now.promised == before->promised && now.loans == 0 &&
	       now.quarantined + now.retiring + now.held == 0;
}

/* What the killed one had is quarantined for a moment. */
static void expect_back(const struct hbm_wire_device *before)
{
	for (int i = 0; i < 20000 && !is_back(before); i++)
		poll(NULL, 0, 1);
	assert_true(is_back(before));
	assert_int_equal(cached_rig_device(&rig).lent, SLABS * RIG_SLAB);
	assert_int_equal(cached_rig_device(&rig).replicas, WHOLE);
	assert_true(spawn_balanced(&daemon_));
}

/* Another maps the same slabs, and gives them back. */
static void expect_opens(const struct hbm_wire_device *before)
{
	struct hbm_sequence *next = cached_rig_reopen(&rig, TOKENS, SLABS);

	cached_rig_expect(&rig, next, TOKENS, TOKENS, 0);
	assert_int_equal(hbm_sequence_close(next), 0);
	assert_int_equal(cached_rig_device(&rig).lent, before->lent);
	assert_int_equal(cached_rig_device(&rig).loans, 0);
}

static void killed_at_each_step(uint64_t layout)
{
	uint64_t steps = 0;
	int status;

	spawn_start(&daemon_, sets, NULL);
	const unsigned fds = spawn_fds(&daemon_);

	open_rig(&daemon_, layout);
	struct hbm_sequence *lender = cached_rig_fill(&rig, TOKENS);

	cached_rig_store(&rig, lender, 0);
	assert_int_equal(hbm_sequence_close(cached_rig_reopen(&rig, TOKENS, SLABS)), 0);
	const struct hbm_wire_device before = cached_rig_device(&rig);

	do {
		struct child child;

		child_start(&child, "open", &daemon_, 3 * ++steps + layout);
		status = child_wait(&child);
		assert_true(status == 0 || status == 128 + SIGKILL);
		expect_back(&before);
		cached_rig_expect(&rig, lender, TOKENS, TOKENS, 0);
		expect_opens(&before);
	} while (status != 0 && steps < STEPS_MAX);
	print_message("%u steps\n", (unsigned)steps - 1);
	assert_int_equal(status, 0);
	assert_true(steps > 12);

	/* It is alone with what it has lent, and gives it back. */
	cached_rig_grow(&rig, lender, 2 * TOKENS, 5);
	cached_rig_expect(&rig, lender, TOKENS, 2 * TOKENS, 5);
	assert_int_equal(hbm_sequence_close(lender), 0);
	assert_int_equal(
		hbm_keys(rig.pool.hbm, HBM_WIRE_REMOVE, rig.ns, 0, rig.keys, WHOLE + 1, NULL), 0);
	assert_int_equal(cached_rig_device(&rig).lent, 0);
	cached_rig_close(&rig);
	stage_finish(fds);
}

static void test_tokens_together(void **state)
{
	(void)state;
	killed_at_each_step(0);
}

static void test_layers_apart(void **state)
{
	(void)state;
	killed_at_each_step(1);
}

static void test_pages(void **state)
{
	(void)state;
	killed_at_each_step(2);
}

static const struct child_part parts[] = {{"open", play}, {NULL, NULL}};

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tokens_together, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_layers_apart, stage_setup, stage_teardown),
		cmocka_unit_test_setup_teardown(test_pages, stage_setup, stage_teardown),
	};

	child_main(argc, argv, parts);

	return cmocka_run_group_tests(tests, NULL, NULL);
}
