/* SPDX-License-Identifier: Apache-2.0 */
/* stage: see stage.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/file.h"
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
	spawn_expect_fds(&daemon_, fds);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

void stage_refused(const char *const *sets, const char *const *env, int expected, const char *text)
{
	spawn_forget_log(&daemon_);
	spawn_launch(&daemon_, sets, env);
	int status = spawn_wait(&daemon_);
	unsigned lines =
		spawn_log_lines(&daemon_, " error: ") + spawn_log_lines(&daemon_, "hbmd: ");
	if (status != expected || lines != 1 || !spawn_logged(&daemon_, text)) {
		spawn_show_log(&daemon_);
		fail_msg("expected %d and one line with \"%s\", got %d and %u", expected, text,
			 status, lines);
	}

	assert_int_equal(file_exists(daemon_.socket), false);
}
