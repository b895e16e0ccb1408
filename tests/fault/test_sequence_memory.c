/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sequences where memory is short: the n-th allocation of the library within each call on them
 * fails, for n = 1, 2, ... until none is reached. What is refused has changed nothing, and works
 * when it is tried again; nothing is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/fault.h"
#include "tests/support/play_stage.h"

#include <errno.h>

static struct fault_page page;
static unsigned nth;
static bool reached;

static void call_begins(void)
{
	reached |= fault_disarm(&page) > 0;
	fault_arm(&page, FAULT_MEMORY, ENOMEM, nth, 1);
}

static void begins(const struct pool_rig *rig)
{
	(void)rig;
	fault_use(&page);
	pool_play_calls = call_begins;
}

static void ends(void)
{
	reached |= fault_disarm(&page) > 0;
	fault_use(NULL);
	pool_play_calls = NULL;
}

static void test_memory(void **state)
{
	(void)state;
	unsigned refused = 0;

	play_stage_start();
	pool_play_begins = begins;
	pool_play_ends = ends;
	reached = true;
	for (nth = 1; reached && nth < PLAY_STAGE_MAX; nth++) {
		reached = false;
		refused += play_stage_run();
	}
	print_message("%u allocations in a call, %u refusals\n", nth - 2, refused);
	assert_in_range(nth, 10, PLAY_STAGE_MAX - 1);
	assert_in_range(refused, 10, PLAY_STAGE_MAX);
	play_stage_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_memory, stage_setup, stage_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
