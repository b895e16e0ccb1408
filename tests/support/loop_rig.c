/* SPDX-License-Identifier: Apache-2.0 */
/* loop_rig: see loop_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/loop_rig.h"

#include <stdlib.h>

enum { DEPTH = 8 };

struct loop *loop;
enum loop_engine loop_rig_uring = LOOP_URING, loop_rig_threads = LOOP_THREADS;

struct loop *loop_rig_new(enum loop_engine engine)
{
	struct loop *fresh = NULL;
	assert_int_equal(
		loop_new(&fresh, &(struct loop_options){.engine = engine, .io_depth = DEPTH}), 0);
	return fresh;
}

int loop_rig_setup(void **state)
{
	struct loop_rig *rig = calloc(1, sizeof(*rig));

	rig->engine = *(enum loop_engine *)*state;
	leaks_begin(&rig->leaks);
	loop = loop_rig_new(rig->engine);
	*state = rig;

	return 0;
}

int loop_rig_teardown(void **state)
{
	struct loop_rig *rig = *state;
	loop = loop_free(loop);
	size_t leaked = leaks_end(&rig->leaks);
	free(rig);
	return leaked == 0 ? 0 : -1;
}

void loop_rig_run(void)
{
	assert_int_equal(loop_run(loop), 0);
}

/* Instead of a test with io_uring, where that may not be used. */
static void left_out(void **state)
{
	(void)state;
	print_message("SKIP: io_uring may not be used here\n");
	skip();
}

static bool has_uring(void)
{
	struct loop *trial;
	if (loop_new(&trial, &(struct loop_options){.engine = LOOP_URING, .io_depth = DEPTH}) < 0)
		return false;
	loop_free(trial);
	return true;
}

void loop_rig_leave_out(struct CMUnitTest *tests, size_t count)
{
	if (has_uring())
		return;

	for (size_t i = 0; i < count; i++)
		if (tests[i].initial_state == &loop_rig_uring)
			tests[i] =
				(struct CMUnitTest){.name = tests[i].name, .test_func = left_out};
}
