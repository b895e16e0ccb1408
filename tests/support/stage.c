/* SPDX-License-Identifier: Apache-2.0 */
/* stage: see stage.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/leaks.h"
#include "tests/support/stage.h"

struct spawn daemon_;
static struct leaks leaks;

int stage_setup(void **state)
{
	(void)state;
	leaks_begin(&leaks);
	spawn_init(&daemon_);
	return 0;
}

int stage_teardown(void **state)
{
	(void)state;
	spawn_free(&daemon_);
	assert_int_equal(leaks_end(&leaks), 0);
	return 0;
}

void stage_finish(unsigned fds)
{
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_fds(&daemon_), fds);
	assert_int_equal(spawn_stop(&daemon_), 0);
}
