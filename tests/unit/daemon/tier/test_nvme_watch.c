/* SPDX-License-Identifier: Apache-2.0 */
/* The watch over I/Os: when a disk is silent, when it answers again, when an I/O is late.
 * No I/O is made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/log.h"
#include "daemon/tier/nvme_watch.h"
#include "tests/support/loop_rig.h"

#define SOON UINT64_C(2000000)
#define FOREVER UINT64_C(3600000000000)

/* What the watch has told. */
static struct {
	unsigned changes, late;
	bool silent;
	unsigned stop_at; /* so many calls of late() */
} told;

static struct nvme_watch watch;

static void changed(void *arg, bool silent)
{
	assert_ptr_equal(arg, &told);
	assert_int_equal(watch.silent, silent);
	told.changes++;
	told.silent = silent;
	if (silent)
		loop_stop(loop);
}

static void late(void *arg)
{
	assert_ptr_equal(arg, &told);
	if (++told.late == told.stop_at)
		loop_stop(loop);
}

static void open_watch(struct loop *with, uint64_t timeout_ns, uint64_t late_ns)
{
	const struct nvme_watch_options options = {.loop = with,
						   .timeout_ns = timeout_ns,
						   .late_ns = late_ns,
						   .changed = changed,
						   .late = late,
						   .arg = &told};

	log_open(LOG_CRIT);
	told.changes = told.late = told.stop_at = 0;
	nvme_watch_open(&watch, &options);
}

static void test_a_disk_that_hangs(void **state)
{
	(void)state;
	struct nvme_watched write = {.write = true};
	open_watch(loop, SOON, 0);
	for (unsigned hangs = 1; hangs <= 2; hangs++) {
		nvme_watch_begin(&watch, &write);
		loop_rig_run();
		assert_true(told.silent);
		assert_int_equal(watch.hangs, hangs);
		assert_int_equal(watch.silent_since_ns, write.since_ns);
		nvme_watch_end(&watch, &write);
		assert_false(told.silent);
		assert_int_equal(told.changes, 2 * hangs);
	}

	assert_int_equal(told.late, 0);
	nvme_watch_close(&watch);
}

/* All that was overdue has to be answered, in any order. */
static void test_it_is_silent_until_all_are_answered(void **state)
{
	(void)state;
	struct nvme_watched ios[3] = {0};
	open_watch(loop, SOON, 0);
	for (int i = 0; i < 3; i++) {
		nvme_watch_begin(&watch, &ios[i]);
		ios[i].since_ns = ios[0].since_ns;
	}

	loop_rig_run();
	assert_int_equal(told.changes, 1);
	nvme_watch_end(&watch, &ios[1]);
	nvme_watch_end(&watch, &ios[0]);
	assert_true(watch.silent);
	nvme_watch_end(&watch, &ios[2]);
	assert_false(watch.silent);
	assert_int_equal(told.changes, 2);
	assert_int_equal(watch.hangs, 1);
	nvme_watch_close(&watch);
}

/* One that is not overdue does not keep it silent, and is watched from then on. */
static void test_one_that_is_not_overdue(void **state)
{
	(void)state;
	struct nvme_watched old = {0}, young = {0};
	open_watch(loop, SOON, 0);
	nvme_watch_begin(&watch, &old);
	loop_rig_run();
	nvme_watch_begin(&watch, &young);
	assert_false(timer_is_set(&watch.timer)); /* there is nothing to see */
	watch.options.timeout_ns = FOREVER;
	nvme_watch_end(&watch, &old);
	assert_false(watch.silent);
	assert_true(timer_is_set(&watch.timer));
	assert_int_equal(watch.timer.at_ns, young.since_ns + FOREVER);
	nvme_watch_end(&watch, &young);
	nvme_watch_close(&watch);
	assert_false(timer_is_set(&watch.timer));
}

/* late() is called again and again, which says nothing about the disk. */
static void test_one_that_is_late(void **state)
{
	(void)state;
	struct nvme_watched io = {0};
	open_watch(loop, FOREVER, 1);
	told.stop_at = 3;
	nvme_watch_begin(&watch, &io);
	assert_int_equal(watch.timer.at_ns, io.since_ns + 1);
	loop_rig_run();
	assert_int_equal(told.late, 3);
	assert_int_equal(told.changes, 0);
	nvme_watch_end(&watch, &io);
	nvme_watch_close(&watch);
}

static void stop_loop(struct timer *timer)
{
	(void)timer;
	loop_stop(loop);
}

/* The timer is not moved when I/Os end and begin. When it fires it looks at those that are
 * left, and is set for them. */
static void look_at_the_oldest(uint64_t late_ns, uint64_t after_ns)
{
	struct nvme_watched ios[3] = {0};
	struct timer after = {.fire = stop_loop};
	open_watch(loop, SOON, 0);
	nvme_watch_begin(&watch, &ios[0]);
	nvme_watch_begin(&watch, &ios[1]);
	nvme_watch_end(&watch, &ios[0]);
	ios[1].since_ns = ios[0].since_ns + 1;
	nvme_watch_begin(&watch, &ios[2]);
	assert_int_equal(watch.timer.at_ns, ios[0].since_ns + SOON);

	watch.options.timeout_ns = FOREVER;
	watch.options.late_ns = late_ns;
	loop_timer_set(loop, &after, ios[0].since_ns + SOON + 1);
	loop_rig_run();
	assert_int_equal(told.changes + told.late, 0);
	assert_int_equal(watch.timer.at_ns, ios[1].since_ns + after_ns);
	nvme_watch_end(&watch, &ios[1]);
	nvme_watch_end(&watch, &ios[2]);
	nvme_watch_close(&watch);
}

static void test_the_timer_looks_at_the_oldest(void **state)
{
	(void)state;
	look_at_the_oldest(0, FOREVER);
	look_at_the_oldest(FOREVER / 2, FOREVER / 2);
}

static void test_nothing_is_watched(void **state)
{
	(void)state;
	struct nvme_watched io = {0};
	open_watch(loop, 0, 0);
	nvme_watch_begin(&watch, &io);
	assert_false(timer_is_set(&watch.timer));
	nvme_watch_end(&watch, &io);
	nvme_watch_close(&watch);
	open_watch(NULL, SOON, SOON);
	nvme_watch_begin(&watch, &io);
	assert_false(timer_is_set(&watch.timer));
	nvme_watch_end(&watch, &io);
	nvme_watch_close(&watch);
	assert_int_equal(told.changes + told.late, 0);
}

int main(void)
{
	struct CMUnitTest tests[] = {
		LOOP_RIG_BOTH(test_a_disk_that_hangs),
		LOOP_RIG_BOTH(test_it_is_silent_until_all_are_answered),
		LOOP_RIG_BOTH(test_one_that_is_not_overdue),
		LOOP_RIG_BOTH(test_one_that_is_late),
		LOOP_RIG_BOTH(test_the_timer_looks_at_the_oldest),
		LOOP_RIG_BOTH(test_nothing_is_watched),
	};
	loop_rig_leave_out(tests, sizeof(tests) / sizeof(tests[0]));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
