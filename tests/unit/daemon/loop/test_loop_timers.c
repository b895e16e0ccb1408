/* SPDX-License-Identifier: Apache-2.0 */
/* Timers: set, set again and stopped in any order, they fire in that of their times; also
 * against a model that is a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/list.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/loop_timers.h"
#include "tests/support/loop_rig.h"
#include "tests/support/seed.h"

#define MS UINT64_C(1000000)

struct alarm {
	struct timer timer;
	uint64_t at;
	unsigned fired;
};

static uint64_t last_fired;
static unsigned alarms_left;

static void ring_alarm(struct timer *timer)
{
	struct alarm *alarm = container_of(timer, struct alarm, timer);

	assert_false(timer_is_set(timer));
	assert_in_range(alarm->at, last_fired, clock_now());
	last_fired = alarm->at;
	alarm->fired++;
	if (--alarms_left == 0)
		loop_stop(loop);
}

static void set_alarm(struct alarm *alarm, uint64_t at)
{
	alarm->at = at;
	loop_timer_set(loop, &alarm->timer, at);
}

static void test_timers_fire_in_order(void **state)
{
	(void)state;
	enum { ALARMS = 1000 };
	static struct alarm alarms[ALARMS];
	struct seed seed;
	seed_open(&seed, "test_timers_fire_in_order");
	uint64_t start = clock_now();
	for (int i = 0; i < ALARMS; i++) {
		alarms[i] = (struct alarm){.timer = {.fire = ring_alarm}};
		set_alarm(&alarms[i], start + seed_below(&seed, 20 * MS));
	}

	alarms_left = ALARMS;
	for (int i = 0; i < ALARMS; i++) {
		if (i % 3 == 0) {
			set_alarm(&alarms[i], start + seed_below(&seed, 20 * MS));
		} else if (i % 3 == 1) {
			loop_timer_stop(loop, &alarms[i].timer);
			loop_timer_stop(loop, &alarms[i].timer);
			alarms_left--;
		}
	}

	last_fired = 0;
	loop_rig_run();
	for (int i = 0; i < ALARMS; i++)
		assert_int_equal(alarms[i].fired, i % 3 != 1);
}

/* ---- Against a model ---- */

#define MODEL_TIMERS 40
#define MODEL_STEPS 20000
#define MODEL_AHEAD 50 /* few times for many timers: many are equal */

struct model_timer {
	struct timer timer;
	uint64_t at;
	bool set, due; /* due: in the call of timers_fire() that runs */
};

static struct model {
	struct timers timers;
	struct model_timer table[MODEL_TIMERS];
	uint64_t now;
	struct seed seed;
} model;

static uint64_t model_earliest(bool due)
{
	uint64_t at = UINT64_MAX;
	for (unsigned i = 0; i < MODEL_TIMERS; i++) {
		const struct model_timer *one = &model.table[i];
		if (one->set && one->due == due && one->at < at)
			at = one->at;
	}

	return at;
}

/* Sets or stops any of them; half of the times set have passed. */
static void model_change(void)
{
	struct model_timer *one = &model.table[seed_below(&model.seed, MODEL_TIMERS)];

	one->due = false;
	one->set = seed_below(&model.seed, 3) > 0;
	if (!one->set) {
		timers_stop(&model.timers, &one->timer);
		return;
	}

	one->at = model.now - MODEL_AHEAD + seed_below(&model.seed, UINT64_C(2) * MODEL_AHEAD);
	timers_set(&model.timers, &one->timer, one->at);
}

static void model_fired(struct timer *timer)
{
	struct model_timer *one = container_of(timer, struct model_timer, timer);

	assert_true(one->set && one->due);
	assert_int_equal(one->at, model_earliest(true));
	assert_false(timer_is_set(timer));
	one->set = one->due = false;

	for (uint64_t changes = seed_below(&model.seed, 4); changes > 0; changes--)
		model_change();
}

static void model_fire(void)
{
	model.now += seed_below(&model.seed, MODEL_AHEAD / 2);
	for (unsigned i = 0; i < MODEL_TIMERS; i++)
		model.table[i].due = model.table[i].set && model.table[i].at <= model.now;

	timers_fire(&model.timers, model.now);
	assert_int_equal(model_earliest(true), UINT64_MAX);
}

static void test_timers_are_as_a_table(void **state)
{
	(void)state;
	model = (struct model){.now = 1000};
	seed_open(&model.seed, "test_timers_are_as_a_table");
	for (unsigned i = 0; i < MODEL_TIMERS; i++)
		model.table[i].timer.fire = model_fired;

	for (unsigned step = 0; step < MODEL_STEPS; step++) {
		if (seed_below(&model.seed, 10) == 0)
			model_fire();
		else
			model_change();

		assert_int_equal(timers_next(&model.timers), model_earliest(false));
		for (unsigned i = 0; i < MODEL_TIMERS; i++)
			assert_int_equal(timer_is_set(&model.table[i].timer), model.table[i].set);
	}

	timers_clear(&model.timers);
	for (unsigned i = 0; i < MODEL_TIMERS; i++)
		assert_false(timer_is_set(&model.table[i].timer));
}

int main(void)
{
	struct CMUnitTest tests[] = {
		LOOP_RIG_BOTH(test_timers_fire_in_order),
		cmocka_unit_test(test_timers_are_as_a_table),
	};
	loop_rig_leave_out(tests, sizeof(tests) / sizeof(tests[0]));

	return cmocka_run_group_tests(tests, NULL, NULL);
}
