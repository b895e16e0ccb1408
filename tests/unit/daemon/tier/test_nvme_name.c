/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a path still names the file that is open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/tier/nvme_name.h"
#include "tests/support/loop_rig.h"

#define OFTEN UINT64_C(1000000)
#define FOREVER UINT64_C(3600000000000)

static char folder[] = "/tmp/hbmd-name-XXXXXX";
static char path[64], away[64];

struct name_rig {
	struct nvme_name *name;
	int fd;
	struct timer timer; /* looks whether it is as expected */
	bool expected;
};

static int make_file(const char *at)
{
	int fd = open(at, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_in_range(fd, 0, INT32_MAX);
	return fd;
}

static void look(struct timer *timer)
{
	struct name_rig *rig = container_of(timer, struct name_rig, timer);
	if (nvme_name_is_gone(rig->name) == rig->expected)
		loop_stop(loop);
	else
		loop_timer_set(loop, timer, clock_now() + OFTEN);
}

/* Runs until it says so. */
static void wait_until(struct name_rig *rig, bool gone)
{
	rig->expected = gone;
	rig->timer.fire = look;
	loop_timer_set(loop, &rig->timer, clock_now());
	loop_rig_run();
	assert_int_equal(nvme_name_is_gone(rig->name), gone);
}

static void open_rig(struct name_rig *rig, uint64_t interval_ns)
{
	log_open(LOG_CRIT);
	*rig = (struct name_rig){.fd = make_file(path)};
	assert_int_equal(nvme_name_new(&rig->name, loop, rig->fd, path, interval_ns), 0);
	assert_false(nvme_name_is_gone(rig->name));
}

static void close_rig(struct name_rig *rig)
{
	assert_null(nvme_name_free(rig->name));
	close(rig->fd);
	unlink(path);
}

static void test_a_file_that_is_deleted(void **state)
{
	(void)state;
	struct name_rig rig;
	open_rig(&rig, OFTEN);
	assert_int_equal(unlink(path), 0);
	wait_until(&rig, true);
	close_rig(&rig);
}

static void test_a_file_that_is_renamed_and_comes_back(void **state)
{
	(void)state;
	struct name_rig rig;
	open_rig(&rig, OFTEN);
	assert_int_equal(rename(path, away), 0);
	wait_until(&rig, true);
	assert_int_equal(rename(away, path), 0);
	wait_until(&rig, false);
	close_rig(&rig);
}

/* The path names a file, but another one. */
static void test_another_file_in_its_place(void **state)
{
	(void)state;
	struct name_rig rig;
	open_rig(&rig, OFTEN);
	close(make_file(away));
	assert_int_equal(rename(away, path), 0);
	wait_until(&rig, true);
	close_rig(&rig);
}

static void stop_loop(struct timer *timer)
{
	(void)timer;
	loop_stop(loop);
}

/* Its timer goes with it. */
static void test_it_does_not_look_afterwards(void **state)
{
	(void)state;
	struct name_rig rig;
	struct timer after = {.fire = stop_loop};
	open_rig(&rig, OFTEN);
	close_rig(&rig);
	loop_timer_set(loop, &after, clock_now() + 2 * OFTEN);
	loop_rig_run();
}

/* Before the first look it knows nothing, and ends all the same. */
static void test_it_ends_before_it_has_looked(void **state)
{
	(void)state;
	struct name_rig rig;
	open_rig(&rig, FOREVER);
	close_rig(&rig);
	assert_null(nvme_name_free(NULL));
	assert_false(nvme_name_is_gone(NULL));
}

int main(void)
{
	struct CMUnitTest tests[] = {
		LOOP_RIG_BOTH(test_a_file_that_is_deleted),
		LOOP_RIG_BOTH(test_a_file_that_is_renamed_and_comes_back),
		LOOP_RIG_BOTH(test_another_file_in_its_place),
		LOOP_RIG_BOTH(test_it_does_not_look_afterwards),
		LOOP_RIG_BOTH(test_it_ends_before_it_has_looked),
	};
	if (!mkdtemp(folder))
		return 1;

	snprintf(path, sizeof(path), "%s/tier", folder);
	snprintf(away, sizeof(away), "%s/away", folder);
	loop_rig_leave_out(tests, sizeof(tests) / sizeof(tests[0]));
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	unlink(away);
	rmdir(folder);

	return r;
}
