/* SPDX-License-Identifier: Apache-2.0 */
/* hbmd --keeper: the daemon comes back with what was kept, however it ended, and ends with the
 * keeper, however that ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/file.h"
#include "tests/support/keeper_rig.h"
#include "tests/support/stage.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { KILLS = 50, WITHIN_US = 60000 };

static const char *const sets[] = {"nvme.path=", "nvme.size=0", "ddr.size=8MiB", NULL};
static const char taken_over[] = "took over the state of the daemon before";
static struct seed seed;

static void test_a_killed_daemon_comes_back(void **state)
{
	(void)state;
	keeper_start(&daemon_, sets, NULL);
	unsigned stored = keeper_stored(&daemon_);
	assert_true(stored > 0);
	assert_int_equal(spawn_logged(&daemon_, taken_over), false);

	keeper_kill(&daemon_);
	assert_int_equal(spawn_log_lines(&daemon_, taken_over), 1);
	assert_int_equal(keeper_stored(&daemon_), stored);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_int_equal(file_exists(daemon_.socket), false);
}

/* Wherever it is: starting, serving, or at its end. */
static void test_killed_at_any_moment(void **state)
{
	(void)state;
	keeper_start(&daemon_, sets, NULL);
	struct spawn view = keeper_view(&daemon_);
	unsigned stored = keeper_stored(&daemon_), fds = spawn_fds(&view);
	pid_t before = 0;

	for (int i = 0; i < KILLS; i++) {
		before = keeper_daemon(&daemon_);
		keeper_kill_within(&daemon_, &seed, WITHIN_US);
	}

	keeper_await_next(&daemon_, before);
	view = keeper_view(&daemon_);
	assert_int_equal(keeper_stored(&daemon_), stored);
	assert_int_equal(spawn_fds(&view), fds);
	assert_int_equal(spawn_log_lines(&daemon_, "error"), 0);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

int main(void)
{
	seed_open(&seed, "keeper");
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_killed_daemon_comes_back),
		TEST(test_killed_at_any_moment),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
