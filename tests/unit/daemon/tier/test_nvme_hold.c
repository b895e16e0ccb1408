/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that are held back: for a time, or as long as a file exists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/tier/nvme_hold.h"
#include "tests/support/loop_rig.h"

#define SHORT UINT64_C(1000)
#define FOREVER UINT64_C(3600000000000)

struct answer {
	struct nvme_held held;
	unsigned place; /* among the answers that have come; 0: not yet */
	bool file_was_there;
};

static struct nvme_hold hold;
static char folder[] = "/tmp/hbmd-hold-XXXXXX";
static char file[64];
static unsigned answers, stop_at;
static struct timer later;

static bool file_is_there(void)
{
	return access(file, F_OK) == 0;
}

static void make_file(void)
{
	int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_in_range(fd, 0, INT32_MAX);
	close(fd);
}

static void come(struct nvme_held *held)
{
	struct answer *answer = container_of(held, struct answer, held);

	assert_int_equal(answer->place, 0);
	answer->place = ++answers;
	answer->file_was_there = file_is_there();
	if (answers == stop_at)
		loop_stop(loop);
}

static void open_hold(void)
{
	answers = 0;
	assert_int_equal(nvme_hold_open(&hold, loop, file), 0);
}

/* Waits for so many answers in all. */
static void wait_for(unsigned count)
{
	stop_at = count;
	loop_rig_run();
	assert_int_equal(answers, count);
}

static bool hold_back(struct answer *answer, uint64_t delay_ns, bool hangs)
{
	const struct nvme_outcome outcome = {.delay_ns = delay_ns, .hangs = hangs};
	*answer = (struct answer){.held = {.answer = come}};
	return nvme_hold_back(&hold, &answer->held, &outcome);
}

static void test_an_answer_that_is_not_held(void **state)
{
	(void)state;
	struct answer answer;
	open_hold();
	make_file();
	assert_false(hold_back(&answer, 0, false));
	assert_true(list_empty(&hold.held));
	assert_false(timer_is_set(&hold.timer));
	unlink(file);
	nvme_hold_close(&hold);
}

/* A delay is a bandwidth: each begins when the one before has ended. */
static void test_delays_come_one_after_the_other(void **state)
{
	(void)state;
	struct answer list[3];
	open_hold();
	for (int i = 0; i < 3; i++)
		assert_true(hold_back(&list[i], FOREVER, false));
	assert_int_equal(list[1].held.due_ns, list[0].held.due_ns + FOREVER);
	assert_int_equal(list[2].held.due_ns, list[1].held.due_ns + FOREVER);
	assert_in_range(list[0].held.due_ns, FOREVER, clock_now() + FOREVER);

	list[0].held.due_ns = list[2].held.due_ns = 0;
	wait_for(2);
	assert_int_equal(list[0].place, 1);
	assert_int_equal(list[1].place, 0);
	list[1].held.due_ns = 0;
	wait_for(3);
	nvme_hold_close(&hold);
}

static void test_a_delay_ends_by_itself(void **state)
{
	(void)state;
	struct answer list[3];
	open_hold();
	make_file();
	for (unsigned i = 0; i < 3; i++)
		assert_true(hold_back(&list[i], SHORT, false));
	wait_for(3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(list[i].place, i + 1);
	assert_true(list[2].file_was_there); /* which held none of them */
	unlink(file);
	nvme_hold_close(&hold);
}

static void remove_file(struct timer *timer)
{
	(void)timer;
	assert_int_equal(answers, 1);
	assert_int_equal(unlink(file), 0);
}

/* One that hangs is passed by those that do not. */
static void test_hanging_ends_with_the_file(void **state)
{
	(void)state;
	struct answer hanging, delayed;
	open_hold();
	make_file();
	later = (struct timer){.fire = remove_file};
	assert_true(hold_back(&hanging, 0, true));
	assert_true(hold_back(&delayed, SHORT, false));
	wait_for(1);
	assert_int_equal(delayed.place, 1);
	loop_timer_set(loop, &later, clock_now() + 10 * SHORT * SHORT);
	wait_for(2);
	assert_int_equal(hanging.place, 2);
	assert_false(hanging.file_was_there);
	nvme_hold_close(&hold);
}

static void test_hanging_without_the_file(void **state)
{
	(void)state;
	struct answer answer;
	open_hold();
	assert_true(hold_back(&answer, 0, true));
	wait_for(1);
	nvme_hold_close(&hold);
	assert_false(timer_is_set(&hold.timer));
}

int main(void)
{
	struct CMUnitTest tests[] = {
		LOOP_RIG_BOTH(test_an_answer_that_is_not_held),
		LOOP_RIG_BOTH(test_delays_come_one_after_the_other),
		LOOP_RIG_BOTH(test_a_delay_ends_by_itself),
		LOOP_RIG_BOTH(test_hanging_ends_with_the_file),
		LOOP_RIG_BOTH(test_hanging_without_the_file),
	};
	if (!mkdtemp(folder))
		return 1;

	snprintf(file, sizeof(file), "%s/hang", folder);
	loop_rig_leave_out(tests, sizeof(tests) / sizeof(tests[0]));
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(file);
	rmdir(folder);

	return r;
}
