/* SPDX-License-Identifier: Apache-2.0 */
/* Work in slices: in rotation, with everything else in between, until it says that it is
 * done or is turned off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "daemon/loop/loop.h"
#include "tests/support/leaks.h"

struct work {
	struct background background;
	uint64_t slices, left;
	struct loop *loop;
	bool again, freed;
};

static struct leaks leaks;

static int set_up(void **state)
{
	struct loop *loop;

	leaks_begin(&leaks);
	assert_int_equal(loop_new(&loop, &(struct loop_options){.io_depth = 1}), 0);
	*state = loop;

	return 0;
}

static int tear_down(void **state)
{
	loop_free(*state);
	return leaks_end(&leaks) == 0 ? 0 : -1;
}

static bool work_run(struct background *background)
{
	struct work *work = container_of(background, struct work, background);

	work->slices++;
	if (work->again) {
		work->again = false;
		loop_background(work->loop, background);
		return false;
	}

	if (--work->left > 0)
		return true;
	if (work->freed)
		free(work);

	return false;
}

static struct work work_of(struct loop *loop, uint64_t slices)
{
	return (struct work){.background = {.run = work_run}, .left = slices, .loop = loop};
}

static void all_of_it_is_done(void **state)
{
	struct loop *loop = *state;
	struct work one = work_of(loop, 10), other = work_of(loop, 100000);

	loop_background(loop, &one.background);
	loop_background(loop, &other.background);
	loop_background(loop, &other.background);
	loop_flush(loop);
	assert_int_equal(one.slices, 10);
	assert_int_equal(other.slices, 100000);

	other.left = 1; /* it may be turned on again */
	loop_background(loop, &other.background);
	loop_flush(loop);
	assert_int_equal(other.slices, 100001);
}

struct watcher {
	struct timer timer;
	struct loop *loop;
	struct work *works;
	size_t count;
};

static void watcher_fire(struct timer *timer)
{
	struct watcher *watcher = container_of(timer, struct watcher, timer);

	for (size_t i = 0; i < watcher->count; i++)
		if (watcher->works[i].slices < 1000) {
			loop_timer_set(watcher->loop, timer, 0);
			return;
		}

	loop_stop(watcher->loop);
}

/* None of it ends by itself; the timer fires all the same, and each has had its slices. */
static void others_get_in_between(void **state)
{
	enum { WORKS = 3 };
	struct loop *loop = *state;
	struct work works[WORKS];
	struct watcher watcher = {
		.timer = {.fire = watcher_fire}, .loop = loop, .works = works, .count = WORKS};

	for (int i = 0; i < WORKS; i++) {
		works[i] = work_of(loop, UINT64_MAX);
		loop_background(loop, &works[i].background);
	}

	loop_timer_set(loop, &watcher.timer, 0);
	assert_int_equal(loop_run(loop), 0);
	for (int i = 1; i < WORKS; i++) /* in rotation */
		assert_in_range(works[i].slices, works[0].slices - 1, works[0].slices + 1);

	for (int i = 0; i < WORKS; i++)
		loop_background_stop(&works[i].background);

	uint64_t slices = works[0].slices;
	loop_flush(loop);
	assert_int_equal(works[0].slices, slices);
}

static void it_may_free_itself(void **state)
{
	struct loop *loop = *state;
	struct work *work = malloc(sizeof(*work));

	assert_non_null(work);
	*work = work_of(loop, 3);
	work->freed = true;
	loop_background(loop, &work->background);
	loop_flush(loop);
}

/* What is turned on while its last slice runs goes on. */
static void it_may_be_turned_on_by_its_own_slice(void **state)
{
	struct loop *loop = *state;
	struct work work = work_of(loop, 1);

	work.again = true;
	loop_background(loop, &work.background);
	loop_flush(loop);
	assert_int_equal(work.slices, 2);
}

static void turning_off_what_is_off(void **state)
{
	struct loop *loop = *state;
	struct work work = work_of(loop, 1), left = work_of(loop, UINT64_MAX);

	loop_background_stop(&work.background);
	loop_background(loop, &work.background);
	loop_background_stop(&work.background);
	loop_background_stop(&work.background);
	loop_flush(loop);
	assert_int_equal(work.slices, 0);

	loop_background(loop, &left.background); /* when the loop ends */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_of_it_is_done),       TEST(others_get_in_between),
		TEST(it_may_free_itself),      TEST(it_may_be_turned_on_by_its_own_slice),
		TEST(turning_off_what_is_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
